"""The online store's upkeep, and features of single rows for people and tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.assets import Change, Changes, EvidenceLog
from noria.base.actor import SYSTEM
from noria.base.errors import Conflict, Unavailable
from noria.base.ids import CommitId, ProjectId
from noria.data import Data
from noria.data.records import Commit, Repository
from noria.data.rows import RowsChange
from noria.db import Database, Tx
from noria.features import queries
from noria.features import tables as t
from noria.features.function import FeatureFunction, FeatureSpec, OnlineTable
from noria.features.online import Reader, Replica
from noria.features.records import OnlineHead
from noria.features.slices import Slicer, TableRows
from noria.features.tables_seen import Use

if TYPE_CHECKING:
    import polars as pl

EVALUATOR = "noria.features.run:1"
_TRIES = 5


class Features:
    """One per workspace."""

    def __init__(
        self, db: Database, data: Data, changes: Changes, evidence: EvidenceLog, project_id: ProjectId, home: Path
    ) -> None:
        self._db = db
        self._data = data
        self._changes = changes
        self._evidence = evidence
        self._project_id = project_id
        self.replica_path = home / "online" / f"{project_id}.db"
        self.replica = Replica(self.replica_path, db, project_id)
        self._slicers: dict[int, Slicer] = {}

    # ---- what is kept

    def keep(self, spec: FeatureSpec) -> list[str]:
        """Makes the online store hold what a features function needs for single requests; returns the uses' ids.

        Raises:
            Unavailable: the table kept changing while its rows were taken over.
        """
        made = [self._keep_use(use, spec) for use in spec.uses]
        self.replica.catch_up()
        return made

    def _keep_use(self, use: Use, spec: FeatureSpec) -> str:
        table = next(meta for meta in spec.tables.values() if meta.name == use.table)
        for _ in range(_TRIES):
            with self._db.read() as conn:
                if queries.kept_by_use(conn, self._project_id, use.id) is not None:
                    return use.id
            repository = self._data.get(self._project_id, use.table)
            head = self._data.head(repository)
            slicer = Slicer(use, table)
            values = {} if head is None else self._build(slicer, repository, head.id)
            with self._changes.begin("features.keep", self._project_id, SYSTEM) as change:
                tx = change.tx
                now = self._data.head(repository, tx=tx)
                if (None if now is None else now.id) != (None if head is None else head.id):
                    continue  # rows came in between
                seq = queries.next_seq(tx, self._project_id)
                row = {
                    "project_id": self._project_id,
                    "use_id": use.id,
                    "repository_id": repository.id,
                    "spec": {"use": use.as_value(), "table": table.as_value()},
                    "commit_id": None if head is None else head.id,
                    "generation": 0 if head is None else head.generation,
                    "seq": seq,
                    "created_at": tx.now_ms,
                }
                if tx.insert_new(t.online_uses, row):
                    found = queries.kept_by_use(tx.conn, self._project_id, use.id)
                    assert found is not None
                    queries.put(tx, {(found.id, key): value for key, value in values.items()}, seq)
                change.note(use.table, use=use.id, keys=len(values))
            return use.id
        raise Unavailable(f"{use.table} changed all the time; its rows could not be taken over.", hint="Try again.")

    def _build(self, slicer: Slicer, repository: Repository, commit: CommitId) -> dict[bytes, bytes | None]:
        frame = slicer.recent(self._data.read(repository, commit, hidden=True))
        found = slicer.rows_of(TableRows(frame, slicer.table.key))
        return {key: slicer.changed(None, rows, set()) for key, rows in found.items()}

    def on_rows(self, change: Change, repository: Repository, rows: RowsChange, commit: Commit) -> None:
        """Takes new rows over, in the transaction that commits them (a ``RowsListener`` of the data room)."""
        kept = queries.kept(change.tx.conn, repository_id=repository.id, slicers=self._slicers)
        if not kept:
            return
        if rows.altered:
            _check_columns(kept, repository, rows)
        seq = queries.next_seq(change.tx, repository.project_id)
        values = self._take_over(change, kept, repository.key, rows, seq)
        queries.mark(change.tx, [use.id for use in kept], commit.id, commit.generation, seq)
        slices = [(use, key, value) for (use, key), value in values.items()]
        uses = [(use.id, use.slicer.use.id, repository.id, str(commit.id)) for use in kept]
        change.tx.after_commit(lambda: self.replica.take(seq, slices, uses))

    def _take_over(
        self, change: Change, kept: list[queries.Kept], key: Sequence[str], rows: RowsChange, seq: int
    ) -> dict[tuple[int, bytes], bytes | None]:
        gone_rows = rows.old_rows if rows.replaced is None else self._data.reader.read(rows.replaced, hidden=True)
        new, old = TableRows(rows.new_rows, key), TableRows(gone_rows, key)
        removed = set(old.ids) if len(gone_rows) else set[int]()
        added = {use.id: use.slicer.rows_of(new) for use in kept}
        gone = {use.id: use.slicer.rows_of(old) for use in kept} if removed else {}
        touched = {number: list({**found, **gone.get(number, {})}) for number, found in added.items()}
        before = queries.blobs(change.tx.conn, touched)
        values: dict[tuple[int, bytes], bytes | None] = {}
        for use in kept:
            mine = added[use.id]
            for name in touched[use.id]:
                values[use.id, name] = use.slicer.changed(before.get((use.id, name)), mine.get(name, []), removed)
        queries.put(change.tx, values, seq)
        return values

    def uses_of(self, tx: Tx, repository: Repository) -> list[str]:
        """The uses of a table that the online store holds rows for."""
        return [kept.slicer.use.id for kept in queries.kept(tx.conn, repository_id=repository.id)]

    def forget(self, tx: Tx, repository: Repository) -> None:
        """Removes all rows of a table that is deleted; endpoints that read it find none."""
        uses = [kept.id for kept in queries.kept(tx.conn, repository_id=repository.id)]
        if uses:
            queries.forget(tx, uses)
            tx.after_commit(lambda: self.replica.forget(uses))

    def rebuild(self, repository: Repository) -> int:
        """Fills the online store of a table anew from its head; returns how many slices changed.

        For rows that were erased from all history: nothing else takes a row back without a commit.
        """
        with self._db.read() as conn:
            kept = queries.kept(conn, repository_id=repository.id)
        changed = sum(self._rebuild(use, repository) for use in kept)
        if kept:
            self.replica.catch_up()
            self.replica.vacuum()
        return changed

    def _rebuild(self, use: queries.Kept, repository: Repository) -> int:
        for _ in range(_TRIES):
            head = self._data.head(repository)
            values = {} if head is None else self._build(use.slicer, repository, head.id)
            with self._db.write() as tx:
                now = self._data.head(repository, tx=tx)
                if (None if now is None else now.id) != (None if head is None else head.id):
                    continue  # rows came in between
                before = queries.keys(tx.conn, use.id)
                differs = [key for key in before.keys() | values.keys() if before.get(key) != values.get(key)]
                if differs:
                    seq = queries.next_seq(tx, self._project_id)
                    queries.put(tx, {(use.id, key): values.get(key) for key in differs}, seq)
                return len(differs)
        name = repository.name
        raise Unavailable(f"{name} changed all the time; its rows could not be taken over.", hint="Try again.")

    def heads(self) -> list[OnlineHead]:
        """Up to where the online store holds each use."""
        with self._db.read() as conn:
            return [
                OnlineHead(
                    use_id=k.slicer.use.id,
                    table=k.slicer.use.table,
                    commit=k.commit,
                    generation=k.generation,
                    rows=0,
                )
                for k in queries.kept(conn, project_id=self._project_id)
            ]

    # ---- features of single rows

    def server(self, spec: FeatureSpec, function: Callable[..., Any]) -> FeatureServer:
        """Features of single rows from the online store, as an endpoint computes them."""
        self.replica.catch_up()
        return FeatureServer(spec, function, Reader(self.replica_path))


def _check_columns(kept: list[queries.Kept], repository: Repository, rows: RowsChange) -> None:
    """Refuses a change of columns after which the slices of endpoints could not be kept up.

    A row in a slice is told apart by its key, or without one by all its values.
    """
    for use in kept:
        slicer, names = use.slicer, set(rows.new_rows.columns)
        same_key = bool(slicer.table.key) and list(slicer.table.key) == rows.layout.key
        needed = {*slicer.on, *slicer.columns, *slicer.table.key, *filter(None, [slicer.table.time])}
        missing = sorted(needed - names)
        if missing or not same_key:
            what = f"the column {missing[0]!r}" if missing else "the rows"
            raise Conflict(
                f"Features of an endpoint look up {what} of {repository.name}, so its columns cannot be changed so.",
                hint="Add a column under the new name, deploy features that read it, then drop the old one.",
                details={"repository": repository.name, "missing": missing},
            )


class FeatureServer:
    """Computes features for requests. Used by endpoint workers; not thread-safe."""

    def __init__(self, spec: FeatureSpec, function: Callable[..., Any], reader: Reader) -> None:
        self.spec = spec
        self._reader = reader
        self._function = FeatureFunction(spec.name, function, spec.spine_parameter, spec.spine.key)
        self._use_ids = [use.id for use in spec.uses]
        self._slicers = {
            parameter: {u.id: Slicer(u, meta) for u in spec.uses if u.table == meta.name}
            for parameter, meta in spec.tables.items()
        }

    def compute(self, spine: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
        """(features, commit ids of the tables that were read) for source rows, in their order."""
        with self._reader.snapshot() as snapshot:
            tables = {
                parameter: OnlineTable(meta=meta, slicers=self._slicers[parameter], snapshot=snapshot)
                for parameter, meta in self.spec.tables.items()
            }
            made = self._function.compute(spine, tables)
            return made, snapshot.commits(self._use_ids)

    def close(self) -> None:
        self._reader.close()
