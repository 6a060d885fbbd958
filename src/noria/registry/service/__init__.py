"""The verbs of the registry."""

from __future__ import annotations

from noria.registry.service.aliases import Aliases
from noria.registry.service.models import Models

__all__ = ["Registry"]


class Registry(Aliases, Models):
    """One per workspace."""
