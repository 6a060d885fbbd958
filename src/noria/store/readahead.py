"""Fewer and larger reads of packs that are far away.

The records of a commit lie in a pack in the order of their paths, and a checkout, a diff or a check reads them in that
order. A second read in the same block of a pack fetches the whole block, and the next one is fetched beside it; a
single read stays a single, small one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from noria.store.bytestore import ByteStore

BLOCK: Final = 4 << 20
_KEPT: Final = 12
"""Blocks in memory: 48 MiB."""
_AHEAD: Final = 3
"""Blocks that are on their way while one is read."""

_Place = tuple[str, int]


class ReadAhead:
    """Reads from ``source`` by blocks where reads follow one another. Thread-safe; only for files that never change."""

    def __init__(self, source: ByteStore) -> None:
        self._source = source
        self._blocks: OrderedDict[_Place, Future[bytes]] = OrderedDict()
        self._touched: OrderedDict[_Place, None] = OrderedDict()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Like the source's ``read``; the offset counts from the beginning."""
        first, last = offset // BLOCK, (offset + max(length, 1) - 1) // BLOCK
        if not self._follows(name, first, last):
            return self._source.read(name, offset, length)
        parts: list[bytes] = []
        for number in range(first, last + 1):
            data = self._block(name, number)
            start = max(0, offset - number * BLOCK)
            parts.append(data[start : offset + length - number * BLOCK])
            if len(data) < BLOCK:
                break
        else:
            self._fetch_beyond(name, last)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def forget(self, name: str) -> None:
        """Reads the file anew: it was found damaged, replaced or deleted."""
        with self._lock:
            for place in [p for p in self._blocks if p[0] == name]:
                del self._blocks[place]
            for place in [p for p in self._touched if p[0] == name]:
                del self._touched[place]

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
            self._blocks.clear()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def _follows(self, name: str, first: int, last: int) -> bool:
        """Whether somebody has read here, or right before here, already."""
        with self._lock:
            near = (name, first) in self._blocks or (name, first) in self._touched or (name, first - 1) in self._touched
            for number in (first, last):
                self._touched[name, number] = None
                self._touched.move_to_end((name, number))
            while len(self._touched) > 1024:
                self._touched.popitem(last=False)
        return near

    def _block(self, name: str, number: int) -> bytes:
        while True:
            future, mine = self._claim(name, number)
            if mine:
                self._load(name, number, future)
            if future.exception() is None:
                return future.result()
            with self._lock:
                if self._blocks.get((name, number)) is future:
                    del self._blocks[name, number]
            if mine:  # what was fetched ahead and failed is asked for once more
                return future.result()

    def _claim(self, name: str, number: int) -> tuple[Future[bytes], bool]:
        with self._lock:
            found = self._blocks.get((name, number))
            if found is not None:
                self._blocks.move_to_end((name, number))
                return found, False
            made: Future[bytes] = Future()
            self._blocks[name, number] = made
            while len(self._blocks) > _KEPT:
                self._blocks.popitem(last=False)
            return made, True

    def _load(self, name: str, number: int, future: Future[bytes]) -> None:
        try:
            future.set_result(self._source.read(name, number * BLOCK, BLOCK))
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(error)

    def _fetch_beyond(self, name: str, last: int) -> None:
        for number in range(last + 1, last + 1 + _AHEAD):
            with self._lock:
                known = (name, number) in self._blocks
                short = self._ends_before(name, number)
            if short:
                return
            if known:
                continue
            future, mine = self._claim(name, number)
            if mine:
                self._threads().submit(self._load, name, number, future)

    def _ends_before(self, name: str, number: int) -> bool:
        """Whether the block before is known to be the file's last one."""
        before = self._blocks.get((name, number - 1))
        return before is not None and before.done() and (before.exception() is not None or len(before.result()) < BLOCK)

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="noria-read-ahead")
            return self._pool
