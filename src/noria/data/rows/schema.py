"""Column types by name, and the schema of a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from noria.base.errors import Invalid
from noria.base.names import nearest
from noria.data.rows.texts import parsed
from noria.data.values import plain

KNOWN: Final = "__known"
"""Hidden column: when a row was first known, for tables that name no such column (decision 5)."""
SEQ: Final = "__seq"
"""Hidden column: the generation of the commit in which a row arrived. Not part of the content."""

_PLAIN: Final[dict[str, Any]] = {
    "bool": pl.Boolean(),
    "int8": pl.Int8(),
    "int16": pl.Int16(),
    "int32": pl.Int32(),
    "int64": pl.Int64(),
    "uint8": pl.UInt8(),
    "uint16": pl.UInt16(),
    "uint32": pl.UInt32(),
    "uint64": pl.UInt64(),
    "float32": pl.Float32(),
    "float64": pl.Float64(),
    "str": pl.String(),
    "bytes": pl.Binary(),
    "date": pl.Date(),
    "time": pl.Time(),
}
_DIGITS: Final = 38
_NAMES: Final = {dtype: name for name, dtype in _PLAIN.items()}
_PARAMETRIC: Final = re.compile(r"(datetime|duration|decimal)\[([^\]]*)\]")


class ColumnTypeUnknown(Invalid):
    """A type that tables do not hold."""

    code = "column_type_unknown"


def type_name(dtype: pl.DataType, column: str) -> str:
    """The name of a Polars type as it is written in schemas, contracts and errors."""
    if dtype in _NAMES:
        return _NAMES[dtype]
    if isinstance(dtype, pl.Datetime):
        return f"datetime[{dtype.time_unit}{', ' + dtype.time_zone if dtype.time_zone else ''}]"
    if isinstance(dtype, pl.Duration):
        return f"duration[{dtype.time_unit}]"
    if isinstance(dtype, pl.Decimal):
        return f"decimal[{dtype.precision}, {dtype.scale}]"
    if isinstance(dtype, pl.List):
        return f"list<{type_name(_instance(dtype.inner), column)}>"
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return "str"
    raise ColumnTypeUnknown(
        f"The column {column!r} has the type {dtype}, which a table does not hold.",
        hint="Cast it to a number, text, date, datetime, duration, decimal or a list of these.",
        details={"column": column, "type": str(dtype)},
    )


def _instance(dtype: Any) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype


def polars_type(name: str) -> pl.DataType:
    """The Polars type of a name that ``type_name`` gave."""
    if name in _PLAIN:
        return _PLAIN[name]
    if name.startswith("list<") and name.endswith(">"):
        return pl.List(polars_type(name[5:-1]))
    match = _PARAMETRIC.fullmatch(name)
    if match is not None:
        kind, arguments = match[1], [a.strip() for a in match[2].split(",")]
        if kind == "datetime" and arguments[0] in ("ms", "us", "ns"):
            unit: Any = arguments[0]
            return pl.Datetime(unit, arguments[1] if len(arguments) > 1 else None)
        if kind == "duration" and arguments[0] in ("ms", "us", "ns"):
            unit = arguments[0]
            return pl.Duration(unit)
        if kind == "decimal" and all(a.isdecimal() and len(a) < 3 for a in arguments) and len(arguments) == 2:
            precision, scale = int(arguments[0]), int(arguments[1])
            if not (1 <= precision <= _DIGITS and scale <= precision):
                raise ColumnTypeUnknown(
                    f"{name!r} is not the name of a column type: a decimal has at most {_DIGITS} digits, and no more "
                    "of them behind the point.",
                    hint=f"decimal[{_DIGITS}, 3]",
                )
            return pl.Decimal(precision, scale)
    raise ColumnTypeUnknown(
        f"{name!r} is not the name of a column type.", hint=nearest(name, [*_PLAIN, "datetime[us, UTC]"])
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSchema:
    """What a table's rows are.

    Attributes:
        key: the columns that name a row; empty for a table without a key, whose rows have an order instead.
        time: the column of the event time, or None.
        known: the column that says when a row could first be known; None means the hidden column, set at commit,
            where the table has an event time.
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    time: str | None = None
    known: str | None = None

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def hides_known(self) -> bool:
        return self.time is not None and self.known is None

    @property
    def known_column(self) -> str | None:
        """The column that holds the known-since time, hidden or not; None where the table has no time."""
        return KNOWN if self.hides_known else self.known

    def polars(self) -> dict[str, pl.DataType]:
        return {column.name: polars_type(column.type) for column in self.columns}

    def as_value(self) -> dict[str, Any]:
        """The canonical form, part of the content digest."""
        return {
            "columns": [[column.name, column.type] for column in self.columns],
            "key": list(self.key),
            "time": self.time,
            "known": self.known,
        }


