"""Registered models, their versions and the aliases that point at them."""

from __future__ import annotations

from noria.registry.service import Registry

__all__ = ["Registry"]
