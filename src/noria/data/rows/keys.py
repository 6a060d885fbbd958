"""Finds rows by key without reading whole tables: sorted key hashes of each fragment, kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from noria.data.rows.layout import Layout
from noria.data.rows.read import TableReader

_CACHED_KEYS = 20_000_000
_HASH_COLUMN = "__hash"

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class KeyIndex:
    """Where the rows with given keys are. Fragments never change, so what was indexed stays right. Thread-safe."""

    def __init__(self, reader: TableReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[bytes, tuple[str, ...]], tuple[Hashes, np.ndarray[Any, Any]]] = OrderedDict()
        self._size = 0

    def find(self, layout: Layout, rows: pl.DataFrame) -> list[tuple[int, pl.DataFrame]]:
        """The live rows of the table that share their key with a row of ``rows``.

        Returns:
            (number of the fragment, its matching rows with the columns ``__row`` (number in the fragment) and
            ``__new`` (number in ``rows``)) for each fragment with a match.
        """
        key = layout.key
        wanted = hash_keys(rows, key)
        found: list[tuple[int, pl.DataFrame]] = []
        for number, fragment in enumerate(layout.fragments):
            hashes, places = self._index(fragment.id, key)
            low = np.searchsorted(hashes, wanted, "left")
            high = np.searchsorted(hashes, wanted, "right")
            hits = np.nonzero(high > low)[0]
            if not len(hits):
                continue
            spans = [(new, places[spot]) for new in hits.tolist() for spot in range(low[new], high[new])]
            dead = self._reader.deleted(fragment)
            spans = [(new, int(row)) for new, row in spans if int(row) not in dead]
            matches = self._matches(fragment.id, rows, key, spans)
            if len(matches):
                found.append((number, matches))
        return found

    def _matches(
        self, fragment_id: bytes, rows: pl.DataFrame, key: list[str], spans: list[tuple[int, int]]
    ) -> pl.DataFrame:
        """Hashes may collide: the keys themselves decide."""
        new = pl.Series("__new", [n for n, _ in spans], dtype=pl.Int64)
        old = pl.Series("__row", [r for _, r in spans], dtype=pl.Int64)
        frame = self._reader.fragment(fragment_id)
        candidates = frame[old.to_list()].with_columns(old, new)
        asked = rows.select(key)[new.to_list()].rename({name: f"__key_{name}" for name in key})
        same = pl.all_horizontal([pl.col(name).eq_missing(pl.col(f"__key_{name}")) for name in key])
        return pl.concat([candidates, asked], how="horizontal").filter(same).drop([f"__key_{name}" for name in key])

    def _index(self, fragment_id: bytes, key: Sequence[str]) -> tuple[Hashes, np.ndarray[Any, Any]]:
        name = (fragment_id, tuple(key))
        with self._lock:
            found = self._cache.get(name)
            if found is not None:
                self._cache.move_to_end(name)
                return found
        hashes = hash_keys(self._reader.fragment(fragment_id, key), key)
        order = np.argsort(hashes, kind="stable")
        made = (hashes[order], order)
        with self._lock:
            if name not in self._cache:
                self._cache[name] = made
                self._size += len(order)
                while self._size > _CACHED_KEYS and len(self._cache) > 1:
                    _, (old, _) = self._cache.popitem(last=False)
                    self._size -= len(old)
        return made


def hash_keys(rows: pl.DataFrame, key: Sequence[str]) -> Hashes:
    """Hashes of the key columns; good in this process only, never stored."""
    return rows[list(key)].hash_rows(seed=7).to_numpy()
