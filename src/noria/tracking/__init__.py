"""What runs say of themselves: experiments, parameters, metric histories, tags, artifacts."""

from __future__ import annotations

from noria.tracking.service import Tracking

__all__ = ["Tracking"]
