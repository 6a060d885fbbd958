"""Contracts: what a batch has to be before it may land. Every row rule is one Polars expression.

A contract is a plain value (JSON in the database, TOML in a file):

    [columns.distance]
    type = "int16"
    missing = 0.0        # largest share of nulls
    min = 0
    max = 6000
    levels = ["EWR"]     # of text: nothing else is allowed
    matches = "^[A-Z]+$"

    [rules]
    positive = "distance > 0 or distance is null"     # SQL over the columns, true for good rows

    [table]              # the batch
    min_rows = 1
    unique = [["flight_id"]]
    fresh = "2d"         # the newest event time is at most this far behind

    [whole]              # the table as it would be after the commit
    min_rows = 1000
    unique = [["tail", "day"]]      # reads these columns of the whole table at each commit
    fresh = "7d"

``[table]`` is checked on the rows that come, at their cost, and with one exception says nothing of the rows that are
there: rows of one key replace each other, so the key of a table is always unique. ``[whole]`` is checked on the table.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec
import polars as pl

from noria.base.errors import Invalid
from noria.base.names import nearest
from noria.base.times import parse_duration
from noria.data.rows.schema import fit, polars_type, type_name
from noria.data.rows.write import examples


class ColumnContract(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Expectations on one column. ``missing`` is the largest share of nulls, 0 to 1."""

    type: str
    missing: float = 1.0
    min: float | str | None = None
    max: float | str | None = None
    levels: list[str] | None = None
    matches: str | None = None


class TableContract(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Expectations on a batch as a whole."""

    min_rows: int = 0
    max_rows: int | None = None
    unique: list[list[str]] = []
    fresh: str | None = None


class WholeContract(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Expectations on the whole table, as it would be after the commit."""

    min_rows: int = 0
    max_rows: int | None = None
    unique: list[list[str]] = []
    fresh: str | None = None


class Contract(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    columns: dict[str, ColumnContract]
    rules: dict[str, str] = {}
    table: TableContract = msgspec.field(default_factory=TableContract)
    whole: WholeContract = msgspec.field(default_factory=WholeContract)

    @cached_property
    def types(self) -> dict[str, pl.DataType]:
        """Column -> its type."""
        return {name: polars_type(column.type) for name, column in self.columns.items()}

    @cached_property
    def row_rules(self) -> dict[str, tuple[str, pl.Expr, str]]:
        """Rule -> (column, expression that is true for good rows, what it says in words)."""
        return _row_rules(self)

    @cached_property
    def every_row(self) -> pl.Expr:
        """True where every row keeps every rule."""
        return pl.all_horizontal([expression for _, expression, _ in self.row_rules.values()]).all()


class Finding(msgspec.Struct):
    """One broken expectation.

    Attributes:
        rule: for instance ``distance.max``.
        count: how many rows break it.
        rows: examples.
    """

    rule: str
    column: str
    count: int
    message: str
    rows: list[dict[str, Any]]


def parse(value: Any) -> Contract:
    """A contract from a plain value; mistakes are named with their place."""
    try:
        made = msgspec.convert(value, Contract)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"The contract does not fit: {error}.", hint="noria data contract infer REPO   writes a whole one."
        ) from None
    for name, column in made.columns.items():
        dtype = polars_type(column.type)
        if column.levels is not None and column.type != "str":
            raise Invalid(f"levels of {name!r} need the type str, not {column.type}.")
        if (column.min is not None or column.max is not None) and not (dtype.is_numeric() or dtype.is_temporal()):
            raise Invalid(f"min and max of {name!r} need a number or a time, not {column.type}.")
        if not 0 <= column.missing <= 1:
            raise Invalid(f"missing of {name!r} is {column.missing}; it is a share from 0 to 1.")
    for name, text in made.rules.items():
        _rule(name, text, made)
    _check_sections(made)
    return made


def _check_sections(made: Contract) -> None:
    for section, part in (("table", made.table), ("whole", made.whole)):
        for column in (column for columns in part.unique for column in columns):
            if column not in made.columns:
                hint = nearest(column, made.columns)
                raise Invalid(f"unique of [{section}] names the unknown column {column!r}.", hint=hint)
        if any(not columns for columns in part.unique):
            raise Invalid(f"unique of [{section}] holds an empty list.", hint='unique = [["flight_id"]]')
        if part.fresh is not None:
            parse_duration(part.fresh)
    for name, column in made.columns.items():
        if column.matches is not None:
            try:
                pl.Series([""]).str.contains(column.matches)
            except pl.exceptions.PolarsError as error:
                raise Invalid(f"matches of {name!r} is not a pattern: {_reason(error)}.") from None
        for bound in (column.min, column.max):
            if isinstance(bound, str):
                _check_bound(name, bound, polars_type(column.type))


def _reason(error: Exception) -> str:
    """Why a pattern cannot be read, in one line: the parser's last word, and not the drawing of it."""
    lines = [line.strip() for line in str(error).split("\n\n")[0].splitlines()]
    return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])[:200]


