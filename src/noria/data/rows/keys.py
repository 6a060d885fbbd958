"""Finds rows by key without reading whole tables: sorted key hashes of each fragment, kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from noria.data.rows.layout import Fragment, Layout
from noria.data.rows.read import TableReader, sources

_CACHED_KEYS = 20_000_000

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]
Index = tuple[Hashes, np.ndarray[Any, np.dtype[np.uint32]]]
"""Sorted hashes, and the row of each."""


class KeyIndex:
    """Where the rows with given keys are. Fragments never change, so what was indexed stays right. Thread-safe."""

    def __init__(self, reader: TableReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[bytes, tuple[tuple[str, str], ...]], Index] = OrderedDict()
        self._size = 0

    def find(self, layout: Layout, rows: pl.DataFrame) -> list[tuple[int, pl.DataFrame]]:
        """The live rows of the table that share their key with a row of ``rows``.

        Returns:
            (number of the fragment, its matching rows with the columns ``__row`` (number in the fragment) and
            ``__new`` (number in ``rows``)) for each fragment with a match.
        """
        key = layout.key
        hashes = hash_keys(rows, key)
        order = np.argsort(hashes)  # sorted questions run through the processor's caches in one direction
        wanted = hashes[order]
        found: list[tuple[int, pl.DataFrame]] = []
        for number, fragment in enumerate(layout.fragments):
            new, old = _meet(self._index(layout, fragment), wanted)
            if fragment.deleted and len(old):
                alive = self._reader.keep(fragment)[old]
                new, old = new[alive], old[alive]
            if len(old):
                matches = self._matches(layout, fragment, rows, order[new], old)
                if len(matches):
                    found.append((number, matches))
        return found

    def rows_of(self, layout: Layout, fragment: Fragment, asked: pl.DataFrame) -> Numbers:
        """The rows of one fragment, deleted ones included, that have the key of the one row of ``asked``."""
        _, old = _meet(self._index(layout, fragment), hash_keys(asked, layout.key))
        if not len(old):
            return old
        there = self._reader.whole(layout, fragment, layout.key)[old]
        same = pl.all_horizontal([pl.col(name).eq_missing(asked[name][0]) for name in layout.key])
        return np.sort(old[there.select(same).to_series().to_numpy()])

    def _matches(
        self, layout: Layout, fragment: Fragment, rows: pl.DataFrame, new: Numbers, old: Numbers
    ) -> pl.DataFrame:
        """Hashes may collide: the keys themselves decide."""
        key = layout.key
        candidates = self._reader.whole(layout, fragment)[old].with_columns(
            pl.Series("__row", old), pl.Series("__new", new)
        )
        asked = rows.select(key)[new].rename({name: f"__key_{name}" for name in key})
        same = pl.all_horizontal([pl.col(name).eq_missing(pl.col(f"__key_{name}")) for name in key])
        return pl.concat([candidates, asked], how="horizontal").filter(same).drop([f"__key_{name}" for name in key])

    def _index(self, layout: Layout, fragment: Fragment) -> Index:
        key, types = layout.key, dict(layout.columns)
        found = sources(layout, fragment, key)
        name = (fragment.id, tuple((str(found[n]), types[n]) for n in key))  # a hash is one of a value and its type
        with self._lock:
            found = self._cache.get(name)
            if found is not None:
                self._cache.move_to_end(name)
                return found
        hashes = hash_keys(self._reader.whole(layout, fragment, key), key)
        order = np.argsort(hashes)
        made = (hashes[order], order.astype(np.uint32))
        with self._lock:
            if name not in self._cache:
                self._cache[name] = made
                self._size += len(order)
                while self._size > _CACHED_KEYS and len(self._cache) > 1:
                    _, (old, _) = self._cache.popitem(last=False)
                    self._size -= len(old)
        return made


def _meet(index: Index, wanted: Hashes) -> tuple[Numbers, Numbers]:
    """(number in ``wanted``, row) of every pair with equal hashes; ``wanted`` is sorted."""
    hashes, rows = index
    low = np.searchsorted(hashes, wanted, "left")
    hits = np.nonzero(hashes[np.minimum(low, len(hashes) - 1)] == wanted)[0] if len(hashes) else low[:0]
    counts = np.searchsorted(hashes, wanted[hits], "right") - low[hits]
    starts = np.cumsum(counts) - counts
    spots = np.repeat(low[hits] - starts, counts) + np.arange(int(counts.sum()))
    return np.repeat(hits, counts), rows[spots].astype(np.int64)


def hash_keys(rows: pl.DataFrame, key: Sequence[str]) -> Hashes:
    """Hashes of the key columns; good in this process only, never stored."""
    return rows[list(key)].hash_rows(seed=7).to_numpy()
