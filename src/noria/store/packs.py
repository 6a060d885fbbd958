"""The pack file: records one after another, then a sorted index, then a footer. Pinned by ``tests/golden/pack``.

    header   "noriapak", version u32, salt u32                                                        16 bytes
    record   kind u8, flags u8, reserved u16, raw length u32, stored length u32, crc32 u32, id 32 B   48 bytes
             then the stored bytes
    index    id 32 B, record offset u64, stored length u32, raw length u32, kind u8, flags u8, 2 B    52 bytes each
    footer   index offset u64, count u32, BLAKE3 of the index 32 B, "noriaend"                        52 bytes

All integers little-endian. Flag 1: the payload is one zstd frame. The crc32 covers the stored bytes, for a quick
scrub; the id is BLAKE3-256 of the kind byte and the raw bytes, and is checked on every read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import blake3
import zstandard

from noria.base.digest import Digest
from noria.store.errors import FormatTooNew, ObjectCorrupt, PackCorrupt
from noria.store.records import Kind

VERSION: Final = 1
MAGIC: Final = b"noriapak"
END: Final = b"noriaend"
HEADER: Final = struct.Struct("<8sII")
RECORD: Final = struct.Struct("<BBHIII32s")
INDEX: Final = struct.Struct("<32sQIIBBH")
PLACE: Final = struct.Struct("<QIIBBH")
"""What follows the id in a row of the index."""
ID_SIZE: Final = INDEX.size - PLACE.size
FOOTER: Final = struct.Struct("<QI32s8s")
ZSTD: Final = 1
_KINDS: Final = {int(kind): kind for kind in Kind}

_SAMPLE: Final = 4096
_SMALL: Final = 96
_WINDOW: Final = 64
_WINDOWS: Final = 4 * _WINDOW
_DENSE: Final = 51
_JOINED: Final = 16 << 10
# Parquet is compressed already, and a fragment that lies raw in its pack can be memory-mapped.
_NEVER_COMPRESSED: Final = {Kind.FRAGMENT}
_PREFIX: Final = {kind: bytes((kind,)) for kind in Kind}
CHUNK_PREFIX: Final = _PREFIX[Kind.CHUNK]

Bytes = bytes | memoryview


class Located(NamedTuple):
    """Where one object lies in one pack."""

    id: bytes
    offset: int
    stored: int
    raw: int
    kind: Kind
    flags: int


def pack_name(pack: str) -> str:
    """Where a pack lies in its byte store."""
    return f"packs/{pack[:2]}/{pack}.pack"


def object_id(kind: Kind, raw: Bytes) -> Digest:
    return Digest(raw_id(kind, raw))


def raw_id(kind: Kind, raw: Bytes) -> bytes:
    """The 32 bytes of an object's id."""
    if len(raw) <= _JOINED:
        return blake3.blake3(_PREFIX[kind] + raw).digest()  # copying it costs less than another call
    hasher = blake3.blake3(_PREFIX[kind])
    hasher.update(raw)
    return hasher.digest()


def squeeze(kind: Kind, raw: Bytes, compressor: zstandard.ZstdCompressor) -> tuple[int, Bytes]:
    """Compresses where a sample of the bytes shrinks by more than a tenth.

    Where 64 bytes in the middle of a file hold nearly as many different values as random ones do (57), nothing is
    tried: that tells pictures and archives from texts, numbers and tables at a fifth of the cost.
    """
    length = len(raw)
    if kind in _NEVER_COMPRESSED or length < _SMALL:
        return 0, raw
    middle = length >> 1
    if kind is Kind.CHUNK and length > _WINDOWS and len(set(raw[middle : middle + _WINDOW])) >= _DENSE:
        return 0, raw
    if length > 4 * _SAMPLE:
        sample = raw[middle : middle + _SAMPLE]
        if len(compressor.compress(sample)) > 0.9 * _SAMPLE:
            return 0, raw
    packed = compressor.compress(raw)
    return (ZSTD, packed) if len(packed) < 0.9 * length else (0, raw)


