"""Places of artifacts as a source writes them: URIs of many kinds, and paths of the machine it ran on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote, urlsplit

from noria.gateways.mlflow.moving.records import SourceFile, Unreachable

_LAZY: Final = 3
"""Folders above the files of a run (``<root>/<experiment>/<run>/artifacts``) that are made with the first file."""


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
    if folder is not None:
        return str(folder)
    parts = urlsplit(place)
    return f"{parts.scheme}://{parts.hostname or ''}"


def walk(folder: Path, inside: Path | None = None) -> Iterator[SourceFile]:
    """All files below a folder, by name. Links are followed to files, not to folders.

    Args:
        inside: what a link leads to has to lie in there; default the folder.

    Raises:
        Unreachable: there is no such folder, nor one of those that MLflow makes around it with its first file.
    """
    if not folder.is_dir():
        if any(above.is_dir() for above in list(folder.parents)[:_LAZY]):
            return
        raise Unreachable("its files are not where it says")
    root = (inside or folder).resolve()
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
            relative = path.relative_to(folder).as_posix()
            yield SourceFile(relative, found.st_size, int(found.st_mtime * 1_000), _opener(path))


def _opener(path: Path) -> Callable[[], BinaryIO]:
    def opens() -> BinaryIO:
        return path.open("rb")

    return opens
