"""Places of artifacts as a source writes them: URIs of many kinds, and paths of the machine it ran on."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote, urlsplit

from noria.gateways.mlflow.moving.records import SourceFile, Unreachable

_LAZY: Final = 3
"""Folders above the files of a run (``<root>/<experiment>/<run>/artifacts``) that are made with the first file."""
OUTSIDE: Final = "they lie in a folder that is only read if it is named with --artifacts"
"""What is said of files in a folder that the person who imports did not name."""


def scheme_of(place: str) -> str:
    """The scheme of a place; empty for a path."""
    scheme = urlsplit(place).scheme.lower() if ":" in place else ""
    return "" if len(scheme) == 1 else scheme  # a drive


def local(place: str) -> Path | None:
    """The folder that a place names, if it is one of this machine."""
    scheme = scheme_of(place)
    if not place:
        return None
    if not scheme:
        return Path(place)
    if scheme != "file":
        return None
    parts = urlsplit(place)
    if parts.netloc not in ("", "localhost"):
        return None
    # MLflow writes names with # and ? into such URIs without quoting them.
    return Path(unquote(place.split(":", 1)[1].removeprefix(f"//{parts.netloc}")))


def named(place: str) -> str:
    """What a report calls a place that is left where it is: its scheme and host, or the folder."""
    folder = local(place)
    if folder is not None:  # of a run's own folder the one above, that many runs share
        return str(folder.parent.parent if folder.name == "artifacts" else folder)
    parts = urlsplit(place)
    return f"{parts.scheme}://{parts.hostname or ''}"


def inside(folder: Path, roots: Sequence[Path]) -> tuple[Path, Path] | None:
    """The folder and that of the roots it lies in, both without links; None where it lies in none of them."""
    try:
        found = folder.resolve()
        for root in (one.resolve() for one in roots):
            if found.is_relative_to(root):
                return found, root
    except (OSError, ValueError, RuntimeError):  # no name of a folder, or links that go round
        pass
    return None


def files_in(place: str, roots: Sequence[Path], otherwise: str, *, base: Path | None = None) -> Iterator[SourceFile]:
    """All files below a place that was read in a source, if it lies in a folder that may be read.

    Whoever could write to the source may have named any place of this machine.

    Args:
        otherwise: what is said of a folder that lies in none of the roots.
        base: what paths start at that do not start at the top.

    Raises:
        Unreachable: it lies in none of the roots, or is no folder of this machine.
    """
    folder = local(place)
    if folder is None:
        raise Unreachable(f"they stay at {named(place)}")
    found = inside(folder if base is None else base / folder, roots)
    if found is None:
        raise Unreachable(otherwise)
    return walk(*found)


def walk(folder: Path, within: Path | None = None) -> Iterator[SourceFile]:
    """All files below a folder, by name. Links are followed to files, not to folders.

    Args:
        within: what a link leads to has to lie in there; default the folder.

    Raises:
        Unreachable: there is no such folder, nor one of those that MLflow makes around it with its first file.
    """
    if not folder.is_dir():
        if any(above.is_dir() for above in list(folder.parents)[:_LAZY]):
            return
        raise Unreachable("its files are not where it says")
    root = (within or folder).resolve()
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(base) / name
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                continue
            try:
                found = path.stat()
            except OSError:
                continue
            if not stat.S_ISREG(found.st_mode):
                continue
            relative = path.relative_to(folder).as_posix()
            yield SourceFile(relative, found.st_size, int(found.st_mtime * 1_000), _opener(path))


def _opener(path: Path) -> Callable[[], BinaryIO]:
    def opens() -> BinaryIO:
        return path.open("rb")

    return opens
