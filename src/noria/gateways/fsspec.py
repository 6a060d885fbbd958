"""``noria://`` for fsspec: pandas, Polars, DuckDB, PyArrow and data loaders open versioned files where they lie.

    noria://                                   the repositories of the workspace
    noria://photos/train/1.jpg                 a file on main
    noria://photos@v3/train/1.jpg              the same at a tag, branch, commit, main~2 or @2013-04-01
    noria://flights@main/rows.parquet          a table, its rows as one Parquet file

Storage options: ``workspace`` (folder or URL; default: the nearest project's), ``project`` and ``message`` (of the
commits). A reference is looked up anew in each call, so name a tag or commit where several calls must see the same
state.

Each file that is written and closed is a commit on its branch; ``with fs.transaction:`` makes one of all that happens
in it. Reading inside of a transaction shows what was there before.
"""

from __future__ import annotations

import io
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem

from noria.base.errors import Conflict, Invalid, NotFound
from noria.data import address
from noria.data.address import Address
from noria.data.edits import Append, Copy, Delete, Edit, Move, Put
from noria.data.records import Repository, RepositoryKind
from noria.data.service.access import etag
from noria.gateways.shared_file import SharedFile
from noria.gateways.uploads import OneCommit, Pending, Upload
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
    transaction_type = OneCommit

    def __init__(
        self,
        workspace: str | None = None,
        project: str | None = None,
        message: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(workspace=workspace, project=project, message=message, **options)
        self._message = message
        self._pending: list[Pending] | None = None
        self.last_commit: str | None = None
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
        if mode not in ("rb", "wb", "ab", "xb"):
            raise OSError(f"{path} cannot be opened in mode {mode!r}: a file is read, or written as a whole.")
        with _translated(path):
            if mode != "rb":
                return self._upload(path, mode)
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

    # ---- writing

    def collect(self) -> None:
        """From now on, writes are collected until ``land``."""
        self._pending = []

    def land(self, *, commit: bool = True) -> None:
        """Commits what was collected, one commit for each repository and branch; or forgets it."""
        pending, self._pending = self._pending or [], None
        heads: dict[str, list[Pending]] = {}
        for one in pending:
            heads.setdefault(one.at.head, []).append(one)
        try:
            for found in heads.values() if commit else ():
                self._commit(found)
        finally:
            for one in pending:
                one.close()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """One commit for all that happens inside, also where it is part of a transaction."""
        if self._pending is not None:
            yield
            return
        self.collect()
        try:
            yield
        except BaseException:
            self.land(commit=False)
            raise
        self.land()

    def _write(self, path: str, edit: Callable[[str], Edit]) -> None:
        at = address.parse(self._strip_protocol(path))
        if not at.path:
            raise ValueError(f"{path} names a repository, not a path in it.")
        one = Pending(at, edit(at.path))
        if self._pending is not None:
            self._pending.append(one)
            return
        try:
            self._commit([one])
        finally:
            one.close()

    def _commit(self, pending: list[Pending]) -> None:
        at = pending[0].at
        with _translated(at.head):
            repository = self.ws.files.get(self.ws.project.id, at.repository, RepositoryKind.FILES)
            done = self.ws.files.change(
                repository,
                [one.edit for one in pending],
                actor=self.ws.actor,
                branch=at.ref,
                message=self._message or _said(pending),
            )
            self.last_commit = done.id

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Makes a repository of files. Folders inside are there as soon as they hold something."""
        at = address.parse(self._strip_protocol(path))
        if at.path:
            self.ws.files.get(self.ws.project.id, at.repository, RepositoryKind.FILES)
            return
        try:
            self.ws.files.create(self.ws.project.id, at.repository, RepositoryKind.FILES, actor=self.ws.actor)
        except Conflict as error:
            raise FileExistsError(error.message) from error

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        with suppress(FileExistsError) if exist_ok else nullcontext():
            self.mkdir(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Removes files, and folders where ``recursive`` says so, in one commit."""
        found = self.expand_path(path, recursive=False)
        folders = [one for one in found if self.isdir(one)]
        if folders and not recursive:
            raise IsADirectoryError(f"{folders[0]} is a folder.")
        with self._together():
            for one in found:
                self._write(one, lambda inside: Delete(_exactly(inside)))

    def rm_file(self, path: str) -> None:
        self._write(path, lambda inside: Delete(_exactly(inside)))

    _rm = rm_file

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copies a file. Inside a repository no byte is moved; folders have nothing to copy."""
        source, target = (address.parse(self._strip_protocol(one)) for one in (path1, path2))
        if self.isdir(path1):
            return
        if source.repository != target.repository:
            self._write(path2, lambda inside: Put(inside, self.ws.files.open_entry(self._entry(source))))
        elif source.ref == target.ref:
            self._write(path2, lambda inside: Copy(source.path, inside, overwrite=True))
        else:
            self._entry(source)
            self._write(path2, lambda inside: Copy(source.path, inside, source.ref, overwrite=True))

    def copy(self, path1: Any, path2: Any, *args: Any, **kwargs: Any) -> None:
        with self._together():
            super().copy(path1, path2, *args, **kwargs)

    def mv(self, path1: str, path2: str, recursive: bool = False, maxdepth: int | None = None, **_: Any) -> None:
        """Moves a file or folder, in one commit where both lie in one repository."""
        source, target = (address.parse(self._strip_protocol(one)) for one in (path1, path2))
        if source.head == target.head and not isinstance(path1, list):
            self._write(path2, lambda inside: Move(source.path, inside, overwrite=True))
            return
        with self._together():
            super().copy(path1, path2, recursive=recursive, maxdepth=maxdepth, on_error="raise")
            self.rm(path1, recursive=recursive)

    def put(self, lpath: Any, rpath: Any, *args: Any, **kwargs: Any) -> None:
        with self._together():
            super().put(lpath, rpath, *args, **kwargs)

    def pipe(self, path: Any, value: bytes | None = None, **kwargs: Any) -> None:
        with self._together():
            super().pipe(path, value, **kwargs)

    def _entry(self, at: Address) -> Entry:
        with _translated(at.head):
            repository = self.ws.files.get(self.ws.project.id, at.repository, RepositoryKind.FILES)
            return self.ws.files.entry(repository, at.path, at.ref)

    def _upload(self, path: str, mode: str) -> Upload:
        at, repository = self._at(path)
        if repository.kind == RepositoryKind.TABLE:
            raise ValueError(f"{at.head} is a table: rows are appended. noria data append {at.repository} FILE")
        if mode == "xb" and self.exists(path):
            raise FileExistsError(path)
        self.ws.files.head(repository, at.ref)  # a branch: nothing is written to a tag
        kind = Append if mode == "ab" else Put
        return Upload(path, lambda file: self._write(path, lambda inside: kind(inside, file)))

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


def _exactly(path: str) -> str:
    """A pattern that fits this path and no other."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in path)


def _said(pending: list[Pending]) -> str:
    first = pending[0].edit
    what = type(first).__name__.lower()
    more = f" and {len(pending) - 1} more" if len(pending) > 1 else ""
    return f"{what} {getattr(first, 'to', first.path)}{more}"


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
