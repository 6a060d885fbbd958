"""Captured rows, one by one: a sample, and its features computed again."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl

from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.monitoring import skew
from noria.monitoring.service.accuracy import Judging
from noria.monitoring.service.base import EVALUATOR
from noria.monitoring.service.truth import entities_of
from noria.serving.ingest import repository_name
from noria.training.package import Package


class Skewing(Judging):
    def skew(self, endpoint_name: str, count: int, *, actor: Actor, seed: int = 0) -> dict[str, Any]:
        """Computes a random sample of answers again by the bulk path, features and scores, and compares bit by bit.

        The features table has to be up to date (``noria run FEATURES``); rows that it does not hold count as absent.
        The result is kept as evidence.
        """
        frame = self.sample(endpoint_name, count, seed=seed)
        equal_rows, equal_scores, absent = 0, 0, 0
        wrong: dict[str, int] = {}
        for number in frame["deployment"].unique(maintain_order=True).to_list():
            deployment = self._serving.deployment(number)
            package, _ = self.package(deployment)
            _check_computed(package, deployment.model)
            version = self._pipelines.current(package.features.name)
            mine = frame.filter(pl.col("deployment") == number)
            bulk = self._pipelines.value(package.features.name)
            key, names = list(package.features.spine.key), package.columns.names
            keys = [msgspec.json.decode(entity) for entity in mine["entity"].to_list()]
            scores = self._training.score(self._training.version_at(deployment.version_id), version, keys=keys)
            found = skew.compare(mine, bulk, scores, key, names)
            equal_rows += found.equal
            equal_scores += found.scores
            absent += found.absent
            for name, times in found.wrong.items():
                wrong[name] = wrong.get(name, 0) + times
        details = {
            "rows": len(frame), "equal": equal_rows, "scores_equal": equal_scores, "absent": absent, "wrong": wrong
        }  # fmt: skip
        passed = bool(len(frame)) and equal_rows == equal_scores == len(frame)
        with self._changes.begin("monitor.skew", self._project_id, actor) as change:
            change.note(endpoint_name, **details)
            self._evidence.record(change, "skew", endpoint_name, passed=passed, evaluator=EVALUATOR, details=details)
        return {**details, "passed": passed}

    @staticmethod
    def entities(keys: pl.DataFrame) -> list[str]:
        """Rows of keys as the capture names them: the values as a JSON list."""
        return entities_of(keys)

    def sample(self, endpoint: str, count: int, *, seed: int = 0, deployment: int | None = None) -> pl.DataFrame:
        """A random sample of answered predictions, with request, features and commits."""
        repository = self._data.get(self._project_id, repository_name(endpoint))
        frame = self._data.read(repository).filter(pl.col("answered") & (pl.col("error") == ""))
        if deployment is not None:
            frame = frame.filter(pl.col("deployment") == deployment)
        frame = frame.sort("at", "id")
        return frame.sample(min(count, len(frame)), seed=seed).sort("at", "id")


def _check_computed(package: Package, model: str) -> None:
    if package.adopted is not None:
        raise Invalid(
            f"{model} takes its rows as they are sent: no feature is computed that could differ.",
            hint="noria trace ENDPOINT/ID computes an answer again.",
        )
