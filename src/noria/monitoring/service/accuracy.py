"""How good answers were, and what another version would have answered."""

from __future__ import annotations

from typing import Any

import polars as pl

from noria.base.errors import Invalid
from noria.base.times import to_datetime
from noria.monitoring import windows
from noria.monitoring.against import against, cut
from noria.monitoring.records import Accuracy, Compared
from noria.monitoring.service.alerting import Alerting
from noria.monitoring.service.base import COLUMNS
from noria.monitoring.service.truth import entities_of
from noria.registry.records import ModelVersion
from noria.serving.ingest import repository_name
from noria.training.package import Package


class Judging(Alerting):
    def joined(self, endpoint: str, since: int | None = None, until: int | None = None) -> pl.DataFrame:
        """Scored rows with their truth: columns of the capture, and ``truth`` (null while it is not known)."""
        repository = self._data.find(self._project_id, repository_name(endpoint))
        if repository is None or self._data.head(repository) is None:
            types: dict[str, Any] = {
                "id": pl.String, "deployment": pl.Int64, "model": pl.String, "role": pl.String,
                "answered": pl.Boolean, "at": pl.Datetime("us", "UTC"), "entity": pl.String, "score": pl.Float64,
                "truth": pl.Float64,
            }  # fmt: skip
            return pl.DataFrame(schema=types)
        times = (None if since is None else since * 1000, None if until is None else until * 1000 - 1)
        rows = self._data.read(repository, columns=COLUMNS, times=times)
        rows = rows.filter((pl.col("error") == "") & _within(since, until)).drop("error")
        truth = self.truth(endpoint).select("entity", "truth")
        return rows.join(truth, on="entity", how="left", maintain_order="left")

    def accuracy(
        self,
        endpoint: str,
        *,
        since: int | None = None,
        until: int | None = None,
        by: str = "all",
        deployment: int | None = None,
        metrics: list[str] | None = None,
    ) -> list[Accuracy]:
        """What turned out to be so of what was answered (or of what one deployment scored), by ``month``, ``week``,
        ``day`` or ``all``. ``metrics``: only these, since intervals cost time; default all of the model's.
        """
        frame = self.joined(endpoint, since, until)
        frame = (
            frame.filter(pl.col("answered")) if deployment is None else frame.filter(pl.col("deployment") == deployment)
        )
        if not len(frame):
            return []
        package, _ = self.package(self._serving.deployment(frame["deployment"][-1]))
        after = package.after_ms
        now = self._event_clock.event_ms(self._project_id)
        model = "" if deployment is None else frame["model"][0]
        made: list[Accuracy] = []
        for (start,), part in frame.with_columns(cut(by).alias("__start")).group_by("__start", maintain_order=True):
            due = part.filter(pl.col("at") <= to_datetime(now - after))
            known = part.filter(pl.col("truth").is_not_null())
            newest: Any = part["at"].max()
            made.append(
                Accuracy(
                    start=int(start.timestamp() * 1000),  # type: ignore[attr-defined]
                    end=int(newest.timestamp() * 1000),
                    model=model,
                    n=len(part),
                    labelled=int(due["truth"].is_not_null().sum()),
                    due=len(due),
                    positives=float(known["truth"].mean() or 0.0) if len(known) else 0.0,  # type: ignore[arg-type]
                    metrics=windows.judge_with_intervals(known, metrics or list(package.metrics)),
                )
            )
        return sorted(made, key=lambda a: a.start)

    def paired(self, endpoint: str, first: int, second: int, since: int, until: int) -> pl.DataFrame:
        """Requests that both deployments scored: ``id``, ``at``, ``first``, ``second``, ``truth`` (null if unknown)."""
        frame = self.joined(endpoint, since, until)
        left = frame.filter(pl.col("deployment") == first).select("id", "at", "truth", first="score")
        right = frame.filter(pl.col("deployment") == second).select("id", second="score")
        return left.join(right, on="id", how="inner", maintain_order="left").sort("at", "id")

    def compare(
        self, endpoint: str, model: ModelVersion, *, by: str = "all", since: int | None = None, until: int | None = None
    ) -> list[Compared]:
        """What was answered, beside what another version would have answered to the same requests.

        The other version scores the features table as it is now, which has to hold the rows (``noria run FEATURES``).
        The constant is the mean truth of the rows before the endpoint's first answer.
        """
        whole = self.joined(endpoint).filter(pl.col("answered"))
        first, frame = whole["at"].min(), whole.filter(_within(since, until))
        if not len(frame):
            return []
        package = self._training.package_of(model)
        _check_keyed(package, model.name)
        features = self._pipelines.current(package.features.name)
        scores = self._training.score(self._training.version_of(model), features)
        key = list(package.features.spine.key)
        entities = pl.Series("entity", entities_of(scores.select(key)), dtype=pl.String)
        other = pl.DataFrame([entities, scores["score"].alias("other"), scores["_at"]])
        before = other.filter(pl.col("_at") < first).join(self.truth(endpoint), on="entity", how="inner")
        constant: Any = before["truth"].mean()
        return against(frame, other.select("entity", "other"), constant, by, list(package.metrics))


def _within(since: int | None, until: int | None) -> pl.Expr:
    """Whether a row's moment lies in [since, until), milliseconds; all of them where there is no bound."""
    keep = pl.lit(value=True)
    if since is not None:
        keep &= pl.col("at") >= to_datetime(since)
    if until is not None:
        keep &= pl.col("at") < to_datetime(until)
    return keep


def _check_keyed(package: Package, model: str) -> None:
    if not package.features.spine.key:
        raise Invalid(
            f"{model} takes rows without a key: no table holds those that were asked for.",
            hint="noria adopt MODEL --on TABLE --target COLUMN, of a table with a key",
        )
