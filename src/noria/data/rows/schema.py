"""Column types by name, and the schema of a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from noria.base.errors import Invalid
from noria.base.names import nearest

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
    try:
        return frame.select([_cast(name, found[name], dtype) for name, dtype in wanted.items()])
    except pl.exceptions.PolarsError as error:
        raise Invalid(
            f"A value does not fit its column's type: {str(error).splitlines()[0]:.300}",
            hint="noria data contract show REPO   tells the types.",
        ) from None


def _cast(name: str, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if found == wanted:
        return column
    if found == pl.String and isinstance(wanted, pl.Datetime):
        parsed = column.str.to_datetime(time_unit=wanted.time_unit, time_zone=wanted.time_zone, strict=True)
        return parsed.cast(wanted).alias(name)
    if found == pl.String and wanted == pl.Date():
        return column.str.to_date(strict=True)
    return column.cast(wanted, strict=True)
