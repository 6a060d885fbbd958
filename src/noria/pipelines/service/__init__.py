"""The verbs of pipelines: plan, run, apply."""

from __future__ import annotations

from noria.pipelines.service.base import Services
from noria.pipelines.service.pipelines import Pipelines

__all__ = ["Pipelines", "Services"]
