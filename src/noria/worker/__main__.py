"""``python -m noria.worker CODE FAULT``: runs tasks, one after another; they come as lines of JSON on standard input.

CODE is a snapshot whose modules are imported before there is a task, or empty. FAULT is the crash point of a test
(``base/faults.py``).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from noria import project as project_file
from noria.base import faults
from noria.base.faults import Faults
from noria.pipelines.execute import execute, load_file, write_outputs
from noria.pipelines.task import PointSpec, TaskResult, TaskSpec, decode_task
from noria.pipelines.views import CodeView

_PR_SET_PDEATHSIG = 1


def main() -> None:
    die_with_parent()
    out = os.fdopen(os.dup(1), "wb")  # the protocol; what a step prints goes elsewhere
    tasks = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    views: dict[str, CodeView] = {}
    code, fault = sys.argv[1:] if len(sys.argv) == 3 else ("", "")
    del sys.argv[1:]  # no task's business
    hook = faults.of(fault)
    if code:
        views[code] = CodeView(Path(code))
        _import_modules(views[code], Path(code))
    while line := tasks.readline():
        _run(decode_task(line), views, out, hook)


def _import_modules(view: CodeView, code: Path) -> None:
    """Imports what tasks of this snapshot will need. What fails here is said by the task that needs it."""
    with contextlib.suppress(Exception):
        for module in project_file.load(code).modules:
            view.load(module)


def _run(spec: TaskSpec, views: dict[str, CodeView], out: BinaryIO, hook: Faults) -> None:
    folder = Path(spec.out)
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    _send(out, event="started", attempt=spec.attempt)
    scratch: list[str] = []

    def make_scratch() -> Path:
        scratch.append(tempfile.mkdtemp(prefix="noria-"))
        return Path(scratch[-1])

    def sink(points: list[PointSpec], params: dict[str, str]) -> None:
        _send(out, event="log", attempt=spec.attempt, points=points, params=params)

    view = views.setdefault(spec.code, CodeView(Path(spec.code)))
    before = dict(os.environ)
    try:
        result, values = execute(spec, load_file, view.get, make_scratch, sink)
        if result.ok:
            hook.at("task.write")
            result = _written(spec, result, values, folder)
            hook.at("task.written")
    finally:
        os.environ.clear()
        os.environ.update(before)
        for place in scratch:
            shutil.rmtree(place, ignore_errors=True)
        sys.stdout.flush()
        sys.stderr.flush()
        for number, handle in enumerate(kept, start=1):
            os.dup2(handle, number)
            os.close(handle)
    _send(out, event="done", attempt=spec.attempt, result=result)


def _written(spec: TaskSpec, result: TaskResult, values: Any, folder: Path) -> TaskResult:
    from noria.base.errors import NoriaError

    try:
        result.outputs = write_outputs(values, folder)
    except NoriaError as error:
        return TaskResult(attempt=spec.attempt, ok=False, error=error.as_dict()["error"], cost=result.cost)
    return result


def _send(out: BinaryIO, **message: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        out.write(msgspec.json.encode(message) + b"\n")
        out.flush()


def die_with_parent() -> None:
    """Asks the kernel to end this process when its driver ends, however that ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            sys.exit(0)


if __name__ == "__main__":
    main()
