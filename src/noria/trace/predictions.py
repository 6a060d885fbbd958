"""Captured predictions, read from the tables that the capture is taken over into."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from noria.base.ids import ProjectId
from noria.data import Data
from noria.data.records import Repository
from noria.serving.ingest import repository_name
from noria.trace.errors import NoPredictions
from noria.trace.records import Captured

_COLUMNS = (
    "id", "deployment", "model", "role", "answered", "at", "entity", "score", "request", "features", "received",
    "latency", "revision", "commits", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Counted:
    """How many predictions of an endpoint read these commits."""

    deployment: int
    commits: frozenset[str]
    count: int


class Predictions:
    """One per workspace; reads only."""

    def __init__(self, project_id: ProjectId, data: Data) -> None:
        self._project_id = project_id
        self._data = data

    def find(self, endpoint: str, prediction_id: str) -> list[Captured]:
        """What each deployment made of a prediction, the one that answered first; empty where there is none."""
        return self.find_many(endpoint, [prediction_id])

    def find_many(self, endpoint: str, ids: Sequence[str]) -> list[Captured]:
        repository = self._repository(endpoint)
        head = None if repository is None else self._data.head(repository)
        if head is None:
            return []
        wanted = pl.Series(list(ids), dtype=pl.String)
        reader = self._data.reader
        found: list[dict[str, Any]] = []
        layout = self._data.layout(head)
        for fragment in layout.fragments:
            hit = reader.live(layout, fragment, ["id"])["id"].is_in(wanted.implode())
            if hit.any():
                found += reader.live(layout, fragment, _COLUMNS).filter(hit).to_dicts()
        order = {name: place for place, name in enumerate(ids)}
        found.sort(key=lambda row: (order[row["id"]], not row["answered"], row["deployment"]))
        return [_captured(endpoint, row) for row in found]

    def draw(
        self, endpoint: str, count: int, chance: random.Random, *, of: Collection[int] = frozenset()
    ) -> list[Captured]:
        """Answered predictions, drawn at random.

        Args:
            of: deployments whose answers are drawn from, where they gave any; of no deployment, or where these gave
                none, all answers are drawn from.

        Raises:
            NoPredictions: there is none.
        """
        repository = self._repository(endpoint)
        head = None if repository is None else self._data.head(repository)
        if repository is None or head is None:
            raise _none(endpoint)
        frame = self._data.read(repository, head.id, columns=["id", "answered", "error", "deployment"])
        answers = frame.filter(pl.col("answered") & (pl.col("error") == ""))
        theirs = answers.filter(pl.col("deployment").is_in(list(of)))
        ids = (theirs if len(theirs) else answers)["id"]
        if not len(ids):
            raise _none(endpoint)
        chosen = [ids[n] for n in chance.sample(range(len(ids)), min(count, len(ids)))]
        return [p for p in self.find_many(endpoint, chosen) if p.answered]

    def counts(self, endpoint: str) -> list[Counted]:
        """Predictions by deployment and by the commits that they read."""
        repository = self._repository(endpoint)
        head = None if repository is None else self._data.head(repository)
        if repository is None or head is None:
            return []
        frame = self._data.read(repository, head.id, columns=["deployment", "commits", "error"])
        groups = frame.filter(pl.col("error") == "").group_by("deployment", "commits").len()
        return [Counted(d, frozenset(json.loads(commits)), n) for d, commits, n in groups.iter_rows()]

    def _repository(self, endpoint: str) -> Repository | None:
        return self._data.find(self._project_id, repository_name(endpoint))


def _none(endpoint: str) -> NoPredictions:
    return NoPredictions(f"{endpoint!r} has no captured predictions.", hint=f"noria predict {endpoint} FILE")


def _captured(endpoint: str, row: dict[str, Any]) -> Captured:
    at = row["at"]
    return Captured(
        endpoint=endpoint,
        id=row["id"],
        deployment=row["deployment"],
        model=row["model"],
        role=row["role"],
        answered=row["answered"],
        at=None if at is None else round(at.timestamp() * 1_000_000),
        entity=row["entity"],
        score=row["score"],
        request=row["request"],
        features=row["features"],
        received=round(row["received"].timestamp() * 1000),
        latency=row["latency"],
        revision=row["revision"],
        commits=tuple(json.loads(row["commits"])),
        error=row["error"],
    )
