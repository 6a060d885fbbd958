"""Reads the wire format of protobuf: fields one after the other, each with a number and a value."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from noria.base.errors import Invalid

_FIXED64: Final = struct.Struct("<Q")
_FIXED32: Final = struct.Struct("<I")
Value = int | memoryview


class WireWrong(Invalid):
    """Bytes are no message of protobuf."""

    code = "protobuf_invalid"


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field: a whole number (also for fixed ones), or the bytes of a text or message.

    Raises:
        WireWrong: it ends too early, or is something else.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at, end)
        number, kind = key >> 3, key & 7
        if kind == 2:
            size, at = _varint(data, at, end)
            if size > end - at:
                raise WireWrong("A field is longer than its message.")
            yield number, data[at : at + size]
            at += size
        elif kind == 0:
            value, at = _varint(data, at, end)
            yield number, value
        elif kind in (1, 5):
            shape = _FIXED64 if kind == 1 else _FIXED32
            if shape.size > end - at:
                raise WireWrong("The message ends in the middle of a number.")
            yield number, shape.unpack_from(data, at)[0]
            at += shape.size
        else:
            raise WireWrong(f"A field of the kind {kind} is not known.")


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            break
    raise WireWrong("The message ends in the middle of a number.")


def part(value: Value) -> memoryview:
    """The bytes of a field that has to be a text or a message."""
    if isinstance(value, int):
        raise WireWrong("A number stands where a text or a message belongs.")
    return value


def text(value: Value) -> str:
    try:
        return str(part(value), "utf-8")
    except UnicodeDecodeError:
        raise WireWrong("A text is not UTF-8.") from None


def whole(value: Value) -> int:
    """The number of a field that has to be one."""
    if not isinstance(value, int):
        raise WireWrong("A text or a message stands where a number belongs.")
    return value


def signed(value: Value) -> int:
    number = whole(value)
    return number - (1 << 64) if number >= 1 << 63 else number


def double(value: Value) -> float:
    return struct.unpack("<d", _FIXED64.pack(whole(value)))[0]
