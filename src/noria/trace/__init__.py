"""Trace: from any prediction back to the rows behind it, and from any commit forward to what it touched."""

from __future__ import annotations

from noria.trace.service import Trace

__all__ = ["Trace"]
