from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from noria.base.ids import CommitId, ProjectId
from noria.db import Tx
from noria.features import tables as t
from noria.features.slices import Slicer, TableMeta
from noria.features.tables_seen import Use


@dataclass(frozen=True, slots=True)
class Kept:
    """One use that the online store holds."""

    id: int
    repository_id: int
    slicer: Slicer
    commit: CommitId | None
    generation: int


def kept(
    conn: Connection,
    *,
    repository_id: int | None = None,
    project_id: ProjectId | None = None,
    slicers: dict[int, Slicer] | None = None,
) -> list[Kept]:
    """Uses that the store holds. ``slicers`` keeps what was made of their specifications, which never change."""
    found = select(t.online_uses).order_by(t.online_uses.c.id)
    if repository_id is not None:
        found = found.where(t.online_uses.c.repository_id == repository_id)
    if project_id is not None:
        found = found.where(t.online_uses.c.project_id == project_id)
    return [_kept(row, slicers) for row in conn.execute(found)]


def kept_by_use(conn: Connection, project_id: ProjectId, use_id: str) -> Kept | None:
    where = (t.online_uses.c.project_id == project_id, t.online_uses.c.use_id == use_id)
    row = conn.execute(select(t.online_uses).where(*where)).one_or_none()
    return None if row is None else _kept(row)


def _kept(row: Row[Any], slicers: dict[int, Slicer] | None = None) -> Kept:
    slicer = None if slicers is None else slicers.get(row.id)
    if slicer is None:
        slicer = Slicer(Use.of(row.spec["use"]), TableMeta.of(row.spec["table"]))
        if slicers is not None:
            slicers[row.id] = slicer
    return Kept(
        row.id, row.repository_id, slicer, None if row.commit_id is None else CommitId(row.commit_id), row.generation
    )


def blobs(conn: Connection, wanted: dict[int, list[bytes]]) -> dict[tuple[int, bytes], bytes]:
    """(use, key) -> its slice, for the keys of several uses in one question."""
    c = t.online_rows.c
    keys = list({key for found in wanted.values() for key in found})
    found = select(c.online_use, c.key, c.value)
    found = found.where(c.online_use.in_(list(wanted)), c.key.in_(keys), c.value.is_not(None))
    return {(use, bytes(key)): bytes(value) for use, key, value in conn.execute(found)}


def next_seq(tx: Tx, project_id: ProjectId) -> int:
    """The next change number; the row's lock keeps changes in the order of their commits on every database."""
    c = t.online_counter.c
    raised = update(t.online_counter).where(c.project_id == project_id).values(seq=c.seq + 1).returning(c.seq)
    found = tx.execute(raised).scalar_one_or_none()
    if found is None:
        tx.insert_new(t.online_counter, {"project_id": project_id, "seq": 0})
        found = tx.execute(raised).scalar_one()
    return int(found)


def put(tx: Tx, values: dict[tuple[int, bytes], bytes | None], seq: int) -> None:
    """(use, key) -> slice; None where nothing is left of it."""
    rows = [{"online_use": use, "key": key, "value": value, "seq": seq} for (use, key), value in values.items()]
    tx.upsert_many(t.online_rows, rows, key=["online_use", "key"])


def keys(conn: Connection, use: int) -> dict[bytes, bytes | None]:
    """All slices of a use."""
    c = t.online_rows.c
    found = conn.execute(select(c.key, c.value).where(c.online_use == use))
    return {bytes(key): None if value is None else bytes(value) for key, value in found}


def forget(tx: Tx, uses: list[int]) -> None:
    tx.execute(t.online_rows.delete().where(t.online_rows.c.online_use.in_(uses)))
    tx.execute(t.online_uses.delete().where(t.online_uses.c.id.in_(uses)))


def mark(tx: Tx, uses: list[int], commit: CommitId, generation: int, seq: int) -> None:
    values = {"commit_id": commit, "generation": generation, "seq": seq}
    tx.execute(update(t.online_uses).where(t.online_uses.c.id.in_(uses)).values(**values))


def changes(
    conn: Connection, project_id: ProjectId, after: int
) -> tuple[list[tuple[int, bytes, bytes | None, int]], list[tuple[int, str, int, str | None, int]]]:
    """(rows changed after a change number, uses changed after it); each project counts by itself."""
    c, u = t.online_rows.c, t.online_uses.c
    mine = select(u.id).where(u.project_id == project_id)
    changed = select(c.online_use, c.key, c.value, c.seq).where(c.seq > after, c.online_use.in_(mine))
    rows = conn.execute(changed.order_by(c.seq)).all()
    found = select(u.id, u.use_id, u.repository_id, u.commit_id, u.seq)
    uses = conn.execute(found.where(u.project_id == project_id, u.seq > after)).all()
    return [(r[0], bytes(r[1]), None if r[2] is None else bytes(r[2]), r[3]) for r in rows], [
        (u[0], u[1], u[2], u[3], u[4]) for u in uses
    ]
