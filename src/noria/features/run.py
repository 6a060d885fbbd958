"""Runs a features step in bulk, and checks before anything is stored that it is honest (design, section 5).

On real rows it must give the same values (a) in bulk, (b) for one row at a time, (c) for one row with everything
taken away that was not known at its moment, (d) for one row through what the online store would hold.
"""

from __future__ import annotations

import json
from typing import Any, Final

import polars as pl

from noria.features.errors import FeatureInvalid, FeatureLeaks, FeatureSkewed
from noria.features.function import AT, FeatureFunction, FeatureSpec, OnlineTable, columns_of, whole_tables
from noria.features.slices import Slicer, TableMeta, TableRows
from noria.features.tables_seen import WholeTable
from noria.pipelines.execute import TABLE, Output, Task
from noria.pipelines.task import InputSpec

CHECKED_ROWS: Final = 24
_ONLINE_EVERY: Final = 3
_WARM_ROWS: Final = 3
"""Source rows that travel with a model, to warm it up with before it gets traffic."""
Frames = dict[str, tuple[TableMeta, pl.DataFrame]]


def run_features(task: Task) -> list[Output]:
    """Computes the features of every spine row whose moment is not later than what the other tables know."""
    spec, slots = task.spec.spec, task.inputs()
    parameter = next(slot for slot, found in slots.items() if found.asset == spec["of"])
    spine = task.load(parameter)
    frames: Frames = {}
    for slot, found in slots.items():
        if slot != parameter:
            frames[slot] = (table_meta(found), task.load(slot, hidden=True))
    key = tuple(slots[parameter].meta["key"])
    if not key:
        raise FeatureInvalid(
            f"{spec['of']!r} has no key; features need one row for each key.", hint='nr.source(..., key="id")'
        )
    function = FeatureFunction(task.spec.asset, task.function, parameter, key)
    moments = function.moments(spine)
    horizon = known_until(frames)
    if horizon is not None:
        spine = spine.filter(moments <= horizon)
    tables = whole_tables(frames)
    made = function.compute(spine, tables)
    checked, online = check(function, spine, made, frames, tables)
    uses = {use.id: use for table in tables.values() for use in table.uses.values()}
    feature_spec = FeatureSpec(
        name=task.spec.asset,
        entry=task.spec.entry,
        spine=table_meta(slots[parameter]),
        spine_parameter=parameter,
        tables={slot: meta for slot, (meta, _) in frames.items()},
        uses=tuple(uses.values()),
        columns=columns_of(made, key),
        online=online,
    )
    task.facts["check"] = {"rows": checked, "online": online, "columns": len(feature_spec.columns)}
    sample = json.loads(spine.head(_WARM_ROWS).write_json())
    meta = {"key": list(key), "time": AT, "known": AT, "features": feature_spec.as_value(), "sample": sample}
    return [Output(slot="", kind=TABLE, value=made, meta=meta)]


def table_meta(found: InputSpec) -> TableMeta:
    """What an input says of its table."""
    return TableMeta(
        name=found.asset,
        key=tuple(found.meta["key"]),
        time=found.meta["time"],
        known=found.meta["known"],
        columns=found.meta["columns"],
    )


def known_until(frames: Frames) -> Any:
    """The latest known-since time of any table: up to there the world is known. None where no table has times."""
    ends = [
        frame[meta.known].max()
        for meta, frame in frames.values()
        if meta.known is not None and meta.known in frame.columns
    ]
    found = [end for end in ends if end is not None]
    return max(found) if found else None


