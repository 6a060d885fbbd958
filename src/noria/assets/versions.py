"""Versions whose content is removed: when nothing needs it, and what a reader is told afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select, update

from noria.assets import queries
from noria.assets import tables as t
from noria.assets.errors import VersionGone
from noria.assets.records import Direction, Version
from noria.assets.roots import layout_kind
from noria.assets.sessions import retire
from noria.base.digest import Digest
from noria.base.ids import VersionId
from noria.db import Tx

AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A kind of row that needs the content of the version it names.

    Attributes:
        what: for people: "a commit", "a deployment".
        needs: which of these versions such rows name.
        strong: not even ``force`` takes the content from them.
    """

    what: str
    needs: Callable[[Connection, Collection[VersionId]], set[VersionId]]
    strong: bool = True


LANDINGS: Final = ("commit", "collection", "transfer")
"""Kinds of runs that only bring content in: they are known by name without it."""


def used_by_runs(conn: Connection, ids: Collection[VersionId]) -> set[VersionId]:
    """Versions that a run read, took over, was about, or made in a step."""
    c = t.edges.c
    found = select(c.version_id).join(t.runs, t.runs.c.id == c.run_id).distinct()
    found = found.where(c.version_id.in_(ids), (c.direction != Direction.OUT.value) | t.runs.c.kind.not_in(LANDINGS))
    return {VersionId(one) for (one,) in conn.execute(found)}


RUNS: Final = Holder(what="a run", needs=used_by_runs, strong=False)


def needed(
    conn: Connection, holders: Iterable[Holder], ids: Collection[VersionId], *, force: bool = False
) -> dict[VersionId, str]:
    """Version -> what needs it, for those that something needs."""
    found: dict[VersionId, str] = {}
    wanted = list(ids)
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        for holder in holders:
            if holder.strong or not force:
                found.update(dict.fromkeys(holder.needs(conn, some) - found.keys(), holder.what))
    return found


def forget(tx: Tx, holders: Iterable[Holder], ids: Collection[VersionId], *, force: bool = False) -> list[VersionId]:
    """Marks versions as gone that nothing needs; returns those. Their rows stay, so that lineage keeps its names."""
    kept = needed(tx.conn, holders, ids, force=force)
    gone = [one for one in dict.fromkeys(ids) if one not in kept]
    done: list[VersionId] = []
    for start in range(0, len(gone), AT_ONCE):
        there = [v for v in queries.versions_by_ids(tx.conn, gone[start : start + AT_ONCE]).values() if not v.gone]
        retire(tx, [(layout_kind(v.content), v.layout) for v in there])
        some = [v.id for v in there]
        tx.execute(update(t.versions).where(t.versions.c.id.in_(some)).values(gone_at=tx.now_ms))
        tx.execute(update(t.assets).where(t.assets.c.current_id.in_(some)).values(current_id=None))
        done += some
    return done


def layout_of(version: Version) -> Digest:
    """The object that holds a version.

    Raises:
        VersionGone: its content was removed.
    """
    if version.gone:
        raise VersionGone(version.asset, version.digest.short)
    return version.layout
