"""A features function with everything around it: one way to call it in bulk, one for single requests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import polars as pl

from noria.data.rows.schema import type_name
from noria.features import kernels
from noria.features.api import Spine, collected
from noria.features.errors import FeatureInvalid, FeatureRows
from noria.features.found import Found, with_missing
from noria.features.kernels import Ints
from noria.features.slices import Slicer, TableMeta, encode_key
from noria.features.tables_seen import Use, WholeTable
from noria.pipelines.declare import declaration_of

AT = "_at"
"""Column of every features table: the moment of the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """What a features function needs and makes, as plain values; travels with every model that uses it.

    Attributes:
        of: the spine's source.
        spine: the source whose rows a request carries.
        tables: parameter -> table.
        uses: how the tables are looked into.
        columns: the features, name -> type (key and moment left out).
        online: None where single requests can be served, else why not.
    """

    name: str
    entry: str
    spine: TableMeta
    spine_parameter: str
    tables: dict[str, TableMeta]
    uses: tuple[Use, ...]
    columns: dict[str, str]
    online: str | None

    def as_value(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "entry": self.entry,
            "spine": self.spine.as_value(),
            "spine_parameter": self.spine_parameter,
            "tables": {p: t.as_value() for p, t in self.tables.items()},
            "uses": [u.as_value() for u in self.uses],
            "columns": self.columns,
            "online": self.online,
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> FeatureSpec:
        return cls(
            name=value["name"],
            entry=value["entry"],
            spine=TableMeta.of(value["spine"]),
            spine_parameter=value["spine_parameter"],
            tables={p: TableMeta.of(t) for p, t in value["tables"].items()},
            uses=tuple(Use.of(u) for u in value["uses"]),
            columns=value["columns"],
            online=value["online"],
        )


def as_moments(times: pl.Series) -> pl.Series:
    """Times as datetime[us, UTC]; those without a zone are UTC."""
    zone = times.dtype.time_zone if isinstance(times.dtype, pl.Datetime) else None
    made = times.cast(pl.Datetime("us", zone)).dt
    return made.convert_time_zone("UTC") if zone else made.replace_time_zone("UTC")


class Snapshot(Protocol):
    """A consistent view of the online store."""

    def get(self, use_id: str, keys: Sequence[bytes]) -> list[bytes | None]: ...


@dataclass(slots=True, kw_only=True)
class OnlineTable:
    """A table for single requests: what is asked for comes from the online store."""

    meta: TableMeta
    slicers: dict[str, Slicer]
    snapshot: Snapshot
    name: str = ""
    time: str | None = None
    known: str | None = None

    def __post_init__(self) -> None:
        # a table without times has them in its slices all the same: always visible
        self.name, self.time, self.known = self.meta.name, self.meta.time or "__time", self.meta.known or "__known"

    def default_columns(self, on: Sequence[str]) -> list[str]:
        skipped = {*on, self.meta.time, self.meta.known}
        return [n for n in self.meta.columns if n not in skipped]

    def find(self, use: Use, spine: pl.DataFrame, at: Ints) -> Found:
        slicer = self.slicers.get(use.id)
        if slicer is None:
            raise FeatureInvalid(f"The look-up into {self.name} is not one that the function was registered with.")
        keys = slicer.keys(spine, [a for a, _ in use.on])
        wanted = {key: n for n, key in enumerate(dict.fromkeys(k for k in keys if k is not None))}
        asked = np.array([-1 if key is None else wanted[key] for key in keys], np.int64)
        blobs = self.snapshot.get(use.id, [encode_key(key) for key in wanted])
        return slicer.found(list(wanted), blobs, asked, at)


@dataclass(slots=True)
class FeatureFunction:
    """A user's features function, ready to be called.

    Attributes:
        function: the plain function.
        spine: name and key of the spine; ``parameter`` is what the function calls it.
        at: the expression of the moment.
    """

    name: str
    function: Callable[..., Any]
    parameter: str
    key: Sequence[str]
    at: pl.Expr = field(init=False)
    _parameters: list[str] = field(init=False)

    def __post_init__(self) -> None:
        declaration = declaration_of(self.function)
        if declaration is None or declaration.kind != "features":
            raise FeatureInvalid(f"{self.name!r} is not decorated with @nr.features.")
        at = declaration.options["at"]
        self.at = pl.col(at) if isinstance(at, str) else at
        parameters = inspect.signature(self.function).parameters.values()
        self._parameters = [p.name for p in parameters if p.kind != p.KEYWORD_ONLY]

    def moments(self, spine: pl.DataFrame) -> pl.Series:
        """The moment of each spine row, as datetime[us, UTC]."""
        found = spine.select(self.at.alias(AT)).to_series()
        if not isinstance(found.dtype, pl.Datetime):
            raise FeatureInvalid(f"at= of {self.name!r} gives {found.dtype}, not a time.")
        return as_moments(found)

    def compute(self, spine: pl.DataFrame, tables: Mapping[str, Any]) -> pl.DataFrame:
        """One row of features for each spine row, in its order: the key, the moment, the features.

        Raises:
            FeatureRows: the function lost, repeated or invented rows.
        """
        start = Spine(spine)
        at = start.moments(self.at)
        arguments = {name: start.lazy() if name == self.parameter else tables[name] for name in self._parameters}
        made = self.function(**arguments)
        frame = collected(made) if isinstance(made, pl.LazyFrame) else made
        if not isinstance(frame, pl.DataFrame):
            raise FeatureInvalid(f"{self.name!r} returned a {type(made).__name__}, not a Polars frame.")
        key = list(self.key)
        lost = [name for name in key if name not in frame.columns]
        if lost:
            raise FeatureRows(
                f"{self.name!r} does not return the key {', '.join(lost)}.", hint=f'.select("{lost[0]}", ...)'
            )
        if len(frame) != len(spine):
            raise FeatureRows(
                f"{self.name!r} returned {len(frame)} rows for {len(spine)}; it has to be one row each.",
                hint="A join with a table repeats rows; nr.asof does not.",
            )
        if not all(frame.get_column(name).equals(spine.get_column(name)) for name in key):
            frame = spine.select(key).join(frame, on=key, how="left", maintain_order="left")
            if len(frame) != len(spine):
                raise FeatureRows(f"{self.name!r} repeats keys.", hint="One row for each row of the spine.")
        moments = with_missing(AT, at, at != kernels.never()).cast(pl.Datetime("us", "UTC"))
        kept = {*key, AT}
        features = [
            series.cast(pl.String) if isinstance(series.dtype, pl.Categorical | pl.Enum) else series
            for name, series in zip(frame.columns, frame.get_columns(), strict=True)
            if name not in kept
        ]
        return pl.DataFrame([*(frame.get_column(name) for name in key), moments, *features])


def columns_of(frame: pl.DataFrame, key: Sequence[str]) -> dict[str, str]:
    """The features of a computed frame: name -> type."""
    return {n: type_name(d, n) for n, d in frame.schema.items() if n not in key and n != AT}


def whole_tables(frames: Mapping[str, tuple[TableMeta, pl.DataFrame]]) -> dict[str, WholeTable]:
    return {
        parameter: WholeTable(name=meta.name, frame=frame, time=meta.time, known=meta.known)
        for parameter, (meta, frame) in frames.items()
    }