def check(
    function: FeatureFunction, spine: pl.DataFrame, made: pl.DataFrame, frames: Frames, tables: dict[str, WholeTable]
) -> tuple[int, str | None]:
    """Checks a sample of rows; returns (rows checked, None or why single requests cannot be served).

    Raises:
        FeatureSkewed: a value depends on the other rows of the frame.
        FeatureLeaks: a value depends on what was not known yet.
    """
    online = _why_not_online(tables)
    slicers = {} if online else _slicers(tables, frames)
    rows = _sample(len(spine))
    for turn, number in enumerate(rows):
        one, bulk = spine[number : number + 1], made[number : number + 1]
        at = bulk[AT][0]
        _same(function, bulk, function.compute(one, whole_tables(frames)), FeatureSkewed)
        honest = {slot: (meta, _known_at(meta, frame, at)) for slot, (meta, frame) in frames.items()}
        _same(function, bulk, function.compute(one, whole_tables(honest)), FeatureLeaks)
        if not online and turn % _ONLINE_EVERY == 0:
            given = {slot: _online(meta, frame, slicers) for slot, (meta, frame) in honest.items()}
            _same(function, bulk, function.compute(one, given), FeatureSkewed)
    return len(rows), online


def _sample(size: int) -> list[int]:
    """Row numbers spread over the whole frame, the same each time."""
    if size <= CHECKED_ROWS:
        return list(range(size))
    return sorted({round(n * (size - 1) / (CHECKED_ROWS - 1)) for n in range(CHECKED_ROWS)})


def _known_at(meta: TableMeta, frame: pl.DataFrame, at: Any) -> pl.DataFrame:
    if meta.known is None or meta.known not in frame.columns or at is None:
        return frame
    return frame.filter(pl.col(meta.known) <= at)


def _same(function: FeatureFunction, bulk: pl.DataFrame, other: pl.DataFrame, error: Any) -> None:
    for name in bulk.columns:
        left, right = bulk[name], other[name] if name in other.columns else None
        if right is None or left.dtype != right.dtype or not left.equals(right, null_equal=True):
            a, b = left[0], None if right is None else right[0]
            if right is not None and left.dtype != right.dtype:
                a, b = f"{a!r} ({left.dtype})", f"{b!r} ({right.dtype})"
            if isinstance(a, float) and isinstance(b, float) and a != a and b != b:
                continue
            raise error(function.name, name, bulk.select(list(function.key)).row(0), a, b)


def _why_not_online(tables: dict[str, WholeTable]) -> str | None:
    raw = [table.name for table in tables.values() if table.raw]
    if raw:
        return f"{raw[0]} is used without nr.asof or nr.history, so a single request cannot know which rows it needs"
    return None


def _slicers(tables: dict[str, WholeTable], frames: Frames) -> dict[str, Slicer]:
    metas = {meta.name: meta for meta, _ in frames.values()}
    return {use.id: Slicer(use, metas[use.table]) for t in tables.values() for use in t.uses.values()}


def _online(meta: TableMeta, frame: pl.DataFrame, slicers: dict[str, Slicer]) -> OnlineTable:
    mine = {use_id: slicer for use_id, slicer in slicers.items() if slicer.table.name == meta.name}
    return OnlineTable(meta=meta, slicers=mine, snapshot=_Built(frame, mine))


class _Built:
    """The online store as it would be, made for one question from the table's own rows."""

    def __init__(self, frame: pl.DataFrame, slicers: dict[str, Slicer]) -> None:
        self._frame = frame
        self._slicers = slicers

    def get(self, use_id: str, keys: Any) -> list[bytes | None]:
        slicer = self._slicers[use_id]
        wanted = set(keys)
        names = slicer.on
        values = [_decode_key(key) for key in wanted]
        chosen = pl.DataFrame({n: [v[i] for v in values] for i, n in enumerate(names)}) if values else None
        frame = (
            self._frame
            if chosen is None or _temporal(self._frame, names)
            else self._frame.join(chosen.cast({n: self._frame.schema[n] for n in names}), on=names, how="semi")
        )
        rows = slicer.rows_of(TableRows(slicer.recent(frame), slicer.table.key))
        return [slicer.changed(None, rows[key], set()) if key in rows else None for key in keys]


def _temporal(frame: pl.DataFrame, names: list[str]) -> bool:
    return any(frame.schema[n].is_temporal() for n in names)


def _decode_key(key: bytes) -> list[Any]:
    import msgspec

    return msgspec.msgpack.decode(key)
