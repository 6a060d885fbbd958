"""Where the lines of a CSV end: a line end between quotes is none, and a quote in the middle of a field opens nothing.

Where quotes open and end in turn, it is told by their places; else by expressions that go over the bytes once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST: Final = 1 << 20
"""Bytes behind a quote that opens, up to which the quote that ends it is waited for in a file that grows."""
_AT_ONCE: Final = 8 << 20
_QUOTE: Final = ord('"')
_LINE: Final = ord("\n")
_RETURN: Final = ord("\r")


@dataclass(frozen=True, slots=True)
class _Forms:
    """Expressions for one separator.

    Attributes:
        record: a line with its end, or several where the ends stand between quotes; not where a quote stays open.
        records: as many of them as are complete.
        part: a record as far as a quote that stays open.
        regular: text in which each quote opens, ends or is doubled within quotes, as everybody reads it.
        quoted: a whole field between quotes.
    """

    record: re.Pattern[bytes]
    records: re.Pattern[bytes]
    part: re.Pattern[bytes]
    regular: re.Pattern[bytes]
    quoted: re.Pattern[bytes]


@cache
def _forms(separator: str) -> _Forms:
    mark = re.escape(separator.encode())
    field = rb"(?<![^" + mark + rb'\n])"(?:[^"]++|"")*+"'
    part = rb'(?:[^"\n]++|' + field + rb"|(?<=[^" + mark + rb'\n])")*+'
    return _Forms(
        record=re.compile(part + rb"(?:\n|\Z)"),
        records=re.compile(rb"(?:" + part + rb"\n)*+"),
        part=re.compile(part),
        regular=re.compile(rb'(?:[^"]++|' + field + rb"(?=[" + mark + rb"\r\n]|\Z))*+"),
        quoted=re.compile(field),
    )


def regular(data: bytes, separator: str) -> bool:
    """Whether no quote stands in the middle of a field, or stays open."""
    if b'"' not in data:
        return True
    place, size = 0, len(data)
    while (found := _alternating(data, place, min(place + _AT_ONCE, size), separator)) is not None:
        if place + _AT_ONCE >= size:
            return not len(found) % 2
        cut = _cut(data, place, place + _AT_ONCE, found)
        if cut == place:
            return _forms(separator).regular.fullmatch(data, place) is not None
        place = cut
    return False


def _cut(data: Any, start: int, end: int, found: NDArray[np.int64]) -> int:
    """Where the last line ends outside of quotes that stand at these places; ``start`` where none does."""
    last = data.rfind(b"\n", start, end)
    while last >= start and (before := int(np.searchsorted(found, last))) % 2:
        last = data.rfind(b"\n", start, int(found[before - 1]))
    return max(last + 1, start)


def _alternating(data: Any, start: int, end: int, separator: str) -> NDArray[np.int64] | None:
    """The places of the quotes, where they open and end in turn as everybody reads it; None where one does not.

    The last one may open and not end. Two beside each other within quotes end and open.
    """
    if end <= start:
        return np.zeros(0, dtype=np.int64)
    text = np.frombuffer(data, dtype=np.uint8, count=end - start, offset=start)
    found = np.flatnonzero(text == _QUOTE)
    beside = np.zeros(len(found) + 1, dtype=bool)
    beside[1:-1] = np.diff(found) == 1
    opens, ends = found[::2], found[1::2]
    before = text[np.maximum(opens - 1, 0)]
    well = (opens == 0) | np.isin(before, (ord(separator), _LINE)) | beside[:-1][::2]
    after = text[np.minimum(ends + 1, len(text) - 1)]
    done = (ends == len(text) - 1) | np.isin(after, (ord(separator), _LINE, _RETURN)) | beside[1:][1::2]
    return found + start if bool(well.all() and done.all()) else None


def unquoted(data: bytes, separator: str) -> bytes:
    """Regular text without what stands between quotes."""
    return data if b'"' not in data else _forms(separator).quoted.sub(b"", data)


def complete(data: Any, start: int, end: int, separator: str) -> int:
    """Where the last complete record between two places of a file ends; ``start`` where none does.

    A quote that opens and does not end within ``LONGEST`` opened nothing.
    """
    while (found := _alternating(data, start, min(start + _AT_ONCE, end), separator)) is not None:
        cut = _cut(data, start, min(start + _AT_ONCE, end), found)
        if start + _AT_ONCE >= end:
            if end - cut <= LONGEST or not len(found) % 2:
                return cut
            break
        if cut == start:
            break
        start = cut
    forms = _forms(separator)
    last, place = start, start
    while (match := forms.records.match(data, place, end)) is not None:
        if match.end() > place:
            last = match.end()
        opened = _end(forms.part, data, match.end(), end)
        if end - last <= LONGEST or opened >= end or data[opened : opened + 1] != b'"':
            break
        place = opened + 1
    return last


def _end(form: re.Pattern[bytes], data: Any, start: int, end: int) -> int:
    match = form.match(data, start, end)
    return start if match is None else match.end()


def records(data: bytes, separator: str) -> Iterator[tuple[int, int]]:
    """The records of a text: where each begins, and where the next one does.

    Where quotes span lines and are not regular, the line stands for itself: its quote opened nothing.
    """
    forms = _forms(separator)
    place, size, quote = 0, len(data), data.find(b'"')
    while place < size:
        end = data.find(b"\n", place) + 1 or size
        if 0 <= quote < place:
            quote = data.find(b'"', place)
        if 0 <= quote < end and (match := forms.record.match(data, place)) is not None:
            whole = match.end()
            if whole <= end or forms.regular.fullmatch(data, place, whole):
                end = whole
        yield place, end
        place = end


def fields(record: bytes, separator: str) -> tuple[list[bytes], bool] | None:
    """The fields of a record as they are written, and whether its quotes are regular; None where one stays open."""
    text, mark = record.rstrip(b"\r\n"), separator.encode()
    if b'"' not in text:
        return text.split(mark), True
    forms = _forms(separator)
    found: list[bytes] = []
    place, plain = 0, True
    while True:
        match = forms.quoted.match(text, place)
        if match is not None:
            end = match.end()
            if end < len(text) and text[end : end + 1] != mark:
                return None
        else:
            end = text.find(mark, place)
            end = len(text) if end < 0 else end
            if text[place : place + 1] == b'"':
                return None
            plain = plain and b'"' not in text[place:end]
        found.append(text[place:end])
        if end == len(text):
            return found, plain
        place = end + 1


def requoted(some: list[bytes], separator: str) -> bytes:
    """A line of such fields that everybody reads in the same way."""
    made = (b'"' + one.replace(b'"', b'""') + b'"' if b'"' in one and one[:1] != b'"' else one for one in some)
    return separator.encode().join(made) + b"\n"


def value(field: bytes) -> str:
    """What a field says."""
    text = field.decode()
    return text[1:-1].replace('""', '"') if text[:1] == '"' and text[-1:] == '"' and len(text) > 1 else text
