"""Looks into one tree: what lies at a path, in a folder, after a path. Reads the ranges that it needs, no others."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from noria.base.digest import Digest
from noria.store import tree
from noria.store.objects import ObjectStore
from noria.store.records import Entry

_KEPT: Final = 16
_AFTER_SLASH: Final = b"0"
"""The byte that follows ``/``: what lies below ``a/`` ends where ``a0`` would stand."""


class Listing:
    """One tree, which never changes; safe for several threads. Keeps the ranges that were read last.

    A tree of a million entries has a few thousand ranges: their list is read once, then each question costs a range
    or two.
    """

    def __init__(self, store: ObjectStore, root: Digest) -> None:
        self._store = store
        self._refs = list(tree.leaves(store, root))
        self._ranges: OrderedDict[bytes, tuple[list[bytes], list[Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, path: str) -> Entry | None:
        """What lies at a path; None for a folder that holds something, which is no entry of its own."""
        key = tree.key_of(path)
        for found, row in self._from(key):
            return tree.entry_of(row) if found == key else None
        return None

    def is_folder(self, path: str) -> bool:
        """Whether something lies below a path. The root of the tree always counts as a folder."""
        if not path:
            return True
        prefix = tree.key_of(path) + b"/"
        return any(key.startswith(prefix) for key, _ in _first(self._from(prefix)))

    def walk(self, prefix: str = "", after: str = "") -> Iterator[Entry]:
        """The entries whose path begins with ``prefix`` and stands behind ``after``, in order."""
        begin = tree.key_of(prefix)
        start = max(begin, tree.key_of(after) + b"\0") if after else begin
        for key, row in self._from(start):
            if not key.startswith(begin):
                return
            yield tree.entry_of(row)

    def folder(self, path: str) -> Iterator[Entry | str]:
        """What lies directly in a folder, in order: an entry, or the whole path of a sub-folder.

        What lies in a sub-folder is stepped over, not read.
        """
        prefix = tree.key_of(path) + b"/" if path else b""
        start: bytes | None = prefix
        while start is not None:
            place, start = start, None
            for key, row in self._from(place):
                if not key.startswith(prefix):
                    return
                cut = key.find(b"/", len(prefix))
                if cut < 0:
                    yield tree.entry_of(row)
                    continue
                yield key[:cut].decode("utf-8", "surrogateescape")
                start = key[:cut] + _AFTER_SLASH
                break

    def _from(self, key: bytes) -> Iterator[tuple[bytes, Any]]:
        number = max(0, bisect_right(self._refs, key, key=lambda ref: ref.first) - 1)
        for ref in self._refs[number:]:
            if ref.last < key:
                continue
            keys, rows = self._range(ref)
            for at in range(bisect_left(keys, key), len(keys)):
                yield keys[at], rows[at]

    def _range(self, ref: tree.Ref) -> tuple[list[bytes], list[Any]]:
        with self._lock:
            found = self._ranges.get(ref.id)
            if found is not None:
                self._ranges.move_to_end(ref.id)
                return found
        read = tree.rows_of(self._store, ref)
        made = ([key for key, _ in read], [row for _, row in read])
        with self._lock:
            self._ranges[ref.id] = made
            while len(self._ranges) > _KEPT:
                self._ranges.popitem(last=False)
        return made


def _first(found: Iterator[tuple[bytes, Any]]) -> Iterator[tuple[bytes, Any]]:
    for one in found:
        yield one
        return
