"""What a partial clone left where it is: read from there when it is needed, verified, and kept in packs from then on.

Objects that come one by one are kept in memory until there are some megabytes of them, then in a pack. The pack is
named when nothing of this process is in a transaction any more: a reader may be inside of one. Until then it is what
the collector of garbage calls a pack without a row, and it may go: the remote still has what it holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import Final

from noria.assets import StoreSessions
from noria.assets.errors import SessionBroken
from noria.base.digest import Digest
from noria.base.errors import NoriaError, Unavailable
from noria.base.faults import Faults
from noria.data import queries
from noria.data.records import Remote
from noria.data.service.transfer.receiving import Side
from noria.data.service.transfer.sending import BELOW, Sending
from noria.data.values import shown_place
from noria.db import Database
from noria.store import FileContent, Kind, ObjectStore, PackInfo
from noria.store.errors import ObjectCorrupt, ObjectMissing
from noria.store.objects import pack_name

_KEPT: Final = 8 << 20
_ASKING: ContextVar[frozenset[str]] = ContextVar("noria_asking", default=frozenset())
"""Workspaces that are being asked now: two partial clones of each other do not ask in a circle."""


class Promised:
    """The remotes of one workspace, as its store sees them. Thread-safe."""

    def __init__(
        self,
        workspace: str,
        db: Database,
        store: ObjectStore,
        sessions: Callable[[], StoreSessions],
        faults: Faults,
        open_remote: Callable[[str, str | None], AbstractContextManager[Side]],
    ) -> None:
        self._workspace = workspace
        self._db = db
        self._store = store
        self._sessions = sessions
        self._faults = faults
        self._open_remote = open_remote
        self._lock = threading.RLock()
        self._stack = ExitStack()
        self._opened: dict[tuple[str, str], Side] = {}
        self._kept: dict[bytes, tuple[Kind, bytes]] = {}
        self._size = 0
        self._unnamed: list[PackInfo] = []

    # ---- what the store asks

    def promises(self, kind: Kind) -> bool:
        """Whether an object of this kind may lie at a remote alone. Asks nobody."""
        return kind in BELOW and bool(self._partial())

    def has(self, oid: Digest, kind: Kind) -> bool:
        """Whether a remote holds the object.

        Raises:
            Unavailable: a remote of a partial clone could not be asked.
        """
        if not self.promises(kind):
            return False
        with self._lock, self._asking() as allowed:
            return allowed and any(_holds(side.services.sessions.store, oid, kind) for side in self._sides())

    def get(self, oid: Digest, kind: Kind) -> bytes | None:
        """The object, verified; None where it is promised by nobody, or nobody has it.

        Raises:
            Unavailable: a remote of a partial clone could not be asked.
        """
        if not self.promises(kind):
            return None
        with self._lock, self._asking() as allowed:
            if oid.raw in self._kept:
                return self._kept[oid.raw][1]
            for side in self._sides() if allowed else ():
                try:
                    raw = side.services.sessions.store.get(oid, kind)
                except ObjectMissing:
                    continue
                self._keep(oid, kind, raw)
                return raw
        return None

    def expect(self, contents: Iterable[FileContent]) -> None:
        """Brings the contents of files that will be read soon, many at once. Not inside of a transaction."""
        if not self._partial():
            return
        self.bring(lambda sending: _files(sending, contents))

    def bring(self, ask: Callable[[Sending], None], advance: Callable[..., None] | None = None) -> tuple[int, int, int]:
        """Sends from the remotes what ``ask`` asks for; returns (objects, bytes new, bytes that were here)."""
        objects = written = reused = 0
        with self._asking() as allowed:
            with self._lock:  # not longer: who is in a transaction may wait for it, while this waits for a transaction
                sides = self._sides() if allowed else []
            for side in sides:
                source = side.services.sessions.store
                source.refresh()
                sessions = self._sessions()
                with sessions.writer() as writer:
                    how = {"advance": advance, "absent": True}
                    sending = Sending(source, sessions, self._db, writer, self._faults, **how)
                    ask(sending)
                    sending.send()
                    packs = sending.flush()
                    if packs:
                        with self._db.write() as tx:
                            sessions.seal(tx, packs)
                    objects, written = objects + sending.objects, written + writer.written
                    reused = max(reused, sending.reused)
        return objects, written, reused

    def heal(self, wanted: Sequence[tuple[Kind, bytes]]) -> Iterator[tuple[Kind, bytes, bytes]]:
        """What any remote has of objects that are lost here. A remote that cannot be opened is passed over."""
        with self._db.read() as conn:
            remotes = queries.all_remotes(conn)
        left = {oid: kind for kind, oid in wanted}
        for remote in remotes:
            if not left:
                return
            with self._lock, self._asking() as allowed:
                if not allowed:
                    return
                try:
                    found = list(_those_of(self._side(remote).services.sessions.store, left))
                except NoriaError:
                    continue
            for kind, oid, raw in found:
                del left[oid]
                yield kind, oid, raw

    # ---- remotes

    def _partial(self) -> list[Remote]:
        with self._db.read() as conn:
            return queries.partial_remotes(conn)

    def _side(self, remote: Remote) -> Side:
        """A remote, opened once."""
        key = (remote.url, remote.project)
        if key not in self._opened:
            self._opened[key] = self._stack.enter_context(self._open_remote(*key))
        return self._opened[key]

    def _sides(self) -> list[Side]:
        """The remotes of partial clones."""
        sides: dict[int, Side] = {}
        for remote in self._partial():
            try:
                side = self._side(remote)
            except NoriaError as error:
                raise Unavailable(
                    f"Contents of {remote.repository} lie only in {shown_place(remote.url)}, which cannot be opened: "
                    f"{error.message}",
                    hint=error.hint,
                    details={"remote": remote.name},
                ) from error
            sides[id(side)] = side
        return list(sides.values())

    @contextmanager
    def _asking(self) -> Generator[bool]:
        """False where this store is being asked already, further up."""
        before = _ASKING.get()
        token = _ASKING.set(before | {self._workspace})
        try:
            yield self._workspace not in before
        finally:
            _ASKING.reset(token)

    # ---- keeping

    def _keep(self, oid: Digest, kind: Kind, raw: bytes) -> None:
        self._kept[oid.raw] = (kind, raw)
        self._size += len(raw)
        if self._size >= _KEPT:
            self._pack()

    def _pack(self) -> None:
        if not self._kept:
            return
        with self._store.writer() as writer:
            for kind, raw in self._kept.values():
                writer.put(kind, raw)
            self._unnamed += writer.flush()
        self._kept, self._size = {}, 0

    def close(self) -> None:
        """Keeps and names what came; then lets go of the remotes."""
        try:
            with suppress(SessionBroken):  # the collector was there: the remote still has all of it
                self._name()
        finally:
            with self._lock:
                self._stack.close()
                self._opened = {}

    def _name(self) -> None:
        if not self._kept and not self._unnamed:
            return
        sessions = self._sessions()
        with sessions.writer():  # from now on the collector takes no pack that is there
            with self._lock:
                self._pack()
                packs, self._unnamed = self._unnamed, []
            packs = [pack for pack in packs if _lies_in(self._store, pack)]
            if packs:
                with self._db.write() as tx:
                    sessions.seal(tx, packs)


def _lies_in(store: ObjectStore, pack: PackInfo) -> bool:
    try:
        return store.source.size(pack_name(pack.id)) == pack.size
    except ObjectMissing:
        return False


def _those_of(store: ObjectStore, wanted: Mapping[bytes, Kind]) -> Iterator[tuple[Kind, bytes, bytes]]:
    """What a store has, whole, of some objects."""
    store.refresh()
    for oid in wanted.keys() - store.index.missing(list(wanted)):
        with suppress(ObjectMissing, ObjectCorrupt):
            yield wanted[oid], oid, store.get(Digest(oid), wanted[oid])


def _holds(store: ObjectStore, oid: Digest, kind: Kind) -> bool:
    return store.has(oid) or (store.refresh() and store.has(oid)) or store.promised(oid, kind)


def _files(sending: Sending, contents: Iterable[FileContent]) -> None:
    for content in contents:
        sending.content(content)
