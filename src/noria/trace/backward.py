"""Where a thing comes from: along edges, and along the commit ids that were captured. Never along names or times."""

from __future__ import annotations

import json
from typing import Any

from noria.assets import Assets, Lineage
from noria.assets.records import Direction, Run, Version
from noria.base.ids import CommitId, ProjectId, RunId, VersionId
from noria.base.times import SECOND, duration_text, to_text
from noria.data import Data
from noria.data.records import Commit, Repository
from noria.db import Database
from noria.registry import Registry
from noria.registry.records import ModelVersion
from noria.serving.records import Deployment
from noria.serving.service import Serving
from noria.trace import queries
from noria.trace.records import Captured, Node, Replay, UsedRows
from noria.tracking import Tracking
from noria.tracking.codes import Code, code_of

SHORT = 12


class Backward:
    """Builds the nodes of one trail; each version and run is told once."""

    def __init__(
        self,
        db: Database,
        project_id: ProjectId,
        assets: Assets,
        lineage: Lineage,
        data: Data,
        registry: Registry,
        tracking: Tracking,
        serving: Serving,
    ) -> None:
        self._db = db
        self._project_id = project_id
        self._assets = assets
        self._lineage = lineage
        self._data = data
        self._registry = registry
        self._tracking = tracking
        self._serving = serving
        self._kinds = {a.id: a.kind.value for a in assets.list_assets(project_id)}
        self._told: set[tuple[str, str]] = set()

    # ---- predictions

    def prediction(self, all_: list[Captured], replay: Replay | None, unable: str) -> Node:
        """A prediction; ``all_`` are the records of every deployment that scored it, the answer first."""
        first = all_[0]
        facts: dict[str, Any] = {
            "score": first.score,
            "at": None if first.at is None else to_text(first.at // 1000),
            "received": to_text(first.received),
            "latency_us": first.latency,
            "role": first.role,
            "revision": first.revision,
        }
        if first.error:
            facts = {"error": first.error, **facts}
        if replay is not None:
            facts["recomputed"] = "equal" if replay.equal else f"different: {', '.join(replay.different)}"
        elif unable:
            facts["recomputed"] = unable
        children = [self._request(first)] if first.request else []
        if first.features:
            children.append(Node(kind="values", name="features", facts=_features(first.features)))
        children += self._rows(first, replay)
        if first.deployment:  # a request that was refused reached none
            children.append(self.deployment(self._serving.deployment(first.deployment)))
        children += [
            Node(kind="prediction", name=p.model, id=p.id, facts={"score": p.score, "role": p.role}) for p in all_[1:]
        ]
        return Node(kind="prediction", name=first.endpoint, id=first.id, facts=facts, children=tuple(children))

    @staticmethod
    def _request(prediction: Captured) -> Node:
        return Node(kind="request", id=prediction.entity, facts=json.loads(prediction.request))

    def _rows(self, prediction: Captured, replay: Replay | None) -> list[Node]:
        """The captured commits by the name of their table, each with the rows that were found there."""
        used: dict[str, list[UsedRows]] = {}
        for rows in () if replay is None else replay.used:
            if rows.commit is not None:
                used.setdefault(rows.commit, []).append(rows)
        found = [self._data.commit_by_id(CommitId(commit_id)) for commit_id in prediction.commits]
        return [
            self.commit(repository, commit, tuple(_used(u) for u in used.get(commit.id, ())))
            for repository, commit in sorted(found, key=lambda pair: pair[0].name)
        ]

    def endpoint(self, name: str) -> Node:
        """An endpoint with what stands behind it now."""
        routing = self._serving.status(name).routing
        children = tuple(self.deployment(self._serving.deployment(arm.deployment)) for arm in routing.arms)
        return Node(kind="endpoint", name=name, facts={"revision": routing.number}, children=children)

    def deployment(self, found: Deployment) -> Node:
        facts = {"endpoint": found.endpoint, "state": found.state.value, "made": to_text(found.created_at)}
        version = self._assets.version(found.version_id)
        models = [m for m in self._registry.versions_with([version.id], deleted=True) if m.name == found.model]
        below = self.model(models[0]) if models else self.version(version)
        return Node(kind="deployment", name=found.model, id=str(found.id), facts=facts, children=(below,))

    # ---- versions and runs

    def model(self, found: ModelVersion) -> Node:
        """A model version: its package, the run that made it, and the sweeps that found it."""
        facts: dict[str, Any] = {"registered": to_text(found.created_at)}
        runs: list[Run] = []
        package = ""
        if found.version_id is None:
            facts["source"] = found.source
        else:
            version = self._assets.version(found.version_id)
            package = version.digest.short
            facts |= _flat(version.meta.get("metrics", {}))
            runs = [r for r in self._lineage.makers(version.id) if r.id != found.run_id and r.kind == "sweep"]
        if found.run_id is not None:
            runs.insert(0, self._assets.run(found.run_id))
        children = tuple(self.run(r) for r in runs)
        return Node(kind="model", name=found.name, id=package, facts=facts, children=children)

    def run(self, found: Run) -> Node:
        """A run with what it read: parameters, code, environment, versions."""
        facts: dict[str, Any] = {
            "kind": found.kind,
            "state": found.state.value,
            "by": found.actor,
            "trigger": found.trigger,
            "started": to_text(found.started_at),
            "event_time": _event_time(found.event_ms, found.started_at),
        }
        if found.ended_at is not None:
            facts["took"] = duration_text(found.ended_at - found.started_at)
        children: list[Node] = []
        if self._first("run", found.id):
            said = self._tracking.data(found.id)
            if said.params:
                children.append(Node(kind="params", facts=dict(said.params)))
            children += self._inputs(found.id, code_of(said.tags))
        plain = {k: v for k, v in facts.items() if v is not None}
        return Node(kind="run", name=found.name, id=found.id, facts=plain, children=tuple(children))

    def _inputs(self, run_id: RunId, said: Code | None) -> list[Node]:
        edges = self._assets.edges(run_id)
        versions = self._assets.versions_by_ids([e.version_id for e in edges])
        read = [e for e in edges if e.direction in (Direction.IN, Direction.ABOUT)]
        code = [e for e in edges if e.direction == Direction.CODE]
        return [
            *(self._code(e.slot, versions[e.version_id], said) for e in code),
            *(self.version(versions[e.version_id]) for e in read),
        ]

    @staticmethod
    def _code(slot: str, version: Version, said: Code | None) -> Node:
        """Code, an environment, or a commit that a client named; ``said``: how its run used that."""
        git = version.meta.get("git") or {}
        if version.meta.get("named"):
            facts = {**{k: v for k, v in git.items() if v}, **({} if said is None else said.use()), "files": "not here"}
            return Node(kind="code", name=version.asset, id=version.digest.short, facts=facts)
        facts: dict[str, Any] = {"bytes": version.size}
        if "files" in version.meta:
            facts["files"] = version.meta["files"]
        if git:
            facts |= {"git": git["commit"][:SHORT], "dirty": git["dirty"]}
        return Node(kind=slot or "code", name=version.asset, id=version.digest.short, facts=facts)

    def version(self, found: Version) -> Node:
        """A version: its commits where it is a repository's, else the runs that made it."""
        facts: dict[str, Any] = {"rows": found.rows} if found.rows is not None else {}
        facts["bytes"] = found.size
        children: list[Node] = []
        if self._first("version", str(found.id)):
            children = self._commits(found.id)
            if not children:
                makers = self._lineage.makers(found.id)
                runs = [r for r in makers if r.kind != "sweep"]
                children = [self.run(r) for r in (*runs[:1], *(r for r in makers if r.kind == "sweep"))]
                if len(runs) > 1:
                    facts["also_made_by"] = [r.id for r in runs[1:]]
        kind = self._kinds.get(found.asset_id, "version")
        return Node(kind=kind, name=found.asset, id=found.digest.short, facts=facts, children=tuple(children))

    def _commits(self, version_id: VersionId) -> list[Node]:
        with self._db.read() as conn:
            found = queries.commits_of(conn, version_id)
        return [self.commit(*self._data.commit_by_id(c.id)) for c in found]

    def commit(self, repository: Repository, found: Commit, below: tuple[Node, ...] = ()) -> Node:
        """A commit, with the run that wrote it where that read something itself (a collection, a step)."""
        facts: dict[str, Any] = {
            "at": to_text(found.at),
            "event_time": _event_time(found.event_ms, found.at),
            "author": found.author,
            "message": found.message,
            **{name: count for name, count in found.stats.items() if name != "stored" and count},
        }
        if "source" in found.meta:
            facts["source"] = str(found.meta["source"])
        children = list(below)
        if self._first("commit", found.id):
            run = self._assets.run(found.run_id)
            if run.kind != "commit":
                children.append(self.run(run))
        plain = {k: v for k, v in facts.items() if v not in ("", None)}
        return Node(kind="commit", name=repository.name, id=found.id, facts=plain, children=tuple(children))

    def _first(self, kind: str, id_: str) -> bool:
        """Whether it is told for the first time on this trail; also what keeps a ring from being followed."""
        if (kind, id_) in self._told:
            return False
        self._told.add((kind, id_))
        return True


def _event_time(event_ms: int, wall_ms: int) -> str | None:
    """Event time, where it is not simply the wall's."""
    return None if abs(event_ms - wall_ms) < SECOND else to_text(event_ms)


def _used(found: UsedRows) -> Node:
    facts: dict[str, Any] = {"found": found.count, **found.on}
    if found.span_us is not None:
        facts["back"] = duration_text(found.span_us // 1000)
    rows = tuple(Node(kind="row", facts=row) for row in found.rows)
    return Node(kind="rows", name=found.how, facts=facts, children=rows)


def _features(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {str(n): v for n, v in enumerate(found)}


def _flat(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: round(v, 6) if isinstance(v, float) else v for name, v in metrics.items()}
