"""What a request may be: a type made from the columns of the endpoint's source."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Annotated, Any, Final

import msgspec
import polars as pl

from noria.base.names import nearest
from noria.data.rows.schema import polars_type
from noria.features.slices import TableMeta
from noria.serving.errors import RequestInvalid

MOST_ROWS: Final = 10_000
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UNFIT: Final = (ValueError, OverflowError, TypeError, pl.exceptions.PolarsError)
_FORM: Final = '{"row": {...}} or {"rows": [{...}]}'
_MOST_FLOAT32: Final = 3.4028234663852886e38
_BITS: Final = {
    f"{sign}int{bits}": (0 if sign else -(1 << (bits - 1)), (1 << bits) - 1 if sign else (1 << (bits - 1)) - 1)
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}


class Contract:
    """Decodes and checks the rows of requests, and turns them into frames.

    Attributes:
        keyed: the rows have a key; those of a model that takes any rows have none, and are named by their prediction.
    """

    def __init__(self, source: TableMeta, features: dict[str, str], needed: Collection[str] = ()) -> None:
        """``needed``: columns that must not be missing, beside the key."""
        self.source = source
        self.keyed = bool(source.key)
        never = {*source.key, *needed}
        self._features = features
        self._names = list(source.columns)
        self._types = {name: polars_type(kind) for name, kind in source.columns.items()}
        # Columns may have names that are no names of attributes, such as "tail number".
        self._places = {name: f"c{number}" for number, name in enumerate(source.columns)}
        fields = [
            (self._places[name], _field(kind, nullable=name not in never)) for name, kind in source.columns.items()
        ]
        renamed = {place: name for name, place in self._places.items()}
        row = msgspec.defstruct("Row", fields, rename=renamed, forbid_unknown_fields=True)
        self._request: Any = msgspec.json.Decoder(
            msgspec.defstruct(
                "Request",
                [
                    ("row", row | None, None),
                    ("rows", list[row] | None, None),  # type: ignore[valid-type]
                    ("id", str | None, None),
                    ("ids", list[str] | None, None),
                ],
                forbid_unknown_fields=True,
            )
        )

    def decode(self, body: bytes) -> tuple[list[Any], list[str] | None, bool]:
        """(rows, ids given by the caller, whether it was one row alone) of a request's body.

        Raises:
            RequestInvalid: with the field, and what to send instead.
        """
        try:
            request = self._request.decode(body)
        except msgspec.ValidationError as error:
            raise self._explained(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestInvalid(f"The request is not valid JSON: {error!s:.200}.", hint=_FORM) from None
        if (request.row is None) == (request.rows is None):
            raise RequestInvalid("A request holds either row or rows.", hint=_FORM)
        if request.id is not None and request.ids is not None:
            raise RequestInvalid("A request holds either id or ids.", hint="id goes with row, ids with rows.")
        rows = [request.row] if request.row is not None else request.rows
        ids = [request.id] if request.id is not None else request.ids
        if not rows or len(rows) > MOST_ROWS:
            hint = "Send them in several requests." if rows else _FORM
            raise RequestInvalid(f"A request holds 1 to {MOST_ROWS} rows, not {len(rows)}.", hint=hint)
        if ids is not None:
            self._check_ids(ids, len(rows))
        return rows, ids, request.row is not None

    def decode_rows(self, rows: list[dict[str, Any]]) -> list[Any]:
        """Rows as plain values, checked like a request's."""
        return self.decode(msgspec.json.encode({"rows": rows}))[0]

    @staticmethod
    def _check_ids(ids: list[str], count: int) -> None:
        if len(ids) != count:
            raise RequestInvalid(f"There are {len(ids)} ids for {count} rows.", hint="Send one id a row, or none.")
        if len(set(ids)) != count or not all(0 < len(i) <= 200 for i in ids):
            raise RequestInvalid("Ids are different texts of 1 to 200 characters.", hint="Or send none.")

    def _explained(self, text: str) -> RequestInvalid:
        hint = f"Columns: {', '.join(self._names)}."
        for name in self._features.keys() - self.source.columns.keys():
            if f"unknown field `{name}`" in text:
                hint = f"{name} is a feature: it is computed here. Send the row of {self.source.name} only."
                break
        else:
            if "unknown field `" in text:
                hint = nearest(text.split("`")[1], self._names) or hint
        return RequestInvalid(f"The request does not fit: {text}.", hint=hint)

    def frame(self, rows: list[Any]) -> pl.DataFrame:
        """The rows as a frame of the source.

        Raises:
            RequestInvalid: a value lies beyond what its column holds.
        """
        try:
            return _frame(rows, self._types, self._places)
        except _UNFIT:
            raise self._beyond(rows) from None

    def _beyond(self, rows: list[Any]) -> RequestInvalid:
        """What to say of rows that make no frame: which column it is."""
        for name, dtype in self._types.items():
            try:
                _frame(rows, {name: dtype}, self._places)
            except _UNFIT:
                return RequestInvalid(
                    f"The request does not fit: a value of the column {name!r} lies beyond what it holds.",
                    hint=f"{name} is {self.source.columns[name]}.",
                    details={"column": name},
                )
        return RequestInvalid("The request does not fit the source.", hint=f"Columns: {', '.join(self._names)}.")

    def entity(self, row: Any) -> str:
        """The key of a row, as JSON: what its truth is found by later."""
        return msgspec.json.encode([getattr(row, self._places[name]) for name in self.source.key]).decode()

    def describe(self) -> dict[str, Any]:
        return {
            "source": self.source.name,
            "key": list(self.source.key),
            "columns": dict(self.source.columns),
            "features": self._features,
        }


