"""Windows: what each deployment did on each day of event time, computed anew where rows or truth came in."""

from __future__ import annotations

from typing import Any

import polars as pl

from noria.base.times import DAY, to_datetime
from noria.data.records import Repository
from noria.monitoring import queries, windows
from noria.monitoring.records import Window
from noria.monitoring.service.base import COLUMNS, SYSTEM
from noria.monitoring.service.truth import Truth
from noria.serving.ingest import repository_name
from noria.serving.records import Endpoint


class Watching(Truth):
    def process(self, name: str) -> list[Window]:
        """Brings the truth and the windows of an endpoint up to date; returns the windows that changed."""
        endpoint = self._serving.get(name)
        self._take_truth(endpoint)
        return self._renew(endpoint)

    def _renew(self, endpoint: Endpoint) -> list[Window]:
        """Computes anew the windows that new rows or new truth have touched.

        What they were computed from is written with them: a crash after truth came in must not leave them behind it.
        """
        repository = self._data.find(self._project_id, repository_name(endpoint.name))
        head = None if repository is None else self._data.head(repository)
        if repository is None or head is None:
            return []
        with self._db.read() as conn:
            seen = queries.mark(conn, endpoint.id, "windows")
            seen_truth = queries.mark(conn, endpoint.id, "windows:truth")
        late, truth_seq = self._late(endpoint, seen_truth)
        touched = self._data.read(repository, head.id, columns=["at", "deployment"], after_seq=seen)
        if len(late):
            frame = self._data.read(repository, head.id, columns=["at", "deployment", "entity"])
            found = frame.join(late, on="entity", how="semi").select("at", "deployment")
            touched = pl.concat([touched, found])
        if not len(touched) and truth_seq == seen_truth:
            return []
        days = touched.select(pl.col("at").dt.truncate("1d"), "deployment").unique().sort("at", "deployment")
        truth = self.truth(endpoint.name)
        made: list[Window] = []
        for (at,), part in days.group_by("at", maintain_order=True):
            made += self._windows(endpoint, repository, head.id, at, part["deployment"].to_list(), truth)
        with self._changes.begin("monitor.windows", self._project_id, SYSTEM) as change:
            queries.save_windows(change.tx, endpoint.id, made)
            queries.set_mark(change.tx, endpoint.id, "windows", head.generation)
            queries.set_mark(change.tx, endpoint.id, "windows:truth", truth_seq)
            change.note(endpoint.name, windows=len(made))
        return made

    def _windows(
        self, endpoint: Endpoint, repository: Repository, commit: str, at: Any, wanted: list[int], truth: pl.DataFrame
    ) -> list[Window]:
        start = int(at.timestamp() * 1000)
        times = (start * 1000, (start + DAY) * 1000 - 1)
        columns = [*COLUMNS, "features", "latency", "count"]
        rows = self._data.read(repository, commit, columns=columns, times=times)
        rows = rows.filter(pl.col("at").is_between(at, to_datetime(start + DAY), closed="left"))
        made: list[Window] = []
        for number in wanted:
            mine = rows.filter(pl.col("deployment") == number)
            if number == 0:  # requests that did not keep the contract: no deployment saw them
                made.append(_refused(endpoint.name, start, mine))
                continue
            deployment = self._serving.deployment(number)
            package, reference = self.package(deployment)
            facts = windows.describe(mine, reference, endpoint.policy.get("p99_ms"))
            known = mine.filter(pl.col("error") == "").join(truth, on="entity", how="inner", maintain_order="left")
            made.append(
                Window(
                    endpoint=endpoint.name,
                    deployment=number,
                    model=deployment.model,
                    start=start,
                    labelled=len(known),
                    metrics=windows.judge(known, list(package.metrics)),
                    **facts,
                )
            )
        return made

    def windows(
        self, endpoint: str, *, deployment: int | None = None, since: int | None = None, until: int | None = None
    ) -> list[Window]:
        """Windows of an endpoint, oldest first."""
        found = self._serving.get(endpoint)
        with self._db.read() as conn:
            return queries.windows(conn, found.id, found.name, deployment=deployment, since=since, until=until)


def _refused(endpoint: str, start: int, rows: pl.DataFrame) -> Window:
    return Window(
        endpoint=endpoint,
        deployment=0,
        model="",
        start=start,
        n=0,
        answered=0,
        errors=int(rows["count"].sum() or 0),
        slow=0,
        latency={"p50": 0.0, "p99": 0.0},
        score=[],
        columns={},
        facts={"codes": dict(rows["error"].value_counts().iter_rows())},
        labelled=0,
        metrics={},
    )
