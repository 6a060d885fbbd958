"""Serving: endpoints in worker processes on one socket, with canary, shadow and capture."""

from __future__ import annotations

from noria.serving.service import Serving

__all__ = ["Serving"]
