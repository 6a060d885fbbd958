"""A whole workspace with training and a deployment: every object that any table names survives a collection."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sqlalchemy import select
from trained_shop import ME, POLICY, trained, version

from noria.base.digest import Digest
from noria.db.metadata import metadata
from noria.store import Kind
from noria.tracking.records import Artifact
from noria.workspace import Workspace

HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
PASSING = {"packs", "retired", "audit", "idempotency", "events", "runs", "run_tags"}
"""Tables whose ids are not objects that have to live: names of packs, and what is told of the past."""


def named(ws: Workspace) -> dict[bytes, set[str]]:
    """Object of the store -> the columns that name it, over all tables there are."""
    found: dict[bytes, set[str]] = {}
    with ws.db.read() as conn:
        for table in metadata.tables.values():
            if table.name in PASSING:
                continue
            for row in conn.execute(select(table)).mappings():
                for column, value in row.items():
                    text = value if isinstance(value, str) else json.dumps(value, default=str)
                    for name in HEX.findall(text):
                        if ws.store.index.find(bytes.fromhex(name)):
                            found.setdefault(bytes.fromhex(name), set()).add(f"{table.name}.{column}")
    return found


def test_everything_that_is_named_survives_and_cached_steps_stay_cached(tmp_path: Path) -> None:
    with trained(tmp_path, 1) as ws:
        ws.serving.deploy(ws.serving.ensure("shops", "tree", POLICY, actor=ME), version(ws, 1), actor=ME)
        with ws.sessions.writer() as writer:
            chunk = writer.put(Kind.CHUNK, b"an artifact of a run" * 20)
            packs = writer.flush()
            with ws.db.write() as tx:
                ws.sessions.seal(tx, packs)
                run = ws.registry.version(ws.project.id, "tree", 1).run_id
                assert run is not None
                made = Artifact(path="a.txt", size=400, content_kind=int(Kind.CHUNK), content=chunk.hex)
                ws.tracking.add_artifact(tx, run, made)
        before = named(ws)
        columns = {column for places in before.values() for column in places}
        assert columns >= {
            "versions.layout",
            "commits.id",
            "commits.layout",
            "artifacts.content",
            "deployments.package",
            "deployments.code",
        }
        with ws.sessions.writer() as writer:  # garbage, so that there is something to remove
            writer.put(Kind.BLOB, b"nothing names this" * 100)
            writer.flush()
        ws.sessions.renew()
        done = ws.gc.run()
        assert done.removed >= 1
        lost: dict[str, Any] = {o.hex(): c for o, c in before.items() if not ws.store.has(Digest(o))}
        assert not lost, "a place that names objects is not among the roots in workspace.py"
        assert ws.verify(data=True) == []
        assert ws.store.get(chunk, Kind.CHUNK).startswith(b"an artifact")
        again = ws.pipelines.run(["tree"], {"leaves": 4}, actor=ME, check=False)
        assert {step.action for step in again.steps.values()} <= {"reused", "source"}
        package = ws.training.package_of(version(ws, 1))
        assert package.features is not None
