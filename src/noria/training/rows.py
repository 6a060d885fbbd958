"""What a model's function gets: features as its library wants them, and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import numpy as np
import polars as pl

from noria.base.errors import MissingExtra
from noria.data.rows.schema import polars_type, type_name
from noria.training.errors import ColumnUnfit

T = TypeVar("T")
_MOST_LEVELS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Rows(Generic[T]):
    """Training or validation rows.

    Attributes:
        X: the features: a pandas DataFrame with categories (levels of the training rows), or what the annotation
            names: ``nr.Rows[pl.DataFrame]``, ``nr.Rows[np.ndarray]``.
        y: the truth: 0 and 1 for a yes-or-no target, else float64.
        at: the moment of each row.
        key: the key of each row.
    """

    X: T
    y: Any
    at: pl.Series
    key: pl.DataFrame

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The features of a model in their order: name -> type, and the levels of texts.

    A text that is none of the levels, and a missing one, is missing to the model.
    """

    types: dict[str, str]
    levels: dict[str, list[str]]
    codes: dict[str, dict[str, int]] = field(init=False, compare=False, repr=False)
    """Level -> its number, for each text."""
    dtypes: dict[str, pl.DataType] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        found = {name: {level: n for n, level in enumerate(levels)} for name, levels in self.levels.items()}
        object.__setattr__(self, "codes", found)
        object.__setattr__(self, "dtypes", {name: polars_type(kind) for name, kind in self.types.items()})

    @property
    def names(self) -> list[str]:
        return list(self.types)

    def as_value(self) -> dict[str, Any]:
        return {"types": self.types, "levels": self.levels}

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Columns:
        return cls(types=dict(value["types"]), levels={k: list(v) for k, v in value["levels"].items()})


def columns_of(train: pl.DataFrame) -> Columns:
    """The columns of a model from its training rows.

    Raises:
        ColumnUnfit: a feature has a type that models do not take; before anything is fitted.
    """
    types: dict[str, str] = {}
    levels: dict[str, list[str]] = {}
    for name, dtype in train.schema.items():
        kind = type_name(dtype, name)
        if dtype == pl.String:
            found = sorted(train[name].drop_nulls().unique().to_list())
            if len(found) > _MOST_LEVELS:
                raise ColumnUnfit(
                    f"The feature {name!r} has {len(found)} different texts; {_MOST_LEVELS} are the most.",
                    hint="Leave it out, or make fewer groups of it: an id is no feature.",
                    details={"column": name, "levels": len(found)},
                )
            levels[name] = found
        elif not (dtype.is_numeric() or dtype == pl.Boolean):
            raise ColumnUnfit(
                f"The feature {name!r} has the type {kind}, which models do not take.",
                hint=_cure(name, dtype),
                details={"column": name, "type": kind},
            )
        types[name] = kind
    return Columns(types=types, levels=levels)


def _cure(name: str, dtype: pl.DataType) -> str:
    if dtype.is_temporal():
        return f'Make a number of it: pl.col("{name}").dt.hour(), .dt.weekday(), or a difference in hours.'
    return f'Leave it out, or make a number or text of it: pl.col("{name}").list.len() ...'


def conform(frame: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """The features in the model's order and types.

    Raises:
        ColumnUnfit: a column is missing.
    """
    there = set(frame.columns)
    missing = [name for name in columns.types if name not in there]
    if missing:
        raise ColumnUnfit(f"The features {', '.join(missing)} are missing.", details={"missing": missing})
    made: list[pl.Series] = []
    for name, dtype in columns.dtypes.items():
        series = frame.get_column(name)
        made.append(series if series.dtype == dtype else series.cast(dtype))
    return pl.DataFrame(made)


def to_matrix(frame: pl.DataFrame, columns: Columns) -> np.ndarray[Any, np.dtype[np.float64]]:
    """float64 of shape [rows, features]; texts as the number of their level; missing as NaN."""
    matrix = np.empty((len(frame), len(columns.types)), np.float64)
    for number, name in enumerate(columns.types):
        series = frame.get_column(name)
        codes = columns.codes.get(name)
        if codes is not None:
            matrix[:, number] = [codes.get(text, np.nan) for text in series.to_list()]
        else:
            matrix[:, number] = series.cast(pl.Float64).to_numpy()
    return matrix


def to_pandas(frame: pl.DataFrame, columns: Columns) -> Any:
    """A pandas DataFrame: numbers as float64, texts as categories with the model's levels."""
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtra("pandas", "ml", "Training") from None
    made: dict[str, Any] = {}
    for name in columns.types:
        series = frame[name]
        if name in columns.levels:
            codes = columns.codes[name]
            numbers = [codes.get(text, -1) for text in series.to_list()]
            made[name] = pd.Categorical.from_codes(numbers, categories=columns.levels[name])
        else:
            made[name] = series.cast(pl.Float64).to_numpy()
    return pd.DataFrame(made)


def make(frame: pl.DataFrame, columns: Columns, y: Any, at: pl.Series, key: pl.DataFrame, annotation: Any) -> Rows[Any]:
    """Rows in the form that a parameter's annotation asks for."""
    text = annotation if isinstance(annotation, str) else str(annotation)
    features = conform(frame, columns)
    if "pl." in text or "polars" in text:
        made: Any = features
    elif "np." in text or "ndarray" in text:
        made = to_matrix(features, columns)
    else:
        made = to_pandas(features, columns)
    return Rows(X=made, y=y, at=at, key=key)
