"""The hooks of the applied project: found in its definitions, run in a worker process from its code snapshot."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.ids import ProjectId
from noria.data.hooks import AppliedHook, HookChange
from noria.data.records import PathChange
from noria.db import Database, Tx
from noria.pipelines import queries
from noria.pipelines.task import InputSpec, TaskSpec
from noria.store import ObjectStore

if TYPE_CHECKING:
    from noria.pipelines.execute import Output, Task
    from noria.pipelines.executors import SideWorker

_SECONDS: Final = 120.0
KIND: Final = "hook"
PREFIX: Final = "hook:"
"""Before the name of a hook among the definitions; no asset can have such a name."""
_ROWS, _OLD, _FILES = "rows", "old_rows", "files"


class ProjectHooks:
    """One per workspace."""

    def __init__(
        self, db: Database, store: Callable[[], ObjectStore], cache: Path, worker: Callable[[], SideWorker]
    ) -> None:
        self._db = db
        self._store = store
        self._cache = cache
        self._worker = worker

    def find(self, project_id: ProjectId, tx: Tx | None = None) -> list[AppliedHook]:
        with self._db.read(tx) as conn:
            found = queries.definitions_of_kind(conn, project_id, KIND)
        return [
            AppliedHook(
                name=one.name.removeprefix(PREFIX),
                event=one.spec["event"],
                on=tuple(one.spec["on"]),
                branch=one.spec["branch"],
                reads=one.spec["reads"],
                entry=one.entry,
                code=one.spec["layout"],
            )
            for one in found
        ]

    def run(self, hook: AppliedHook, change: HookChange) -> None:
        """Calls a hook in the worker.

        Raises:
            TaskFailed: it raised, or its process died; with what it said.
        """
        from noria.pipelines import snapshot

        code = snapshot.materialise(self._store(), Digest.parse(hook.code), self._cache)
        folder = Path(tempfile.mkdtemp(prefix="noria-hook-"))
        try:
            out = folder / "out"
            out.mkdir()
            paths = [[p.path, p.kind, p.size_before, p.size_after] for p in change.paths]
            (folder / "change.json").write_text(json.dumps({"value": change.value, "paths": paths}), encoding="utf-8")
            task = TaskSpec(
                attempt="",
                asset=hook.name,
                kind=KIND,
                runner="noria.pipelines.hooks:run_hook",
                entry=hook.entry,
                code=str(code),
                inputs=list(_inputs(hook, change, folder)),
                spec={"change": str(folder / "change.json"), "reads": hook.reads},
                out=str(out),
                timeout=int(_SECONDS * 1000),
            )
            self._worker().run(task)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _inputs(hook: AppliedHook, change: HookChange, folder: Path) -> Iterator[InputSpec]:
    """What a hook may look at, as files of its own: a worker has neither database nor store."""
    for slot, frame in ((_ROWS, change.rows), (_OLD, change.old_rows)):
        if frame is not None:
            path = folder / f"{slot}.arrow"
            frame.write_ipc(path)
            yield InputSpec(slot=slot, asset=change.repository, kind="table", digest="", layout="", path=str(path))
    place = folder / _FILES
    for one in change.paths:
        if one.kind == "removed" or not hook.reads or not fnmatchcase(one.path, hook.reads):
            continue
        try:
            source = change.open(one.path)
        except Invalid:  # a link or an empty folder
            continue
        target = place / one.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, target.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    if place.exists():
        yield InputSpec(slot=_FILES, asset=change.repository, kind="tree", digest="", layout="", path=str(place))


def run_hook(task: Task) -> list[Output]:
    """Calls a hook in the worker's process."""
    found = json.loads(Path(task.spec.spec["change"]).read_text(encoding="utf-8"))
    slots, reads = task.inputs(), task.spec.spec["reads"]
    paths = [PathChange(path=p, kind=k, size_before=b, size_after=a) for p, k, b, a in found["paths"]]
    place = Path(slots[_FILES].path) if _FILES in slots else None

    def read(path: str) -> BinaryIO:
        there = any(p.path == path and p.kind != "removed" for p in paths)
        if not there or place is None or not (place / path).is_file():
            hint = f"It reads {reads!r}." if there else "change.paths lists what there is."
            raise Invalid(f"There is no file {path!r:.200} to read in this change.", hint=hint)
        return io.BufferedReader(io.FileIO(place / path))

    def frame(slot: str) -> Any:
        return (lambda: task.load(slot)) if slot in slots else None

    task.function(HookChange(found["value"], rows=frame(_ROWS), old_rows=frame(_OLD), paths=lambda: paths, read=read))
    return []
