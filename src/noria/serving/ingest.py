"""Captured predictions become rows of the asset ``<endpoint>.predictions`` (decision 7).

How far each segment was taken is written in the transaction that lands its rows, so a crash in between takes nothing
twice; ids are unique with their deployment, and a repeated request's row is dropped. What was taken is kept for as
long as the retention of ``segments`` says (``serving/pruning.py``).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl
from sqlalchemy import select

from noria.assets import Change, ProjectClock
from noria.assets.records import AssetKind
from noria.base.actor import Actor
from noria.base.ids import ProjectId
from noria.data import Data
from noria.data.records import Repository, RepositoryKind
from noria.db import Database, Tx
from noria.serving import queries, segments
from noria.serving import tables as t
from noria.serving.errors import SegmentDamaged
from noria.serving.segments import Captured

log = logging.getLogger("noria.capture")

SCHEMA: Final[dict[str, Any]] = {
    "id": pl.String,
    "deployment": pl.Int64,
    "model": pl.String,
    "role": pl.String,
    "answered": pl.Boolean,
    "at": pl.Datetime("us", "UTC"),
    "entity": pl.String,
    "score": pl.Float64,
    "request": pl.String,
    "features": pl.String,
    "received": pl.Datetime("ms", "UTC"),
    "latency": pl.Int64,
    "revision": pl.Int64,
    "commits": pl.String,
    "error": pl.String,
    "count": pl.Int32,
}
"""Columns of ``<endpoint>.predictions``. A record of an error has an id that begins with ``error:`` and no score."""

KEY: Final = ("id", "deployment")
_MOST_BYTES: Final = 64 << 20

Row = tuple[Any, ...]


def repository_name(endpoint: str) -> str:
    return f"{endpoint}.predictions"


class Ingest:
    """Takes over what the endpoint workers of this machine captured."""

    def __init__(
        self, db: Database, project_id: ProjectId, data: Data, event_clock: ProjectClock, folder: Path
    ) -> None:
        self._db = db
        self._project_id = project_id
        self._data = data
        self._event_clock = event_clock
        self._folder = folder

    def take(self, *, actor: Actor) -> dict[str, int]:
        """Takes everything that is new; returns endpoint -> number of rows. One commit for each endpoint at most."""
        taken: dict[str, int] = defaultdict(int)
        while True:
            found, marks, more = self._read()
            if marks:
                for endpoint, count in self._land(found, marks, actor).items():
                    taken[endpoint] += count
            if not more:
                break
        return dict(taken)

    def repository(self, endpoint: str, actor: Actor) -> Repository:
        """The table of an endpoint's predictions, made if it is new."""
        return self._data.ensure(
            self._project_id,
            repository_name(endpoint),
            RepositoryKind.TABLE,
            actor=actor,
            key=KEY,
            time="at",
            asset_kind=AssetKind.PREDICTIONS,
        )

    def _read(self) -> tuple[dict[str, list[Row]], dict[str, int], bool]:
        """(endpoint -> rows, segment -> bytes read, whether there is more)."""
        with self._db.read() as conn:
            known = queries.taken(conn)
        rows: dict[str, list[Row]] = defaultdict(list)
        marks: dict[str, int] = {}
        size = 0
        now = self._event_clock.event_ms(self._project_id)
        for path in sorted(self._folder.glob("*.seg")):
            start = known.get(path.name, 0)
            if path.stat().st_size <= max(start, len(segments.HEADER)):
                continue
            end = start
            try:
                for record, end in segments.read(path, start):
                    rows[record.endpoint] += _rows(record, path.name, end, now)
                    if size + end - start > _MOST_BYTES:
                        return rows, marks | {path.name: end}, True
            except SegmentDamaged as error:  # what comes before the damage is taken, and the other segments are
                log.error("%s", error.message)
            if end > start:
                marks[path.name] = end
                size += end - start
        return rows, marks, False

    def _land(self, found: dict[str, list[Row]], marks: dict[str, int], actor: Actor) -> dict[str, int]:
        landed = False

        def also(change: Change) -> None:
            nonlocal landed
            landed = True
            self._mark(change.tx, marks)

        batches = {}
        for endpoint, rows in found.items():
            frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
            frame = frame.unique(list(KEY), keep="first", maintain_order=True)
            repository = self.repository(endpoint, actor)
            batches[repository.name] = (repository, frame)
        if batches:
            self._data.append_many(
                self._project_id, batches, actor=actor, mode="insert", message="captured", source="capture", also=also
            )
        if not landed:  # every row was there already, so nothing was committed
            with self._db.write() as tx:
                self._mark(tx, marks)
        return {name.removesuffix(".predictions"): len(frame) for name, (_, frame) in batches.items()}

    def _mark(self, tx: Tx, marks: dict[str, int]) -> None:
        for name, end in marks.items():
            row = {"name": name, "project_id": self._project_id, "taken": end, "updated_at": tx.now_ms}
            tx.upsert(t.capture_segments, row, key=["name"])

    def sizes(self) -> dict[str, int]:
        """Segment -> bytes taken; for tests and the doctor."""
        with self._db.read() as conn:
            return {row.name: row.taken for row in conn.execute(select(t.capture_segments))}


def _rows(record: Captured, segment: str, end: int, event_ms: int) -> list[Row]:
    """The rows of a record; what has no moment of its own gets that at which it was received, in event time."""
    received = min(record.received, event_ms) * 1000
    commits = msgspec.json.encode(record.commits).decode()
    common = (record.latency, record.revision, commits)
    if record.error:
        return [
            (f"error:{segment}:{end}", record.deployment, record.model, record.role, record.answered,
             received, "", None, "", "", record.received, *common, record.error, record.count)
        ]  # fmt: skip
    return [
        (row.id, record.deployment, record.model, record.role, record.answered,
         received if row.at is None else row.at, row.entity, row.score, row.request.decode(),
         row.features.decode(), record.received, *common, "", 1)
        for row in record.rows
    ]  # fmt: skip
