"""How MLflow asks a model package: ``mlflow.pyfunc.load_model(folder)``, with noria installed beside it.

The library's own flavor of MLflow would hand texts to a model that knows only the numbers of their levels, and would
answer 0 or 1 where noria answers a chance. This loader checks every file's digest, maps texts to levels and gives the
very scores that noria serves. MLflow finds it by the name ``loader_module`` in the file ``MLmodel``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from noria.training import package
from noria.training.models import Floats, Predictor
from noria.training.package import Package
from noria.training.rows import conform


class PackageModel:
    """A verified package with the one method that MLflow calls."""

    def __init__(self, found: Package, predict: Predictor) -> None:
        self._columns = found.columns
        self._predict = predict

    def predict(self, frame: Any, params: dict[str, Any] | None = None) -> Floats:
        """One score for each row of a pandas DataFrame; texts as texts, unknown ones are missing."""
        features = pl.DataFrame({name: self._series(frame, name) for name in self._columns.names if name in frame})
        return np.asarray(self._predict(conform(features, self._columns)), dtype=np.float64)

    def _series(self, frame: Any, name: str) -> pl.Series:
        """pandas has several ways to say "missing"; a model has one."""
        column = frame[name]
        values = [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]
        if name in self._columns.levels:
            return pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String)
        return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64)


def _load_pyfunc(path: str) -> PackageModel:  # pyright: ignore[reportUnusedFunction]  # MLflow's name for it
    """Called by MLflow with the folder of the package."""
    return PackageModel(*package.load(Path(path)))
