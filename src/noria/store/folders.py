"""Folders of the file system to trees, and back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path

from noria.base.digest import Digest
from noria.base.errors import NotFound
from noria.base.names import check_path
from noria.store import files, reading, tree, writing
from noria.store.objects import ObjectStore, Writer
from noria.store.reading import INLINE
from noria.store.records import Entry, EntryKind
from noria.store.writing import is_ours


def scan(folder: Path, skip: Callable[[str, bool], bool] | None = None) -> Iterator[tuple[str, os.stat_result]]:
    """(relative path, stat) of every file, symbolic link and empty folder, in no order. Links are not followed.

    ``skip(path, is_folder)`` leaves a path out; ``.noria``, and what a checkout left that was killed, always are.
    """
    pending = [("", str(folder))]
    while pending:
        prefix, place = pending.pop()
        empty = True
        with os.scandir(place) as found:
            for item in found:
                path = prefix + item.name
                is_folder = item.is_dir(follow_symlinks=False)
                if is_ours(item.name) or (skip is not None and skip(path, is_folder)):
                    continue
                empty = False
                if is_folder:
                    pending.append((path + "/", item.path))
                else:
                    yield path, item.stat(follow_symlinks=False)
        if empty and prefix:
            yield prefix[:-1], os.stat(place, follow_symlinks=False)  # noqa: PTH116 - scandir gave a string


Listed = tuple[list[str], list[str], set[str], list[int]]
"""Files and links, folders, which of the first are no plain files, and four numbers for each of the first."""


def list_folder(place: str, path: str, *, stats: bool) -> Listed | None:
    """What lies directly in a folder, without ``.noria``; None if it is gone.

    With ``stats``: size, mtime, ctime (ns) and inode of each file and link, one after another.
    """
    try:
        with os.scandir(place) as found:
            items = list(found)
        below = [item.name for item in items if item.is_dir(follow_symlinks=False)]
        if below:
            items = [item for item in items if not item.is_dir(follow_symlinks=False)]
        numbers = _numbers(items) if stats else []
        names = [item.name for item in items]
        odd = {item.name for item in items if not item.is_file(follow_symlinks=False)}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise reading.unreadable(path.rstrip("/") or place, error) from None
    return _without_ours((names, below, odd, numbers))


def _numbers(items: list[os.DirEntry[str]]) -> list[int]:
    """Four numbers for each; what went away meanwhile is taken out of the list."""
    found: list[os.stat_result] = []
    try:
        found = [item.stat(follow_symlinks=False) for item in items]
    except FileNotFoundError:
        kept: list[os.DirEntry[str]] = []
        for item in items:
            with contextlib.suppress(FileNotFoundError):
                found.append(item.stat(follow_symlinks=False))
                kept.append(item)
        items[:] = kept
    return [number for one in found for number in (one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino)]


def _without_ours(listed: Listed) -> Listed:
    names, below, odd, numbers = listed
    below = [name for name in below if not is_ours(name)]
    ours = [number for number, name in enumerate(names) if name[:6] == ".noria" and is_ours(name)]
    for number in reversed(ours):
        odd.discard(names.pop(number))
        del numbers[4 * number : 4 * number + 4]
    return names, below, odd, numbers


def read_entry(writer: Writer, folder: Path, path: str) -> tuple[Entry, os.stat_result]:
    """Stores one path of a folder. A file that changes while it is read is read again, three times at most."""
    check_path(path)
    found = reading.read_path(writer, folder, path)
    if found is None:
        raise NotFound(f"{path} is gone.", hint="Repeat the command.", details={"path": path})
    return tree.entry_of(found[0]), found[1]


def put_folder(writer: Writer, folder: Path, skip: Callable[[str, bool], bool] | None = None) -> Digest:
    """Stores a whole folder and returns the id of its tree."""
    reader = reading.Reader(writer, str(folder))
    names: dict[str, list[str]] = {}
    for path, _ in scan(folder, skip):
        prefix, slash, name = path.rpartition("/")
        names.setdefault(prefix + slash, []).append(name)
    for prefix, found in names.items():
        reader.read(prefix, found)
    return tree.build_rows(writer, sorted(reader.finish(), key=itemgetter(0)))


def put_files(writer: Writer, contents: dict[str, bytes]) -> Digest:
    """Stores a tree of named byte strings."""

    def entries() -> Iterator[Entry]:
        for path in sorted(contents, key=tree.key_of):
            data = contents[check_path(path)]
            if len(data) <= INLINE:
                yield Entry(path=path, size=len(data), inline=data)
            else:
                yield Entry(path=path, size=len(data), content=files.put_bytes(writer, data))

    return tree.build(writer, entries())


def read_file(store: ObjectStore, root: Digest, path: str) -> bytes | None:
    """The bytes of one file of a tree, or None where there is none."""
    entry = tree.find(store, root, path)
    if entry is None or entry.kind != EntryKind.FILE:
        return None
    return entry_bytes(store, entry)


def entry_bytes(store: ObjectStore, entry: Entry) -> bytes:
    if entry.inline is not None:
        return entry.inline
    assert entry.content is not None
    return files.read_bytes(store, entry.content)


def write_folder(store: ObjectStore, root: Digest, target: Path) -> int:
    """Writes a tree into a folder that is new or empty; returns the number of entries."""
    target.mkdir(parents=True, exist_ok=True)
    rows = list(tree.walk_rows(store, root))
    writing.write_rows(store, target, rows)
    return len(rows)
