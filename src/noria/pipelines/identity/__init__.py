"""What a step is: a manifest of named parts, whose digest is the cache key and whose differences are the reasons."""

from __future__ import annotations

from noria.pipelines.identity.manifest import Manifest, Reason, compare
from noria.pipelines.identity.walk import Identifier

__all__ = ["Identifier", "Manifest", "Reason", "compare"]
