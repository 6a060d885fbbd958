"""Code snapshots: a project's own files as a version of the hidden asset ``code`` (decision 13)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pathspec import GitIgnoreSpec

from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.store import ObjectStore, Writer, folders, tree

MAX_BYTES: Final = 20 << 20
_NEVER: Final = {".git", ".noria", "__pycache__", ".venv", "venv", "node_modules", ".ipynb_checkpoints", ".mypy_cache",
                 ".pytest_cache", ".ruff_cache", ".hypothesis"}  # fmt: skip


class SnapshotTooLarge(Invalid):
    """The project's folder holds too much to be code."""

    code = "snapshot_too_large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The files of a snapshot.

    Attributes:
        state: changes whenever a file does; cheap to compute.
        git: commit and whether the working tree differs from it, where the project is in git.
    """

    paths: tuple[str, ...]
    state: str
    size: int
    git: dict[str, Any]


def look(root: Path) -> Code:
    """The first-party files below a project's root, by git where there is git, else by ``.gitignore``.

    Raises:
        SnapshotTooLarge: more than 20 MB; data belongs into repositories.
    """
    paths = _git_files(root)
    if paths is None:
        paths = _walked_files(root)
    kept: list[str] = []
    marks: list[str] = []
    size, largest = 0, ("", 0)
    for path in sorted(paths):
        try:
            found = (root / path).lstat()
        except FileNotFoundError:
            continue  # deleted, and git does not know yet
        if not (root / path).is_file() or any(part in _NEVER for part in path.split("/")):
            continue
        kept.append(path)
        marks.append(f"{path}:{found.st_size}:{found.st_mtime_ns}")
        size += found.st_size
        largest = max(largest, (path, found.st_size), key=lambda item: item[1])
    if size > MAX_BYTES:
        raise SnapshotTooLarge(
            f"The project's files are {size / (1 << 20):.0f} MiB; code may be {MAX_BYTES >> 20} MiB. "
            f"The largest is {largest[0]}.",
            hint=f"Put data into a repository (noria data commit), and {largest[0]} into .gitignore.",
            details={"bytes": size, "largest": largest[0]},
        )
    state = Digest.of("\n".join(marks).encode()).hex
    return Code(paths=tuple(kept), state=state, size=size, git=_git_state(root))


def put(writer: Writer, root: Path, code: Code) -> Digest:
    """Stores the files; returns their tree."""
    ordered = sorted(code.paths, key=tree.key_of)
    return tree.build(writer, (folders.read_entry(writer, root, path)[0] for path in ordered))


def materialise(store: ObjectStore, digest: Digest, cache: Path) -> Path:
    """A folder with the files of a snapshot; made once, read-only by agreement."""
    target = cache / "code" / digest.hex
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
    store.faults.at("code.write")
    folders.write_folder(store, digest, temporary)
    store.faults.at("code.rename")
    try:
        temporary.rename(target)
    except OSError:  # somebody else was first
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _git_files(root: Path) -> list[str] | None:
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return None
    found = _git(root, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    paths = [] if found is None else [path for path in found.split("\0") if path]
    # A project in a folder that a repository around it ignores (a demo, a sandbox) is not the repository's.
    return paths if any(path in ("noria.toml", "pyproject.toml") for path in paths) else None


def _walked_files(root: Path) -> list[str]:
    ignore = root / ".gitignore"
    spec = GitIgnoreSpec.from_lines(ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else [])

    def skip(path: str, is_folder: bool) -> bool:
        name = path.rsplit("/", 1)[-1]
        return name in _NEVER or spec.match_file(path + ("/" if is_folder else ""))

    return [path for path, _ in folders.scan(root, skip)]


def _git_state(root: Path) -> dict[str, Any]:
    if _git_files(root) is None:
        return {}
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {}
    dirty = _git(root, "status", "--porcelain", "--", ".")
    return {"commit": commit.strip(), "dirty": bool(dirty and dirty.strip())}
