"""The verbs of the registry."""

from __future__ import annotations

from noria.registry.service.bringing import Bringing

__all__ = ["Registry"]


class Registry(Bringing):
    """One per workspace."""