def _check_bound(name: str, bound: str, dtype: pl.DataType) -> None:
    try:
        pl.select(_bound(bound, dtype)).item()
    except pl.exceptions.PolarsError:
        raise Invalid(
            f"min or max of {name!r} is {bound!r:.60}, and {name!r} holds {type_name(dtype, name)}.",
            hint='A number, or a time like "2013-04-01T05:15:00".',
        ) from None


def _rule(name: str, text: str, contract: Contract) -> pl.Expr:
    try:
        expression = pl.sql_expr(text)
        used = expression.meta.root_names()
    except pl.exceptions.PolarsError as error:
        raise Invalid(f"The rule {name!r} is not an SQL expression: {error}.", hint='"distance > 0"') from None
    for column in used:
        if column not in contract.columns:
            raise Invalid(
                f"The rule {name!r} uses the unknown column {column!r}.", hint=nearest(column, contract.columns)
            )
    return expression


def check(
    contract: Contract,
    frame: pl.DataFrame,
    *,
    time: str | None = None,
    event_ms: int | None = None,
    batch: bool = True,
) -> list[Finding]:
    """Everything that the frame breaks; an empty list where it keeps the contract.

    Args:
        batch: look at ``[table]`` too, which is about a batch as it comes.
    """
    findings = check_columns(contract, frame)
    if findings:
        return findings  # the rules below need the columns to be there with their types
    findings += _check_rows(contract, frame)
    findings += _check_missing(contract, frame)
    if batch:
        findings += _check_table(contract, frame, time, event_ms)
    return findings


def check_columns(contract: Contract, frame: pl.DataFrame) -> list[Finding]:
    """What the columns of a frame break, whatever its rows are."""
    findings: list[Finding] = []
    for name, column in contract.columns.items():
        if name not in frame.columns:
            hint = nearest(name, set(frame.columns) - contract.columns.keys())
            findings.append(
                Finding(f"{name}.present", name, len(frame), _asked(f"the column {name!r} is missing", hint), [])
            )
        elif frame.schema[name] != polars_type(column.type):
            findings.append(_other_type(frame, name, column.type))
    for name in frame.columns:
        if name not in contract.columns:
            # not one that is there, too: who means it by this name would have it twice
            hint = nearest(name, contract.columns.keys() - set(frame.columns))
            text = _asked(f"the contract does not know the column {name!r}", hint)
            findings.append(Finding(f"{name}.known", name, len(frame), text, []))
    return findings


def _asked(text: str, hint: str) -> str:
    """A finding with a name that may have been meant; without the end of a sentence, which who shows it adds."""
    return f"{text} ({hint})" if hint else text


def _other_type(frame: pl.DataFrame, name: str, wanted: str) -> Finding:
    message = f"{name!r} has the type {type_name(frame.schema[name], name)} instead of {wanted}"
    bad = fit(frame.select(name), {name: polars_type(wanted)})[1].get(name)
    if bad is None:
        return Finding(f"{name}.type", name, len(frame), message, [])
    shown = examples(frame.filter(bad))
    values = ", ".join(repr(row[name]) for row in shown)
    text = f"{message}, and {bad.sum()} of {len(frame)} values would be lost or changed by a cast: {values}"
    return Finding(f"{name}.type", name, int(bad.sum()), text, shown)


def _check_rows(contract: Contract, frame: pl.DataFrame) -> list[Finding]:
    rules = contract.row_rules
    if not rules or not len(frame) or frame.select(contract.every_row).item():
        return []
    names = {f"rule_{number}": rule for number, rule in enumerate(rules)}
    good = frame.select(**{label: rules[rule][1] for label, rule in names.items()})
    counts = good.select((~pl.all()).sum()).row(0, named=True)
    findings: list[Finding] = []
    for label, rule in names.items():
        column, _, text = rules[rule]
        count = counts[label]
        if count:
            shown = examples(frame.filter(~good[label]))
            values = ", ".join(repr(row[column]) for row in shown) if column else f"{len(shown)} examples"
            findings.append(
                Finding(rule, column, count, f"{count} of {len(frame)} rows: {text}; found {values}", shown)
            )
    return findings


