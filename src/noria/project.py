"""Where a project is and what it says of itself: ``noria.toml``, or ``[tool.noria]`` in ``pyproject.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noria.base.errors import Invalid, NotFound
from noria.base.names import check_name, nearest

_KEYS = {"name", "modules", "workspace", "executor", "env"}
_ENV_KEYS = {"workspace", "executor", "replicas", "schedules", "secrets", "store"}


class ProjectMissing(NotFound):
    """No folder here or above holds a project."""

    code = "project_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFile:
    """A project's own settings.

    Attributes:
        root: the folder that holds the file.
        name: the project's name inside a workspace.
        modules: the Python modules that are scanned for assets.
        workspace: where everything lives, as written; None for ``.noria`` in the root.
        executor: ``process`` or ``inline``.
        environments: the ``[env.*]`` tables.
    """

    root: Path
    name: str
    modules: tuple[str, ...]
    workspace: str | None
    executor: str
    environments: dict[str, dict[str, Any]]


def find_root(start: Path) -> Path | None:
    """The nearest folder, from ``start`` upwards, with a project file (decision 14)."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "noria.toml").is_file():
            return folder
        if (folder / "pyproject.toml").is_file() and "noria" in _read(folder / "pyproject.toml").get("tool", {}):
            return folder
    return None


def load(root: Path) -> ProjectFile:
    """Reads the project file of a folder; unknown keys are refused with the nearest known one."""
    own = root / "noria.toml"
    path = own if own.is_file() else root / "pyproject.toml"
    if not path.is_file():
        raise ProjectMissing(f"There is no noria.toml in {root}.", hint="noria init")
    table = _read(path)
    if path != own:
        table = table.get("tool", {}).get("noria", {})
    _check_keys(table, _KEYS, path)
    environments = table.get("env", {})
    for name, values in environments.items():
        check_name(name, "an environment")
        _check_keys(values, _ENV_KEYS, path)
    modules = table.get("modules", [])
    if not isinstance(modules, list) or not all(isinstance(m, str) for m in modules):
        raise Invalid(f"modules in {path} is not a list of names.", hint='modules = ["flights"]')
    executor = table.get("executor", "process")
    if executor not in ("process", "inline"):
        raise Invalid(f"executor = {executor!r} in {path} is not known.", hint='executor = "process" or "inline"')
    return ProjectFile(
        root=root,
        name=check_name(str(table.get("name", root.name.replace(" ", "-") or "default")), "a project"),
        modules=tuple(modules),
        workspace=table.get("workspace"),
        executor=executor,
        environments=environments,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not valid TOML: {error}.", hint=f"Open {path} at that line.") from None


def _check_keys(table: Any, known: set[str], path: Path) -> None:
    if not isinstance(table, dict):
        raise Invalid(f"{path} does not hold a table where one is expected.")
    for key in table:
        if key not in known:
            hint = nearest(key, known) or f"Known: {', '.join(sorted(known))}."
            raise Invalid(f"{path} holds the unknown key {key!r}.", hint=hint)
