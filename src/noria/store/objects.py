"""The content store: the one final class above the byte stores."""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from noria.base.digest import Digest
from noria.base.faults import Faults, NoFaults
from noria.store import packs
from noria.store.bytestore import ByteStore
from noria.store.errors import ObjectCorrupt, ObjectMissing, PackCorrupt
from noria.store.index import PackIndex
from noria.store.packs import Located, pack_name
from noria.store.readahead import ReadAhead
from noria.store.records import FileContent, Kind
from noria.store.writer import PACK_TARGET, Hasher, Writer

_MAPS = 64


class Elsewhere(Protocol):
    """Where objects lie that a partial clone left behind. What it gives is verified."""

    def has(self, oid: Digest, kind: Kind) -> bool: ...

    def get(self, oid: Digest, kind: Kind) -> bytes | None: ...

    def expect(self, contents: Iterable[FileContent]) -> None: ...


class ObjectStore:
    """Reads and writes immutable objects by id. Thread-safe.

    Args:
        source: where pack files lie.
        cache: a local folder for the index and for packs being written.
    """

    def __init__(self, source: ByteStore, cache: Path, faults: Faults | None = None) -> None:
        self.source = source
        self._cache = cache
        (cache / "tmp").mkdir(parents=True, exist_ok=True)
        self.index = PackIndex(cache / "index.db")
        self.faults = faults or NoFaults()
        self._maps: dict[str, mmap.mmap] = {}
        self._ahead = ReadAhead(source)
        self._lock = threading.Lock()
        self.remote: Callable[[], Elsewhere] | None = None
        """Gives whom to ask for what is in no pack here."""
        self.index.renewed = self._learn_again

    @property
    def temporary(self) -> Path:
        """Where packs are written. A rename brings them to their place, so that a folder elsewhere has its own."""
        place = self.source.local_path("tmp")
        if place is None or place.resolve().is_relative_to(self._cache.resolve().parent):
            return self._cache / "tmp"
        place.mkdir(parents=True, exist_ok=True)
        return place

    # ---- reading

    def get(self, oid: Digest, kind: Kind) -> bytes:
        """The raw bytes of an object, verified. A damaged copy is skipped where another pack holds a whole one."""
        return bytes(self.view(oid, kind))

    def view(self, oid: Digest, kind: Kind) -> bytes | memoryview:
        """Like ``get``, without a copy where the pack can be mapped. Valid as long as it is referenced.

        A copy that is damaged is noted as such: the same object, put again, is stored again. A pack that went away was
        merged into another one, which is looked for.
        """
        try:
            return self._view(oid, kind)
        except ObjectMissing:
            self.refresh()
        try:
            return self._view(oid, kind)
        except ObjectMissing:
            found = None if self.remote is None else self.remote().get(oid, kind)
            if found is None:
                raise
            return found

    def promised(self, oid: Digest, kind: Kind) -> bool:
        """Whether the object, which is not here, lies at a remote (of a partial clone)."""
        return self.remote is not None and self.remote().has(oid, kind)

    def expect(self, contents: Iterable[FileContent]) -> None:
        """Says what will be read soon, so that what lies at a remote is brought at once. Not inside a transaction."""
        if self.remote is not None:
            self.remote().expect(contents)

    def _view(self, oid: Digest, kind: Kind) -> bytes | memoryview:
        damage: ObjectCorrupt | None = None
        for pack, found in self._places(oid):
            if found.kind != kind:
                continue
            try:
                return self._open(pack, found)
            except ObjectCorrupt as error:
                damage = error
                self.index.mark(oid.raw, pack, damaged=True)
            except ObjectMissing:
                self.index.remove(pack)  # the file went away, the cache did not know
        if damage is not None:
            raise damage
        raise ObjectMissing(f"{kind.name.lower()} {oid.short}")

    def views(self, kind: Kind, oids: Sequence[bytes]) -> dict[bytes, bytes | memoryview]:
        """``view`` for many objects, with one question to the index; in the order in which they are asked for."""
        places = self.index.find_many(oids)
        found: dict[bytes, bytes | memoryview] = {}
        for oid in oids:
            place = places.get(oid)
            if place is not None and place[1].kind == kind:
                try:
                    found[oid] = self._open(*place)
                    continue
                except (ObjectCorrupt, ObjectMissing):
                    pass  # another pack may hold a whole copy
            found[oid] = self.view(Digest(oid), kind)
        return found

    def has(self, oid: Digest, *, ignoring: frozenset[str] = frozenset()) -> bool:
        """Whether a pack that is not in ``ignoring`` holds the object.

        Bytes are checked on reading; a copy that was found damaged then is looked at again here.
        """
        if not self.index.missing([oid.raw], ignoring):
            return True
        return any(self._mended(pack, found) for pack, found in self.index.find(oid.raw) if pack not in ignoring)

    def _mended(self, pack: str, found: Located) -> bool:
        try:
            self._open(pack, found)
        except (ObjectCorrupt, ObjectMissing):
            return False
        self.index.mark(found.id, pack, damaged=False)
        return True

    @property
    def has_damage(self) -> bool:
        """Whether an object was found damaged, and no whole copy of it is there."""
        damaged = self.index.damaged()
        return bool(damaged) and bool(self.index.missing(list({oid for oid, _ in damaged})))

    def stored_size(self, oid: Digest) -> int:
        places = self._places(oid)
        return places[0][1].stored if places else 0

    def _places(self, oid: Digest) -> list[tuple[str, Located]]:
        found = self.index.find(oid.raw)
        if not found and self.refresh():
            found = self.index.find(oid.raw)
        return found

    def _open(self, pack: str, found: Located) -> bytes | memoryview:
        try:
            return packs.open_record(pack, found, self._record(pack, found))
        except ObjectCorrupt:
            with self._lock:
                self._maps.pop(pack, None)
            self._ahead.forget(pack_name(pack))
            # The file may have been replaced by a whole one since it was mapped, or read into memory.
            return packs.open_record(pack, found, self._record(pack, found))

    def _record(self, pack: str, found: Located) -> bytes | memoryview:
        length = packs.RECORD.size + found.stored
        mapped = self._map(pack)
        if mapped is not None:
            return memoryview(mapped)[found.offset : found.offset + length]
        return self._ahead.read(pack_name(pack), found.offset, length)

    def _map(self, pack: str) -> mmap.mmap | None:
        with self._lock:
            mapped = self._maps.pop(pack, None)
            if mapped is None:
                path = self.source.local_path(pack_name(pack))
                if path is None:
                    return None
                try:
                    with path.open("rb") as file:
                        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                except (FileNotFoundError, ValueError):
                    raise ObjectMissing(pack) from None
            self._maps[pack] = mapped  # the last one is the youngest
            while len(self._maps) > _MAPS:
                self._maps.pop(next(iter(self._maps)))  # unmapped when the last view of it is gone
            return mapped

    def let_go(self) -> None:
        """Takes what was read of mapped packs out of this process' memory; views of them stay valid.

        For whoever reads much: pages of a file count as memory of a process as long as it has them mapped.
        """
        advice = getattr(mmap, "MADV_DONTNEED", None)
        if advice is not None:
            with self._lock:
                for mapped in self._maps.values():
                    mapped.madvise(advice)

    # ---- packs

    def refresh(self) -> bool:
        """Learns of packs that other processes wrote; says whether there were any.

        Raises:
            PackCorrupt: the index of one cannot be read, and no other is new.
        """
        known, news = self.index.packs(), False
        damaged: PackCorrupt | None = None
        for name in self.source.list("packs/"):
            pack = name.rsplit("/", 1)[1].removesuffix(".pack")
            if pack not in known:
                try:
                    rows = self._checked_index(pack)
                except ObjectMissing:
                    continue  # it was merged into another one since the folder was listed
                except PackCorrupt as error:
                    damaged = error  # it hides only what lies in it
                    continue
                self.index.add(pack, rows)
                news = True
        if damaged is not None and not news:
            raise damaged
        return news

    def _learn_again(self) -> None:
        with contextlib.suppress(PackCorrupt):  # it hides only what lies in it
            self.refresh()

    def pack_entries(self, pack: str) -> Iterator[Located]:
        """The index of a pack, read from the pack itself and verified."""
        yield from packs.parse_index(self._checked_index(pack))

    def _checked_index(self, pack: str) -> bytes:
        packs.check_header(pack, self.source.read(pack_name(pack), 0, packs.HEADER.size))
        return self.pack_index(pack)

    def pack_index(self, pack: str) -> bytes:
        """The bytes of a pack's index, verified; nothing else of the pack is looked at.

        Raises:
            PackCorrupt: it is damaged. ObjectMissing: there is no such file.
        """
        name = pack_name(pack)
        footer = self.source.read(name, -packs.FOOTER.size, packs.FOOTER.size)
        size = self.source.size(name)
        offset, count, digest = packs.parse_footer(pack, size, footer)
        return packs.check_index(pack, self.source.read(name, offset, count * packs.INDEX.size), digest)

    def check_pack(self, pack: str) -> list[ObjectCorrupt]:
        """Re-hashes every object of a pack and returns what is damaged."""
        damaged: list[ObjectCorrupt] = []
        name = pack_name(pack)
        noted = {oid for oid, _ in self.index.damaged()}
        self._ahead.forget(name)
        read = self._ahead.read if self.source.local_path(name) is None else self.source.read
        for found in self.pack_entries(pack):
            record = read(name, found.offset, packs.RECORD.size + found.stored)
            try:
                packs.check_sum(pack, found, record)
                packs.open_record(pack, found, record)
                if found.id in noted:
                    self.index.mark(found.id, pack, damaged=False)
            except ObjectCorrupt as error:
                damaged.append(error)
                self.index.mark(found.id, pack, damaged=True)
        return damaged

    def drop_pack(self, pack: str) -> None:
        """Removes a pack that nothing needs any more (garbage collection decides)."""
        with self._lock:
            self._maps.pop(pack, None)
        self._ahead.forget(pack_name(pack))
        self.index.remove(pack)
        self.source.delete(pack_name(pack))

    def writer(self, *, ignoring: frozenset[str] = frozenset()) -> Writer:
        """A writer for one transaction. ``ignoring`` names condemned packs: what they hold is stored again."""
        return Writer(self, ignoring)

    def hasher(self) -> Writer:
        """A writer that stores nothing: it only says which id a content has."""
        return Hasher(self, frozenset())

    def close(self) -> None:
        self._ahead.close()
        self.index.close()
        with self._lock:
            self._maps.clear()


__all__ = ["PACK_TARGET", "ObjectStore", "Writer", "pack_name"]
