"""Text files that grow by lines: CSV, TSV and JSON lines.

Of a file that only grew, the lines that were added are read. That it only grew is told by the hash of all bytes that
were read before; a line is complete when its end is there, outside of quotes. A quote opens only where a field begins.
"""

from __future__ import annotations

import io
import mmap
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import blake3
import msgspec
import polars as pl

from noria.data.collectors import quotes, sift
from noria.data.collectors.csv import read_csv
from noria.data.collectors.protocol import Columns, Misfits

KINDS: Final = frozenset({"csv", "tsv", "jsonl", "ndjson"})
_SEPARATORS: Final = {"csv": ",", "tsv": "\t"}
_HASH_AT_ONCE: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What of a file is to be read.

    Attributes:
        start, end: bytes; ``start`` is 0 where all of it is.
        size: of the file when it was looked at.
        digest: of the bytes up to ``end``.
        rewritten: it had been read before, and those bytes are no longer there.
        open_end: bytes of a last line whose end is not there yet; they are left.
    """

    start: int
    end: int
    size: int
    digest: str
    rewritten: bool
    open_end: int


def kind_of(name: str) -> str:
    """The kind by the ending, lower case; the one below ``.gz``."""
    return name.lower().removesuffix(".gz").rpartition(".")[2]


def grows(name: str) -> bool:
    return not name.lower().endswith(".gz") and kind_of(name) in KINDS


def look(path: Path, before: Mapping[str, Any], settle: float) -> Span:
    """Compares a file with its mark.

    Args:
        settle: a last line without an end is taken when the file has stood still for so many seconds.
    """
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        size = found.st_size
        if size == 0:
            return Span(start=0, end=0, size=0, digest=_hex(b""), rewritten=bool(before.get("read")), open_end=0)
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            hasher, start = blake3.blake3(max_threads=blake3.blake3.AUTO), 0
            read = int(before.get("read", before.get("size", 0)))
            if before and read <= size:
                _update(hasher, data, 0, read)
                if hasher.hexdigest() == before.get("digest") and _ended(data, read, size):
                    start = read
                else:
                    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
            end = _last_end(data, start, size, _SEPARATORS.get(kind_of(path.name)))
            if end < size and time.time_ns() - found.st_mtime_ns >= settle * 1e9:
                end = size
            _update(hasher, data, start, end)
    return Span(
        start=start,
        end=end,
        size=size,
        digest=hasher.hexdigest(),
        rewritten=bool(before) and read > 0 and start == 0,
        open_end=size - end,
    )


def read_lines(path: Path, span: Span, columns: Columns | None) -> tuple[pl.DataFrame, Misfits | None]:
    """The rows of a span that fit the columns of the table, and the lines that do not.

    Lines that were added take the names of their columns from the header.

    Args:
        columns: None where the table has none yet: the lines say what the types are.

    Raises:
        TooManyMisfits: see ``read_fitting``.
    """
    kind = kind_of(path.name)
    with path.open("rb") as file:
        header = file.readline() if span.start and kind in ("csv", "tsv") else b""
        file.seek(span.start)
        data = file.read(span.end - span.start)
    text = data.lstrip(b"\r\n") if span.start else data
    if header and not header.endswith(b"\n"):
        header += b"\n"

    def first() -> int:
        if span.start:
            return 1 + _lines_before(path, span.start) + data.count(b"\n", 0, len(data) - len(text))
        return 2 if kind in ("csv", "tsv") else 1

    return read_text(header + text, kind, columns, first)


def read_text(
    text: bytes, kind: str, columns: Columns | None, first: Callable[[], int]
) -> tuple[pl.DataFrame, Misfits | None]:
    """The rows of a text with its header; see ``read_lines``.

    Args:
        first: the number of the first line of rows, as a person counts.
    """
    if columns is None:
        return parse(text, kind), None
    # Text that looks like a number stays the text that it is; all else is read as it looks, and cast.
    texts = {name: dtype for name, dtype in columns.types.items() if dtype == pl.String}
    return sift.read_fitting(text, kind, columns, lambda data: parse(data, kind, texts), first)


def parse(text: bytes, kind: str, texts: Mapping[str, pl.DataType] | None = None) -> pl.DataFrame:
    """Rows with the types that they look like; ``texts`` names columns that hold text. Raises Polars' errors."""
    if kind in ("jsonl", "ndjson"):
        there = {name: dtype for name, dtype in (texts or {}).items() if msgspec.json.encode(name) in text}
        return pl.read_ndjson(io.BytesIO(text), infer_schema_length=None, schema_overrides=there)
    return read_csv(text, separator="\t" if kind == "tsv" else ",", types=texts)


def _lines_before(path: Path, place: int) -> int:
    count = 0
    with path.open("rb") as file:
        while place > 0 and (data := file.read(min(place, _HASH_AT_ONCE))):
            count += data.count(b"\n")
            place -= len(data)
    return count


def _ended(data: mmap.mmap, read: int, size: int) -> bool:
    """Whether what was read ended with a line; a line that was taken without its end may have gone on since."""
    if read == 0 or data[read - 1 : read] == b"\n" or read == size:
        return True
    return data[read : read + 1] in (b"\n", b"\r")


def _last_end(data: mmap.mmap, start: int, size: int, separator: str | None) -> int:
    """Where the last complete line ends; of a CSV, with this separator, line ends between quotes are none."""
    end = data.rfind(b"\n", start, size) + 1
    if end <= start:
        return start
    if separator is None or data.find(b'"', start, size) < 0:
        return end
    return quotes.complete(data, start, size, separator)


def _update(hasher: Any, data: mmap.mmap, start: int, end: int) -> None:
    view = memoryview(data)
    try:
        for place in range(start, end, _HASH_AT_ONCE):
            part = view[place : min(end, place + _HASH_AT_ONCE)]
            hasher.update(part)
            part.release()
    finally:
        with suppress(BufferError):
            view.release()


def _hex(data: bytes) -> str:
    return blake3.blake3(data).hexdigest()
