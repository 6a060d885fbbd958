"""Queries of what commits say of where their rows came from: parts of sources, and batches of producers.

A fact belongs to a commit. What counts for a branch are the facts of the commits that it holds; of several about the
same part or producer the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, func, select

from noria.assets import tables as at
from noria.base.ids import CommitId
from noria.data import tables as t
from noria.data.below import Holds, Tip
from noria.data.records import Commit, Producer
from noria.db import Tx
from noria.store.buckets import SCHEMES

_PAGE: Final = 16
_FEW: Final = 64
_ROWS: Final = 500
_COLLECTED: Final = frozenset(["file", "sql", "url", *SCHEMES.values()])
"""Under ``source`` in the meta of a commit: the kinds of which a collection reads rows."""


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
    conn: Connection, repository_id: int, holds: Holds, top: int, sources: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """What was taken of each part of a source, or of these parts, by the commits that are held: part -> mark.

    Args:
        top: the generation of the head. What other branches have above it is not looked at.
    """
    c = t.collected.c
    newest = (c.generation.desc(), c.at.desc(), c.commit_id.desc())
    mine = (c.repository_id == repository_id, c.generation <= top)
    found: dict[str, dict[str, Any]] = {}
    if sources is not None and len(sources) <= _FEW:
        for source in sources:
            row = _first_held(conn, t.collected, (*mine, c.source == source), newest, holds)
            if row is not None:
                found[source] = row.mark
        return found
    last = select(c.source, func.max(c.generation).label("generation")).where(*mine).group_by(c.source).subquery()
    same = (last.c.source == c.source) & (last.c.generation == c.generation)
    seen: set[str] = set()
    for row in conn.execute(select(t.collected).where(*mine).join(last, same).order_by(*newest)):
        seen.add(row.source)
        if row.source not in found and holds(CommitId(row.commit_id), row.generation):
            found[row.source] = row.mark
    missing = seen - found.keys()
    if len(missing) <= _FEW:
        found |= marks(conn, repository_id, holds, top, sorted(missing))
    else:  # another branch went on
        places = select(c.source, c.commit_id, c.generation).where(*mine).order_by(*newest)
        held: dict[str, CommitId] = {}
        for source, commit, generation in conn.execute(places):
            if source in missing and source not in held and holds(CommitId(commit), generation):
                held[source] = CommitId(commit)
        for some in _some(sorted(set(held.values()))):
            for row in conn.execute(select(t.collected).where(*mine, c.commit_id.in_(some))):
                if held.get(row.source) == row.commit_id:
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


def by_hand(conn: Connection, repository_id: int, holds: Holds, top: int) -> tuple[CommitId, str] | None:
    """The newest commit that is held and did something that no source says: (its id, its message).

    Args:
        top: the generation of the head.
    """
    c = t.commits.c
    for row in _others(conn, c.repository_id == repository_id, c.generation <= top):
        if not _collected(row) and holds(CommitId(row.id), row.generation):
            return CommitId(row.id), row.message
    return None


def all_collected(conn: Connection, ids: Iterable[CommitId]) -> bool:
    """Whether these commits hold nothing but what collections read."""
    rows = (row for some in _some(sorted(ids)) for row in _others(conn, t.commits.c.id.in_(some)))
    return all(_collected(row) for row in rows)


def _others(conn: Connection, *where: ColumnElement[bool]) -> Iterator[Any]:
    """The commits that no collection of this workspace made, highest generation first."""
    c, r = t.commits.c, at.runs.c
    found = select(c.id, c.generation, c.parents, c.message, c.meta, r.kind).join(at.runs, r.id == c.run_id)
    yield from conn.execute(found.where(*where, r.kind != "collection").order_by(c.generation.desc()))


def _collected(row: Any) -> bool:
    """Whether a commit brought nothing but what collections read: here, in another workspace, or before a squash.

    A merge has nothing that its parents do not have.
    """
    source = row.meta.get("source") if row.kind == "transfer" else None
    read = isinstance(source, dict) and source.get("kind") in _COLLECTED
    return read or len(row.parents) > 1 or ("squashed" in row.meta and row.meta.get("collected") is True)


# ---- producers


def producer(conn: Connection, repository_id: int, branch: str, holds: Holds, top: int, name: str) -> Producer | None:
    """The last batch of a producer that a branch holds whose head has the generation ``top``."""
    c = t.producers.c
    mine = (c.repository_id == repository_id, c.name == name, c.generation <= top)
    newest = (c.sequence.desc(), c.generation.desc(), c.commit_id.desc())
    row = _first_held(conn, t.producers, mine, newest, holds)
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


def _first_held(
    conn: Connection,
    table: Table,
    where: Sequence[ColumnElement[bool]],
    order: Sequence[ColumnElement[Any]],
    holds: Holds,
) -> Row[Any] | None:
    """The first row whose commit is held; nearly always the first one of all."""
    start, size = 0, 1
    places = select(table.c.commit_id, table.c.generation).where(*where).order_by(*order)
    while True:
        page = conn.execute(places.limit(size).offset(start)).all()
        for commit, generation in page:
            if holds(CommitId(commit), generation):
                return conn.execute(select(table).where(*where, table.c.commit_id == commit)).one()
        if len(page) < size:
            return None
        start, size = start + size, max(_PAGE, 4 * size)


def _some(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + _ROWS] for start in range(0, len(values), _ROWS))
