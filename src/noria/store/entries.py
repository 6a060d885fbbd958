"""Entries from bytes, from streams and from other entries, without a file beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO

from noria.store import files
from noria.store.folders import INLINE, entry_bytes
from noria.store.objects import ObjectStore, Writer
from noria.store.records import Entry


def from_bytes(writer: Writer, path: str, data: bytes, *, executable: bool = False) -> Entry:
    if len(data) <= INLINE:
        return Entry(path=path, size=len(data), inline=data, executable=executable)
    return Entry(path=path, size=len(data), content=files.put_bytes(writer, data), executable=executable)


def from_stream(writer: Writer, path: str, file: BinaryIO, *, executable: bool = False) -> Entry:
    """Stores what a file object gives, with flat memory."""
    head = b""
    while len(head) < files.SMALL and (piece := file.read(files.SMALL - len(head))):
        head += piece
    if len(head) < files.SMALL:
        return from_bytes(writer, path, head, executable=executable)
    content = files.put_rest(writer, head, file)
    return Entry(path=path, size=content.size, content=content, executable=executable)


def appended(store: ObjectStore, writer: Writer, entry: Entry, data: bytes) -> Entry:
    """The file with bytes at its end. Only its last chunk is read: the result is what storing it whole would give."""
    if entry.content is None:
        made = from_bytes(writer, entry.path, entry_bytes(store, entry) + data, executable=entry.executable)
        return replace(made, meta=entry.meta)
    content = files.append_bytes(store, writer, entry.content, data)
    return replace(entry, size=content.size, content=content)