def _frame(rows: list[Any], types: dict[str, pl.DataType], places: dict[str, str]) -> pl.DataFrame:
    """Moments go as numbers: of one row, Polars takes longer for one of them than for all the rest."""
    times = [(place, dtype) for place, dtype in enumerate(types.values()) if isinstance(dtype, pl.Datetime)]
    attributes = [places[name] for name in types]
    values = [[getattr(row, name) for name in attributes] for row in rows]
    for place, dtype in times:
        epoch = _EPOCH if dtype.time_zone else _EPOCH.replace(tzinfo=None)
        for line in values:
            if line[place] is not None:
                line[place] = _micros(line[place], epoch)
    schema = {name: pl.Int64() if isinstance(dtype, pl.Datetime) else dtype for name, dtype in types.items()}
    made = pl.DataFrame(values, schema=schema, orient="row")
    for place, dtype in times:
        made.replace_column(place, made.to_series(place).cast(pl.Datetime("us", dtype.time_zone)).cast(dtype))
    return made


def _micros(value: dt.datetime, epoch: dt.datetime) -> int:
    """Refuses the first and the last year: in another time zone such a moment has no date that Python can name."""
    if not dt.MINYEAR < value.year < dt.MAXYEAR:
        raise OverflowError
    since = value - epoch
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _field(kind: str, *, nullable: bool) -> Any:
    made: Any
    if kind in _BITS:
        low, high = _BITS[kind]
        if kind == "uint64":  # msgspec takes bounds up to 63 bits; the rest is found when the frame is made
            made = Annotated[int, msgspec.Meta(ge=low)]
        else:
            made = Annotated[int, msgspec.Meta(ge=low, le=high)]
    elif kind == "float32":
        made = Annotated[float, msgspec.Meta(ge=-_MOST_FLOAT32, le=_MOST_FLOAT32)]
    elif kind.startswith("float"):
        made = float
    elif kind == "bool":
        made = bool
    elif kind == "str":
        made = Annotated[str, msgspec.Meta(max_length=10_000)]
    elif kind.startswith("datetime"):
        made = Annotated[dt.datetime, msgspec.Meta(tz="," in kind)]
    elif kind == "date":
        made = dt.date
    elif kind == "time":
        made = dt.time
    else:
        raise RequestInvalid(f"A column of the type {kind} cannot be part of a request.")
    return made | None if nullable else made
