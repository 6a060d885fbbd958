"""What a folder looked like when it was last committed or checked out: names, sizes, times and inodes.

One blob for each folder, in the order in which the system lists it, so that an unchanged folder is recognised by
comparing two byte strings, and nothing of it is decoded. The contents are in the tree that the cache names.

    "NSTC" version u8, root in 64 hexadecimal digits or spaces, then MessagePack:
    [root, time of looking in ns, state of the store, places]
    places: folder -> [names joined by NUL, size, mtime, ctime, inode as u64 each, is it empty]
"""

from __future__ import annotations

import secrets
import struct
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

_MAGIC: Final = b"NSTC\x03"
_HEAD: Final = len(_MAGIC) + 64
_COARSE_NS: Final = 2_000_000_000
_FINE_NS: Final = 100_000_000
_MASK: Final = (1 << 64) - 1
_ROW: Final = struct.Struct("=QQQQ")
NEVER: Final = (0, 0, 0, 0)
"""Stats that no path has: it is looked at again."""


class Place(NamedTuple):
    """One folder, by what lies directly in it (files and links; folders have places of their own)."""

    names: bytes
    stats: bytes
    empty: bool

    def files(self) -> dict[str, tuple[int, ...]]:
        """name -> (size, mtime, ctime, inode)"""
        if not self.names:
            return {}
        names = self.names.decode("utf-8", "surrogateescape").split("\0")
        return dict(zip(names, _ROW.iter_unpack(self.stats), strict=True))


def place(names: Iterable[str], stats: Iterable[int], *, empty: bool) -> Place:
    """From the names of a folder and four numbers for each."""
    numbers = list(stats)
    try:
        columns = array("Q", numbers)
    except OverflowError:  # a time before 1970
        columns = array("Q", [number & _MASK for number in numbers])
    return Place("\0".join(names).encode("utf-8", "surrogateescape"), columns.tobytes(), empty)


class StatCache(msgspec.Struct, array_like=True):
    """The cache of one folder.

    Attributes:
        root: the tree that the folder was equal to, in hexadecimal; empty if it never was.
        looked_ns: when the looking began: what was changed shortly before may have changed again afterwards, unseen.
        state: what the store was like (``Writer.state``) when it surely held every content of the tree; may be empty.
        places: by folder; the key is empty or ends with a slash.
    """

    root: str = ""
    looked_ns: int = 0
    state: str = ""
    places: dict[str, Place] = {}

    @classmethod
    def load(cls, path: Path) -> StatCache:
        """The cache, or an empty one where there is none that can be read."""
        try:
            data = path.read_bytes()
            return msgspec.msgpack.decode(memoryview(data)[_HEAD:], type=cls) if data[:5] == _MAGIC else cls()
        except (FileNotFoundError, msgspec.MsgspecError):
            return cls()

    @staticmethod
    def root_of(path: Path) -> str:
        """``load(path).root``, at a cost that does not grow with the folder."""
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD)
        except FileNotFoundError:
            return ""
        return head[5:].decode("ascii", "replace").strip() if head[:5] == _MAGIC and len(head) == _HEAD else ""

    def save(self, path: Path) -> None:
        """Replaces the file. Not synced: a lost cache costs time only."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(6)}")
        temporary.write_bytes(_MAGIC + self.root.ljust(64).encode() + msgspec.msgpack.encode(self))
        temporary.replace(path)

    def racy(self, found: Place) -> bool:
        """Whether a file of the place may have changed since without a new time (git's racy rule); see ``sure``."""
        times = array("q", found.stats)[1::4]
        return bool(times) and max(times) > self.looked_ns - _COARSE_NS

    def sure(self, stats: tuple[int, ...]) -> bool:
        """Whether a file with these stats, if they are still the same, cannot have changed.

        Its time must be older than one tick of the file system's clock: 2 s where it keeps round times.
        """
        return stats[1] <= self.looked_ns - (_FINE_NS if stats[1] % 1000 else _COARSE_NS)
