"""Folders of the file system to trees, and back."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path

from noria.base.digest import Digest
from noria.base.errors import DiskFull, NotFound
from noria.base.names import check_path
from noria.store import files, reading, tree
from noria.store.errors import PathUnsafe
from noria.store.objects import ObjectStore, Writer
from noria.store.reading import INLINE
from noria.store.records import Entry, EntryKind


def scan(folder: Path, skip: Callable[[str, bool], bool] | None = None) -> Iterator[tuple[str, os.stat_result]]:
    """(relative path, stat) of every file, symbolic link and empty folder, in no order. Links are not followed.

    ``skip(path, is_folder)`` leaves a path out; ``.noria`` is always left out.
    """
    pending = [("", str(folder))]
    while pending:
        prefix, place = pending.pop()
        empty = True
        with os.scandir(place) as found:
            for item in found:
                path = prefix + item.name
                is_folder = item.is_dir(follow_symlinks=False)
                if item.name == ".noria" or (skip is not None and skip(path, is_folder)):
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
    names, below, odd, numbers = list[str](), list[str](), set[str](), list[int]()
    try:
        with os.scandir(place) as found:
            for item in found:
                name = item.name
                if item.is_dir(follow_symlinks=False):
                    if name != ".noria":
                        below.append(name)
                    continue
                if name == ".noria":
                    continue
                if stats:
                    try:
                        seen = item.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    numbers += (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)
                names.append(name)
                if not item.is_file(follow_symlinks=False):
                    odd.add(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise reading.unreadable(path.rstrip("/") or place, error) from None
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
    return write_entries(store, tree.walk(store, root), target)


def write_entries(store: ObjectStore, entries: Iterable[Entry], target: Path) -> int:
    """Writes entries below ``target``. Each file appears whole, and nothing is written through a link."""
    made: set[str] = set()
    count = 0
    for entry in entries:
        check_path(entry.path)  # a tree from a hostile store is checked here too
        parent = entry.path.rpartition("/")[0]
        if parent not in made:
            _make_parents(target, parent)
            made.add(parent)
        _write_entry(store, entry, target / entry.path)
        count += 1
    return count


def _write_entry(store: ObjectStore, entry: Entry, place: Path) -> None:
    if entry.kind == EntryKind.FOLDER:
        place.mkdir(exist_ok=True)
        return
    temporary = place.with_name(f".noria-{secrets.token_hex(6)}")
    try:
        if entry.kind == EntryKind.SYMLINK:
            temporary.symlink_to(entry.target or "")
        else:
            mode = 0o777 if entry.executable else 0o666
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
                if entry.inline is not None:
                    file.write(entry.inline)
                elif entry.content is not None:
                    for piece in files.iterate(store, entry.content):
                        file.write(piece)
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        temporary.replace(place)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(str(place)) from error
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _make_parents(target: Path, parent: str) -> None:
    place = target
    for part in parent.split("/") if parent else []:
        place = place / part
        if place.is_symlink():
            raise PathUnsafe(
                f"{place} is a symbolic link; nothing is written through it.",
                hint="Remove the link, or check out into an empty folder.",
                details={"path": str(place)},
            )
        if place.exists() and not place.is_dir():
            place.unlink()
        place.mkdir(exist_ok=True)
