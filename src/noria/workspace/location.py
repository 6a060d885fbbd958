"""Where a workspace lies: what a folder, an URL or the environment names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from noria import project as project_file
from noria.workspace.errors import WorkspaceMissing, WorkspaceUrlInvalid

HOME: Final = ".noria"


def place_of(url: str | os.PathLike[str] | None = None, *, environment: Mapping[str, str] | None = None) -> str:
    """What opens the workspace of ``url`` (default: of the nearest project) from any folder: a path or an URL.

    Raises:
        WorkspaceMissing: there is none.
    """
    env = os.environ if environment is None else environment
    text = (None if url is None else os.fspath(url)) or env.get("NORIA_WORKSPACE")
    if text is not None:
        return check_url(text) if "://" in text else str(Path(text).expanduser().resolve())
    root = project_file.find_root(Path.cwd())
    if root is None:
        raise WorkspaceMissing(f"Neither {Path.cwd()} nor a folder above it holds a project.", hint="noria init")
    return str(root)


def database_of(home: Path, hint: str = "noria init") -> str:
    """The URL of the database of a workspace's folder.

    Raises:
        WorkspaceMissing: there is none.
    """
    place = home / "meta.db"
    if not place.is_file():
        raise WorkspaceMissing(f"There is no workspace in {home.parent}.", hint=hint)
    return f"sqlite:///{place}"


def locate(url: str | os.PathLike[str] | None, env: Mapping[str, str]) -> tuple[Path | str, Path | None]:
    """(home folder or database URL, project root)."""
    text = None if url is None else os.fspath(url)
    text = text or env.get("NORIA_WORKSPACE")
    if text is not None and "://" in text:
        return check_url(text), project_file.find_root(Path.cwd())
    if text is not None:
        folder = Path(text).expanduser().resolve()
        if folder.name == HOME:
            return folder, project_file.find_root(folder.parent)
        root = project_file.find_root(folder)
        if root is None or root != folder or (folder / HOME / "meta.db").is_file():
            return folder / HOME, root
        return _named(root, folder / HOME), root
    root = project_file.find_root(Path.cwd())
    if root is None:
        raise WorkspaceMissing(f"Neither {Path.cwd()} nor a folder above it holds a project.", hint="noria init")
    return _named(root, root / HOME), root


def _named(root: Path, default: Path) -> Path | str:
    """The workspace that a project's ``noria.toml`` names."""
    named = project_file.load(root).workspace
    if named is None:
        return default
    return check_url(named) if "://" in named else (root / named).resolve() / HOME


def check_url(url: str) -> str:
    """The URL, if a workspace can be opened by it."""
    scheme = url.partition("://")[0].lower()
    if scheme in ("postgresql", "postgresql+psycopg"):
        return url
    shown = redacted(url)
    if scheme in ("http", "https"):
        raise WorkspaceUrlInvalid(
            f"A workspace behind a server ({shown}) cannot be opened yet: that client is not built.",
            hint="Call the server's HTTP API (GET /openapi.json), or open its database: postgresql://host/name",
        )
    raise WorkspaceUrlInvalid(
        f"A workspace is not opened by {scheme}:// ({shown}).",
        hint="Write a folder that holds a project or a workspace, or postgresql://host/name.",
        details={"scheme": scheme},
    )


def redacted(url: str) -> str:
    """An URL as it may be shown: without user and password, query and fragment."""
    scheme, _, rest = url.partition("://")
    before, _, place = rest.rpartition("@")  # a password may hold any of the signs that end other parts
    if "?" in before or "#" in before:  # or a query holds an @: where the host stands cannot be told
        place = "..."
    return f"{scheme}://{place}".partition("?")[0].partition("#")[0]
