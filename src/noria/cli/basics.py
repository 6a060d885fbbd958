from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from noria.terminal import Shell, command

_EXTRAS = {
    "ml": ["lightgbm", "sklearn", "skops", "optuna", "pandas"],
    "postgres": ["psycopg"],
    "s3": ["obstore"],
    "fsspec": ["fsspec"],
    "duckdb": ["duckdb"],
    "dvc": ["yaml"],
    "mlflow": ["mlflow"],
}
"""Extra -> what it brings. ``ray`` is reserved: no code uses it yet, so nobody needs it."""


@command()
@click.argument("folder", default=".", type=click.Path(file_okay=False))
@click.option("--db", "db_url", metavar="URL", help="postgresql://host/name instead of SQLite in the folder.")
@click.option("--store", "store_url", metavar="URL", default="file:", help="file:///folder or s3://bucket/prefix.")
@click.pass_obj
def init(shell: Shell, folder: str, db_url: str | None, store_url: str) -> None:
    """Make a project and a workspace in FOLDER."""
    from noria.store.factory import fitness
    from noria.workspace import init as make

    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    with make(root, db_url=db_url, store_url=store_url) as ws:
        value: dict[str, Any] = {"workspace": str(ws.home), "project": ws.project.name, "id": ws.id}
        found = fitness(ws.store_url, home=ws.home, environment=ws.environment)
    if found is not None:
        value["store"] = {"url": found.store, "conditional_writes": found.conditional}
        if not found.conditional:
            shell.warn(
                f"The endpoint of {found.store} ignores conditional writes (If-None-Match: *).",
                "noria does not need them: its heads are rows of the database. Other tools in this bucket may.",
            )
    shell.emit(value, f"A workspace in {root.resolve()}, project {value['project']}. Next: noria up")


@command()
@click.pass_obj
def doctor(shell: Shell) -> None:
    """Say what is missing, and the line to type."""
    checks = [*_python(), *_extras(), *_disk(), *_workspace(shell)]
    failed = [c for c in checks if c["state"] == "failed"]

    def human() -> None:
        marks = {"ok": "ok", "missing": "-", "failed": "FAILED"}
        shell.table(
            ["", "what", "found", "type"], [[marks[c["state"]], c["what"], c["found"], c["hint"]] for c in checks]
        )

    shell.emit({"checks": checks, "ok": not failed}, human)
    if failed:
        raise click.exceptions.Exit(1)


def _check(what: str, state: str, found: str, hint: str = "") -> dict[str, Any]:
    return {"what": what, "state": state, "found": found, "hint": hint}


def _python() -> list[dict[str, Any]]:
    return [
        _check("python", "ok", sys.version.split()[0]),
        _check("noria", "ok", importlib.metadata.version("noria")),
    ]


def _extras() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for extra, modules in _EXTRAS.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        hint = f'pip install "noria[{extra}]"' if missing else ""
        text = "without " + ", ".join(missing) if missing else "installed"
        found.append(_check(f"extra {extra}", "missing" if missing else "ok", text, hint))
    return found


def _disk() -> list[dict[str, Any]]:
    free = shutil.disk_usage(Path.cwd()).free
    state = "ok" if free > 1 << 30 else "failed"
    return [_check("disk", state, f"{free / (1 << 30):.1f} GiB free here", "" if state == "ok" else "Free some space.")]


def _workspace(shell: Shell) -> list[dict[str, Any]]:
    from noria.base.errors import NoriaError

    try:
        ws = shell.ws
    except NoriaError as error:
        state = "missing" if error.code == "workspace_missing" else "failed"
        return [_check("workspace", state, error.message, error.hint)]
    checks = [_check("workspace", "ok", f"{ws.home} (project {ws.project.name})")]
    writable = os.access(ws.home, os.W_OK)
    checks.append(_check("permissions", "ok" if writable else "failed", "writable" if writable else "not writable"))
    dead = ws.deliveries.dead()
    hint = "noria admin events --dead" if dead else ""
    checks.append(_check("events", "failed" if dead else "ok", f"{len(dead)} given up", hint))
    return checks
