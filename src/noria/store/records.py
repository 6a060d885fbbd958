"""What the store holds: objects, packs, files and the entries of trees."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from noria.base.digest import Digest


class Kind(enum.IntEnum):
    """The kind is part of an object's id, so that a chunk of bytes can never be read as a tree."""

    CHUNK = 1
    """Bytes of a file."""
    RECIPE = 2
    """The chunks that a big file consists of."""
    RANGE = 3
    """A sorted run of entries of a tree."""
    NODE = 4
    """The ranges, or lower nodes, of a tree; the top one names the tree."""
    COMMIT = 5
    TABLE = 6
    """The layout of a table: schema, fragments, deletions."""
    FRAGMENT = 7
    """Rows of a table: a Parquet file, stored as it is."""
    BLOB = 8
    """Anything small of our own: manifests, bitmaps, JSON values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackInfo:
    """A finished pack.

    Attributes:
        id: BLAKE3 hex of the whole file.
        size: bytes of the file.
        count: objects in it.
    """

    id: str
    size: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """Where the bytes of a file are: one chunk, or a recipe of chunks."""

    kind: Kind
    id: Digest
    size: int


class EntryKind(enum.IntEnum):
    FILE = 1
    SYMLINK = 2
    FOLDER = 3
    """Only empty folders are entries of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path of a tree.

    Attributes:
        path: relative, ``/`` between parts; undecodable bytes as surrogate escapes.
        executable: the one permission bit that is kept.
        size: bytes of the file, 0 for others.
        content: None for links, empty folders and files kept inline.
        inline: the bytes of a file of at most 64 bytes.
        target: where a symbolic link points; kept as text, never followed.
        meta: the user's own metadata.
    """

    path: str
    kind: EntryKind = EntryKind.FILE
    executable: bool = False
    size: int = 0
    content: FileContent | None = None
    inline: bytes | None = None
    target: str | None = None
    meta: dict[str, Any] = field(default_factory=dict[str, Any])
