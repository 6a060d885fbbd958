"""Versions whose content nothing needs any more."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select, update

from noria.assets import tables as t
from noria.base.ids import VersionId
from noria.db import Tx

_LANDINGS = ("commit", "collection", "transfer")
"""Kinds of runs that only bring content in. What a step or a training made or read is kept: lineage needs it."""


def forget_versions(tx: Tx, ids: Iterable[VersionId]) -> list[VersionId]:
    """Marks versions as gone that no run but their own landing names; returns them.

    Their rows stay, as names. The collector takes the content; the same content committed again revives the row.
    """
    left = sorted(set(ids))
    gone: list[VersionId] = []
    for start in range(0, len(left), 500):
        some = left[start : start + 500]
        edges = select(t.edges.c.version_id).join(t.runs, t.runs.c.id == t.edges.c.run_id)
        used = edges.where(
            t.edges.c.version_id.in_(some), (t.edges.c.direction != "out") | t.runs.c.kind.not_in(_LANDINGS)
        )
        kept = set(tx.execute(used).scalars())
        kept |= set(tx.execute(select(t.assets.c.current_id).where(t.assets.c.current_id.in_(some))).scalars())
        free = [one for one in some if one not in kept]
        tx.execute(update(t.versions).where(t.versions.c.id.in_(free)).values(gone_at=tx.now_ms))
        gone += free
    return gone
