"""Folders of the file system to trees, and back."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from noria.base.digest import Digest
from noria.base.errors import DiskFull, Invalid
from noria.base.names import check_path
from noria.store import files, tree
from noria.store.errors import FileChanged, PathUnsafe
from noria.store.objects import ObjectStore, Writer
from noria.store.records import Entry, EntryKind

INLINE = 64
_TRIES = 3
_BATCH_FILES, _BATCH_BYTES = 256, 4 << 20
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)


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


def read_entries(
    writer: Writer, folder: Path, found: Iterable[tuple[str, os.stat_result]]
) -> Iterator[tuple[Entry, os.stat_result]]:
    """Stores many paths of a folder, in the order in which ``scan`` gave them; small files together."""
    batch: list[tuple[str, os.stat_result, bytes]] = []
    size = 0
    for path, seen in found:
        check_path(path)
        data = _read_small(f"{folder}/{path}", seen)
        if data is not None:
            batch.append((path, seen, data))
            size += len(data)
        if data is None or len(batch) == _BATCH_FILES or size >= _BATCH_BYTES:
            yield from _put_small(writer, batch)
            batch, size = [], 0
        if data is None:
            yield read_entry(writer, folder, path)
    yield from _put_small(writer, batch)


def _read_small(place: str, seen: os.stat_result) -> bytes | None:
    """The bytes of a small file that is still as it was ``seen``; None for whatever needs a closer look."""
    if not stat.S_ISREG(seen.st_mode) or seen.st_size >= files.SMALL:
        return None
    try:
        descriptor = os.open(place, _READ)
    except OSError:
        return None
    try:
        data = os.read(descriptor, seen.st_size + 1)
        now = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    same = (
        len(data) == now.st_size == seen.st_size
        and now.st_mtime_ns == seen.st_mtime_ns
        and now.st_ctime_ns == seen.st_ctime_ns
        and now.st_ino == seen.st_ino
    )
    return data if same else None


def _put_small(
    writer: Writer, batch: list[tuple[str, os.stat_result, bytes]]
) -> Iterator[tuple[Entry, os.stat_result]]:
    stored = iter(files.put_small(writer, [data for _, _, data in batch if len(data) > INLINE]))
    for path, seen, data in batch:
        executable = bool(seen.st_mode & stat.S_IXUSR)
        if len(data) <= INLINE:
            yield Entry(path=path, executable=executable, size=len(data), inline=data), seen
        else:
            yield Entry(path=path, executable=executable, size=len(data), content=next(stored)), seen


def read_entry(writer: Writer, folder: Path, path: str) -> tuple[Entry, os.stat_result]:
    """Stores one path of a folder. A file that changes while it is read is read again, three times at most."""
    check_path(path)
    place = folder / path
    for _ in range(_TRIES):
        before = place.lstat()
        if stat.S_ISLNK(before.st_mode):
            return Entry(path=path, kind=EntryKind.SYMLINK, target=os.fspath(place.readlink())), before
        if stat.S_ISDIR(before.st_mode):
            return Entry(path=path, kind=EntryKind.FOLDER), before
        if not stat.S_ISREG(before.st_mode):
            raise Invalid(
                f"{path} is neither a file, a folder nor a symbolic link.",
                hint="Leave it out: sockets, pipes and devices cannot be versioned.",
                details={"path": path},
            )
        entry = _read_file(writer, place, path, before)
        after = place.lstat()
        same = (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino)
        if same and entry.size == before.st_size:
            return entry, after
    raise FileChanged(path)


def _read_file(writer: Writer, place: Path, path: str, found: os.stat_result) -> Entry:
    executable = bool(found.st_mode & stat.S_IXUSR)
    try:
        if found.st_size < files.SMALL:
            data = place.read_bytes()
            if len(data) <= INLINE:
                return Entry(path=path, executable=executable, size=len(data), inline=data)
            content = files.put_bytes(writer, data)
        else:
            with place.open("rb", buffering=0) as file:
                content = files.put_stream(writer, file)
    except PermissionError:
        raise Invalid(
            f"{path} cannot be read: permission denied.", hint=f"chmod u+r {path}", details={"path": path}
        ) from None
    return Entry(path=path, executable=executable, size=content.size, content=content)


def put_folder(writer: Writer, folder: Path, skip: Callable[[str, bool], bool] | None = None) -> Digest:
    """Stores a whole folder and returns the id of its tree."""
    found = sorted(scan(folder, skip), key=lambda item: tree.key_of(item[0]))
    return tree.build(writer, (entry for entry, _ in read_entries(writer, folder, found)))


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
