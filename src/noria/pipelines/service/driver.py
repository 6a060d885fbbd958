"""Runs the steps of one pipeline: submits what is ready, writes down what is done."""

from __future__ import annotations

import heapq
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noria.assets.records import AssetKind, Content, Direction, RunState, Version
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import NoriaError
from noria.base.ids import RunId
from noria.data.errors import ContractBroken
from noria.data.service.collecting.collector import Collected
from noria.pipelines import queries, snapshot
from noria.pipelines.declare.assets import Source
from noria.pipelines.errors import Infeasible, SourceEmpty
from noria.pipelines.execute import Output, read_output
from noria.pipelines.executors.protocol import Done, Event, Executor, Logged, Lost
from noria.pipelines.graph import Graph, Node
from noria.pipelines.identity import Manifest
from noria.pipelines.kinds import Landed
from noria.pipelines.records import StepResult, Why
from noria.pipelines.service.base import CodeVersions, Resolved
from noria.pipelines.service.keeper import Keeper
from noria.pipelines.service.planner import Planner
from noria.pipelines.task import PointSpec, TaskResult, TaskSpec
from noria.pipelines.values import Stored
from noria.tracking.records import Point

_NOTHING = ("failed", "blocked")
_RETRYABLE = {"step_lost", "step_failed", "step_timeout", "memory_exceeded", "unavailable"}

Advance = Callable[..., None]


@dataclass(slots=True)
class Running:
    """A step that was started."""

    node: Node
    run_id: RunId
    manifest: Manifest
    params: dict[str, Any]
    inputs: dict[str, Version]
    why: tuple[Why, ...]
    folder: Path | None
    attempts: int = 1
    not_before: float = 0.0
    attempt: str = ""


@dataclass(slots=True)
class Ready:
    """A step that has to run and has all its inputs."""

    node: Node
    manifest: Manifest
    params: dict[str, Any]
    inputs: dict[str, Version]
    why: tuple[Why, ...]


@dataclass(slots=True, kw_only=True)
class Work:
    """One call of ``run``."""

    graph: Graph
    order: list[str]
    params: dict[str, dict[str, Any]]
    forced: set[str]
    actor: Actor
    trigger: str | None
    parent: RunId
    code: CodeVersions
    executor: Executor
    advance: Advance | None
    resolved: dict[str, Resolved] = field(default_factory=dict[str, Resolved])
    results: dict[str, StepResult] = field(default_factory=dict[str, StepResult])
    running: dict[str, Running] = field(default_factory=dict[str, Running])
    waiting: list[Running] = field(default_factory=list[Running])
    """Steps that are tried again later."""
    places: dict[str, int] = field(init=False)
    users: dict[str, list[str]] = field(init=False)
    missing: dict[str, int] = field(init=False)
    """How many inputs of an asset are not made yet."""
    coming: list[tuple[int, str]] = field(init=False)
    """A heap of the assets to look at next, by their place in the order."""
    ready: list[Ready] = field(default_factory=list[Ready])
    """Steps that wait for a free place."""
    reused: list[tuple[Node, dict[str, Version]]] = field(default_factory=list[tuple[Node, dict[str, Version]]])
    """Steps taken from the cache that are not written down yet."""
    peers: list[Work] = field(default_factory=list["Work"])
    keeper: Keeper | None = None
    collect: bool = False
    """Sources are collected before their version is taken; without it they are taken as they stand."""
    trial: bool = False
    """A trial of a sweep: its outputs do not become current, and its model is not registered."""

    def __post_init__(self) -> None:
        self.places = {name: place for place, name in enumerate(self.order)}
        self.users = {name: [] for name in self.order}
        self.missing = {}
        for name in self.order:
            needed = {e.asset for e in self.graph.node(name).edges}
            self.missing[name] = len(needed)
            for asset in needed:
                self.users[asset].append(name)
        self.coming = [(self.places[name], name) for name in self.order if not self.missing[name]]

    def needs_head(self, name: str) -> bool:
        """Whether the newest version of an asset matters: it is a target, or an input that is not pinned."""
        edges = [e for user in self.users[name] for e in self.graph.node(user).edges if e.asset == name]
        return not edges or any(e.pinned is None for e in edges)

    def finish(self, result: StepResult) -> None:
        """Takes the result of an asset; what can be looked at from now on is ``coming``."""
        self.results[result.asset] = result
        for name in self.users[result.asset]:
            self.missing[name] -= 1
            if self.missing[name] == 0 or result.action in _NOTHING:
                heapq.heappush(self.coming, (self.places[name], name))

    def next(self) -> Node | None:
        """The next asset to look at: all its inputs are made, or one of them never will be."""
        while self.coming:
            _, name = heapq.heappop(self.coming)
            if name not in self.results:  # several inputs that failed name it several times
                return self.graph.node(name)
        return None


