from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select

from noria.assets import tables as at
from noria.base.digest import Digest
from noria.base.ids import AssetId, ProjectId, RunId, VersionId
from noria.db import Tx
from noria.pipelines import tables as t
from noria.pipelines.identity import Manifest
from noria.pipelines.records import Definition


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """A step that ran before."""

    run_id: RunId
    outputs: dict[str, VersionId]
    manifest: Manifest


# Statements are built once: building costs more than running them on SQLite.
_CACHED = select(t.step_results).where(
    t.step_results.c.project_id == bindparam("project_id"), t.step_results.c.key == bindparam("key")
)
_NAMED = select(at.assets.c.id).where(
    at.assets.c.project_id == bindparam("project_id"), at.assets.c.name == bindparam("name")
)
_LAST = (
    select(t.step_results)
    .where(t.step_results.c.asset_id == _NAMED.scalar_subquery())
    .order_by(t.step_results.c.created_at.desc(), t.step_results.c.run_id.desc())
    .limit(1)
)
_COSTS = (
    select(at.runs.c.cost)
    .where(at.runs.c.asset_id == _NAMED.scalar_subquery(), at.runs.c.state == "done", at.runs.c.kind == "step")
    .order_by(at.runs.c.started_at.desc())
    .limit(bindparam("most"))
)

_OF_KIND = (
    select(t.definitions)
    .where(t.definitions.c.project_id == bindparam("project_id"), t.definitions.c.kind == bindparam("kind"))
    .order_by(t.definitions.c.name)
)


def cached(conn: Connection, project_id: ProjectId, key: Digest) -> Cached | None:
    row = conn.execute(_CACHED, {"project_id": project_id, "key": str(key)}).one_or_none()
    return None if row is None else _cached(row)


def last(conn: Connection, project_id: ProjectId, name: str) -> Cached | None:
    """The newest successful run of a step, whatever its identity."""
    row = conn.execute(_LAST, {"project_id": project_id, "name": name}).one_or_none()
    return None if row is None else _cached(row)


def _cached(row: Row[Any]) -> Cached:
    manifest = Manifest(row.manifest["parts"], tuple(row.manifest["notes"]), row.manifest["places"])
    outputs = {slot: VersionId(version_id) for slot, version_id in row.outputs.items()}
    return Cached(run_id=RunId(row.run_id), outputs=outputs, manifest=manifest)


def record(
    tx: Tx, project_id: ProjectId, asset_id: AssetId, run_id: RunId, manifest: Manifest, outputs: dict[str, VersionId]
) -> None:
    row = {
        "project_id": project_id,
        "key": str(manifest.key),
        "asset_id": asset_id,
        "run_id": run_id,
        "outputs": outputs,
        "manifest": {"parts": manifest.parts, "notes": list(manifest.notes), "places": manifest.places},
        "created_at": tx.now_ms,
    }
    tx.upsert(t.step_results, row, key=["project_id", "key"])


def forget(tx: Tx, project_id: ProjectId, key: Digest) -> None:
    tx.execute(
        delete(t.step_results).where(t.step_results.c.project_id == project_id, t.step_results.c.key == str(key))
    )


def durations(conn: Connection, project_id: ProjectId, name: str, limit: int = 5) -> list[int]:
    """Wall times (milliseconds) of the newest successful runs of a step."""
    rows = conn.execute(_COSTS, {"project_id": project_id, "name": name, "most": limit}).scalars()
    return [cost["wall_ms"] for cost in rows if "wall_ms" in cost]


def definitions(conn: Connection, project_id: ProjectId) -> dict[str, Definition]:
    found = select(t.definitions).where(t.definitions.c.project_id == project_id).order_by(t.definitions.c.name)
    return {row.name: _definition(row) for row in conn.execute(found)}


def has_definitions(conn: Connection, project_id: ProjectId) -> bool:
    found = select(t.definitions.c.name).where(t.definitions.c.project_id == project_id).limit(1)
    return conn.execute(found).first() is not None


def definitions_of_kind(conn: Connection, project_id: ProjectId, kind: str) -> list[Definition]:
    return [_definition(row) for row in conn.execute(_OF_KIND, {"project_id": project_id, "kind": kind})]


def _definition(row: Row[Any]) -> Definition:
    return Definition(
        name=row.name, kind=row.kind, entry=row.entry, spec=row.spec, code=row.code, updated_at=row.updated_at
    )


def apply(tx: Tx, project_id: ProjectId, made: list[Definition]) -> None:
    """Replaces the project's definitions."""
    names = [d.name for d in made]
    gone = (t.definitions.c.project_id == project_id, t.definitions.c.name.not_in(names))
    tx.execute(delete(t.definitions).where(*gone))
    rows = [
        {
            "project_id": project_id,
            "name": d.name,
            "kind": d.kind,
            "entry": d.entry,
            "spec": d.spec,
            "code": d.code,
            "updated_at": tx.now_ms,
        }
        for d in made
    ]
    tx.upsert_many(t.definitions, rows, key=["project_id", "name"])
