"""Lines of a text file whose values do not fit the columns of a table: told from the others, line by line.

Files are parsed at once, and only where that fails or gives other types is each line looked at: then those that do not
fit are set apart as text, and the rest has the table's types. A file whose types nobody knows yet is not sifted.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec
import polars as pl

from noria.data.collectors.protocol import Columns, Misfits
from noria.data.contract import Finding
from noria.data.rows.schema import fit, type_name

_Row: TypeAlias = dict[str, str | None]

FEW: Final = 10
"""So many lines are set apart even where they are most of what came: a watched file brings few lines at a time."""
_SHOWN: Final = 3
_LONG: Final = 200
REST: Final = "__line"
"""The column that holds the text of lines that are no rows at all."""


class TooManyMisfits(Exception):
    """More than half of the lines do not fit: the form of the file changed, and a person has to look."""

    def __init__(self, misfits: Misfits) -> None:
        super().__init__(misfits.report[0].message)
        self.misfits = misfits


@dataclass(frozen=True, slots=True)
class _Record:
    """A line, or several of them where a line end stands between quotes."""

    number: int
    raw: bytes

    @property
    def readable(self) -> bool:
        try:
            self.raw.decode()
        except UnicodeDecodeError:
            return False
        return True

    @property
    def text(self) -> str:
        return self.raw.decode("utf-8", errors="backslashreplace").rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class _Bad:
    record: _Record
    rule: str
    column: str
    what: str


def read_fitting(
    data: bytes,
    kind: str,
    columns: Columns,
    parse: Callable[[bytes], pl.DataFrame],
    first: Callable[[], int],
) -> tuple[pl.DataFrame, Misfits | None]:
    """The rows of a text that fit the types, and what does not.

    Args:
        data: with the header, of a CSV.
        kind: csv, tsv, jsonl or ndjson.
        columns: of the table. No line may lack a column of the key.
        parse: gives the rows of all of it, or raises an error of Polars.
        first: the number of the line behind the header, as a person counts.

    Raises:
        TooManyMisfits: more than half of the lines do not fit, and more than ``FEW``.
        PolarsError: what cannot be read line by line either.
    """
    types, key = columns.types, columns.key
    try:
        frame = parse(data)
    except pl.exceptions.PolarsError:
        found = _sift(data, kind, types, key, first())
        if found is None:
            raise
        return found
    if set(frame.columns) != set(types):
        return frame, None  # not a matter of lines
    fitted, misfits = fit(frame, types)
    if not misfits and not any(fitted[name].null_count() for name in key):
        return fitted, None
    return _sift(data, kind, types, key, first()) or (frame, None)


def _sift(
    data: bytes, kind: str, types: Mapping[str, pl.DataType], key: Sequence[str], first: int
) -> tuple[pl.DataFrame, Misfits | None] | None:
    """None where the lines do not have the columns of the table, so that there is nothing to compare."""
    if any(dtype.is_nested() for dtype in types.values()):
        return None
    if kind in ("jsonl", "ndjson"):
        split = _json_rows(data, types, first)
    else:
        split = _csv_rows(data, "\t" if kind == "tsv" else ",", types, first)
    if split is None:
        return None
    records, rows, bad = split
    lines = len(records) + len(bad)
    text = pl.DataFrame(
        [{name: row.get(name) for name in types} for row in rows], schema=dict.fromkeys(types, pl.String)
    )
    wrong: dict[int, _Bad] = {}
    for name, mask in fit(text, types)[1].items():
        for place in mask.arg_true().to_list():
            what = f"holds {text[name][place]!r:.80} for {name}, which is {type_name(types[name], name)}"
            wrong.setdefault(place, _Bad(records[place], f"{name}.type", name, what))
    for name in key:
        for place in text[name].is_null().arg_true().to_list():
            wrong.setdefault(
                place, _Bad(records[place], f"{name}.missing", name, f"has no {name}, which is of the key")
            )
    keep = pl.Series([place not in wrong for place in range(len(text))], dtype=pl.Boolean)
    good = fit(text.filter(keep), types)[0]
    bad = sorted([*bad, *wrong.values()], key=lambda one: one.record.number)
    if not bad:
        return good, None
    made = _misfits(bad, text.filter(~keep), lines)
    if len(bad) * 2 > lines and len(bad) > FEW:
        raise TooManyMisfits(made)
    return good, made


def _csv_rows(
    data: bytes, separator: str, types: Mapping[str, pl.DataType], first: int
) -> tuple[list[_Record], list[_Row], list[_Bad]] | None:
    records = _records(data, quoted=True)
    header = next(records, None)
    if header is None:
        return None
    names = _fields(header.text, separator)
    if set(names) != set(types) or len(names) != len(types):
        return None
    good: list[_Record] = []
    rows: list[_Row] = []
    bad: list[_Bad] = []
    behind = header.raw.count(b"\n") + 1
    for record in (one for some in records for one in _apart(some, separator)):
        here = _Record(record.number - behind + first, record.raw)
        if not record.raw.strip():
            continue
        fields = _fields(here.text, separator)
        if not here.readable:
            bad.append(_Bad(here, "line.text", "", "is not UTF-8"))
        elif len(fields) > len(names):
            bad.append(_Bad(here, "line.fields", "", f"has {len(fields)} fields, and the header {len(names)}"))
        else:
            good.append(here)
            rows.append(dict(zip(names, (field or None for field in fields), strict=False)))
    return good, rows, bad


def _json_rows(
    data: bytes, types: Mapping[str, pl.DataType], first: int
) -> tuple[list[_Record], list[_Row], list[_Bad]] | None:
    good: list[_Record] = []
    rows: list[_Row] = []
    bad: list[_Bad] = []
    for record in _records(data, quoted=False):
        if not record.raw.strip():
            continue
        here = _Record(record.number - 1 + first, record.raw)
        try:
            value = msgspec.json.decode(record.raw, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            bad.append(_Bad(here, "line.json", "", "is not a JSON object"))
            continue
        if value.keys() - types.keys():
            return None
        good.append(here)
        rows.append({name: None if one is None else _as_text(one) for name, one in value.items()})
    return good, rows, bad


def _records(data: bytes, *, quoted: bool) -> Iterator[_Record]:
    """The lines, numbered from 1; where ``quoted``, a line end between quotes is none."""
    number, held = 1, b""
    for line in io.BytesIO(data):
        held += line
        if quoted and held.count(b'"') % 2:
            continue
        yield _Record(number, held)
        number += held.count(b"\n")
        held = b""
    if held:
        yield _Record(number, held)


def _apart(record: _Record, separator: str) -> Iterator[_Record]:
    """The record; or its lines one by one, where a quote stands in the middle of a field and opens nothing."""
    lines = record.raw.splitlines(keepends=True)
    if len(lines) == 1 or len(list(csv.reader(io.StringIO(record.text, newline=""), delimiter=separator))) == 1:
        yield record
        return
    for number, line in enumerate(lines):
        yield _Record(record.number + number, line)


def _fields(text: str, separator: str) -> list[str]:
    if '"' not in text:
        return text.split(separator)
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [""])


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _misfits(bad: Sequence[_Bad], rows: pl.DataFrame, lines: int) -> Misfits:
    """What does not fit, with a report by rule."""
    nothing = [one.record.text for one in bad if one.rule.startswith("line.")]
    if nothing:
        none = pl.DataFrame({REST: nothing}, schema={REST: pl.String})
        rows = pl.concat([rows.with_columns(pl.lit(None, pl.String).alias(REST)), none], how="diagonal")
    report: list[Finding] = []
    for rule in dict.fromkeys(one.rule for one in bad):
        some = [one for one in bad if one.rule == rule]
        shown = [{"line": one.record.number, "text": one.record.text[:_LONG]} for one in some[:_SHOWN]]
        told = "; ".join(f"line {one.record.number} {one.what}" for one in some[:_SHOWN])
        report.append(Finding(rule, some[0].column, len(some), f"{len(some)} of {lines} lines: {told}", shown))
    return Misfits(lines=lines, count=len(bad), rows=rows, report=report)
