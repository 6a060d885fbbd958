"""``noria://`` for fsspec: pandas, Polars, DuckDB, PyArrow and data loaders open versioned files where they lie.

    noria://                                   the repositories of the workspace
    noria://photos/train/1.jpg                 a file on main
    noria://photos@v3/train/1.jpg              the same at a tag, branch, commit, main~2 or @2013-04-01
    noria://flights@main/rows.parquet          a table, its rows as one Parquet file

Storage options: ``workspace`` (folder or URL; default: the nearest project's) and ``project``. A reference is looked
up anew in each call, so name a tag or commit where several calls must see the same state.
"""

from __future__ import annotations

import io
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem

from noria.base.errors import Invalid, NotFound
from noria.data import address
from noria.data.address import Address
from noria.data.records import Repository, RepositoryKind
from noria.data.service.access import etag
from noria.gateways.shared_file import SharedFile
from noria.store import Entry, EntryKind
from noria.workspace import Workspace, connect, place_of

_BUFFER = 256 << 10
ROWS = "rows.parquet"
"""The one file of a table: its rows, written when it is first opened."""


class _Placed(type(AbstractFileSystem)):
    """Makes the workspace part of what an instance is known by.

    fsspec keeps instances by their arguments, and pickles those. The nearest project depends on the current folder,
    which another process, or the next test, has elsewhere.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if not args:
            kwargs["workspace"] = place_of(kwargs.get("workspace"))
        return super().__call__(*args, **kwargs)


class NoriaFileSystem(AbstractFileSystem, metaclass=_Placed):
    """Versioned files as a file system of fsspec."""

    protocol = "noria"
    root_marker = ""

    def __init__(self, workspace: str | None = None, project: str | None = None, **options: Any) -> None:
        super().__init__(workspace=workspace, project=project, **options)
        self._workspace = workspace
        self._project = project
        self._opened: tuple[int, Workspace] | None = None
        self._inherited: list[Workspace] = []
        self._lock = threading.Lock()

    @property
    def ws(self) -> Workspace:
        """The open workspace. A process that was forked opens one of its own."""
        opened = self._opened
        if opened is not None and opened[0] == os.getpid():
            return opened[1]
        if opened is not None:
            self._lock = threading.Lock()  # another thread of the parent may have held it
            self._inherited.append(opened[1])  # never closed here: its connections belong to the parent
            self._opened = None
        with self._lock:
            if self._opened is None:
                self._opened = (os.getpid(), connect(self._workspace, project=self._project))
            return self._opened[1]

    def close(self) -> None:
        """Closes the workspace; the next call opens it again."""
        opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()

    @property
    def fsid(self) -> str:
        return f"noria-{self.ws.id}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return os.fspath(path).removeprefix(address.SCHEME).strip("/")

    # ---- looking

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What lies in a folder, or the file itself."""
        with _translated(path):
            found = self._ls(self._strip_protocol(path))
        return found if detail else [one["name"] for one in found]

    def _ls(self, path: str) -> list[dict[str, Any]]:
        if not path:
            ws = self.ws
            return [_folder(r.name) for r in ws.files.repositories(ws.project.id)]
        at, repository = self._at(path)
        if repository.kind == RepositoryKind.TABLE:
            if at.path not in ("", ROWS):
                raise NotFound(f"{at.head} is a table; its one file is {at.head}/{ROWS}.")
            return [self._rows_info(at, repository, sized=bool(at.path))]
        commit, listing = self.ws.files.listing(repository, at.ref)
        found = None if not at.path else listing.find(at.path)
        if found is not None and found.kind != EntryKind.FOLDER:
            return [_info(at, found, commit.at)]
        if found is None and not listing.is_folder(at.path):
            raise NotFound(f"There is nothing at {path}.")
        inside = [] if found is not None else listing.folder(at.path)
        return [_folder(f"{at.head}/{one}") if isinstance(one, str) else _info(at, one, commit.at) for one in inside]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        with _translated(path):
            if not path:
                return _folder("")
            at, repository = self._at(path)
            if repository.kind == RepositoryKind.TABLE:
                if at.path not in ("", ROWS):
                    raise NotFound(f"{at.head} is a table; its one file is {at.head}/{ROWS}.")
                return self._rows_info(at, repository, sized=True) if at.path else _folder(path)
            commit, listing = self.ws.files.listing(repository, at.ref)
            found = None if not at.path else listing.find(at.path)
            if found is not None:
                return _info(at, found, commit.at)
            if listing.is_folder(at.path):
                return _folder(path)
            raise NotFound(f"There is nothing at {path}.")

    def exists(self, path: str, **_: Any) -> bool:
        try:
            self.info(path)
        except (FileNotFoundError, ValueError):
            return False
        return True

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any
    ) -> Any:
        """All files below a path; one walk over the tree where no depth is given."""
        path = self._strip_protocol(path)
        with _translated(path):
            plain = self._find(path, withdirs) if maxdepth is None and path else None
        if plain is None:
            return super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **kwargs)
        return {one["name"]: one for one in plain} if detail else [one["name"] for one in plain]

    def _find(self, path: str, withdirs: bool) -> list[dict[str, Any]] | None:
        try:
            at, repository = self._at(path)
        except NotFound:
            return []
        if repository.kind == RepositoryKind.TABLE:
            return None
        commit, listing = self.ws.files.listing(repository, at.ref)
        one = None if not at.path else listing.find(at.path)
        if one is not None and one.kind != EntryKind.FOLDER:
            return [_info(at, one, commit.at)]
        folders: dict[str, None] = {at.path: None} if withdirs and listing.is_folder(at.path) else {}
        files = []
        for entry in listing.walk(f"{at.path}/" if at.path else ""):
            if entry.kind != EntryKind.FOLDER:
                files.append(_info(at, entry, commit.at))
            if withdirs:
                for end in _slashes(entry.path, len(at.path) + 1 if at.path else 0):
                    folders[entry.path[:end]] = None
                if entry.kind == EntryKind.FOLDER:
                    folders[entry.path] = None
        files += [_folder(f"{at.head}/{name}" if name else at.head) for name in folders]
        return sorted(files, key=lambda one: one["name"])

    def ukey(self, path: str) -> str:
        """Changes when, and only when, the content does."""
        return str(self.info(path)["digest"])

    def checksum(self, path: str) -> int:
        return int(self.ukey(path)[:16], 16)

    def modified(self, path: str) -> datetime:
        """When the commit was made that the reference names."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    created = modified

    # ---- reading

    def _open(self, path: str, mode: str = "rb", *_: Any, **options: Any) -> Any:
        if mode != "rb":
            raise OSError(f"noria:// opens {path} for reading; mode {mode!r} is not possible.")
        with _translated(path):
            at, repository = self._at(path)
            if repository.kind == RepositoryKind.TABLE:
                return SharedFile(self._rows(at, repository))
            return SharedFile(self.ws.files.open(repository, at.path, at.ref))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """The bytes of a file, or a part of them; only the chunks of that part are fetched."""
        path = self._strip_protocol(path)
        with _translated(path):
            at, repository = self._at(path)
            if repository.kind == RepositoryKind.TABLE:
                with self._rows(at, repository) as file:
                    data = file.read()
                return data[start:end]
            return self.ws.files.read_range(self.ws.files.entry(repository, at.path, at.ref), start, end)

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Parts of files. Each file is looked up and opened once, its parts are read in order."""
        count = len(paths)
        begins = starts if isinstance(starts, list | tuple) else [starts] * count
        stops = ends if isinstance(ends, list | tuple) else [ends] * count
        if not len(begins) == len(stops) == count:
            raise ValueError("paths, starts and ends are not of the same length")
        found: list[Any] = [None] * count
        wanted: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            wanted.setdefault(self._strip_protocol(path), []).append(number)
        for path, numbers in wanted.items():
            try:
                with self.open(path, "rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    for number in sorted(numbers, key=lambda n: begins[n] or 0):
                        begin, stop, _ = slice(begins[number], stops[number]).indices(size)
                        file.seek(begin)
                        found[number] = file.read(max(0, stop - begin))
            except Exception as error:
                if on_error == "raise":
                    raise
                for number in numbers:
                    found[number] = error
        return found

    # ---- tables

    def _rows(self, at: Address, repository: Repository) -> BinaryIO:
        if at.path != ROWS:
            raise NotFound(f"{at.head} is a table; its one file is {at.head}/{ROWS}.")
        place = self.ws.data.rows_file(repository, at.ref)
        return io.BufferedReader(_Mapped(place), buffer_size=_BUFFER)

    def _rows_info(self, at: Address, repository: Repository, *, sized: bool) -> dict[str, Any]:
        commit = self.ws.files.resolve(repository, at.ref)
        size = self.ws.data.rows_file(repository, commit.id).stat().st_size if sized else None
        name, mtime = f"{at.head}/{ROWS}", commit.at / 1000
        return {"name": name, "size": size, "type": "file", "mtime": mtime, "digest": commit.digest.hex}

    def _at(self, path: str) -> tuple[Address, Repository]:
        at, ws = address.parse(self._strip_protocol(path)), self.ws
        return at, ws.files.get(ws.project.id, at.repository)


class _Mapped(io.RawIOBase):
    """A file that may be left to the garbage collector: some tools never close what they open."""

    def __init__(self, place: Path) -> None:
        with place.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._map.tell(), os.SEEK_END: len(self._map)}[whence]
        self._map.seek(min(max(0, base + offset), len(self._map)))
        return self._map.tell()

    def tell(self) -> int:
        return self._map.tell()

    def readinto(self, buffer: Any) -> int:
        piece = self._map.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}


def _info(at: Address, entry: Entry, ms: int) -> dict[str, Any]:
    name = f"{at.head}/{entry.path}"
    if entry.kind == EntryKind.FOLDER:
        return _folder(name)
    if entry.kind == EntryKind.SYMLINK:  # told, never followed
        return {"name": name, "size": 0, "type": "other", "islink": True, "destination": entry.target}
    found = {"name": name, "size": entry.size, "type": "file", "mtime": ms / 1000, "digest": etag(entry)}
    return {**found, "executable": entry.executable, "metadata": entry.meta}


def _slashes(path: str, start: int) -> Iterator[int]:
    at = path.find("/", start)
    while at >= 0:
        yield at
        at = path.find("/", at + 1)


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Our errors as those that users of a file system expect."""
    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(f"{error.message} {error.hint}".strip()) from error
    except Invalid as error:
        kind = IsADirectoryError if "is a folder" in error.message else ValueError
        raise kind(f"{error.message} {error.hint}".strip()) from error
