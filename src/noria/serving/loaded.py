"""A deployment in the memory of an endpoint worker: model, features function, online tables. Only ever in a worker."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from noria.base.errors import Failed, NoriaError
from noria.features.errors import TooFarBack
from noria.features.function import AT
from noria.features.online import Reader
from noria.features.service import FeatureServer
from noria.pipelines.views import CodeView
from noria.serving.contract import Contract
from noria.training import package
from noria.training.apart import Apart
from noria.training.asis import as_they_are
from noria.training.errors import ModelApartFailed
from noria.training.rows import Columns, conform

_TOLERANCE = 1e-9
_encode = msgspec.json.Encoder().encode


class ModelFailed(Failed):
    """A model or its features function failed on a request that keeps the contract."""

    code = "model_failed"


class WarmUpFailed(Failed):
    """A loaded model does not give the scores that it gave when it was made."""

    code = "warm_up_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """The features of some source rows.

    Attributes:
        frame: key, moment, features.
        commits: ids of the commits of the tables that were read.
    """

    frame: pl.DataFrame
    commits: list[str]


class Loaded:
    """One deployment. Thread-safe: each thread reads the online store through a connection of its own.

    Attributes:
        features_key: two deployments with the same one compute the same features, so it is done once.
        apart: the model answers from a process of its own: it is waited for, and never in the event loop.
    """

    def __init__(self, deployment: int, model: str, package_folder: Path, code: Path, replica: Path) -> None:
        self.deployment = deployment
        self.model = model
        self.package, self._predict = package.load(package_folder)
        spec = self.package.features
        self.apart = self.package.adopted is not None
        self.features_key = (code.name, spec.entry, tuple(use.id for use in spec.uses))
        self.contract = Contract(spec.spine, spec.columns, self.package.needed)
        self._function = CodeView(code).get(spec.entry) if spec.entry else None
        self._replica = replica
        self._servers = threading.local()
        self._sample = package.sample(package_folder)

    def features(self, spine: pl.DataFrame) -> Computed:
        """Features of source rows, in their order, all from one moment of the online store."""
        if self._function is None:
            return Computed(frame=as_they_are(spine, self.package.features), commits=[])
        try:
            frame, commits = self._server().compute(spine)
        except NoriaError:
            raise
        except Exception as error:
            raise ModelFailed(
                f"The features function of {self.model} failed: {type(error).__name__}: {error!s:.300}",
                hint="noria endpoints show ENDPOINT names the model; its run has the code.",
            ) from error
        return Computed(frame=frame, commits=commits)

    def score(self, computed: Computed) -> np.ndarray[Any, np.dtype[np.float64]]:
        """One score for each row."""
        try:
            scores = self._predict(conform(computed.frame, self.package.columns))
        except ModelApartFailed as error:
            raise ModelFailed(f"{self.model} failed: {error.message}", hint=error.hint) from None
        except NoriaError:
            raise
        except Exception as error:
            raise ModelFailed(f"{self.model} failed: {type(error).__name__}: {error!s:.300}") from error
        if not np.isfinite(scores).all():
            raise ModelFailed(f"{self.model} gave a score that is no number.")
        return scores

    def moments(self, computed: Computed) -> list[int | None]:
        """The moment of each row, microseconds of event time."""
        return computed.frame.get_column(AT).cast(pl.Int64).to_list()

    def values(self, computed: Computed) -> list[bytes]:
        """The features of each row as JSON, for the capture."""
        names = self.package.columns.names
        columns = [computed.frame.get_column(name).to_list() for name in names]
        return [_encode(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]

    def warm_up(self) -> int:
        """Scores the package's own sample and compares; computes the features of its source rows.

        Raises:
            WarmUpFailed: a score differs from the one in the package.
        """
        wanted = np.array(self._sample["scores"], np.float64)
        if not len(wanted):  # a model of which nobody has shown a row yet
            return 0
        types = _sampled(self._sample["features"], self.package.columns)
        found = self._predict(conform(types, self.package.columns))
        if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise WarmUpFailed(
                f"{self.model} gives {found.tolist()} where it gave {wanted.tolist()} when it was trained.",
                hint="Other library versions than in training? The run's environment record lists them.",
            )
        rows = self._sample.get("rows") or []
        if rows:
            made = self.contract.decode_rows(rows)
            with contextlib.suppress(TooFarBack):  # the rows may be older than what the online store keeps
                self.score(self.features(self.contract.frame(made)))
        return len(wanted)

    def close(self) -> None:
        """Ends the model's own process, if it has one."""
        if isinstance(self._predict, Apart):
            self._predict.close()

    def _server(self) -> FeatureServer:
        assert self._function is not None
        found = getattr(self._servers, "server", None)
        if found is None:
            found = self._servers.server = FeatureServer(self.package.features, self._function, Reader(self._replica))
        return found


def _sampled(rows: list[dict[str, Any]], columns: Columns) -> pl.DataFrame:
    """The sample's features; moments stand in it as texts."""
    made = pl.DataFrame(rows, infer_schema_length=None)
    times = [name for name, dtype in columns.dtypes.items() if dtype.is_temporal()]
    return made.with_columns(pl.col(name).str.to_datetime(time_unit="us") for name in times)
