"""Reading files of a folder into the store. Small ones go together; nothing is followed."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from noria.base.errors import Invalid
from noria.base.names import MAX_PATH_BYTES, check_path
from noria.store import files
from noria.store.errors import FileChanged
from noria.store.records import EntryKind
from noria.store.tree import EXECUTABLE, Row, key_of
from noria.store.writer import Writer

INLINE: Final = 64
_TRIES: Final = 3
_BATCH_FILES, _BATCH_BYTES = 512, 4 << 20
_COARSE_NS: Final = 2_000_000_000
_FINE_NS: Final = 100_000_000  # where times are finer than seconds, a tick of them is at most 10 ms
_OPEN: Final = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# Names that begin with a letter, a digit, _ or -, joined by /: nothing in them can be at fault.
_PLAIN_NAMES: Final = re.compile(r"[\w-][\w .+=@,-]*(?:/[\w-][\w .+=@,-]*)*", re.ASCII)
_NO_META: Final[dict[str, object]] = {}
_FILE: Final = int(EntryKind.FILE)

Stats = list[int]
"""size, mtime, ctime (ns) and inode of one path after another: four numbers each."""


class Reader:
    """Turns paths of a folder into rows of a tree, and stores their contents.

    Attributes:
        rows: what was read so far, in no order; complete after ``finish``.
    """

    def __init__(self, writer: Writer, folder: str, advance: Callable[..., None] | None = None) -> None:
        self._writer = writer
        self._folder = folder
        self._advance = advance
        self._keys: list[bytes] = []
        self._modes: list[int] = []
        self._contents: list[bytes] = []
        self._size = 0
        self.rows: list[Row] = []

    def read(self, prefix: str, names: list[str], odd: Collection[str] = ()) -> tuple[list[str], Stats]:
        """Takes names of one folder (``prefix`` is empty or ends with ``/``); says which were there, and their stats.

        ``odd`` tells which of them are no plain files.

        Raises:
            Invalid: a name that no tree can hold, a file that may not be read, a socket.
            FileChanged: a file that somebody writes to.
        """
        if not names:
            return [], []
        _check_names(prefix, names)
        start = key_of(prefix)
        place = f"{self._folder}/{prefix}"
        try:
            parent = os.open(place, _FOLDER)
        except FileNotFoundError:
            return [], []
        except OSError as error:
            raise unreadable(prefix.rstrip("/"), error) from None
        try:
            return self._read(parent, prefix, start, names, odd)
        finally:
            os.close(parent)

    def _read(
        self, parent: int, prefix: str, start: bytes, names: list[str], odd: Collection[str]
    ) -> tuple[list[str], Stats]:
        kept, stats, lost = names, Stats(), set[str]()
        now = time.time_ns()
        calm, calm_enough = now - _COARSE_NS, now - _FINE_NS
        open_, read, fstat, close, most = os.open, os.read, os.fstat, os.close, files.SMALL
        for name in names:
            try:
                file = -1 if name in odd else open_(name, _OPEN, dir_fd=parent)
            except OSError:
                file = -1
            if file >= 0:
                try:
                    data = read(file, most)
                    found = fstat(file)
                except OSError:
                    data, found = b"", None
                finally:
                    close(file)
                # A file whose time is past was not written to while it was read: its time would be new.
                if (
                    found is not None
                    and len(data) == found.st_size < most
                    and (found.st_mtime_ns < calm or (found.st_mtime_ns < calm_enough and found.st_mtime_ns % 1000))
                    and found.st_mode & 0o170000 == stat.S_IFREG
                ):
                    self._take(start + key_of(name), found.st_mode, data)
                    stats += (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
                    continue
            closer = self._closely(parent, prefix + name, name)
            if closer is None:
                lost.add(name)
            else:
                stats += (closer.st_size, closer.st_mtime_ns, closer.st_ctime_ns, closer.st_ino)
        if lost:
            kept = [name for name in names if name not in lost]
        return kept, stats

    def _take(self, key: bytes, mode: int, data: bytes) -> None:
        self._keys.append(key)
        self._modes.append(mode)
        self._contents.append(data)
        self._size += len(data)
        if len(self._keys) >= _BATCH_FILES or self._size >= _BATCH_BYTES:
            self._put()

    def _put(self) -> None:
        keys, contents = self._keys, self._contents
        stored = iter(self._writer.put_small([data for data in contents if len(data) > INLINE]))
        for key, mode, data in zip(keys, self._modes, contents, strict=True):
            flags, size = (EXECUTABLE if mode & stat.S_IXUSR else 0), len(data)
            if size > INLINE:
                self.rows.append([key, _FILE, flags, size, 1, next(stored), _NO_META])
            else:
                self.rows.append([key, _FILE, flags, size, 0, data, _NO_META])
        self._keys, self._modes, self._contents, self._size = [], [], [], 0
        if self._advance is not None:
            self._advance(len(keys))

    def _closely(self, parent: int, path: str, name: str) -> os.stat_result | None:
        row_found = read_closely(self._writer, parent, path, name)
        if row_found is None:
            return None
        self.rows.append(row_found[0])
        if self._advance is not None:
            self._advance(1)
        return row_found[1]

    def finish(self) -> list[Row]:
        """Stores what waits; all rows."""
        if self._keys:
            self._put()
        return self.rows


def read_path(writer: Writer, folder: Path, path: str) -> tuple[Row, os.stat_result] | None:
    """``read_closely`` for a path below ``folder``; its folders are opened one by one, and no link is followed."""
    parent = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        *parts, name = path.split("/")
        for number, part in enumerate(parts):
            try:
                below = os.open(part, _FOLDER, dir_fd=parent)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise unreadable("/".join(parts[: number + 1]), error) from None
            os.close(parent)
            parent = below
        return read_closely(writer, parent, path, name)
    finally:
        os.close(parent)


def read_closely(writer: Writer, parent: int, path: str, name: str) -> tuple[Row, os.stat_result] | None:
    """Stores one path of any kind; None if it is gone. A file that changes meanwhile is read again, three times."""
    key = key_of(path)
    for _ in range(_TRIES):
        try:
            before = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISLNK(before.st_mode):
                target = key_of(os.readlink(name, dir_fd=parent))
                return [key, int(EntryKind.SYMLINK), 0, 0, 0, target, {}], before
            if stat.S_ISDIR(before.st_mode):
                return [key, int(EntryKind.FOLDER), 0, 0, 0, None, {}], before
            if not stat.S_ISREG(before.st_mode):
                raise Invalid(
                    f"{path} is neither a file, a folder nor a symbolic link.",
                    hint="Leave it out: sockets, pipes and devices cannot be versioned.",
                    details={"path": path},
                )
            file = os.open(name, _OPEN, dir_fd=parent)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EINVAL, errno.ENXIO):
                continue  # it became something else
            raise unreadable(path, error) from None
        try:
            row = _store_open(writer, key, file, os.fstat(file))
            after = os.fstat(file)
        except OSError as error:
            raise unreadable(path, error) from None
        finally:
            os.close(file)
        same = (before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino) == (
            after.st_size,
            after.st_mtime_ns,
            after.st_ctime_ns,
            after.st_ino,
        )
        if same and row is not None and row[3] == after.st_size:
            return row, after
    raise FileChanged(path)


def _store_open(writer: Writer, key: bytes, file: int, found: os.stat_result) -> Row | None:
    if not stat.S_ISREG(found.st_mode):
        return None
    flags = EXECUTABLE if found.st_mode & stat.S_IXUSR else 0
    if found.st_size < files.SMALL:
        data = b""
        while piece := os.read(file, files.SMALL):
            data += piece
            if len(data) > found.st_size:
                return None
        if len(data) <= INLINE:
            return [key, _FILE, flags, len(data), 0, data, {}]
        content = files.put_bytes(writer, data)
    else:
        content = files.put_descriptor(writer, file, found.st_size)
    return [key, _FILE, flags, content.size, int(content.kind), content.id.raw, {}]


def _check_names(prefix: str, names: list[str]) -> None:
    joined = "/".join(names)
    room = MAX_PATH_BYTES - len(prefix)
    if prefix:
        check_path(prefix[:-1])
    if _PLAIN_NAMES.fullmatch(joined) and joined.count("/") == len(names) - 1 and max(map(len, names)) <= room:
        return
    for name in names:
        check_path(prefix + name)


def unreadable(path: str, error: OSError) -> Exception:
    """What to say of a path that the system does not let us read."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return Invalid(f"{path} cannot be read: permission denied.", hint=f"chmod u+r {path}", details={"path": path})
    return Invalid(
        f"{path} cannot be read: {os.strerror(error.errno or 0)}.",
        hint="Mend it or leave it out, then repeat the command; nothing was changed.",
        details={"path": path},
    )