class Driver(Planner):
    def drive(self, *works: Work) -> None:
        """Runs everything that is ready until nothing is left; several works share one executor."""
        with Keeper(self._s.assets.heartbeat, self._s.door) as keeper:
            for work in works:
                work.peers, work.keeper = list(works), keeper
            try:
                self._until_done(works)
            except BaseException:
                for work in works:
                    self._cancel_all(work)
                raise

    def _until_done(self, works: tuple[Work, ...]) -> None:
        while True:
            for work in works:
                self._start_ready(work)
            if not any(work.running or work.waiting for work in works):
                break
            busy = any(work.running for work in works)
            for event in works[0].executor.poll(0.5 if busy else 0.05):
                for work in works:
                    self._handle(work, event)

    # ---- starting

    def _start_ready(self, work: Work) -> None:
        self._start_waiting(work)
        while (node := work.next()) is not None:
            if any(work.results.get(e.asset, _NONE).action in _NOTHING for e in node.edges):
                self._finish(work, StepResult(asset=node.name, kind=node.kind, action="blocked"))
            elif node.kind == "source":
                self._take_source(work, node)
            else:
                self._look_at(work, node)
        self._record_reused(work)
        now = time.monotonic()
        for running in [r for r in work.waiting if r.not_before <= now]:
            if self._fits(work, running.node):
                work.waiting.remove(running)
                self._submit(work, running)

    def _take_source(self, work: Work, node: Node) -> None:
        source: Source = node.thing
        done = Collected()
        if work.collect and source.collected and work.needs_head(node.name):
            try:
                done = self.collect_source(source, work.actor)
            except NoriaError as error:
                self._fail_source(work, node, error, self.source_version(source, None))
                return
        version = self.source_version(source, None)
        if version is None:
            self.ensure_source(source)  # so that rows can be appended or posted
            self._fail_source(work, node, done.refused[0] if done.refused else _empty(source), None)
            return
        work.resolved[node.name] = Resolved({"": version})
        warnings = tuple(_set_aside(node.name, refused) for refused in [*done.refused, *done.held])
        self._finish(
            work,
            StepResult(asset=node.name, kind="source", action="source", outputs={"": version.id}, warnings=warnings),
        )

    def _fail_source(self, work: Work, node: Node, error: NoriaError, version: Version | None) -> None:
        plain = error.as_dict()["error"]
        if version is not None:
            plain["hint"] = f"{plain['hint']}\nnoria run --no-collect   goes on with the rows that are there.".lstrip()
        self._finish(work, StepResult(asset=node.name, kind="source", action="failed", error=plain))

    def collect_source(self, source: Source, actor: Actor) -> Collected:
        """Reads what is new in a source, and commits it."""
        repository = self.ensure_source(source)
        if source.folder:
            return self._s.collector.folders.collect(repository, source.files or "", actor=actor)
        return self._s.collector.collect(repository, self.source_spec(source), actor=actor)

    def _look_at(self, work: Work, node: Node) -> None:
        """Takes a step from the cache, submits it, or lets it wait for a free place."""
        inputs = self.inputs(node, work.resolved)
        params = work.params.get(node.name, node.params)
        manifest = self.manifest(work.graph, node, params, inputs)
        outputs, why, run_id = self.lookup(node, manifest, forced=node.name in work.forced)
        if outputs is not None:
            self._reuse(work, node, run_id, outputs)
            return
        self._check_feasible(work, node)
        ready = Ready(node, manifest, params, inputs, why)
        if self._fits(work, node):
            self._start(work, ready)
        else:
            work.ready.append(ready)

    def _start_waiting(self, work: Work) -> None:
        """Starts what waited for a free place, in its order."""
        place = 0
        while place < len(work.ready) and not self._full(work):
            ready = work.ready[place]
            if not self._fits(work, ready.node):
                place += 1
                continue
            del work.ready[place]
            forced = ready.node.name in work.forced
            outputs, _, run_id = self.lookup(ready.node, ready.manifest, forced=forced)
            if outputs is not None:  # an equal step ended in the meantime
                self._reuse(work, ready.node, run_id, outputs)
            else:
                self._start(work, ready)

    def _start(self, work: Work, ready: Ready) -> None:
        self._record_reused(work)
        self._submit(work, self._begin(work, ready))

    def _reuse(self, work: Work, node: Node, run_id: RunId | None, outputs: dict[str, Version]) -> None:
        work.reused.append((node, outputs))
        work.resolved[node.name] = Resolved(outputs)
        ids = {slot: version.id for slot, version in outputs.items()}
        self._finish(work, StepResult(asset=node.name, kind=node.kind, action="reused", run_id=run_id, outputs=ids))

    def _record_reused(self, work: Work) -> None:
        """Writes down what was taken from the cache: at once for many steps, and before any other step starts."""
        if not work.reused:
            return
        found = [(node, slot, version) for node, outputs in work.reused for slot, version in outputs.items()]
        with self._db.write(durable=False) as tx:  # the end of the pipeline's run is durable
            links = [(version.id, Direction.REUSED, _slot(node.name, slot)) for node, slot, version in found]
            self._s.assets.link_all(tx, work.parent, links)
            if not work.trial:
                self._s.assets.set_all_current(tx, {version.asset_id: version.id for _, _, version in found})
        work.reused.clear()

    def _check_feasible(self, work: Work, node: Node) -> None:
        caps, needed = work.executor.caps, node.resources
        if needed["cpu"] > caps.cpus or needed["gpu"] > 0 or (needed["memory"] or 0) > caps.memory:
            raise Infeasible(
                f"{node.name!r} asks for {needed['cpu']} cpus, {needed['gpu']} gpus and "
                f"{(needed['memory'] or 0) >> 20} MiB; this machine gives {caps.cpus} cpus, no gpu and "
                f"{caps.memory >> 20} MiB.",
                hint="Ask for less, or run it where there is more.",
            )

    def _fits(self, work: Work, node: Node) -> bool:
        used = self._used(work)
        return not used or (not self._full(work) and sum(used) + node.resources["cpu"] <= work.executor.caps.cpus)

    def _full(self, work: Work) -> bool:
        used, caps = self._used(work), work.executor.caps
        return bool(used) and (sum(used) >= caps.cpus or (caps.at_once is not None and len(used) >= caps.at_once))

    def _used(self, work: Work) -> list[int]:
        """Processors that each running step has."""
        return [r.node.resources["cpu"] for peer in work.peers for r in peer.running.values()]

    def _begin(self, work: Work, ready: Ready) -> Running:
        node, kind = ready.node, self._s.kinds[ready.node.kind]
        with self._db.write(durable=False) as tx:  # nothing is promised before the outputs land
            asset_id = self._s.assets.asset_id(tx, self._s.project_id, node.name, kind.asset)
            run = self._s.assets.start_run(
                tx,
                self._s.project_id,
                kind="step",
                name=node.name,
                actor=work.actor,
                asset_id=asset_id,
                parent_id=work.parent,
                trigger=work.trigger,
                identity=ready.manifest.key,
            )
            read = [(version.id, Direction.IN, slot) for slot, version in ready.inputs.items()]
            code = [(version_id, Direction.CODE, slot) for slot, version_id in work.code.links.items()]
            self._s.assets.link_all(tx, run.id, [*read, *code])
            self._s.tracking.begin(
                tx,
                self._s.project_id,
                run.id,
                experiment=node.name,
                user=work.actor.name,
                params=_as_texts(ready.params),
            )
        folder = self._s.home / "tasks" / run.id if work.executor.caps.files else None
        return Running(node, run.id, ready.manifest, ready.params, ready.inputs, ready.why, folder)

    def _submit(self, work: Work, running: Running) -> None:
        node, kind = running.node, self._s.kinds[running.node.kind]
        running.attempt = f"{running.run_id}.{running.attempts}"
        if running.folder is not None:
            shutil.rmtree(running.folder, ignore_errors=True)
            running.folder.mkdir(parents=True)
        files = work.executor.caps.files
        spec = TaskSpec(
            attempt=running.attempt,
            asset=node.name,
            kind=node.kind,
            runner=kind.runner,
            entry=node.entry,
            code=work.code.path if files else "",
            inputs=[self.values.spec(slot, version, files=files) for slot, version in running.inputs.items()],
            params=running.params,
            spec=kind.spec(node, work.graph),
            out="" if running.folder is None else str(running.folder),
            cpu=node.resources["cpu"],
            memory=node.resources["memory"],
            timeout=node.resources["timeout"],
            environment=self._s.door.admit(
                running.attempt, running.run_id, asset=node.name, actor=work.actor, params=_as_texts(running.params)
            ),
        )
        if work.keeper is not None:
            work.keeper.watch()
        work.running[running.attempt] = running
        work.executor.submit(spec)

    # ---- events

    def _handle(self, work: Work, event: Event) -> None:
        running = work.running.get(event.attempt)
        if running is None:
            return
        if isinstance(event, Done | Lost):
            self._s.door.dismiss(event.attempt, done=isinstance(event, Done) and event.result.ok)
        if isinstance(event, Logged):
            try:
                self._log(running, event.points, event.params)
            except NoriaError as error:  # a name that is not allowed, a parameter with a second value
                self._s.door.dismiss(event.attempt, done=False)
                work.executor.cancel(event.attempt, code=error.code, reason=error.message, grace=0.5)
                result = TaskResult(attempt=event.attempt, ok=False)
                self._failed(work, running, error.as_dict()["error"], result, final=True)
        elif isinstance(event, Lost):
            error = {"code": event.code, "message": event.reason, "hint": f"noria runs logs {running.run_id}"}
            self._failed(work, running, {**error, "details": {}}, TaskResult(attempt=event.attempt, ok=False))
        elif isinstance(event, Done):
            if event.result.ok:
                self._land(work, running, event)
            else:
                assert event.result.error is not None
                self._failed(work, running, event.result.error, event.result)

    def _log(self, running: Running, points: list[PointSpec], params: dict[str, str]) -> None:
        self._s.door.said(running.attempt, points)
        found = [Point(key=p.key, value=float(p.value), at=p.at, step=p.step) for p in points]
        with self._db.write() as tx:
            self._s.tracking.track(tx, self._s.project_id, running.run_id, experiment=running.node.name)
            self._s.tracking.log(running.run_id, points=found, params=params, tx=tx, counted=False)

    def _land(self, work: Work, running: Running, done: Done) -> None:
        """Stores the outputs and writes everything down in one transaction."""
        node, kind = running.node, self._s.kinds[running.node.kind]
        try:
            values = self._outputs(running, done)
            with self._s.sessions.writer() as writer:
                known_us = self._s.clock.now_ms() * 1000
                stored = [self.values.store(writer, value, known_us=known_us) for value in values]
                packs = writer.flush()
                with self._s.changes.begin("pipeline.step", self._s.project_id, work.actor) as change:
                    self._s.sessions.seal(change.tx, packs)
                    outputs = {s.slot: self._version(change.tx, work, node, running.run_id, s) for s in stored}
                    if kind.land is not None:
                        result = Landed(
                            change=change,
                            node=node,
                            run_id=running.run_id,
                            outputs=outputs,
                            result=done.result,
                            trial=work.trial,
                        )
                        kind.land(result)
                    ids = {slot: version.id for slot, version in outputs.items()}
                    asset_id = outputs[""].asset_id
                    queries.record(change.tx, self._s.project_id, asset_id, running.run_id, running.manifest, ids)
                    cost = {**done.result.cost, "attempts": running.attempts}
                    self._s.assets.end_run(change.tx, running.run_id, RunState.DONE, cost=cost)
                    change.note(node.name, run=running.run_id)
                    payload = {"run": running.run_id, "version": str(outputs[""].digest)}
                    change.event("asset.made", node.name, payload)
        except NoriaError as error:
            self._failed(work, running, error.as_dict()["error"], done.result, final=True)
            return
        del work.running[running.attempt]
        self._keep_log(running)
        work.resolved[node.name] = Resolved(outputs)
        self._finish(
            work,
            StepResult(
                asset=node.name,
                kind=node.kind,
                action="made",
                run_id=running.run_id,
                outputs=ids,
                why=running.why,
                wall_ms=done.result.cost.get("wall_ms", 0),
                warnings=self._s.door.warnings(running.manifest.parts),
            ),
        )

    def _outputs(self, running: Running, done: Done) -> list[Output]:
        if running.folder is None:
            return done.values
        return [read_output(spec, running.folder) for spec in done.result.outputs]

    def _version(self, tx: Any, work: Work, node: Node, run_id: RunId, stored: Stored) -> Version:
        kind = self._s.kinds[node.kind].asset if stored.slot == "" else AssetKind.REPORT
        return self.add_output(tx, _slot(node.name, stored.slot), kind, run_id, stored, current=not work.trial)

    def add_output(
        self, tx: Any, name: str, kind: AssetKind, run_id: RunId, stored: Stored, *, current: bool = True
    ) -> Version:
        """The version of what a run made and a writer has stored; ``current``: the asset stands at it from now on."""
        asset_id = self._s.assets.asset_id(tx, self._s.project_id, name, kind)
        version = self._s.assets.add_version(
            tx,
            asset_id,
            name=name,
            digest=stored.digest,
            content=stored.content,
            layout=stored.layout,
            size=stored.size,
            rows=stored.rows,
            meta=stored.meta,
        )
        self._s.assets.link(tx, run_id, version.id, Direction.OUT, stored.slot)
        if current:
            self._s.assets.set_current(tx, asset_id, version.id)
        return version

    def _failed(
        self, work: Work, running: Running, error: dict[str, Any], result: TaskResult, *, final: bool = False
    ) -> None:
        work.running.pop(running.attempt, None)
        if not final and running.attempts <= running.node.resources["retries"] and error["code"] in _RETRYABLE:
            running.attempts += 1
            pause = 0.25 * 2**running.attempts * (1 + secrets.randbelow(100) / 400)
            running.not_before = time.monotonic() + pause
            work.waiting.append(running)
            return
        self._keep_log(running)
        with self._s.changes.begin("pipeline.step", self._s.project_id, work.actor) as change:
            cost = {**result.cost, "attempts": running.attempts}
            self._s.assets.end_run(change.tx, running.run_id, RunState.FAILED, error=error, cost=cost)
            change.note(running.node.name, run=running.run_id, error=error["code"])
            if running.node.kind == "check":
                about = running.node.options["about"]
                change.event("check.failed", running.node.name, {"run": running.run_id, "about": about})
        self._finish(
            work,
            StepResult(
                asset=running.node.name,
                kind=running.node.kind,
                action="failed",
                run_id=running.run_id,
                why=running.why,
                wall_ms=result.cost.get("wall_ms", 0),
                error=error,
            ),
        )

    def _finish(self, work: Work, result: StepResult) -> None:
        work.finish(result)
        if work.advance is not None:
            work.advance(1, text=result.asset)

    def _keep_log(self, running: Running) -> None:
        if running.folder is None:
            return
        log = running.folder / "log.txt"
        if log.is_file() and log.stat().st_size:
            target = self.log_path(running.run_id)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(log, target)
        shutil.rmtree(running.folder, ignore_errors=True)

    def log_path(self, run_id: RunId) -> Path:
        """Where the prints of a run are kept."""
        return self._s.home / "logs" / "runs" / f"{run_id}.log"

    def _cancel_all(self, work: Work) -> None:
        """Ends what runs; called when the driver itself is interrupted."""
        for attempt in list(work.running):
            self._s.door.dismiss(attempt, done=False)
            work.executor.cancel(attempt, code="cancelled", reason="the run was interrupted", grace=0.5)
        error = {
            "code": "cancelled",
            "message": "The run was interrupted.",
            "hint": "noria run   goes on.",
            "details": {},
        }
        for running in [*work.running.values(), *work.waiting]:
            with self._db.write() as tx:
                self._s.assets.end_run(tx, running.run_id, RunState.CANCELLED, error=error)
            if running.folder is not None:
                shutil.rmtree(running.folder, ignore_errors=True)

    def materialised_code(self, version: Version | None) -> str:
        if version is None or version.content != Content.TREE:
            return ""
        return str(self.code_folder(version.layout))

    def code_folder(self, tree: Digest) -> Path:
        """The files of a code snapshot, as a folder that is never changed."""
        return snapshot.materialise(self._s.sessions.store, tree, self._s.home / "cache")


