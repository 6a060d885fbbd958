"""Digests that carry their algorithm, and the object id of the content store."""

from __future__ import annotations

from typing import Final

import blake3 as _blake3

from noria.base.errors import Invalid

_ALGORITHM: Final = "blake3"


class Digest:
    """A BLAKE3-256 digest. Equal digests mean equal content; the text form is ``blake3:<64 hex>``."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != 32:
            raise Invalid(f"A digest has 32 bytes, not {len(raw)}.")
        self.raw = raw

    @classmethod
    def of(cls, data: bytes | memoryview) -> Digest:
        return cls(_blake3.blake3(data).digest())

    @classmethod
    def parse(cls, text: str) -> Digest:
        algorithm, _, value = text.partition(":")
        try:
            raw = bytes.fromhex(value)
        except ValueError:
            raw = b""
        if algorithm != _ALGORITHM or len(raw) != 32:
            raise Invalid(f"{text!r} is not a digest.", hint="A digest is written blake3:<64 hexadecimal digits>.")
        return cls(raw)

    @property
    def hex(self) -> str:
        return self.raw.hex()

    @property
    def short(self) -> str:
        """The first 12 hexadecimal digits, for people."""
        return self.raw.hex()[:12]

    def __str__(self) -> str:
        return f"{_ALGORITHM}:{self.raw.hex()}"

    def __repr__(self) -> str:
        return f"Digest({self.short})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __lt__(self, other: Digest) -> bool:
        return self.raw < other.raw
