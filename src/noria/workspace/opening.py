"""Opening a workspace, making one, and bringing an older one to this version."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import update

from noria import project as project_file
from noria.assets import tables as asset_tables
from noria.base import faults as crash_points
from noria.base.clock import Clock, SystemClock
from noria.base.faults import Faults
from noria.db import Database
from noria.db.engine import HEAD_REVISION
from noria.workspace.composition import FORMATS, Workspace
from noria.workspace.errors import WorkspaceExists, WorkspaceMissing
from noria.workspace.location import HOME, check_url, database_of, locate


def connect(
    url: str | os.PathLike[str] | None = None,
    *,
    project: str | None = None,
    root: str | os.PathLike[str] | None = None,
    clock: Clock | None = None,
    faults: Faults | None = None,
    environment: Mapping[str, str] | None = None,
) -> Workspace:
    """Opens a workspace.

    Args:
        url: a folder that holds a project or a workspace, or ``postgresql://...``. Default: the workspace that the
            nearest project names, else ``.noria`` in the nearest project.
        project: another project than the one of the folder.
        root: the folder of the project's code, where it is another one (a materialised snapshot).

    Raises:
        WorkspaceMissing: there is none; ``noria init`` makes one.
        WorkspaceUrlInvalid: the URL is of a kind that opens none.
        WorkspaceTooNew: it was written by a newer noria.
    """
    env = os.environ if environment is None else environment
    place, found = locate(url, env)
    folder = found if root is None else Path(root)
    source = project_file.load(folder) if folder is not None else None
    if isinstance(place, str):
        home, db_url = (None if found is None else found / HOME), place
    else:
        home, db_url = place, database_of(place)
    return _open(db_url, home, source, project, clock or SystemClock(), faults or _faults(env), env)


def _open(
    db_url: str,
    home: Path | None,
    source: project_file.ProjectFile | None,
    project: str | None,
    clock: Clock,
    faults: Faults,
    env: Mapping[str, str],
) -> Workspace:
    return Workspace(
        Database(db_url, clock, faults),
        home,
        project_name=project or (source.name if source else "default"),
        source=source,
        environment=env,
        clock=clock,
        faults=faults,
    )


def init(
    folder: str | os.PathLike[str],
    *,
    db_url: str | None = None,
    store_url: str = "file:",
    clock: Clock | None = None,
    environment: Mapping[str, str] | None = None,
) -> Workspace:
    """Makes a workspace in ``folder`` (and a ``noria.toml`` where there is none) and opens it."""
    from noria.db.migrate import upgrade
    from noria.store.factory import byte_store

    env = os.environ if environment is None else environment
    if db_url is not None:
        check_url(db_url)
    root = Path(folder).resolve()
    home = root / HOME
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    byte_store(store_url, home=home, environment=env, faults=_faults(env))  # refused before anything is made
    clock = clock or SystemClock()
    db = Database(db_url or f"sqlite:///{home / 'meta.db'}", clock, _faults(env))
    if db.revision() >= HEAD_REVISION:
        db.close()
        raise WorkspaceExists(f"There is a workspace in {root} already.", hint="noria doctor")
    if db_url is not None and store_url == "file:":
        store_url = (home / "store").as_uri()  # a database is seen from several places: the store's is written out
    with db.write() as tx:
        upgrade(db, tx)
        row = {"id": secrets.token_hex(16), "created_at": tx.now_ms, "store_url": store_url, "formats": FORMATS}
        tx.insert(asset_tables.workspace, {**row, "gc_epoch": 0})
    db.close()
    if project_file.find_root(root) is None:
        setting = f'workspace = "{db_url}"\n' if db_url else ""
        name = "".join(c if c.isalnum() or c in "_.-" else "-" for c in root.name).lstrip("-.0123456789") or "default"
        (root / "noria.toml").write_text(f'name = "{name}"\nmodules = []\n{setting}', encoding="utf-8")
    found = project_file.find_root(root)
    assert found is not None
    url = db_url or f"sqlite:///{home / 'meta.db'}"
    return _open(url, home, project_file.load(found), None, clock, _faults(env), env)


def ensure(url: str | os.PathLike[str] | None = None, *, environment: Mapping[str, str] | None = None) -> bool:
    """Makes the workspace that ``connect(url)`` would open, where there is none in that folder; returns whether it did.

    A database is left as it is: ``noria init --db`` makes a workspace in one.
    """
    env = os.environ if environment is None else environment
    try:
        place, _ = locate(url, env)
    except WorkspaceMissing:
        place = Path.cwd() / HOME
    if isinstance(place, str) or (place / "meta.db").is_file():
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    init(place.parent, environment=env).close()
    return True


def migrate(url: str | os.PathLike[str] | None = None, *, environment: Mapping[str, str] | None = None) -> Any:
    """Brings an older workspace to this version, after a backup; returns (before, after, path of the backup)."""
    from noria.db.migrate import upgrade

    env = os.environ if environment is None else environment
    place, _ = locate(url, env)
    db_url = place if isinstance(place, str) else database_of(place)
    clock = SystemClock()
    db = Database(db_url, clock, _faults(env))
    found = db.revision()
    if found >= HEAD_REVISION:
        db.check_revision()
        return found, found, None
    backup = None
    if not isinstance(place, str):
        backup = db.backup(place / f"meta-before-{HEAD_REVISION}-{clock.now_ms()}.db")
    with db.write() as tx:
        before, after = upgrade(db, tx)
        tx.execute(update(asset_tables.workspace).values(formats=FORMATS))
    db.close()
    return before, after, backup


def _faults(env: Mapping[str, str]) -> Faults:
    return crash_points.of(env.get(crash_points.SETTING))
