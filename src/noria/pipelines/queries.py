from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select

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


def cached(conn: Connection, project_id: ProjectId, key: Digest) -> Cached | None:
    where = (t.step_results.c.project_id == project_id, t.step_results.c.key == str(key))
    row = conn.execute(select(t.step_results).where(*where)).one_or_none()
    return None if row is None else _cached(row)


def last(conn: Connection, asset_id: AssetId) -> Cached | None:
    """The newest successful run of a step, whatever its identity."""
    c = t.step_results.c
    found = select(t.step_results).where(c.asset_id == asset_id).order_by(c.created_at.desc(), c.run_id.desc()).limit(1)
    row = conn.execute(found).one_or_none()
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


def durations(conn: Connection, asset_id: AssetId, limit: int = 5) -> list[int]:
    """Wall times (milliseconds) of the newest successful runs of a step."""
    c = at.runs.c
    found = select(c.cost).where(c.asset_id == asset_id, c.state == "done", c.kind == "step")
    rows = conn.execute(found.order_by(c.started_at.desc()).limit(limit)).scalars()
    return [cost["wall_ms"] for cost in rows if "wall_ms" in cost]


def definitions(conn: Connection, project_id: ProjectId) -> dict[str, Definition]:
    found = select(t.definitions).where(t.definitions.c.project_id == project_id).order_by(t.definitions.c.name)
    return {row.name: _definition(row) for row in conn.execute(found)}


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
