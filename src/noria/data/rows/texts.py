"""Values of a column's type that text says, exactly: what a collected line, a form or a frame of text means."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import polars as pl

_EXACT: Final = 2.0**53
_WHOLE: Final = re.compile(r"\s*([+-]?\d+)(?:\.0*)?\s*")
_LONGEST_WHOLE: Final = 400
"""Digits; no float holds a whole number with more of them."""
_FORMS: Final = 64
"""So many ways to write a time in one column are told from each other."""


def whole_below(wanted: pl.DataType) -> float:
    """The number below which a type of floats holds every whole number."""
    return 2.0**24 if wanted == pl.Float32 else _EXACT


def parsed(column: pl.Series, wanted: pl.DataType) -> pl.Series:
    """Values that text says, null where it says none, or one that the type would change.

    What a text says does not depend on the others in its column.
    """
    if isinstance(wanted, pl.Datetime):
        return _moments(column, wanted)
    if wanted == pl.Date():
        made = _tried(column, lambda some: some.str.to_date(strict=False), wanted)
        rest = made.is_null() & column.is_not_null()
        if rest.any():  # midnight of a day
            moments = _moments(column.filter(rest), pl.Datetime("us"))
            days = moments.cast(pl.Date)
            made = _into(made, rest, days.set(days.cast(pl.Datetime("us")).ne_missing(moments), None))
        return made
    if wanted == pl.Boolean():
        return column.str.to_lowercase().replace_strict(
            {"true": True, "false": False}, default=None, return_dtype=pl.Boolean
        )
    if wanted == pl.Time():
        return _as_fine(column, _tried(column, lambda some: some.str.to_time(strict=False), wanted), 9)
    if isinstance(wanted, pl.Decimal):
        made = column.cast(wanted, strict=False)
        scale = wanted.scale or 0
        made = made.set(column.str.contains(rf"\.\d{{{scale}}}\d*[1-9]").fill_null(value=False), None)
        power = column.str.contains("[eE]").fill_null(value=False) & made.is_not_null()
        return _exactly(column, made, power) if power.any() else made
    if wanted.is_integer():
        return _whole(column, wanted)
    if wanted.is_float():
        return _nearest(column, wanted)
    if wanted == pl.Binary():
        return column.cast(wanted, strict=False)
    return pl.Series(column.name, [None], dtype=wanted).new_from_index(0, len(column))


def _whole(column: pl.Series, wanted: pl.DataType) -> pl.Series:
    """Whole numbers of text; 7.0 is one, since so they are written beside missing ones."""
    made = column.cast(wanted, strict=False)
    if made.null_count() == column.null_count():
        return made
    number = column.cast(pl.Float64, strict=False)
    whole = number.cast(wanted, strict=False)
    exact = made.is_null() & whole.is_not_null() & (whole.cast(pl.Float64) == number) & (number.abs() < _EXACT)
    exact = exact.fill_null(value=False)
    plainly = column.str.contains(r"^[+-]?\d+\.0*$").fill_null(value=False)
    if (exact & ~plainly).any():  # 1e3 is a whole number, and 6.99999999999999999999 is none
        whole = _exactly(column, whole, exact & ~plainly)
    return whole.zip_with(exact, made)


def _nearest(column: pl.Series, wanted: pl.DataType) -> pl.Series:
    """Floats of text, which stands for the nearest one: 0.1 is a float32.

    None is infinity because the number is too large, and a whole number that no float is fits none.
    """
    made = column.cast(wanted, strict=False)
    large = (made.abs() >= whole_below(wanted)) & made.is_not_nan()
    if not large.any():
        return made
    places = large.fill_null(value=False).arg_true()
    lost = [not _stands(text, value) for text, value in zip(column[places], made[places], strict=True)]
    return made.scatter(places.filter(pl.Series(lost, dtype=pl.Boolean)), None) if any(lost) else made


def _stands(text: str, value: float) -> bool:
    if math.isinf(value):
        return text.strip().lstrip("+-").lower() in ("inf", "infinity")
    match = _WHOLE.fullmatch(text)
    return match is None or (len(match[1]) < _LONGEST_WHOLE and Decimal(match[1]) == int(value))


def _exactly(column: pl.Series, made: pl.Series, where: pl.Series) -> pl.Series:
    """Null where the text says another number than was made of it."""
    places = where.arg_true()
    lost = [not _says(text, value) for text, value in zip(column[places], made[places], strict=True)]
    return made.scatter(places.filter(pl.Series(lost, dtype=pl.Boolean)), None) if any(lost) else made


def _says(text: str, value: Any) -> bool:
    try:
        return Decimal(text.strip()) == value
    except InvalidOperation:
        return False


def _moments(column: pl.Series, wanted: pl.Datetime) -> pl.Series:
    """Times of text; a date is its midnight. More digits of a second than the unit keeps are none."""

    def read(some: pl.Series) -> pl.Series:
        made = _or_none(
            lambda: some.str.to_datetime(time_unit=wanted.time_unit, time_zone=wanted.time_zone, strict=False), some
        )
        if wanted.time_unit == "ns":  # it holds three centuries on each side of 1970, and others come round
            far = _moments(some, pl.Datetime("us", wanted.time_zone)).dt.year().is_between(1678, 2261)
            made = made.set(~far, None)
        return made.cast(wanted)

    made = _tried(column, read, wanted)
    rest = made.is_null() & column.is_not_null()
    if rest.any():
        days = _tried(column.filter(rest), lambda some: some.str.to_date(strict=False), pl.Date())
        if days.null_count() < len(days):
            made = _into(made, rest, days.cast(pl.Datetime(wanted.time_unit)).cast(wanted, strict=False))
    return _as_fine(column, made, {"ms": 3, "us": 6, "ns": 9}[wanted.time_unit])


def _as_fine(column: pl.Series, made: pl.Series, digits: int) -> pl.Series:
    """Null where the text of a time has more digits of a second than are kept."""
    finer = column.str.contains(rf":\d\d[.,]\d{{{digits}}}\d*[1-9]").fill_null(value=False)
    return made.set(finer, None) if finer.any() else made


def _tried(column: pl.Series, read: Callable[[pl.Series], pl.Series], wanted: pl.DataType) -> pl.Series:
    """Times of text. Polars goes by the form of the first one, so those of other forms are read by themselves."""
    made = _or_none(lambda: read(column), pl.Series(column.name, [None], dtype=wanted).new_from_index(0, len(column)))
    rest = made.is_null() & column.str.contains(r"^\s*\d").fill_null(value=False)
    if not rest.any():
        return made
    forms = column.str.replace_all(r"\d", "0").filter(rest)
    for form in forms.value_counts(sort=True)[forms.name].head(_FORMS).sort():
        here = _into(rest, rest, forms == form)
        some = column.filter(here)
        found = _or_none(lambda some=some: read(some), None)
        if found is not None:
            made = _into(made, here, found)
    return made


def _or_none(read: Callable[[], pl.Series], none: Any) -> Any:
    try:
        return read()
    except pl.exceptions.PolarsError:  # the first text is no time at all
        return none


def _into(column: pl.Series, where: pl.Series, values: pl.Series) -> pl.Series:
    """The column with values at the places where ``where`` is true."""
    return column.scatter(where.arg_true(), values)
