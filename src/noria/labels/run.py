"""Runs a labels function: a table of key, truth, and since when it is known."""

from __future__ import annotations

import inspect
from typing import Any

import polars as pl

from noria.data.rows.schema import type_name
from noria.labels.errors import LabelsInvalid
from noria.labels.records import KNOWN, LabelSpec
from noria.pipelines.execute import TABLE, Output, Task
from noria.pipelines.runners import as_annotated


def run_labels(task: Task) -> list[Output]:
    """The truth of every row for which it is known."""
    spec = task.spec.spec
    slots = task.inputs()
    of = next(found for found in slots.values() if found.asset == spec["of"])
    key = list(of.meta["key"])
    frame, tables = call(task, key)
    target = target_of(task.spec.asset, frame, key)
    labels = LabelSpec(
        name=task.spec.asset,
        entry=task.spec.entry,
        of=spec["of"],
        key=tuple(key),
        target=target,
        type=type_name(frame.schema[target], target),
        after_ms=spec["after_ms"],
        tables=tables,
    )
    missing = frame[target].null_count()
    task.facts["labels"] = {"rows": len(frame), "missing": missing}
    return [Output(slot="", kind=TABLE, value=frame.drop_nulls(target), meta={"key": key, "labels": labels.as_value()})]


def call(task: Task, key: list[str]) -> tuple[pl.DataFrame, dict[str, str]]:
    """Calls the function; adds since when each truth is known, by key from the table that holds it."""
    slots = task.inputs()
    arguments: dict[str, Any] = {}
    tables: dict[str, str] = {}
    for name, parameter in inspect.signature(task.function).parameters.items():
        if name in slots and parameter.kind != parameter.KEYWORD_ONLY:
            arguments[name] = as_annotated(task.load(name), parameter.annotation)
            tables[name] = slots[name].asset
    made = task.function(**arguments)
    frame = made.collect() if isinstance(made, pl.LazyFrame) else made
    if not isinstance(frame, pl.DataFrame):
        raise LabelsInvalid(f"{task.spec.asset!r} returned a {type(made).__name__}, not a Polars frame.")
    lost = [name for name in key if name not in frame.columns]
    if lost:
        raise LabelsInvalid(f"{task.spec.asset!r} does not return the key {', '.join(lost)}.")
    if frame.select(key).is_duplicated().any():
        raise LabelsInvalid(f"{task.spec.asset!r} returns a key twice.", hint="One truth for each key.")
    return with_known(frame, key, [(slots[n], task.load(n, hidden=True)) for n in arguments]), tables


def with_known(frame: pl.DataFrame, key: list[str], tables: list[tuple[Any, pl.DataFrame]]) -> pl.DataFrame:
    """Adds the column ``_known``: since when the newest row behind each truth is known."""
    known = pl.Series(KNOWN, [None] * len(frame), dtype=pl.Datetime("us", "UTC"))
    for found, table in tables:
        column = found.meta["known"]
        if column is not None and column in table.columns and set(key) <= set(table.columns):
            times = table.group_by(key).agg(pl.col(column).max().cast(pl.Datetime("us", "UTC")).alias(KNOWN))
            joined = frame.select(key).join(times, on=key, how="left", maintain_order="left")[KNOWN]
            known = pl.DataFrame({"a": known, "b": joined}).select(pl.max_horizontal("a", "b")).to_series()
    return frame.with_columns(known.alias(KNOWN))


def target_of(name: str, frame: pl.DataFrame, key: list[str]) -> str:
    columns = [c for c in frame.columns if c not in key and c != KNOWN]
    if len(columns) != 1:
        raise LabelsInvalid(
            f"{name!r} returns the columns {', '.join(columns) or 'none'} beside the key; a truth is one column.",
            hint='.select("id", late=pl.col("delay") > 15)',
        )
    return columns[0]
