"""A contract from rows that are there: only what they support becomes a rule, the rest is written down as seen.

A rule that the next good row breaks teaches people to switch rules off. How much rows say of the next one follows from
how many they are, whatever their distribution (all three numbers are for independent rows):

- *missing*: where none of n values is missing, up to 3/n of those that come may be (the rule of three, 95 %). From
  ``RULE_ROWS`` rows on that is at most 3 %, and "never missing" becomes a rule. A share between is left as seen: a
  batch of one row can only miss none or all.
- *min, max*: the next value lies outside of what n values span with a chance of 2/(n + 1), 2 % at ``RULE_ROWS``. The
  range of the rule is half as wide again, which leaves 0.3 % for values that fall off exponentially and less for a
  normal distribution. Whole numbers that are all different count something up or name something: they will leave any
  range, and get none.
- *levels*: the chance that the next value is a new one is about the share of rows whose value was seen once (Good and
  Turing). So every level has to be seen ``LEVEL_ROWS`` times, the usual least count of a cell (Cochran), in at least
  ``LEVELS_ROWS`` rows, and there are at most ``MOST_LEVELS``.
- *unique*: from the key only. That values differ so far says nothing of those that come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from noria.data.contract import ColumnContract, Contract, TableContract
from noria.data.rows.schema import TableSchema, type_name

RULE_ROWS: Final = 100
"""Values from which on a range, or that none is missing, becomes a rule."""
LEVELS_ROWS: Final = 50
LEVEL_ROWS: Final = 5
MOST_LEVELS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """A contract, and what was seen without becoming a rule.

    Attributes:
        seen: column -> what could stand in its part, and why it does not.
    """

    contract: Contract
    seen: dict[str, list[Seen]] = field(default_factory=dict[str, list["Seen"]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """For instance ``min = 1``, which 3 rows do not support."""

    name: str
    value: Any
    why: str


def infer(frame: pl.DataFrame, schema: TableSchema) -> Inferred:
    """A contract that the data keeps and that rows like these will keep; see the module for the numbers."""
    columns: dict[str, ColumnContract] = {}
    seen: dict[str, list[Seen]] = {}
    for name, dtype in frame.schema.items():
        made = ColumnContract(type=type_name(dtype, name))
        found = [*_missing(made, frame[name], key=name in schema.key)]
        if name not in schema.key:
            found += _values(made, frame[name].drop_nulls())
        columns[name] = made
        if found:
            seen[name] = found
    unique = [list(schema.key)] if schema.key else []
    return Inferred(contract=Contract(columns=columns, table=TableContract(min_rows=1, unique=unique)), seen=seen)


def _missing(made: ColumnContract, column: pl.Series, *, key: bool) -> list[Seen]:
    nulls, rows = column.null_count(), len(column)
    if key or (nulls == 0 and rows >= RULE_ROWS):
        made.missing = 0.0
        return []
    if nulls == 0:
        return [Seen(name="missing", value=0.0, why=f"none in {rows} rows; {RULE_ROWS} make a rule")]
    share = min(1.0, round(nulls * 1.5 / rows + 0.01, 4))
    if share == 1.0:
        return []
    return [
        Seen(name="missing", value=share, why=f"{nulls / rows:.1%} of {rows} rows; a batch of few rows may miss more")
    ]


def _values(made: ColumnContract, column: pl.Series) -> list[Seen]:
    count, dtype = len(column), column.dtype
    if not count:
        return []
    if dtype.is_numeric():
        low, high = _range(_float(column.min()), _float(column.max()), whole=dtype.is_integer())
        if low is None:
            return []
        different = dtype.is_integer() and column.n_unique() == count
        if count >= RULE_ROWS and not different:
            made.min, made.max = low, high
            return []
        why = "all values differ, as those of a counter do" if count >= RULE_ROWS else _few(count, RULE_ROWS)
        return [Seen(name="min", value=low, why=why), Seen(name="max", value=high, why=why)]
    if dtype == pl.String:
        counts = column.value_counts(sort=True)
        levels, least = len(counts), int(counts["count"][-1])
        if levels > MOST_LEVELS:
            return []
        found: list[str] = sorted(counts[:, 0].to_list())
        if count >= LEVELS_ROWS and least >= LEVEL_ROWS:
            made.levels = found
            return []
        if levels * 2 > count:  # most values occur once: no levels
            return []
        why = (
            _few(count, LEVELS_ROWS) if count < LEVELS_ROWS else f"one was seen {least} times; {LEVEL_ROWS} make a rule"
        )
        return [Seen(name="levels", value=found, why=why)]
    return []


def _few(count: int, wanted: int) -> str:
    return f"in {count} values; {wanted} make a rule"


def _range(low: float, high: float, *, whole: bool) -> tuple[float, float] | tuple[None, None]:
    """The range that was found, half as wide again, in numbers that a person would write."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return None, None
    room = (high - low) / 4
    step = 1.0 if whole else 10.0 ** math.floor(math.log10(max(abs(low), abs(high), high - low, 1e-300))) / 1000
    down = math.floor((low - room) / step) * step
    up = math.ceil((high + room) / step) * step
    down = min(low, down if whole else float(f"{down:.6g}"))
    up = max(high, up if whole else float(f"{up:.6g}"))
    return (down if low < 0 else max(0.0, down)), up


def _float(value: Any) -> float:
    return float(value)
