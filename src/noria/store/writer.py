"""What collects the new objects of one transaction into packs."""

from __future__ import annotations

import os
import secrets
import threading
import zlib
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import blake3
import zstandard

from noria.base.digest import Digest
from noria.base.faults import Faults
from noria.store import packs
from noria.store.bytestore import ByteStore
from noria.store.errors import ObjectCorrupt, ObjectMissing, PackCorrupt
from noria.store.index import PackIndex
from noria.store.packfile import PackFile
from noria.store.packs import INDEX, RECORD, Bytes, Located, pack_name
from noria.store.records import Kind, PackInfo

PACK_TARGET: Final = 64 << 20
_SPILL: Final = 8 << 20
_KNOWN: Final = 1_000_000
_MANY: Final = 1 << 20
_THREADS: Final = max(2, min(4, os.cpu_count() or 2))
_Result = TypeVar("_Result")


class Packs(Protocol):
    """What a writer needs of the store (``ObjectStore``)."""

    @property
    def source(self) -> ByteStore: ...
    @property
    def index(self) -> PackIndex: ...
    @property
    def temporary(self) -> Path: ...
    @property
    def faults(self) -> Faults: ...
    def pack_entries(self, pack: str) -> Iterator[Located]: ...


class Writer:
    """Collects the new objects of one transaction into packs. Not thread-safe.

    Nothing that was put is promised before ``flush`` has returned; a writer that is dropped leaves only garbage.

    Attributes:
        written: bytes that were new.
        reused: bytes that the store had already.
        stored: bytes of the packs that ``flush`` has made so far.
    """

    def __init__(self, store: Packs, ignoring: frozenset[str]) -> None:
        self._store = store
        self._ignoring = ignoring
        # What a condemned pack holds is stored again, under another name: that file may be deleted at any moment.
        self._header = packs.header(secrets.randbits(32) if ignoring else 0)
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._pending: dict[bytes, bytes] = {}  # id -> its row of the index
        self._parts: list[Bytes] = []
        self._buffered = 0
        self._offset = 0
        self._file: PackFile | None = None
        self._closing: _Closing | None = None
        self._finished: list[PackInfo] = []
        self._own: set[bytes] | None = None  # what this writer has stored, where the index knew nothing before
        self._asked = False
        self._pool: ThreadPoolExecutor | None = None
        self._threads = threading.local()
        self.written = 0
        self.reused = 0
        self.stored = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._closing is not None:
            self._closing.discard()
            self._closing = None
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        if self._file is not None:
            self._file.discard()
            self._file = None

    def put(self, kind: Kind, raw: Bytes) -> Digest:
        """Stores an object unless it is there; returns its id."""
        oid = packs.raw_id(kind, raw)
        if oid in self._pending or not self._absent([oid]):
            self.reused += len(raw)
        else:
            self._add(oid, kind, raw)
        return Digest(oid)

    def put_all(self, kind: Kind, raws: Sequence[Bytes]) -> list[Digest]:
        """Like ``put`` for many objects of one kind, with one question to the index."""
        return [Digest(oid) for oid in self.put_many(kind, raws)]

    def put_many(self, kind: Kind, raws: Sequence[Bytes]) -> list[bytes]:
        """Like ``put_all``; returns the 32 bytes of each id."""
        raw_id = packs.raw_id
        return self.put_hashed(kind, [raw_id(kind, raw) for raw in raws], raws)

    def put_small(self, raws: Sequence[bytes]) -> list[bytes]:
        """``put_many`` for chunks of less than 64 KiB, some MiB of them."""
        blake, prefix = blake3.blake3, packs.CHUNK_PREFIX
        oids = [blake(prefix + raw).digest() for raw in raws]
        absent, pending = self._absent(oids), self._pending
        new = {oid: raw for oid, raw in zip(oids, raws, strict=True) if oid in absent and oid not in pending}
        total, size = sum(map(len, raws)), sum(map(len, new.values()))
        self.written += size
        self.reused += total - size
        self._add_small(new)
        return oids

    def _add_small(self, new: dict[bytes, bytes]) -> None:
        """``_add`` for many: written out, for it is called for each of a hundred thousand files."""
        parts, pending, squeeze, compressor = self._begin(), self._pending, packs.squeeze, self._compressor
        record, row, crc32, head_size = RECORD.pack, INDEX.pack, zlib.crc32, RECORD.size
        offset, chunk = self._offset, int(Kind.CHUNK)
        for oid, raw in new.items():
            flags, stored = squeeze(Kind.CHUNK, raw, compressor)
            length, size = len(raw), len(stored)
            pending[oid] = row(oid, offset, size, length, chunk, flags, 0)
            parts += (record(chunk, flags, 0, length, size, crc32(stored), oid), stored)
            offset += head_size + size
        self._took(offset - self._offset)

    def put_chunks(self, raws: list[memoryview]) -> list[bytes]:
        """``put_many`` for chunks of a big file: hashed and compressed in threads, not copied where most are new."""
        if sum(map(len, raws)) < _MANY:
            return self.put_many(Kind.CHUNK, [bytes(raw) for raw in raws])
        oids = self._in_threads(_chunk_id, raws)
        absent = self._absent(oids)
        new: dict[bytes, Bytes] = {}
        size = total = 0
        for oid, raw in zip(oids, raws, strict=True):
            total += len(raw)
            if oid in absent and oid not in self._pending and oid not in new:
                new[oid] = raw
                size += len(raw)
        self.reused += total - size
        if 2 * size < total:  # the buffer, of which they are parts, is not kept for the sake of a few
            new = {oid: bytes(raw) for oid, raw in new.items()}
        squeezed = self._in_threads(self._squeeze, list(new.values()))
        for (oid, raw), (flags, stored, crc) in zip(new.items(), squeezed, strict=True):
            self._store_one(oid, Kind.CHUNK, len(raw), flags, stored, crc)
        return oids

    def _in_threads(self, work: Callable[[Any], _Result], items: Sequence[Any]) -> list[_Result]:
        """What the work makes of each item; each thread takes a run of them, since handing one over is not free."""
        run = max(1, -(-len(items) // _THREADS))
        runs = [items[start : start + run] for start in range(0, len(items), run)]

        def each(some: Sequence[Any]) -> list[_Result]:
            return [work(item) for item in some]

        return [made for found in self.pool.map(each, runs) for made in found]

    def _squeeze(self, raw: Bytes) -> tuple[int, Bytes, int]:
        own: Any = self._threads
        if not hasattr(own, "compressor"):
            own.compressor = zstandard.ZstdCompressor(level=1)
        flags, stored = packs.squeeze(Kind.CHUNK, raw, own.compressor)
        return flags, stored, zlib.crc32(stored)

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for the parts of big files."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="noria-chunks")
        return self._pool

    def put_hashed(self, kind: Kind, oids: list[bytes], raws: Sequence[Bytes]) -> list[bytes]:
        """``put_many`` for objects whose ids were made elsewhere."""
        absent, pending, add = self._absent(oids), self._pending, self._add
        for oid, raw in zip(oids, raws, strict=True):
            if oid in absent and oid not in pending:
                add(oid, kind, raw)
                if oid not in pending:  # it was the last one of its pack
                    absent = self._absent(oids)
            else:
                self.reused += len(raw)
        return oids

    def missing(self, oids: Sequence[bytes]) -> set[bytes]:
        """Which of these objects would be stored if they were put now."""
        return {oid for oid in self._absent(oids) if oid not in self._pending}

    @property
    def state(self) -> str:
        """Changes whenever an object that was there may be there no more, or no longer counts for this writer."""
        return f"{self._store.index.losses}:{packs.raw_id(Kind.BLOB, ','.join(sorted(self._ignoring)).encode()).hex()}"

    def _absent(self, oids: Sequence[bytes]) -> set[bytes]:
        if not self._asked:
            self._asked = True
            self._own = set() if self._store.index.empty else None
        if self._own is not None:  # the first commit of all: there is nothing to ask for
            absent = set(oids).difference(self._own)
        else:
            absent = self._store.index.missing(oids, self._ignoring)
        if self._closing is None:
            return absent
        closing = self._closing.ids  # of a whole pack: difference() would walk through all of them each time
        return {oid for oid in absent if oid not in closing}

    def copy(self, pack: str, only: Container[bytes] | None = None) -> bool:
        """Takes over the records of a pack as they are; False, and nothing taken, where one is damaged.

        Args:
            only: ids of the objects to take; default all.
        """
        store, name = self._store, pack_name(pack)
        try:
            whole = store.source.read(name, 0, store.source.size(name))
            records: list[tuple[Located, bytes]] = []
            for found in store.pack_entries(pack):
                if only is not None and found.id not in only:
                    continue
                record = whole[found.offset : found.offset + RECORD.size + found.stored]
                packs.check_sum(pack, found, record)
                packs.open_record(pack, found, record)
                records.append((found, record))
        except (ObjectCorrupt, ObjectMissing, PackCorrupt):
            return False
        for found, record in records:
            if found.id not in self._pending and (self._closing is None or found.id not in self._closing.ids):
                row = (found.stored, found.raw, found.kind, found.flags)
                self._append(found.id, row, record[: RECORD.size], record[RECORD.size :])
        return True

    def _add(self, oid: bytes, kind: Kind, raw: Bytes) -> None:
        flags, stored = packs.squeeze(kind, raw, self._compressor)
        self._store_one(oid, kind, len(raw), flags, stored, zlib.crc32(stored))

    def _store_one(self, oid: bytes, kind: Kind, raw_size: int, flags: int, stored: Bytes, crc: int) -> None:
        size = len(stored)
        head = RECORD.pack(kind, flags, 0, raw_size, size, crc, oid)
        self._append(oid, (size, raw_size, kind, flags), head, stored)
        self.written += raw_size

    def _append(self, oid: bytes, row: tuple[int, int, int, int], head: bytes, stored: Bytes) -> None:
        parts = self._begin()
        self._pending[oid] = INDEX.pack(oid, self._offset, *row, 0)
        parts += (head, stored)
        self._took(RECORD.size + row[0])

    def _begin(self) -> list[Bytes]:
        """Where the next records go."""
        if not self._offset:
            self._parts.append(self._header)
            self._offset = self._buffered = packs.HEADER.size
        return self._parts

    def _took(self, length: int) -> None:
        """Records of so many bytes came: writes them, where they are many, and closes the pack, where it is full."""
        self._offset += length
        self._buffered += length
        if self._offset >= PACK_TARGET:
            self._finish_pack()
        elif self._buffered >= _SPILL:
            self._pack_file().append(self._parts)
            self._parts, self._buffered = [], 0

    def flush(self) -> list[PackInfo]:
        """Makes everything durable; returns the packs, to be named in the transaction that needs them."""
        if self._pending:
            self._finish_pack()
        self._settle()
        packs_made, self._finished = self._finished, []
        return packs_made

    def _pack_file(self) -> PackFile:
        if self._file is None:
            self._file = PackFile(self._store.temporary, self._store.faults)
        return self._file

    def _finish_pack(self) -> None:
        """Begins to make a pack durable, beside whatever fills the next one."""
        self._settle()
        file, index = self._pack_file(), b"".join(sorted(self._pending.values()))
        parts = [*self._parts, index, packs.footer(index, self._offset)]
        size = self._offset + len(parts[-2]) + len(parts[-1])
        closing = _Closing(self._store, file, parts, index, size, self._pending.keys())
        self._pending, self._parts, self._buffered, self._offset, self._file = {}, [], 0, 0, None
        self._closing = closing

    def _settle(self) -> None:
        """Waits for the pack that is being made durable."""
        if self._closing is None:
            return
        done, info = self._closing, self._closing.wait()
        self._closing = None
        self._finished.append(info)
        self.stored += info.size
        if self._own is not None:
            self._own.update(done.ids)
            if len(self._own) > _KNOWN:
                self._own = None


class Hasher(Writer):
    """Names objects as a writer would, and keeps nothing of them: for looking at a folder without storing it."""

    def _add(self, oid: bytes, kind: Kind, raw: Bytes) -> None:
        self._pending[oid] = b""
        self.written += len(raw)

    def _add_small(self, new: dict[bytes, bytes]) -> None:
        self._pending.update(dict.fromkeys(new, b""))

    def _store_one(self, oid: bytes, kind: Kind, raw_size: int, flags: int, stored: Bytes, crc: int) -> None:
        self._pending[oid] = b""
        self.written += raw_size

    def _squeeze(self, raw: Bytes) -> tuple[int, Bytes, int]:
        return 0, raw, 0

    def flush(self) -> list[PackInfo]:
        return []


class _Closing:
    """A pack that is written to its end, made durable and told to the index, in a thread of its own."""

    def __init__(
        self, store: Packs, file: PackFile, parts: list[Bytes], index: bytes, size: int, ids: Collection[bytes]
    ) -> None:
        self.ids = ids
        self._store, self._file, self._parts, self._index, self._size = store, file, parts, index, size
        self._pack = ""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._close, name="noria-pack-close", daemon=True)
        self._thread.start()

    def _close(self) -> None:
        try:
            self._pack = self._file.finish(self._parts)
            self._store.source.put(pack_name(self._pack), self._file.path)
            self._store.index.add(self._pack, self._index)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        self._parts, self._index = [], b""

    def wait(self) -> PackInfo:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return PackInfo(id=self._pack, size=self._size, count=len(self.ids))

    def discard(self) -> None:
        self._thread.join()
        self._file.discard()


def _chunk_id(raw: memoryview) -> bytes:
    return packs.raw_id(Kind.CHUNK, raw)
