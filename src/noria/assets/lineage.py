"""Questions about the graph: where does this come from, what did it touch. Follows edges only."""

from __future__ import annotations

from dataclasses import dataclass, field

from noria.assets import queries
from noria.assets.records import Direction, Edge, Run, Version
from noria.base.ids import RunId, VersionId
from noria.db import Database

_INTO = (Direction.IN, Direction.CODE, Direction.ABOUT, Direction.REUSED)
_OUT = (Direction.OUT,)


@dataclass(slots=True, kw_only=True)
class Graph:
    """A part of the asset graph."""

    versions: dict[VersionId, Version] = field(default_factory=dict[VersionId, Version])
    runs: dict[RunId, Run] = field(default_factory=dict[RunId, Run])
    edges: list[Edge] = field(default_factory=list[Edge])
    complete: bool = True
    """False where the limit of nodes was reached."""


class Lineage:
    def __init__(self, db: Database) -> None:
        self._db = db

    def upstream(self, versions: list[VersionId], *, limit: int = 2_000) -> Graph:
        """Everything that the versions were made from."""
        return self._walk(versions, _OUT, _INTO, limit)

    def downstream(self, versions: list[VersionId], *, limit: int = 2_000) -> Graph:
        """Everything that was made from the versions."""
        return self._walk(versions, (Direction.IN, Direction.ABOUT), _OUT, limit)

    def _walk(
        self, start: list[VersionId], step: tuple[Direction, ...], onward: tuple[Direction, ...], limit: int
    ) -> Graph:
        graph = Graph()
        seen_runs: set[RunId] = set()
        seen: set[VersionId] = set(start)
        frontier = list(start)
        with self._db.read() as conn:
            while frontier:
                touching = queries.edges_of_versions(conn, frontier, step)
                new_runs = list(dict.fromkeys(e.run_id for e in touching if e.run_id not in seen_runs))
                seen_runs.update(new_runs)
                graph.edges.extend(touching)
                onwards = queries.edges_of_runs(conn, new_runs, onward) if new_runs else []
                graph.edges.extend(onwards)
                frontier = [v for v in dict.fromkeys(e.version_id for e in onwards) if v not in seen]
                seen.update(frontier)
                if len(seen) + len(seen_runs) > limit:
                    graph.complete = False
                    break
            graph.versions = queries.versions_by_ids(conn, seen)
            graph.runs = queries.runs_by_ids(conn, seen_runs)
        return graph

    def makers(self, version_id: VersionId) -> list[Run]:
        """The runs that made this content, oldest first; there may be several (decision 2)."""
        with self._db.read() as conn:
            made = queries.edges_of_versions(conn, [version_id], [Direction.OUT])
            runs = queries.runs_by_ids(conn, [e.run_id for e in made])
        return sorted(runs.values(), key=lambda run: run.id)