def _as_texts(params: dict[str, Any]) -> dict[str, str]:
    """Hyperparameters as they are kept."""
    return {k: v if isinstance(v, str) else repr(v) for k, v in params.items()}


def _slot(name: str, slot: str) -> str:
    return name if slot == "" else f"{name}.{slot}"


def _empty(source: Source) -> SourceEmpty:
    if source.files is not None:
        text = f"The source {source.name!r} has no rows yet: no file with rows fits {source.files!r}."
        hint = f"The pattern counts from the project's folder. noria data collect {source.name}   looks again."
        return SourceEmpty(text, hint=hint)
    hint = f"noria data collect {source.name}" if source.collected else f"noria data append {source.name} FILE"
    return SourceEmpty(f"The source {source.name!r} has no rows yet.", hint=hint)


def _set_aside(name: str, refused: ContractBroken) -> dict[str, Any]:
    """A batch that was refused, as the warning of a run that goes on without it."""
    found, number = refused.details["findings"], refused.details["quarantine"]
    more = f" and {len(found) - 1} more findings" if len(found) > 1 else ""
    return {
        "code": refused.code,
        "message": f"A batch of {name} ({refused.details['source']}) was set aside: {found[0]['message']}{more}. "
        "The run went on without it.",
        "hint": f"noria data quarantine show {number}   has the findings and the rows.",
        "details": refused.details,
    }


_NONE = StepResult(asset="", kind="", action="")
