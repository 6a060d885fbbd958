"""Runs one task: the same code in the driver's process and in a worker's."""

from __future__ import annotations

import importlib
import json
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from noria.base.errors import NoriaError
from noria.pipelines.errors import ResultInvalid, StepFailed
from noria.pipelines.logging import Sink, logging_to
from noria.pipelines.task import InputSpec, OutputSpec, TaskResult, TaskSpec

TABLE, TREE, MODEL, JSON = "table", "tree", "model", "json"
_HIDDEN: Final = "__"
_INSIDE: Final = "noria.gateways.steps.inside"
"""What sets the environment of a task: named like a runner, since it stands above this room."""
_TRACE: Final = 4_000
"""Characters kept of both ends of a trace."""


@dataclass(slots=True, kw_only=True)
class Output:
    """One output of a step, in memory.

    Attributes:
        slot: ``""`` for the main one.
        value: a Polars frame (table), a path (tree, model) or a plain value (json).
    """

    slot: str
    kind: str
    value: Any
    meta: dict[str, Any] = field(default_factory=dict[str, Any])


class Task:
    """A running task: what a runner works with.

    Attributes:
        facts: what the runner wants the driver to know beside the outputs.
    """

    def __init__(
        self,
        spec: TaskSpec,
        load: Callable[[InputSpec], Any],
        entry: Callable[[str], Any],
        scratch: Callable[[], Path],
        around: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function,
    ) -> None:
        self.spec = spec
        self._around = around
        self._load = load
        self._entry = entry
        self._make_scratch = scratch
        self.facts: dict[str, Any] = {}
        self._loaded: dict[str, Any] = {}

    @property
    def function(self) -> Callable[..., Any]:
        return self._around(self._entry(self.spec.entry))

    @cached_property
    def scratch(self) -> Path:
        """A folder for files, made when it is first asked for; gone after the task."""
        return self._make_scratch()

    def entry(self, name: str) -> Any:
        """Another thing of the project's code, for instance a metric."""
        return self._entry(name)

    def inputs(self) -> dict[str, InputSpec]:
        return {i.slot: i for i in self.spec.inputs}

    def load(self, slot: str, *, hidden: bool = False) -> Any:
        """The value of an input: a Polars frame (``hidden`` with noria's own columns), a path, a plain value."""
        if slot not in self._loaded:
            self._loaded[slot] = self._load(self.inputs()[slot])
        value = self._loaded[slot]
        if self.inputs()[slot].kind == TABLE and not hidden:
            return value.select([n for n in value.columns if not n.startswith(_HIDDEN)])
        return value


Runner = Callable[[Task], "list[Output]"]


def execute(
    spec: TaskSpec,
    load: Callable[[InputSpec], Any],
    entry: Callable[[str], Any],
    scratch: Callable[[], Path],
    sink: Sink | None,
) -> tuple[TaskResult, list[Output]]:
    """Runs a task; errors of the user's code become part of the result, never an exception."""
    module, _, name = spec.runner.partition(":")
    task = Task(spec, load, entry, scratch)
    started, cpu = time.monotonic(), _cpu_seconds()
    outputs: list[Output] = []
    error: dict[str, Any] | None = None
    reset_peak()
    try:
        runner: Runner = getattr(importlib.import_module(module), name)
        if spec.environment:
            inside = importlib.import_module(_INSIDE).Inside(spec.environment)
            task = Task(spec, load, entry, scratch, inside.call)
            with inside, logging_to(sink):
                outputs = runner(task)
        else:
            with logging_to(sink):
                outputs = runner(task)
    except NoriaError as failed:
        error = failed.as_dict()["error"]
    except Exception as failed:  # noqa: BLE001 - the user's code: whatever it raises is the step's result
        error = from_user(failed, spec).as_dict()["error"]
    cost = {
        "wall_ms": round((time.monotonic() - started) * 1000),
        "cpu_ms": round((_cpu_seconds() - cpu) * 1000),
        "memory": peak_memory(),
    }
    return TaskResult(attempt=spec.attempt, ok=error is None, error=error, facts=task.facts, cost=cost), outputs


def from_user(error: BaseException, spec: TaskSpec) -> StepFailed:
    """An error of the user's function, with the line of their code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [f for f in frames if spec.code and Path(f.filename).is_relative_to(spec.code)] or [
        f for f in frames if "noria" not in Path(f.filename).parts and "site-packages" not in f.filename
    ]
    place = f"{Path(mine[-1].filename).name}:{mine[-1].lineno}: {mine[-1].line}" if mine else ""
    said = str(error)
    if type(error).__module__.partition(".")[0] == "polars":
        said = said.strip().partition("\n\n")[0]  # what follows is the plan of the whole query, page after page
    message = said or (f"the check does not hold: {mine[-1].line}" if mine else type(error).__name__)
    trace = "".join(traceback.format_exception(error))
    if len(trace) > 2 * _TRACE:
        trace = f"{trace[:_TRACE]}\n[...]\n{trace[-_TRACE:]}"
    return StepFailed(
        f"{type(error).__name__}: {message}" if said else message,
        hint=place,
        details={"type": type(error).__name__, "trace": trace},
    )


# ---- values on disk


def load_file(spec: InputSpec) -> Any:
    """The value of a materialised input."""
    if spec.kind == TABLE:
        import polars as pl

        return pl.read_ipc(spec.path)
    if spec.kind == JSON:
        return json.loads(Path(spec.path).read_bytes())
    return Path(spec.path)


def write_outputs(outputs: list[Output], folder: Path) -> list[OutputSpec]:
    """Writes values as files: Arrow, folders, JSON. Never a pickle."""
    made: list[OutputSpec] = []
    for number, output in enumerate(outputs):
        name = f"{number}.arrow" if output.kind == TABLE else f"{number}.json" if output.kind == JSON else str(number)
        path = folder / name
        if output.kind == TABLE:
            output.value.write_ipc(path)
        elif output.kind == JSON:
            path.write_bytes(plain_json(output.value, output.slot))
        elif Path(output.value) != path:
            move_folder(Path(output.value), path)
        made.append(OutputSpec(slot=output.slot, kind=output.kind, path=name, meta=output.meta))
    return made


def read_output(spec: OutputSpec, folder: Path) -> Output:
    """The value of a written output."""
    path = folder / spec.path
    inputs = InputSpec(slot=spec.slot, asset="", kind=spec.kind, digest="", layout="", path=str(path))
    return Output(slot=spec.slot, kind=spec.kind, value=load_file(inputs), meta=spec.meta)


def plain_json(value: Any, slot: str) -> bytes:
    try:
        return json.dumps(value, allow_nan=True, sort_keys=True).encode()
    except (TypeError, ValueError) as error:
        raise ResultInvalid(
            f"The result{f' {slot!r}' if slot else ''} is neither table, folder nor JSON: {error}.",
            hint="Return a frame, a pathlib.Path of a folder, or plain lists, dictionaries, numbers and texts.",
        ) from None


def move_folder(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        target.mkdir()
        shutil.copy2(source, target / source.name)


# ---- cost


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def reset_peak() -> None:
    """Forgets the peak of the process's memory, so that a warm worker reports each task's own (Linux)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123 - a device of the kernel
            file.write("5")
    except OSError:
        return


def peak_memory() -> int:
    """Bytes of resident memory at the peak, children included."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        own = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