def infer(
    frame: pl.DataFrame, *, key: Sequence[str] = (), time: str | None = None, known: str | None = None
) -> TableSchema:
    """The schema of a frame. Categories become text: levels belong to models, not to data."""
    columns = tuple(Column(name=n, type=type_name(dtype, n)) for n, dtype in frame.schema.items())
    names = [column.name for column in columns]
    for role, wanted in (("key", tuple(key)), ("time", (time,)), ("known", (known,))):
        for name in wanted:
            if name is not None and name not in names:
                raise Invalid(
                    f"The {role} column {name!r} is not in the table.",
                    hint=nearest(name, names) or f"Columns: {', '.join(names)}.",
                    details={"column": name, "columns": names},
                )
    check_key_columns(key, {column.name: column.type for column in columns})
    for role, name in (("time", time), ("known", known)):
        if name is not None and not isinstance(frame.schema[name], pl.Datetime):
            raise Invalid(
                f"The {role} column {name!r} has the type {type_name(frame.schema[name], name)}, not datetime.",
                hint=f'pl.col("{name}").str.to_datetime(time_zone="UTC")',
                details={"column": name},
            )
    for name in names:
        if name.startswith("__"):
            raise Invalid(f"The column name {name!r} is reserved.", hint="Rename it: names with __ are noria's own.")
    return TableSchema(columns=columns, key=tuple(key), time=time, known=known)


def check_key_columns(key: Iterable[str], types: Mapping[str, str]) -> None:
    """Refuses a key that names a column twice, or a list."""
    names = tuple(key)
    for name in names:
        if names.count(name) > 1:
            raise Invalid(f"The key names {name!r} twice.", hint="Name each column once.", details={"column": name})
        if types.get(name, "").startswith("list<"):
            raise Invalid(
                f"The key column {name!r} holds lists; a key is made of single values.", details={"column": name}
            )


def conform(frame: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """The frame with exactly the schema's columns and types, in order.

    Raises:
        Invalid: a column is missing or unknown, or a value does not fit its type.
    """
    have, want = set(frame.columns), set(schema.names)
    unknown, missing = sorted(have - want), [n for n in schema.names if n not in have]
    if unknown or missing:
        parts = []
        if missing:
            parts.append(f"missing {', '.join(missing)}")
        if unknown:
            parts.append(f"unknown {', '.join(unknown)}")
        raise Invalid(
            f"The rows do not have the table's columns: {'; '.join(parts)}.",
            hint=nearest(unknown[0], missing) if unknown and missing else f"Columns: {', '.join(schema.names)}.",
            details={"missing": missing, "unknown": unknown},
        )
    found, wanted = frame.schema, schema.polars()
    if found == wanted:
        return frame if frame.columns == schema.names else frame[schema.names]
    made, misfits = fit(frame, wanted)
    for name, rows in misfits.items():
        number = int(rows.arg_max() or 0)
        more = f" So it is in {rows.sum()} of {len(rows)} rows." if rows.sum() > 1 else ""
        kind = type_name(wanted[name], name)
        raise Invalid(
            f"A value does not fit its column's type: {name} of row {number} is {plain(frame[name][number])!r:.100}, "
            f"and {name} holds {kind}.{more}",
            hint=f"noria data show NAME   tells the types. Send {name} as {kind}, where nothing is lost, or null.",
            details={"column": name, "row": number, "count": int(rows.sum())},
        )
    return made.select(schema.names)


def fit(frame: pl.DataFrame, types: Mapping[str, pl.DataType]) -> tuple[pl.DataFrame, dict[str, pl.Series]]:
    """The frame with its columns in these types, where no value is lost or changed by that.

    A value fits where it comes back as it was when it is cast there and back: 7 fits a float, 1.0 an integer, midnight
    a date, and every null. Text fits where it says a value of the type: a number in decimals stands for the nearest
    float, so 0.1 fits a float32; a number beyond the largest float, a whole number that no float is, and a time with
    more digits than the type keeps do not. A number is no time.

    Returns:
        the frame, and of each column with a value that does not fit which rows have one. Such a column stays as it is.
    """
    casts: list[pl.Series] = []
    misfits: dict[str, pl.Series] = {}
    for name, wanted in types.items():
        if name not in frame.columns or frame.schema[name] == wanted:
            continue
        column = frame[name]
        try:
            made, bad = _cast(column, wanted)
        except pl.exceptions.PolarsError:  # no value of the one is one of the other
            made, bad = column, column.is_not_null()
        if bad.any():
            misfits[name] = bad
        else:
            casts.append(
                made if made.dtype == wanted else pl.Series(name, [None], dtype=wanted).new_from_index(0, len(column))
            )
    return frame.with_columns(casts) if casts else frame, misfits


def _cast(column: pl.Series, wanted: pl.DataType) -> tuple[pl.Series, pl.Series]:
    """(the column in another type, which of its values do not fit). Raises Polars' errors where none does."""
    found = column.dtype
    if found == pl.String:
        made = parsed(column, wanted)
        return made, column.is_not_null() & made.is_null()
    made = column.cast(wanted, strict=False)
    if wanted == pl.String and not found.is_nested():
        return made, column.is_not_null() & made.is_null()
    if found == pl.Null:
        return made, pl.repeat(value=False, n=len(column), eager=True)
    if _kind(found) != _kind(wanted):
        return made, column.is_not_null()
    return made, made.cast(found, strict=False).ne_missing(column)


def _kind(dtype: pl.DataType) -> Any:
    """Types whose values may mean the same: all numbers and truth values; dates and times of day with a date."""
    if isinstance(dtype, pl.List):
        return pl.List, _kind(_instance(dtype.inner))
    if dtype.is_numeric() or dtype == pl.Boolean:
        return "number"
    return "moment" if isinstance(dtype, pl.Date | pl.Datetime) else type(dtype)
