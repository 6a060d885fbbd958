"""The room's verbs."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from noria.assets.records import Content, Direction, RunState, Version
from noria.assets.versions import layout_of
from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.ids import RunId
from noria.base.times import MINUTE
from noria.data.service.collecting.collector import Collected
from noria.pipelines import queries
from noria.pipelines.declare.assets import Secret, Source
from noria.pipelines.declare.hooks import hook_of
from noria.pipelines.declare.policies import Inert
from noria.pipelines.errors import AssetUnknown, ComputeFailed, PipelineFailed
from noria.pipelines.execute import TABLE, Output, read_output
from noria.pipelines.executors import Executor, InlineExecutor, ProcessExecutor, TaskFailed
from noria.pipelines.graph import Graph, Node
from noria.pipelines.hooks import KIND as HOOK
from noria.pipelines.hooks import PREFIX
from noria.pipelines.records import Definition, PipelineRun, StepResult
from noria.pipelines.service.base import CodeVersions, entry_in_process
from noria.pipelines.service.driver import Advance, Driver, Work
from noria.pipelines.task import TaskSpec

_COMPUTE_MS: Final = 30 * MINUTE
"""noria's own tasks end for sure; a server must not wait for one for ever."""


class Pipelines(Driver):
    """One per workspace."""

    def run(
        self,
        targets: Iterable[Any] = (),
        params: Mapping[str, Any] | None = None,
        *,
        actor: Actor,
        executor: str | Executor | None = None,
        force: bool | Collection[Any] = False,
        trigger: str | None = None,
        advance: Advance | None = None,
        check: bool = True,
        collect: bool = True,
    ) -> PipelineRun:
        """Makes what is out of date: the targets and all that they need.

        Args:
            params: hyperparameters of the targets.
            executor: ``process``, ``inline``, or one that is open already (it is not closed then).
            force: run the targets even if they are cached, or the steps named here: any of this run.
            trigger: what started it, where no person did.
            check: raise where a step failed; otherwise look at the result.
            collect: read what is new in sources first; otherwise they are taken as they stand.

        Raises:
            PipelineFailed: a step failed; everything that did not depend on it was made all the same.
        """
        graph, names, given = self.asked(targets, params)
        order = self.order(graph, names)
        forced = self.forced(graph, names, order, force)
        self._s.assets.reap()
        made, owned = self.open_executor(executor, graph, order)
        code = self.code_links(files=made.caps.files)
        parent = self._begin_pipeline(names, actor, trigger, code)
        work = Work(
            graph=graph,
            order=order,
            params=given,
            forced=forced,
            actor=actor,
            trigger=trigger,
            parent=parent,
            code=code,
            executor=made,
            advance=advance,
            collect=collect,
        )
        if advance is not None:
            advance(0, total=len(order))
        try:
            self.drive(work)
        except BaseException as error:
            state = RunState.CANCELLED if isinstance(error, KeyboardInterrupt) else RunState.FAILED
            self._end_pipeline(parent, state, {"code": "interrupted", "message": str(error) or type(error).__name__})
            raise
        finally:
            if owned:
                made.close()
            self.values.trim()
        ended = [work.results[name] for name in order]
        failed = [(r.asset, r.error or {}) for r in ended if r.action == "failed"]
        error = PipelineFailed(parent, failed) if failed else None
        state = RunState.FAILED if failed else RunState.DONE
        self._end_pipeline(parent, state, None if error is None else error.as_dict()["error"])
        if error is not None and check:
            raise error
        return PipelineRun(run_id=parent, steps=work.results)

    def open_executor(self, wanted: str | Executor | None, graph: Graph, order: list[str]) -> tuple[Executor, bool]:
        """(an executor for these steps, whether the caller has to close it)."""
        if wanted is not None and not isinstance(wanted, str):
            return wanted, False
        name = wanted or (self._s.source.executor if self._s.source is not None else "inline")
        loose = [n for n in order if _not_in_files(graph.node(n))]
        if name == "inline" or loose:  # a notebook's functions exist in this process only

            def entry(text: str) -> Any:
                found = next((n.thing for n in graph.nodes.values() if n.entry == text), None)
                return found if found is not None else entry_in_process(text)

            return InlineExecutor(self.values.load, entry), True
        return ProcessExecutor(environment=dict(self._s.environment)), True

    def code_links(self, *, files: bool) -> CodeVersions:
        """The code snapshot and the environment of now."""
        code, environment = self.code_version(), self.environment_version()
        links = {"environment": environment.id}
        if code is not None:
            links["code"] = code.id
        path = self.materialised_code(code) if files else ""
        return CodeVersions(code=code, environment=environment, path=path, links=links)

    def _begin_pipeline(self, names: list[str], actor: Actor, trigger: str | None, code: CodeVersions) -> RunId:
        with self._s.changes.begin("pipeline.run", self._s.project_id, actor) as change:
            title = names[0] if len(names) == 1 else f"{len(names)} assets"
            run = self._s.assets.start_run(
                change.tx, self._s.project_id, kind="pipeline", name=title, actor=actor, trigger=trigger
            )
            for slot, version_id in code.links.items():
                self._s.assets.link(change.tx, run.id, version_id, Direction.CODE, slot)
            change.note(title, run=run.id)
        return run.id

    def _end_pipeline(self, run_id: RunId, state: RunState, error: dict[str, Any] | None) -> None:
        with self._db.write() as tx:
            self._s.assets.end_run(tx, run_id, state, error=error)

    def collect(self, name: str, *, actor: Actor) -> Collected:
        """Reads what is new in one source, and commits it.

        Raises:
            AssetUnknown: the project has no such asset.
            Invalid: it is no source, or its rows are posted.
            SourceFailed: it cannot be read.
        """
        node = self.graph().node(name)
        if node.kind != "source":
            raise Invalid(f"{node.name!r} is a {node.kind}, not a source.", hint=f"noria run {node.name}")
        return self.collect_source(node.thing, actor)

    def compute(self, name: str, runner: str, inputs: Mapping[str, Version], spec: dict[str, Any]) -> list[Output]:
        """Runs one of noria's own runners on versions, in a process of its own, and returns its tables and values.

        Nothing is recorded: the caller says what the result is for.

        Raises:
            ComputeFailed: the runner failed, or its process died.
        """
        with self.computed(name, runner, inputs, spec) as outputs:
            return [_held(output) for output in outputs]

    @contextmanager
    def computed(
        self, name: str, runner: str, inputs: Mapping[str, Version], spec: dict[str, Any]
    ) -> Generator[list[Output]]:
        """The same, with outputs that are folders too: they are there until the block ends."""
        folder = Path(tempfile.mkdtemp(prefix="noria-compute-"))
        try:
            specs = [self.values.spec(slot, version, files=True) for slot, version in inputs.items()]
            task = TaskSpec(
                attempt="", asset=name, kind="compute", runner=runner, inputs=specs, spec=spec, timeout=_COMPUTE_MS
            )
            task.out = str(folder)
            try:
                done = self._s.worker.run(task)
            except TaskFailed as error:
                raise ComputeFailed(f"{name} could not be computed: {error.message}", hint=error.hint) from None
            yield [read_output(o, folder) for o in done.outputs]
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # ---- values of assets

    def value(self, name: str, ref: str | None = None) -> Any:
        """The current value of an asset, or that at a branch, commit or version: a frame, a path, a plain value."""
        version = self.current(name) if ref is None else self.pinned(name, ref)
        value = self.values.value(version.content, layout_of(version))
        if version.content == Content.TABLE:
            return value.select([c for c in value.columns if not c.startswith("__")])
        return value

    def current(self, name: str) -> Version:
        """The version that an asset stands at."""
        repository = self._s.data.find(self._s.project_id, name)
        if repository is not None:
            return self._s.assets.version(self._s.data.resolve(repository).version_id)
        asset = self._s.assets.asset(self._s.project_id, name)
        if asset.current_id is None:
            from noria.assets.errors import VersionNotFound

            raise VersionNotFound(f"{name!r} was not made yet.", hint=f"noria run {name}")
        return self._s.assets.version(asset.current_id)

    # ---- applying

    def apply(self, *, actor: Actor) -> list[Definition]:
        """Writes down what the project says, as plain values, and makes the repositories of its sources.

        A running server acts on this, without ever importing the project's code.
        """
        graph = self.graph()
        code = self.code_version()
        made = [self._definition(graph, node, code) for node in graph.nodes.values()]
        made += [self._endpoint(graph, name, code) for name in graph.endpoints]
        made += [self._hook(name, function, code) for name, function in graph.hooks.items()]
        for node in graph.nodes.values():
            if node.kind == "source":
                self.ensure_source(node.thing)
        with self._s.changes.begin("pipeline.apply", self._s.project_id, actor) as change:
            queries.apply(change.tx, self._s.project_id, made)
            change.note(self._s.source.name if self._s.source else "", assets=len(made))
            change.event("project.applied", "project", {"assets": [d.name for d in made]})
        return made

    def definitions(self) -> dict[str, Definition]:
        """What was applied last."""
        with self._db.read() as conn:
            return queries.definitions(conn, self._s.project_id)

    def schedules(self) -> dict[str, str]:
        """Applied sources that a server collects by itself, and how often."""
        with self._db.read() as conn:
            found = queries.definitions(conn, self._s.project_id)
        sources = {d.name: d.spec["source"] for d in found.values() if d.kind == "source"}
        return {name: s["every"] for name, s in sources.items() if s.get("every") and _applied(s).collected}

    def collect_applied(self, name: str, *, actor: Actor) -> Collected:
        """Like ``collect``, from what was applied: without the project's code. Secrets are looked up now.

        Raises:
            AssetUnknown: no source of this name was applied.
        """
        found = self.definitions().get(name)
        if found is None or found.kind != "source":
            raise AssetUnknown(f"No source {name!r} was applied.", hint="noria apply")
        return self.collect_source(_applied(found.spec["source"]), actor)

    def definition(self, graph: Graph, name: str) -> Definition:
        """What the project says of one asset now, whether or not it was applied."""
        return self._definition(graph, graph.node(name), self.code_version())

    def _definition(self, graph: Graph, node: Node, code: Version | None) -> Definition:
        spec = {
            "edges": [[e.slot, e.asset, e.pinned] for e in node.edges],
            "params": node.params,
            "resources": node.resources,
            "options": plain(node.options),
        }
        if node.kind == "source":
            spec["source"] = plain(node.thing)
        else:
            spec["step"] = plain(self._s.kinds[node.kind].spec(node, graph))
        digest = "" if code is None else str(code.digest)
        return Definition(name=node.name, kind=node.kind, entry=node.entry, spec=spec, code=digest, updated_at=0)

    def _endpoint(self, graph: Graph, name: str, code: Version | None) -> Definition:
        found = graph.endpoints[name]
        model = found.model if isinstance(found.model, str) else graph.name_of(found.model)
        spec = {
            "model": model,
            "p99_ms": found.p99_ms,
            "release": found.release.spec(),
            "follow": found.follow,
        }
        digest = "" if code is None else str(code.digest)
        return Definition(name=name, kind="endpoint", entry="", spec=spec, code=digest, updated_at=0)

    def _hook(self, name: str, function: Callable[..., Any], code: Version | None) -> Definition:
        declared = hook_of(function)
        assert declared is not None
        if code is None:
            raise Invalid(f"The hook {name!r} is in no project, so no other process could find it.", hint="noria init")
        spec = {"event": declared.event, "on": list(declared.on), "branch": declared.branch, "reads": declared.reads}
        entry = f"{function.__module__}:{function.__qualname__}"
        spec["layout"] = str(code.layout)
        return Definition(name=PREFIX + name, kind=HOOK, entry=entry, spec=spec, code=str(code.digest), updated_at=0)

    def result(self, result: StepResult) -> Version | None:
        """The main output of a step."""
        return self._s.assets.version(result.outputs[""]) if "" in result.outputs else None


def _held(output: Output) -> Output:
    """An output that lives on when its file is gone."""
    if output.kind == TABLE:
        output.value = output.value.rechunk().clone()
    return output


def _not_in_files(node: Node) -> bool:
    """Whether a step's function exists in this process only."""
    if not node.entry:
        return False
    module = sys.modules.get(node.entry.partition(":")[0])
    return node.thing.__module__ == "__main__" or module is None or "<locals>" in node.entry


def _applied(spec: Mapping[str, Any]) -> Source:
    """A source as it was declared, from its plain values."""
    url = spec.get("url")
    values = {**spec, "url": Secret(url["name"]) if isinstance(url, dict) else url, "key": tuple(spec.get("key", ()))}
    return Source(**values)


def plain(value: Any) -> Any:
    """A declaration's options as plain values; what has no plain form becomes its name."""
    spec = getattr(value, "spec", None)
    if isinstance(value, Inert) and callable(spec):
        return plain(spec())
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Inert):
        return {name: plain(getattr(value, name)) for name in value.__slots__}  # type: ignore[attr-defined]
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    try:
        return msgspec.to_builtins(value)
    except (TypeError, msgspec.ValidationError):
        return str(value)
