"""MLflow's words in what a source holds."""

from __future__ import annotations

from typing import Final

from noria.registry.records import Stage

_STAGES: Final = {"staging": Stage.STAGING, "production": Stage.PRODUCTION, "archived": Stage.ARCHIVED}


def stage_of(text: str | None) -> Stage:
    return _STAGES.get((text or "").lower(), Stage.NONE)
