"""Scorecard: the ML Test Score, computed from evidence records, never filled in."""

from __future__ import annotations

from noria.scorecard.service import Scorecard

__all__ = ["Scorecard"]
