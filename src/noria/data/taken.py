"""Queries of what commits say of where their rows came from: parts of sources, and batches of producers.

A fact belongs to a commit. What counts for a branch are the facts of the commits that it holds; of several about the
same part or producer the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, func, select

from noria.assets import tables as at
from noria.base.ids import CommitId
from noria.data import tables as t
from noria.data.below import Holds, Tip
from noria.data.records import Commit, Producer
from noria.db import Tx

_PAGE: Final = 16
_FEW: Final = 64
_ROWS: Final = 500


def span(conn: Connection, repository_id: int) -> Callable[[int, int], Iterator[tuple[CommitId, list[CommitId]]]]:
    """Reads the commits of a repository between two generations, for ``below``."""
    c = t.commits.c

    def read(low: int, high: int) -> Iterator[tuple[CommitId, list[CommitId]]]:
        where = (c.repository_id == repository_id, c.generation >= low, c.generation < high)
        for row in conn.execute(select(c.id, c.parents).where(*where).order_by(c.generation.desc())):
            yield CommitId(row.id), row.parents

    return read


def tip_of(commit: Commit | None) -> Tip | None:
    return None if commit is None else Tip(commit.id, commit.generation, commit.parents)


# ---- collections


def marks(
    conn: Connection, repository_id: int, holds: Holds, sources: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """What was taken of each part of a source, or of these parts, by the commits that are held: part -> mark."""
    c = t.collected.c
    newest = (c.generation.desc(), c.at.desc(), c.commit_id.desc())
    mine = select(t.collected).where(c.repository_id == repository_id)
    found: dict[str, dict[str, Any]] = {}
    if sources is not None and len(sources) <= _FEW:
        for source in sources:
            row = _first_held(conn, mine.where(c.source == source).order_by(*newest), holds)
            if row is not None:
                found[source] = row.mark
        return found
    top = select(c.source, func.max(c.generation).label("generation")).where(c.repository_id == repository_id)
    top = top.group_by(c.source).subquery()
    same = (top.c.source == c.source) & (top.c.generation == c.generation)
    seen: set[str] = set()
    for row in conn.execute(mine.join(top, same).order_by(*newest)):
        seen.add(row.source)
        if row.source not in found and holds(CommitId(row.commit_id), row.generation):
            found[row.source] = row.mark
    missing = seen - found.keys()
    if len(missing) <= _FEW:
        found |= marks(conn, repository_id, holds, sorted(missing))
    else:  # another branch went on
        for row in conn.execute(mine.order_by(*newest)):
            if row.source in missing and row.source not in found and holds(CommitId(row.commit_id), row.generation):
                found[row.source] = row.mark
    return found if sources is None else {source: found[source] for source in sources if source in found}


def keep_marks(tx: Tx, repository_id: int, commit: Commit, taken: dict[str, dict[str, Any]]) -> None:
    """Says what of which parts was taken as of a commit."""
    place = {"repository_id": repository_id, "commit_id": commit.id, "generation": commit.generation}
    rows = [{**place, "source": source, "mark": mark, "at": tx.now_ms} for source, mark in taken.items()]
    tx.upsert_many(t.collected, rows, key=["repository_id", "source", "commit_id"])


def refusals(conn: Connection, repository_id: int, branch: str) -> dict[str, Row[Any]]:
    """The parts that a contract refused for a branch."""
    c = t.refusals.c
    found = conn.execute(select(t.refusals).where(c.repository_id == repository_id, c.branch == branch))
    return {row.source: row for row in found}


def refusals_of_batch(conn: Connection, repository_id: int, branch: str, batch: int) -> list[Row[Any]]:
    c = t.refusals.c
    where = (c.repository_id == repository_id, c.branch == branch, c.batch == batch)
    return list(conn.execute(select(t.refusals).where(*where)))


def settle_refusals(conn: Connection, repository_id: int, branch: str, sources: Iterable[str]) -> None:
    """These parts were taken: that they were refused before says nothing any more."""
    c = t.refusals.c
    for some in _some(list(sources)):
        where = (c.repository_id == repository_id, c.branch == branch, c.source.in_(some))
        conn.execute(delete(t.refusals).where(*where))


def appended(conn: Connection, repository_id: int, holds: Holds) -> bool:
    """Whether one of the commits that are held was made by something else than a collection."""
    c = t.commits.c
    found = select(c.id, c.generation).join(at.runs, at.runs.c.id == c.run_id)
    found = found.where(c.repository_id == repository_id, at.runs.c.kind != "collection")
    return any(holds(CommitId(row.id), row.generation) for row in conn.execute(found.order_by(c.generation.desc())))


# ---- producers


def producer(conn: Connection, repository_id: int, branch: str, holds: Holds, name: str) -> Producer | None:
    """The last batch of a producer that a branch holds."""
    c = t.producers.c
    mine = select(t.producers).where(c.repository_id == repository_id, c.name == name)
    row = _first_held(conn, mine.order_by(c.sequence.desc(), c.generation.desc(), c.commit_id.desc()), holds)
    if row is None:
        return None
    commit = CommitId(row.commit_id)
    return Producer(branch=branch, name=name, sequence=row.sequence, answer=row.answer, at=row.at, commit=commit)


def producer_names(conn: Connection, repository_id: int) -> list[str]:
    c = t.producers.c
    found = select(c.name).where(c.repository_id == repository_id).distinct().order_by(c.name)
    return list(conn.execute(found).scalars())


def sequences_at(conn: Connection, repository_id: int, commit: CommitId, names: Sequence[str]) -> dict[str, int]:
    """What one commit says of these producers."""
    c, found = t.producers.c, dict[str, int]()
    for some in _some(names):
        where = (c.repository_id == repository_id, c.name.in_(some), c.commit_id == commit)
        found |= {row.name: row.sequence for row in conn.execute(select(c.name, c.sequence).where(*where))}
    return found


def keep_sequences(tx: Tx, repository_id: int, commit: Commit, rows: Sequence[dict[str, Any]]) -> None:
    """Says which batches were taken last as of a commit: rows of name, sequence and answer."""
    place = {"repository_id": repository_id, "commit_id": commit.id, "generation": commit.generation, "at": tx.now_ms}
    tx.upsert_many(t.producers, [{**row, **place} for row in rows], key=["repository_id", "name", "commit_id"])


# ---- all of them


def carry(tx: Tx, repository_id: int, old: Iterable[CommitId], new: Commit) -> None:
    """Gives a commit the facts of those whose place it takes."""
    taken: dict[str, Row[Any]] = {}
    sent: dict[str, Row[Any]] = {}
    for some in _some(sorted(old)):
        for row in tx.execute(select(t.collected).where(t.collected.c.commit_id.in_(some))):
            if row.source not in taken or _age(row) > _age(taken[row.source]):
                taken[row.source] = row
        for row in tx.execute(select(t.producers).where(t.producers.c.commit_id.in_(some))):
            if row.name not in sent or _place(row) > _place(sent[row.name]):
                sent[row.name] = row
    keep_marks(tx, repository_id, new, {source: row.mark for source, row in taken.items()})
    rows = [{"name": name, "sequence": row.sequence, "answer": row.answer} for name, row in sent.items()]
    keep_sequences(tx, repository_id, new, rows)


def of_commits(conn: Connection, ids: Sequence[CommitId]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows of collected, rows of producers) of these commits, as another workspace takes them."""
    found: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for table, rows in zip((t.collected, t.producers), found, strict=True):
        for some in _some(ids):
            rows += [dict(row._mapping) for row in conn.execute(select(table).where(table.c.commit_id.in_(some)))]
    return found


def forget(conn: Connection, ids: Sequence[CommitId]) -> None:
    """The facts of commits that are about to go."""
    for some in _some(ids):
        for table in (t.collected, t.producers):
            conn.execute(delete(table).where(table.c.commit_id.in_(some)))


def _age(row: Row[Any]) -> tuple[int, int, str]:
    return row.generation, row.at, row.commit_id


def _place(row: Row[Any]) -> tuple[int, int, str]:
    return row.sequence, row.generation, row.commit_id


def _first_held(conn: Connection, rows: Select[Any], holds: Holds) -> Row[Any] | None:
    """The first row whose commit is held; nearly always the first one of all."""
    start, size = 0, 1
    while True:
        page = conn.execute(rows.limit(size).offset(start)).all()
        for row in page:
            if holds(CommitId(row.commit_id), row.generation):
                return row
        if len(page) < size:
            return None
        start, size = start + size, max(_PAGE, 4 * size)


def _some(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + _ROWS] for start in range(0, len(values), _ROWS))
