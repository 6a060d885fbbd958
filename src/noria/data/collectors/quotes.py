"""Where the lines of a CSV end: a line end between quotes is none, and a quote in the middle of a field opens nothing.

All of it is told by expressions that go over the bytes once; none of them goes back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

LONGEST: Final = 1 << 20
"""Bytes behind a quote that opens, up to which the quote that ends it is waited for in a file that grows."""


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
    return b'"' not in data or _forms(separator).regular.fullmatch(data) is not None


def unquoted(data: bytes, separator: str) -> bytes:
    """Regular text without what stands between quotes."""
    return data if b'"' not in data else _forms(separator).quoted.sub(b"", data)


def complete(data: Any, start: int, end: int, separator: str) -> int:
    """Where the last complete record between two places of a file ends; ``start`` where none does.

    A quote that opens and does not end within ``LONGEST`` opened nothing.
    """
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
