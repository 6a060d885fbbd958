"""What comes in as rows: frames of other libraries, JSON, times without a zone; all of it as one Polars frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import polars as pl

from noria.base.errors import Invalid
from noria.base.names import nearest
from noria.data.contract import Contract
from noria.data.records import Repository
from noria.data.rows import Layout, TableSchema
from noria.data.rows import schema as schemas
from noria.data.service.tables.reading import RowReading

Rows: TypeAlias = "pl.DataFrame | Sequence[Mapping[str, Any]] | Any"
"""A Polars, pandas or Arrow table, or a list of dictionaries."""


class Incoming(RowReading):
    def _schema(self, repository: Repository, frame: pl.DataFrame, base: Layout | None = None) -> TableSchema:
        """What a whole table of these rows is; its key and times stay those that the branch has."""
        roles = repository if base is None else base
        return schemas.infer(frame, key=roles.key, time=roles.time, known=roles.known)

    def _frame(
        self,
        repository: Repository,
        rows: Rows,
        mode: str,
        base: Layout | None,
        *,
        evolve: bool = False,
        contract: Contract | None = None,
    ) -> pl.DataFrame:
        """The rows as a frame: with the types of the contract in force, or of ``contract``, where no value is lost.

        Without a contract they get the table's types when they are written; a frame is cast by ``schema.fit`` alone.
        """
        if isinstance(rows, list | tuple):
            if evolve and base is not None:
                return self._of_other_columns(repository, rows, base)
            return self._from_dicts(repository, rows, mode, base)
        frame = self._with_zones(repository if base is None else base, to_frame(rows))
        if contract is None and repository.contract is not None:
            contract = self._parsed(repository.id, repository.contract)
        return frame if contract is None or mode == "delete" else schemas.fit(frame, contract.types)[0]

    def _of_other_columns(self, repository: Repository, rows: Sequence[Any], base: Layout) -> pl.DataFrame:
        """Rows of JSON that may lack columns of the table, or bring new ones."""
        known = base.schema.names
        named = dict.fromkeys(name for row in rows if isinstance(row, Mapping) for name in row)
        here = [name for name in known if name in named]
        if len(here) == len(named) == len(known):
            return self._from_dicts(repository, rows, "append", base)
        every = [{name: row.get(name) for name in known} if isinstance(row, Mapping) else row for row in rows]
        frame = self._from_dicts(repository, every, "append", base).select(here)
        news = [name for name in named if name not in known]
        if not news:
            return frame
        return frame.hstack(to_frame([{name: row.get(name) for name in news} for row in rows]))

    @staticmethod
    def _with_zones(roles: Repository | Layout, frame: pl.DataFrame) -> pl.DataFrame:
        """Event and known-since times are UTC microseconds; times without a zone are taken as UTC."""
        casts: list[pl.Expr] = []
        for name in (roles.time, roles.known):
            dtype = frame.schema.get(name or "")
            if name is not None and isinstance(dtype, pl.Datetime) and dtype != pl.Datetime("us", "UTC"):
                column = pl.col(name) if dtype.time_zone else pl.col(name).dt.replace_time_zone("UTC")
                casts.append(column.cast(pl.Datetime("us", "UTC")))
        return frame.with_columns(casts) if casts else frame

    def _from_dicts(self, repository: Repository, rows: Sequence[Any], mode: str, base: Layout | None) -> pl.DataFrame:
        """Rows of JSON. Texts become times where the table has times; every row names every column."""
        schema = None if base is None else base.schema
        if schema is None:
            contract = self.contract(repository)
            if contract is None:
                return self._with_zones(repository, to_frame(list(rows)))
            types = contract.types
        else:
            types = schema.polars()
        if mode == "delete":
            types = {name: types[name] for name in (repository if base is None else base).key}
        names = types.keys()
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise Invalid(f"Row {number} is a {type(row).__name__}, not an object with columns.")
            if row.keys() != names:
                raise _wrong_columns(number, row, list(names))
        _check_exact(rows, types)
        reading = {
            n: pl.String() if d.is_temporal() and not isinstance(d, pl.Duration) else d for n, d in types.items()
        }
        try:
            frame = pl.DataFrame(rows, schema=reading, orient="row", strict=True)
        except (TypeError, pl.exceptions.PolarsError, OverflowError) as error:
            raise Invalid(
                f"A value does not fit its column's type: {str(error).splitlines()[0]:.300}",
                hint="Times are text like 2013-04-01T05:15:00Z; numbers are numbers.",
            ) from None
        columns = tuple(schemas.Column(name=n, type=schemas.type_name(d, n)) for n, d in types.items())
        return schemas.conform(frame, TableSchema(columns=columns))


def to_frame(rows: Any) -> pl.DataFrame:
    """A Polars frame from Polars, pandas, Arrow or a list of dictionaries."""
    if isinstance(rows, pl.LazyFrame):
        frame = rows.collect()
    elif isinstance(rows, pl.DataFrame):
        frame = rows
    else:
        module = type(rows).__module__.partition(".")[0]
        try:
            if module == "pandas":
                frame = pl.from_pandas(rows)
            elif hasattr(rows, "__arrow_c_stream__"):
                made = pl.from_arrow(rows)
                frame = made if isinstance(made, pl.DataFrame) else made.to_frame()
            else:
                frame = pl.DataFrame(rows, infer_schema_length=None)
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise Invalid(
                f"A {type(rows).__name__} is not a table: {str(error).splitlines()[0]:.200}",
                hint="Pass a Polars, pandas or Arrow table, or a list of dictionaries.",
            ) from None
    assert isinstance(frame, pl.DataFrame)
    texts = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Categorical | pl.Enum)]
    return frame.with_columns(pl.col(texts).cast(pl.String)) if texts else frame


def _check_exact(rows: Sequence[Mapping[str, Any]], types: Mapping[str, pl.DataType]) -> None:
    """Refuses what Polars would bend silently: 1.5, "6" or true for a whole number, 7 for a truth value or a text."""
    for name, dtype in types.items():
        plain = _plain(dtype)
        if plain is None or (plain is not list and {type(row[name]) for row in rows} <= {plain, type(None)}):
            continue
        for number, row in enumerate(rows):
            if not _fits(row[name], dtype):
                raise Invalid(
                    f"A value does not fit its column's type: {name} of row {number} is {row[name]!r:.100}, and {name} "
                    f"holds {_HELD[plain]}.",
                    hint=f"noria data show NAME   tells the types. Send {name} as such, or null.",
                    details={"row": number, "column": name},
                )


_HELD: Final = {
    bool: "true or false",
    int: "whole numbers",
    float: "numbers that are exact with a point",
    str: "text",
    list: "lists of one type",
}


def _plain(dtype: pl.DataType) -> type | None:
    """The Python type whose values a column takes as they are; None: Polars judges them."""
    if dtype == pl.Boolean:
        return bool
    if dtype.is_integer():
        return int
    if dtype.is_float():
        return float
    if isinstance(dtype, pl.List):
        return None if _plain(_inner(dtype)) is None else list
    return str if dtype == pl.String else None


def _inner(dtype: pl.List) -> pl.DataType:
    inner: Any = dtype.inner
    return inner() if isinstance(inner, type) else inner


def _fits(value: object, dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List):
        return not isinstance(value, list) or all(_fits(part, _inner(dtype)) for part in cast("list[object]", value))
    plain = _plain(dtype)
    if value is None or plain is None:
        return True
    if plain is str or plain is bool:
        return isinstance(value, plain)
    if isinstance(value, str | bytes | bool):
        return False
    if plain is int:
        return not isinstance(value, float) or value.is_integer()
    try:
        return not isinstance(value, int) or int(pl.Series([float(value)], dtype=dtype)[0]) == value
    except OverflowError:
        return False


def _wrong_columns(number: int, row: Mapping[str, Any], names: list[str]) -> Invalid:
    missing = [n for n in names if n not in row]
    unknown = [n for n in row if n not in names]
    parts = ([f"missing {', '.join(missing)}"] if missing else []) + (
        [f"unknown {', '.join(unknown)}"] if unknown else []
    )
    return Invalid(
        f"Row {number} does not have the table's columns: {'; '.join(parts)}.",
        hint=nearest(unknown[0], missing or names) if unknown else f"Columns: {', '.join(names)}.",
        details={"row": number, "missing": missing, "unknown": unknown},
    )
