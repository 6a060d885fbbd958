"""The lines of a CSV and of JSON: read at once with the types of a table, cut into pieces, or looked at one by one."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import polars as pl

from noria.data.collectors import quotes
from noria.data.rows.schema import fit
from noria.data.rows.texts import whole_below

PIECE: Final = 4 << 20
"""Bytes that are looked at line by line at a time."""
_BLANKS: Final = " \t"
_BOM: Final = b"\xef\xbb\xbf"
_Decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class OtherColumns(Exception):
    """A line has columns that the table does not have: not a matter of single lines."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or several of them where a line end stands between quotes.

    Attributes:
        raw: as it stands in the file; ``plain`` is the same in a form that every reader understands alike.
    """

    number: int
    raw: bytes
    plain: bytes

    @property
    def text(self) -> str:
        return self.raw.decode("utf-8", errors="backslashreplace").rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class Bad:
    line: Line
    rule: str
    column: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvLines:
    """Of a CSV.

    Attributes:
        begins: where the first line behind the header does.
    """

    separator: str
    header: bytes
    names: Sequence[str]
    types: Mapping[str, pl.DataType]
    begins: int

    @classmethod
    def of(cls, data: bytes, kind: str, types: Mapping[str, pl.DataType]) -> CsvLines | None:
        """None where the header does not have the columns of the table."""
        separator = "\t" if kind == "tsv" else ","
        skipped = len(_BOM) if data.startswith(_BOM) else 0
        start, end = next(quotes.records(data[skipped:], separator), (0, 0))
        header = data[skipped + start : skipped + end]
        found = quotes.fields(header, separator)
        try:
            names = [quotes.value(one) for one in found[0]] if found and found[1] else []
        except UnicodeDecodeError:
            return None
        if set(names) != set(types) or len(names) != len(types):
            return None
        if not header.endswith(b"\n"):
            header += b"\n"
        return cls(separator=separator, header=header, names=names, types=types, begins=skipped + end)

    def read(self, data: bytes) -> pl.DataFrame | None:
        """The rows with the types of the table; None where not each line is one that fits."""
        if not quotes.regular(data, self.separator):
            return None
        numbers = {name: dtype for name, dtype in self.types.items() if dtype.is_integer() or dtype.is_float()}
        try:
            frame = self._frame(data, numbers)
            large = _large(frame, numbers)
            if large:
                frame = self._frame(data, {name: dtype for name, dtype in numbers.items() if name not in large})
        except pl.exceptions.PolarsError:
            return None
        between = len(self.names) - 1
        if between and frame[self.names[-1]].null_count():  # as in a line that is too short
            marks = quotes.unquoted(data, self.separator).count(self.separator.encode())
            if marks != between * len(frame):
                return None
        fitted, misfits = fit(_blanks_are_none(frame, self.types), self.types)
        return None if misfits else fitted

    def _frame(self, data: bytes, numbers: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """Text but for the numbers. Raises Polars' errors."""
        schema = {name: numbers.get(name, pl.String()) for name in self.names}
        if not data:
            return pl.DataFrame(schema=schema)
        return pl.read_csv(
            io.BytesIO(data), separator=self.separator, has_header=False, schema=schema, infer_schema_length=0
        )

    def pieces(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Places of the text between which there are whole lines, some megabytes each."""
        if data.find(b'"', self.begins) < 0:
            yield from _pieces(data, self.begins)
            return
        body = data[self.begins :]
        start = end = 0
        for _, end in quotes.records(body, self.separator):
            if end - start >= PIECE:
                yield self.begins + start, self.begins + end
                start = end
        if end > start:
            yield self.begins + start, self.begins + end

    def split(self, data: bytes, number: int) -> tuple[list[Line], list[Bad]]:
        """(lines with a value for each column, the others with what is wrong), numbered from ``number``."""
        rows: list[Line] = []
        bad: list[Bad] = []
        ascii_only = data.isascii()
        for start, end in quotes.records(data, self.separator):
            raw = data[start:end]
            here = number
            number += raw.count(b"\n")
            if len(self.names) > 1 and not raw.strip(b"\r\n"):
                continue
            line, wrong = self._line(here, raw, ascii_only=ascii_only)
            if wrong is None:
                rows.append(line)
            else:
                bad.append(wrong)
        return rows, bad

    def _line(self, number: int, raw: bytes, *, ascii_only: bool) -> tuple[Line, Bad | None]:
        ended = raw if raw.endswith(b"\n") else raw + b"\n"
        line = Line(number, raw, ended)
        if not ascii_only and not _readable(raw):
            return line, Bad(line, "line.text", "", "is not UTF-8")
        found = quotes.fields(raw, self.separator)
        if found is None:
            return line, Bad(line, "line.quotes", "", "has a quote that opens a field and does not end it")
        fields, plain = found
        if len(fields) != len(self.names):
            count = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
            return line, Bad(line, "line.fields", "", f"has {count}, and the header {len(self.names)}")
        return (line if plain else Line(number, raw, quotes.requoted(fields, self.separator))), None

    def text(self, rows: Sequence[Line]) -> pl.DataFrame:
        """Each value as text, null where there is none."""
        frame = self._frame(b"".join(row.plain for row in rows), {})
        return _blanks_are_none(frame, self.types).select(list(self.types))


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLines:
    """Of JSON, an object a line."""

    types: Mapping[str, pl.DataType]
    begins: int = 0
    _read: Mapping[str, pl.DataType] = field(repr=False)

    @classmethod
    def of(cls, _: bytes, types: Mapping[str, pl.DataType]) -> JsonLines:
        exact = {name: dtype for name, dtype in types.items() if _is_json(dtype)}
        return cls(types=types, _read={name: exact.get(name, pl.String()) for name in types})

    def read(self, data: bytes) -> pl.DataFrame | None:
        """The rows with the types of the table; None where not each line is one that fits."""
        if any(isinstance(dtype, pl.Decimal) for dtype in self.types.values()):
            return None  # Polars reads floats, which have fewer digits
        if not data:
            return pl.DataFrame(schema=dict(self.types))
        there = {name: dtype for name, dtype in self._read.items() if msgspec.json.encode(name) in data}
        try:
            frame = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None, schema_overrides=there)
        except pl.exceptions.PolarsError:
            return None
        # A field that no object has is null in all of them, as one is that some do not have.
        frame = frame.with_columns(pl.lit(None, self._read[name]).alias(name) for name in self.types.keys() - there)
        if set(frame.columns) != set(self.types) or _large(frame, self._read):
            return None
        fitted, misfits = fit(_blanks_are_none(frame, self.types), self.types)
        return None if misfits else fitted

    def pieces(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Places of the text between which there are whole lines, some megabytes each."""
        yield from _pieces(data, 0)

    def split(self, data: bytes, number: int) -> tuple[list[Line], list[Bad]]:
        """(objects with columns of the table, the others with what is wrong), numbered from ``number``.

        Raises:
            OtherColumns: an object has others.
        """
        rows: list[Line] = []
        bad: list[Bad] = []
        for here, raw in enumerate(io.BytesIO(data), number):
            if not raw.strip():
                continue
            line = Line(here, raw, raw if raw.endswith(b"\n") else raw + b"\n")
            try:
                value = _Decoder.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                bad.append(Bad(line, "line.json", "", "is not a JSON object"))
                continue
            if value.keys() - self.types.keys():
                raise OtherColumns
            rows.append(line)
        return rows, bad

    def text(self, rows: Sequence[Line]) -> pl.DataFrame:
        """Each value as text, null where there is none; numbers as they are written."""
        columns: dict[str, list[str | None]] = {name: [] for name in self.types}
        for row in rows:
            value = _Decoder.decode(row.raw)
            for name, texts in columns.items():
                texts.append(_said(value.get(name), whole=self.types[name] != pl.String()))
        frame = pl.DataFrame(columns, schema=dict.fromkeys(self.types, pl.String))
        return _blanks_are_none(frame, self.types)


def _is_json(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float() or dtype == pl.Boolean


def _said(raw: msgspec.Raw | None, *, whole: bool) -> str | None:
    if raw is None:
        return None
    value = bytes(raw)
    if value == b"null":
        return None
    if whole and value[:1] != b'"':
        return value.decode()
    said = msgspec.json.decode(value)
    return said if isinstance(said, str) else msgspec.json.encode(said).decode()


def _large(frame: pl.DataFrame, types: Mapping[str, pl.DataType]) -> list[str]:
    """Columns of floats in which a number may stand for another one; the text tells."""
    return [
        name
        for name, dtype in types.items()
        if dtype.is_float() and ((frame[name].abs() >= whole_below(dtype)) & frame[name].is_not_nan()).any()
    ]


def _blanks_are_none(frame: pl.DataFrame, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Text of columns that hold none without blanks before it; nothing is null then."""
    names = [name for name, dtype in frame.schema.items() if dtype == pl.String and types[name] != pl.String]
    if not names:
        return frame
    text = pl.col(names).str.strip_chars_start(_BLANKS)
    return frame.with_columns(pl.when(text != "").then(text))


def _pieces(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    size = len(data)
    while start < size:
        end = data.find(b"\n", min(start + PIECE, size)) + 1 or size
        yield start, end
        start = end


def _readable(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
