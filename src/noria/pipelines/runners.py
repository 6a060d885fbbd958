"""How the plain kinds of steps run: datasets, reports, checks, commands."""

from __future__ import annotations

import inspect
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from noria.base.errors import Invalid, MissingExtra
from noria.pipelines.errors import ResultInvalid, StepFailed
from noria.pipelines.execute import JSON, TABLE, TREE, Output, Task


def run_dataset(task: Task) -> list[Output]:
    """Calls the function with its inputs; the result's type decides what it is."""
    made = task.function(**arguments(task), **task.spec.params)
    meta = {k: task.spec.spec[k] for k in ("key", "time") if task.spec.spec.get(k)}
    return [as_output(made, meta=meta)]


def run_report(task: Task) -> list[Output]:
    return [as_output(task.function(**arguments(task), **task.spec.params))]


def run_check(task: Task) -> list[Output]:
    """A check that comes to its end holds; an exception says that it does not."""
    given = arguments(task)
    made = task.function(**given, **task.spec.params)
    value = {"passed": True, "value": made if isinstance(made, bool | int | float | str | dict) else None}
    return [Output(slot="", kind=JSON, value=value)]


def arguments(task: Task) -> dict[str, Any]:
    """The positional arguments of the function, in the form that its annotations ask for."""
    slots = task.inputs()
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(task.function).parameters.items():
        if parameter.kind == parameter.KEYWORD_ONLY or name not in slots:
            continue
        value = task.load(name)
        given[name] = as_annotated(value, parameter.annotation) if slots[name].kind == TABLE else value
    return given


def as_annotated(frame: Any, annotation: Any) -> Any:
    """A Polars frame as what a parameter's annotation names; a Polars frame where it names nothing."""
    text = (
        annotation
        if isinstance(annotation, str)
        else f"{annotation.__module__}.{annotation.__qualname__}"
        if hasattr(annotation, "__qualname__")
        else ""
    )
    if "LazyFrame" in text:
        return frame.lazy()
    if text.startswith(("pd.", "pandas.")):
        try:
            import pandas  # noqa: F401 - an optional package, reported by name
        except ImportError:
            raise MissingExtra("pandas", "ml", "A parameter of the type pandas.DataFrame") from None
        return frame.to_pandas()
    if text.startswith(("pa.", "pyarrow.")):
        return frame.to_arrow()
    return frame


def as_output(value: Any, slot: str = "", meta: dict[str, Any] | None = None) -> Output:
    """A returned value as a table, a folder or JSON.

    Raises:
        ResultInvalid: it is none of them.
    """
    module = type(value).__module__.partition(".")[0]
    if module in ("polars", "pandas", "pyarrow"):
        from noria.data.service.tables.incoming import to_frame

        try:
            return Output(slot=slot, kind=TABLE, value=to_frame(value), meta=meta or {})
        except Invalid as error:
            raise ResultInvalid(f"The result cannot be stored: {error.message}", hint=error.hint) from None
    if isinstance(value, Path):
        if not value.exists():
            raise ResultInvalid(f"The step returned the path {value}, which does not exist.")
        return Output(slot=slot, kind=TREE, value=value, meta=meta or {})
    if value is None or isinstance(value, bool | int | float | str | list | tuple | dict):
        return Output(slot=slot, kind=JSON, value=list(value) if isinstance(value, tuple) else value, meta=meta or {})
    raise ResultInvalid(
        f"The step returned a {type(value).__module__}.{type(value).__qualname__}, which cannot be stored.",
        hint="Return a Polars, pandas or Arrow table, a pathlib.Path, or plain JSON values; models by @nr.model.",
    )


def run_command(task: Task) -> list[Output]:
    """Runs a command with its inputs and its output as paths."""
    spec, folder = task.spec.spec, task.scratch
    places: dict[str, str] = {}
    for slot, found in task.inputs().items():
        if found.kind == TABLE:
            path = folder / f"{slot}.parquet"
            task.load(slot).write_parquet(path)
        elif found.kind == JSON:
            path = folder / f"{slot}.json"
            path.write_bytes(_json(task.load(slot)))
        else:
            path = task.load(slot)
        places[slot] = str(path)
    kind = spec["out"]
    out = folder / ("out" if kind == "folder" else f"out.{kind}")
    if kind == "folder":
        out.mkdir()
    words = [_filled(word, {**places, "out": str(out)}) for word in shlex.split(spec["text"])]
    _run(words, task)
    return [_command_output(kind, out)]


def _json(value: Any) -> bytes:
    from noria.pipelines.execute import plain_json

    return plain_json(value, "")


def _filled(word: str, places: dict[str, str]) -> str:
    for name, path in places.items():
        word = word.replace("{" + name + "}", path)
    return word


def _run(words: list[str], task: Task) -> None:
    try:
        # `python` means the Python that noria runs in, whether or not its environment was activated.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment = {**os.environ, "PATH": path}
        program = shutil.which(words[0], path=path) or words[0]
        done = subprocess.run(
            [program, *words[1:]],
            cwd=task.spec.code or None,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
    except FileNotFoundError:
        raise StepFailed(f"There is no program {words[0]!r}.", hint="Is it installed, and on the PATH?") from None
    if done.stdout:
        print(done.stdout, end="")  # noqa: T201 - the step's log
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise StepFailed(
            f"{words[0]} ended with code {done.returncode}: {lines[-1] if lines else 'it said nothing'}",
            hint="noria runs logs RUN   has all that it said.",
            details={"stderr": done.stderr[-4000:]},
        )


def _command_output(kind: str, out: Path) -> Output:
    if not out.exists():
        raise ResultInvalid(f"The command ended well but wrote no {out.name}.", hint="It has to write {out}.")
    if kind == "folder":
        return Output(slot="", kind=TREE, value=out)
    if kind == "json":
        import json

        return Output(slot="", kind=JSON, value=json.loads(out.read_text(encoding="utf-8")))
    from noria.data.collectors.files import read_rows

    return Output(slot="", kind=TABLE, value=read_rows(out))