def header(salt: int = 0) -> bytes:
    """``salt`` (u32) gives two packs of the same records different names; readers do not look at it."""
    return HEADER.pack(MAGIC, VERSION, salt)


def footer(index: bytes, index_offset: int) -> bytes:
    """What follows the index: its rows of ``INDEX``, sorted by id, which they begin with."""
    return FOOTER.pack(index_offset, len(index) // INDEX.size, blake3.blake3(index).digest(), END)


def check_header(pack: str, data: bytes) -> None:
    if len(data) < HEADER.size:
        raise PackCorrupt(pack, f"it has only {len(data)} bytes")
    magic, version, _ = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise PackCorrupt(pack, "it does not begin like a pack")
    if version > VERSION:
        raise FormatTooNew(f"The pack {pack}", version, VERSION)


def parse_footer(pack: str, size: int, data: bytes) -> tuple[int, int, bytes]:
    """(index offset, count, hash of the index) from the last bytes of a pack of ``size`` bytes."""
    if len(data) < FOOTER.size:
        raise PackCorrupt(pack, "it was cut off")
    offset, count, digest, end = FOOTER.unpack(data[-FOOTER.size :])
    if end != END or offset + count * INDEX.size + FOOTER.size != size:
        raise PackCorrupt(pack, "it was cut off or does not end like a pack")
    return offset, count, digest


def check_index(pack: str, data: bytes, digest: bytes) -> bytes:
    """The bytes of an index, if they are what was written."""
    if blake3.blake3(data).digest() != digest:
        raise PackCorrupt(pack, "its index is damaged")
    return data


def located(oid: bytes, place: bytes) -> Located:
    """From the bytes of ``PLACE``."""
    offset, stored, raw, kind, flags, _ = PLACE.unpack(place)
    return Located(oid, offset, stored, raw, _KINDS.get(kind) or Kind(kind), flags)


def parse_index(data: bytes) -> Iterator[Located]:
    for oid, offset, stored, raw, kind, flags, _ in INDEX.iter_unpack(data):
        yield Located(oid, offset, stored, raw, Kind(kind), flags)


def check_sum(pack: str, found: Located, data: bytes) -> None:
    """The header's crc32 against the stored bytes: finds damage that a decompressor happens to ignore."""
    expected = RECORD.unpack_from(data)[5] if len(data) >= RECORD.size else -1
    if zlib.crc32(data[RECORD.size :]) != expected:
        raise ObjectCorrupt(found.id.hex()[:16], pack, found.offset, "its bytes do not have their checksum")


def scan_records(whole: bytes) -> Iterator[Located]:
    """The records of a pack whose index is damaged, one after another, as far as they make sense."""
    offset = HEADER.size
    while offset + RECORD.size <= len(whole):
        kind, flags, _, raw, stored, _, oid = RECORD.unpack_from(whole, offset)
        if kind not in _KINDS or offset + RECORD.size + stored > len(whole):
            return
        yield Located(oid, offset, stored, raw, Kind(kind), flags)
        offset += RECORD.size + stored


def open_record(pack: str, found: Located, data: Bytes) -> Bytes:
    """The raw bytes of a record (header and payload in ``data``), verified against the object's id."""
    oid, _, stored, length, kind, flags = found
    if len(data) != RECORD.size + stored:
        raise _corrupt(pack, found, "the pack ends inside it")
    payload = memoryview(data)[RECORD.size :]
    raw: Bytes = payload
    if flags & ZSTD:
        try:
            raw = zstandard.ZstdDecompressor().decompress(payload, max_output_size=length)
        except zstandard.ZstdError:
            raise _corrupt(pack, found, "it cannot be decompressed") from None
    if len(raw) != length or raw_id(kind, raw) != oid:
        raise _corrupt(pack, found, "its content does not have its digest")
    return raw


def _corrupt(pack: str, found: Located, why: str) -> ObjectCorrupt:
    return ObjectCorrupt(found.id.hex()[:16], pack, found.offset, why)
