"""noria: versioned data, pipelines, training, serving and monitoring in one graph, in one loop.

Everything a project needs is here; nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from noria.base.errors import NoriaError

if TYPE_CHECKING:
    from noria.data.hooks import refuse
    from noria.features.api import asof, history
    from noria.pipelines.declare import (
        check,
        command,
        dataset,
        endpoint,
        features,
        gate,
        hook,
        labels,
        model,
        release,
        report,
        secret,
        source,
        space,
        split,
        when,
    )
    from noria.pipelines.logging import log
    from noria.training.evaluation import Evaluation
    from noria.training.rows import Rows
    from noria.workspace import connect, init

_WHERE = {
    "connect": "noria.workspace",
    "init": "noria.workspace",
    "source": "noria.pipelines.declare",
    "secret": "noria.pipelines.declare",
    "dataset": "noria.pipelines.declare",
    "features": "noria.pipelines.declare",
    "hook": "noria.pipelines.declare",
    "labels": "noria.pipelines.declare",
    "model": "noria.pipelines.declare",
    "report": "noria.pipelines.declare",
    "check": "noria.pipelines.declare",
    "command": "noria.pipelines.declare",
    "endpoint": "noria.pipelines.declare",
    "log": "noria.pipelines.logging",
    "refuse": "noria.data.hooks",
    "asof": "noria.features.api",
    "history": "noria.features.api",
    "Rows": "noria.training.rows",
    "Evaluation": "noria.training.evaluation",
}
_SPACES = {name: f"noria.pipelines.declare.{name}" for name in ("split", "space", "gate", "when", "release")}

__all__ = [
    "Evaluation",
    "NoriaError",
    "Rows",
    "asof",
    "check",
    "command",
    "connect",
    "dataset",
    "endpoint",
    "features",
    "gate",
    "history",
    "hook",
    "init",
    "labels",
    "log",
    "model",
    "refuse",
    "release",
    "report",
    "secret",
    "source",
    "space",
    "split",
    "when",
]


def __getattr__(name: str) -> Any:
    if name in _SPACES:
        return importlib.import_module(_SPACES[name])
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"noria has no {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
