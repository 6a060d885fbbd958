"""What is reachable: from every row that names an object, through trees, recipes and tables, to the last chunk.

Each room that keeps ids of objects in its tables registers a provider of roots in ``workspace``. The set of what
lives is kept as eight bytes of each id: an object that is dead may so be taken for a live one, once in 10^10 stores of
a hundred million objects, and stays; the other way round cannot happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from sqlalchemy import Connection

from noria.assets.roots import retired_roots
from noria.base.digest import Digest
from noria.db import Database
from noria.store import Kind, ObjectStore
from noria.store.errors import ObjectCorrupt, ObjectMissing, PackCorrupt

Object: TypeAlias = tuple[Kind, bytes]
Roots: TypeAlias = Callable[[Connection], Iterable[Object]]
"""Every object that the rows of a room name. Asked in the order of registration: what moves from one room's table to
another's must stand in the later one by then."""
Children: TypeAlias = Callable[[ObjectStore, Digest], Iterable[Object]]
"""What an object of one kind needs directly."""

_COMPACT: Final = 32 << 20
INDEX: Final = np.dtype(
    [
        ("key", "<u8"),
        ("rest", "V24"),
        ("offset", "<u8"),
        ("stored", "<u4"),
        ("raw", "<u4"),
        ("kind", "u1"),
        ("flags", "u1"),
        ("pad", "<u2"),
    ]
)
"""One line of a pack's index; the first eight bytes of the id as a number."""


class Live:
    """A set of ids, eight bytes each; filled, then asked."""

    def __init__(self) -> None:
        self._new = bytearray()
        self._keys: Any = np.empty(0, np.uint64)

    def add(self, oid: bytes) -> None:
        self._new += oid[:8]
        if len(self._new) >= _COMPACT:
            self._compact()

    def _compact(self) -> None:
        if self._new:
            self._keys = np.union1d(self._keys, np.frombuffer(bytes(self._new), "<u8").astype(np.uint64))
            self._new = bytearray()

    def holds(self, keys: Any) -> Any:
        """Which of these keys (``INDEX["key"]``) are in the set, as a mask."""
        self._compact()
        if not len(self._keys):
            return np.zeros(len(keys), bool)
        places: Any = self._keys.searchsorted(keys)
        places[places == len(self._keys)] = 0
        return self._keys[places] == keys

    def __len__(self) -> int:
        self._compact()
        return len(self._keys)


@dataclass(slots=True)
class Marked:
    """What was found reachable. ``faults``: objects that are needed and could not be read."""

    live: Live = field(default_factory=Live)
    faults: list[str] = field(default_factory=list[str])


class Reach:
    """Walks everything that rows name. One per workspace."""

    def __init__(
        self, db: Database, store: ObjectStore, providers: Sequence[Roots], children: Mapping[Kind, Children]
    ) -> None:
        self._db = db
        self._store = store
        self.providers = providers
        self.children = children

    def roots(self, *, lately: bool = False) -> Iterator[Object]:
        """What rows name; with ``lately``, also what they named when a living writer began."""
        for provider in [*self.providers, *([retired_roots] if lately else [])]:
            with self._db.read() as conn:
                found = list(provider(conn))
            yield from found

    def mark(self, advance: Callable[..., None], *, lately: bool = False) -> Marked:
        """Everything that is needed now; each tree range, recipe and table is read once."""
        found, seen = Marked(), set[bytes]()
        for root in self.roots(lately=lately):
            pending = [root]
            while pending:
                kind, oid = pending.pop()
                follow = self.children.get(kind)
                if follow is None:
                    found.live.add(oid)
                    continue
                if oid in seen:
                    continue
                seen.add(oid)
                found.live.add(oid)
                advance()
                try:
                    pending += follow(self._store, Digest(oid))
                except ObjectMissing:
                    found.faults.append(f"the {kind.name.lower()} {oid.hex()[:16]} is missing")
                except (ObjectCorrupt, PackCorrupt) as error:
                    found.faults.append(error.message)
        return found

    def walk(self, root: Object, skip: set[bytes]) -> Iterator[Object]:
        """The objects that a root needs, but for those in ``skip`` and what is below them; ``skip`` grows."""
        pending = [root]
        while pending:
            kind, oid = pending.pop()
            if oid in skip:
                continue
            skip.add(oid)
            yield kind, oid
            follow = self.children.get(kind)
            if follow is not None:
                pending += follow(self._store, Digest(oid))


def read_index(store: ObjectStore, pack: str) -> Any:
    """The index of a pack as an array of ``INDEX``, verified; raises what ``ObjectStore.pack_index`` does."""
    return np.frombuffer(store.pack_index(pack), INDEX)


def ids_of(rows: Any) -> list[bytes]:
    """The whole ids of lines of an index."""
    raw = rows.tobytes()
    return [raw[start : start + 32] for start in range(0, len(raw), INDEX.itemsize)]
