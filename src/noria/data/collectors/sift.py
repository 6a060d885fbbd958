"""Lines of a text file whose values do not fit the columns of a table: told from the others, line by line.

Files are read at once with the table's types, and only in pieces where that fails is each line looked at: then those
that do not fit are set apart as text. A file whose types nobody knows yet is not sifted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import polars as pl

from noria.data.collectors.forms import Bad, CsvLines, JsonLines, Line, OtherColumns
from noria.data.collectors.protocol import Columns, Misfits
from noria.data.contract import Finding
from noria.data.rows.schema import fit, type_name

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


def read_fitting(
    data: bytes,
    kind: str,
    columns: Columns,
    parse: Callable[[bytes], pl.DataFrame],
    first: Callable[[], int],
) -> tuple[pl.DataFrame, Misfits | None]:
    """The rows of a text that fit the types, and what does not.

    What a line means does not depend on the others.

    Args:
        data: with the header, of a CSV.
        kind: csv, tsv, jsonl or ndjson.
        columns: of the table. No line may lack a column of the key.
        parse: gives the rows of all of it with the types that they look like, or raises an error of Polars.
        first: the number of the line behind the header, as a person counts.

    Raises:
        TooManyMisfits: more than half of the lines do not fit, and more than ``FEW``.
        PolarsError: what cannot be read line by line either.
    """
    types = columns.types
    form = _form(data, kind, types)
    if form is None:
        frame = parse(data)
        if set(frame.columns) != set(types):
            return frame, None  # not a matter of lines
        fitted, misfits = fit(frame, types)
        return (frame if misfits else fitted), None
    found = form.read(data[form.begins :])
    if found is not None and not _lacks(found, columns.key):
        return found, None
    try:
        return _sift(form, data, columns, first())
    except OtherColumns:
        return parse(data), None


def _form(data: bytes, kind: str, types: Mapping[str, pl.DataType]) -> CsvLines | JsonLines | None:
    """None where the lines do not have the columns of the table, so that there is nothing to compare."""
    if any(dtype.is_nested() for dtype in types.values()):
        return None
    return JsonLines.of(data, types) if kind in ("jsonl", "ndjson") else CsvLines.of(data, kind, types)


def _lacks(frame: pl.DataFrame, key: Sequence[str]) -> bool:
    return any(frame[name].null_count() for name in key)


def _sift(
    form: CsvLines | JsonLines, data: bytes, columns: Columns, number: int
) -> tuple[pl.DataFrame, Misfits | None]:
    """Goes through the text in pieces; in those that do not fit as they are, each line is looked at."""
    types = columns.types
    good: list[pl.DataFrame] = []
    texts: list[pl.DataFrame] = []
    bad: list[Bad] = []
    lines = 0
    for start, end in form.pieces(data):
        piece = data[start:end]
        frame = form.read(piece)
        if frame is None or _lacks(frame, columns.key):
            rows, torn = form.split(piece, number)
            frame, text, wrong = _judged(form, rows, columns)
            lines += len(rows) + len(torn)
            bad += [*torn, *wrong]
            texts.append(text)
        else:
            lines += len(frame)
        good.append(frame.select(list(types)))
        number += piece.count(b"\n")
    made = pl.concat(good) if good else pl.DataFrame(schema=dict(types))
    if not bad:
        return made, None
    found = _misfits(sorted(bad, key=lambda one: one.line.number), pl.concat(texts), lines)
    if len(bad) * 2 > lines and len(bad) > FEW:
        raise TooManyMisfits(found)
    return made, found


def _judged(
    form: CsvLines | JsonLines, rows: Sequence[Line], columns: Columns
) -> tuple[pl.DataFrame, pl.DataFrame, list[Bad]]:
    """(the rows that fit, the others as text, what is wrong with them)."""
    types = columns.types
    text = form.text(rows)
    wrong: dict[int, Bad] = {}
    made, misfits = fit(text, types)
    for name, mask in misfits.items():
        for place in mask.arg_true().to_list():
            what = f"holds {text[name][place]!r:.80} for {name}, which is {type_name(types[name], name)}"
            wrong.setdefault(place, Bad(rows[place], f"{name}.type", name, what))
    for name in columns.key:
        for place in text[name].is_null().arg_true().to_list():
            wrong.setdefault(place, Bad(rows[place], f"{name}.missing", name, f"has no {name}, which is of the key"))
    keep = pl.Series([place not in wrong for place in range(len(rows))], dtype=pl.Boolean)
    # Those that fit are read as they would be without the others.
    again = form.read(b"".join(row.plain for place, row in enumerate(rows) if place not in wrong))
    if again is None or len(again) != len(rows) - len(wrong) or _lacks(again, columns.key):
        again = fit(text.filter(keep), types)[0] if misfits else made.filter(keep)
    return again, text.filter(~keep), list(wrong.values())


def _misfits(bad: Sequence[Bad], rows: pl.DataFrame, lines: int) -> Misfits:
    """What does not fit, with a report by rule."""
    nothing = [one.line.text for one in bad if one.rule.startswith("line.")]
    if nothing:
        none = pl.DataFrame({REST: nothing}, schema={REST: pl.String})
        rows = pl.concat([rows.with_columns(pl.lit(None, pl.String).alias(REST)), none], how="diagonal")
    report: list[Finding] = []
    for rule in dict.fromkeys(one.rule for one in bad):
        some = [one for one in bad if one.rule == rule]
        shown = [{"line": one.line.number, "text": one.line.text[:_LONG]} for one in some[:_SHOWN]]
        told = "; ".join(f"line {one.line.number} {one.what}" for one in some[:_SHOWN])
        report.append(Finding(rule, some[0].column, len(some), f"{len(some)} of {lines} lines: {told}", shown))
    return Misfits(lines=lines, count=len(bad), rows=rows, report=report)
