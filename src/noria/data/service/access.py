"""The verbs that read files where they lie, without a checkout: find, list, open, read a part."""

from __future__ import annotations

import contextlib
import io
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import BinaryIO, Final

from noria.base.digest import Digest
from noria.base.errors import Invalid, NotFound
from noria.base.names import nearest
from noria.base.pages import check_limit, position, token
from noria.data import erased
from noria.data.records import MAIN, Commit, Repository, RepositoryKind
from noria.data.service.base import Services
from noria.data.service.refs import RefVerbs
from noria.store import Entry, EntryKind, Kind, files
from noria.store.listing import Listing
from noria.store.packs import object_id

_LISTINGS: Final = 8
_SHOWN: Final = 200
"""How many names of a folder are looked at to find the one that was meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesPage:
    """Some entries of a commit, in order.

    Attributes:
        next: where the following page begins, None after the last; it stays at the same commit.
    """

    commit: Commit
    items: list[Entry]
    next: str | None


class AccessVerbs(RefVerbs):
    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._listings: OrderedDict[bytes, Listing] = OrderedDict()
        self._listings_lock = threading.Lock()

    def listing(self, repository: Repository, ref: str = MAIN) -> tuple[Commit, Listing]:
        """A commit with its tree. Trees never change: those that were asked for last are kept."""
        if repository.kind != RepositoryKind.FILES:
            self.get(repository.project_id, repository.name, RepositoryKind.FILES)
        commit = self.resolve(repository, ref)
        return commit, self._listing(commit.layout)

    def _listing(self, root: Digest) -> Listing:
        with self._listings_lock:
            found = self._listings.get(root.raw)
            if found is not None:
                self._listings.move_to_end(root.raw)
                return found
        found = Listing(self._s.sessions.store, root)
        with self._listings_lock:
            self._listings[root.raw] = found
            while len(self._listings) > _LISTINGS:
                self._listings.popitem(last=False)
        return found

    def entry(self, repository: Repository, path: str, ref: str = MAIN) -> Entry:
        """The file at a path.

        Raises:
            NotFound: nothing lies there; with the nearest name.
            Invalid: a folder or a symbolic link lies there.
        """
        _, listing = self.listing(repository, ref)
        found = listing.find(path)
        where = f"{repository.name}@{ref}"
        if found is None and not listing.is_folder(path):
            with self._db.read() as conn:
                erased.refuse_path(conn, repository, path)
            raise NotFound(
                f"{where} has no file {path!r:.200}.",
                hint=_meant(listing, path) or f"noria data ls {repository.name}",
                details={"repository": repository.name, "path": path},
            )
        if found is None or found.kind != EntryKind.FILE:
            what = f"a link to {found.target!r:.80}" if found is not None and found.target else "a folder"
            raise Invalid(
                f"{path!r:.200} in {where} is {what}, not a file.",
                hint=f"noria data ls {repository.name} '{path}/*'" if what == "a folder" else "Open what it points to.",
                details={"repository": repository.name, "path": path},
            )
        return found

    def open(self, repository: Repository, path: str, ref: str = MAIN) -> BinaryIO:
        """A file of a commit, readable and seekable; only the parts that are read are fetched.

        Raises:
            NotFound, Invalid: there is no such file.
        """
        return self.open_entry(self.entry(repository, path, ref))

    def open_entry(self, entry: Entry) -> BinaryIO:
        """The bytes of an entry that is a file, readable and seekable."""
        if entry.content is None:
            return io.BytesIO(entry.inline or b"")
        return files.open_file(self._s.sessions.store, entry.content)

    def read_range(self, entry: Entry, start: int | None = None, stop: int | None = None) -> bytes:
        """The bytes of a file from ``start`` up to ``stop``; negative numbers count from its end, as in a slice."""
        begin, end, _ = slice(start, stop).indices(entry.size)
        if entry.content is None:
            return (entry.inline or b"")[begin:end]
        if begin >= end:
            return b""
        if (begin, end) == (0, entry.size):
            return files.read_bytes(self._s.sessions.store, entry.content)
        with files.open_file(self._s.sessions.store, entry.content) as file:
            file.seek(begin)
            return file.read(end - begin)

    def page(
        self,
        repository: Repository,
        ref: str = MAIN,
        *,
        pattern: str = "*",
        after: str | None = None,
        limit: int = 100,
    ) -> FilesPage:
        """Entries whose path fits a pattern (``*`` crosses folders), in order of their paths, a page at a time.

        A page costs what it holds: the tree is entered at its first path, not walked from its beginning.
        """
        check_limit(limit)
        last = ""
        if after is not None:
            ref, last = _position(after)
        commit, listing = self.listing(repository, ref)
        items: list[Entry] = []
        for entry in fitting(listing, pattern, last):
            if len(items) == limit:
                return FilesPage(commit=commit, items=items, next=token([commit.id, items[-1].path]))
            items.append(entry)
        return FilesPage(commit=commit, items=items, next=None)


def fitting(listing: Listing, pattern: str = "*", after: str = "") -> Iterator[Entry]:
    """The entries that fit a pattern; only the part of the tree below its first wildcard is walked."""
    prefix = literal(pattern)
    if prefix == pattern:  # no wildcard at all: one path, or all that lies in a folder
        place = pattern.strip("/")
        found = listing.find(place)
        if found is None:
            return listing.walk(f"{place}/" if place else "", after)
        return iter((found,) if place > after else ())
    return (e for e in listing.walk(prefix, after) if pattern == "*" or fnmatchcase(e.path, pattern))


def literal(pattern: str) -> str:
    """What stands before the first wildcard."""
    ends = [at for at in map(pattern.find, "*?[") if at >= 0]
    return pattern[: min(ends)] if ends else pattern


def etag(entry: Entry) -> str:
    """The digest of a file's content, in hex: the same bytes have the same one, whatever their path."""
    if entry.content is not None:
        return entry.content.id.hex
    return object_id(Kind.CHUNK, entry.inline or b"").hex


def _position(after: str) -> tuple[str, str]:
    value = position(after)
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) and part for part in value):
        commit, path = str(value[0]), str(value[1])
        with contextlib.suppress(UnicodeEncodeError):
            path.encode("utf-8", "surrogateescape")
            return commit, path
    raise Invalid(f"{after!r:.60} is not a page token of this list.", hint="Pass the value of `next` from before.")


def _meant(listing: Listing, path: str) -> str:
    folder = path.rpartition("/")[0]
    names: list[str] = []
    for found in listing.folder(folder):
        names.append(found if isinstance(found, str) else found.path)
        if len(names) == _SHOWN:
            break
    return nearest(path, names)