def _row_rules(contract: Contract) -> dict[str, tuple[str, pl.Expr, str]]:
    rules: dict[str, tuple[str, pl.Expr, str]] = {}
    for name, c in contract.columns.items():
        column, dtype = pl.col(name), polars_type(c.type)
        if c.missing == 0:
            rules[f"{name}.missing"] = (name, column.is_not_null(), f"{name!r} is missing")
        if c.min is not None:
            low = _bound(c.min, dtype)
            rules[f"{name}.min"] = (name, column.is_null() | (column >= low), f"{name!r} is below {_shown(c.min)}")
        if c.max is not None:
            high = _bound(c.max, dtype)
            rules[f"{name}.max"] = (name, column.is_null() | (column <= high), f"{name!r} is above {_shown(c.max)}")
        if c.levels is not None:
            known = column.is_null() | column.is_in(c.levels)
            rules[f"{name}.levels"] = (name, known, f"{name!r} is none of the {len(c.levels)} levels")
        if c.matches is not None:
            fits = column.is_null() | column.str.contains(c.matches)
            rules[f"{name}.matches"] = (name, fits, f"{name!r} does not match {c.matches}")
    for name, text in contract.rules.items():
        rules[f"rules.{name}"] = (
            "",
            _rule(name, text, contract).fill_null(value=False),
            f"{name} ({text}) does not hold",
        )
    return rules


def _shown(bound: float | str) -> str:
    """A bound as a person writes it: 6000, not 6000.0."""
    return str(int(bound)) if isinstance(bound, float) and bound.is_integer() and abs(bound) < 1e15 else str(bound)


def _bound(value: float | str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(value, str):
        return pl.lit(value).str.to_datetime(time_zone=getattr(dtype, "time_zone", None)).cast(dtype)
    return pl.lit(value)


def _check_missing(contract: Contract, frame: pl.DataFrame) -> list[Finding]:
    findings: list[Finding] = []
    for name, column in contract.columns.items():
        nulls = frame[name].null_count()
        if 0 < column.missing < 1 and nulls > column.missing * len(frame):
            share = f"{nulls / len(frame):.1%} of {name!r} are missing, {column.missing:.1%} are allowed"
            findings.append(
                Finding(f"{name}.missing", name, nulls, share, examples(frame.filter(pl.col(name).is_null())))
            )
    return findings


def _check_table(contract: Contract, frame: pl.DataFrame, time: str | None, event_ms: int | None) -> list[Finding]:
    table = contract.table
    findings: list[Finding] = []
    if len(frame) < table.min_rows:
        message = f"the batch has {len(frame)} rows, at least {table.min_rows} are expected"
        findings.append(Finding("table.min_rows", "", len(frame), message, []))
    if table.max_rows is not None and len(frame) > table.max_rows:
        message = f"the batch has {len(frame)} rows, at most {table.max_rows} are expected"
        findings.append(Finding("table.max_rows", "", len(frame), message, []))
    for columns in table.unique:
        repeated = frame.filter(pl.struct(columns).is_duplicated())
        if len(repeated):
            message = f"{len(repeated)} rows share their {', '.join(columns)} with another row"
            findings.append(Finding("table.unique", columns[0], len(repeated), message, examples(repeated)))
    if table.fresh is not None and time in frame.columns and event_ms is not None and len(frame):
        newest = frame[time].dt.epoch("ms").max()
        if isinstance(newest, int) and event_ms - newest > parse_duration(table.fresh):
            message = f"the newest {time!r} is more than {table.fresh} old"
            findings.append(Finding("table.fresh", time, len(frame), message, []))
    return findings


def check_whole(contract: Contract, rows: int, newest_ms: int | None, event_ms: int | None) -> list[Finding]:
    """What a whole table breaks, of what is known without its rows.

    Args:
        rows: how many it would have.
        newest_ms: its newest event time, None where it has none.
    """
    whole, findings = contract.whole, list[Finding]()
    if rows < whole.min_rows:
        message = f"the table would have {rows} rows, at least {whole.min_rows} are expected"
        findings.append(Finding("whole.min_rows", "", rows, message, []))
    if whole.max_rows is not None and rows > whole.max_rows:
        message = f"the table would have {rows} rows, at most {whole.max_rows} are expected"
        findings.append(Finding("whole.max_rows", "", rows, message, []))
    if whole.fresh is not None and newest_ms is not None and event_ms is not None:
        behind = event_ms - newest_ms
        if behind > parse_duration(whole.fresh):
            message = f"the newest row of the table would be more than {whole.fresh} old"
            findings.append(Finding("whole.fresh", "", rows, message, []))
    return findings


def check_unique(contract: Contract, frame: pl.DataFrame, others: pl.DataFrame) -> list[Finding]:
    """Rows of a batch that share columns with each other or with ``others``: the rows that stay beside them.

    A row that lacks one of the columns is equal to no other, as in SQL.
    """
    findings: list[Finding] = []
    for columns in contract.whole.unique:
        here = frame.drop_nulls(columns)
        repeated = here.filter(pl.struct(columns).is_duplicated())
        clash = here.join(others.select(columns).unique(), on=columns, how="semi")
        count = len(repeated) + len(clash.join(repeated, on=columns, how="anti"))
        if count:
            named = ", ".join(columns)
            message = f"{count} rows share their {named} with another row of the table"
            shown = clash if len(clash) else repeated
            findings.append(Finding("whole.unique", columns[0], count, message, examples(shown)))
    return findings
