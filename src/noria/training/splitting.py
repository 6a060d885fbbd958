"""Divides rows into training, validation and test rows. The same rows give the same parts, always."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from noria.base.times import duration_text, parse_duration
from noria.data.rows.encoding import hash_rows
from noria.features.function import AT
from noria.training.errors import TooFewRows, TrainingInvalid

LEAST = 20

Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Which rows belong to which part; a row may belong to none (gap, too old)."""

    train: Mask
    valid: Mask
    test: Mask
    facts: dict[str, Any]


def split(rows: pl.DataFrame, spec: dict[str, Any] | None, key: list[str]) -> Parts:
    """Divides rows as a ``nr.split`` says; by time where the rows have moments, else by the hash of the key.

    Raises:
        TooFewRows: a part holds fewer than 20 rows.
    """
    if spec is None:
        timed = AT in rows.columns and rows[AT].n_unique() > LEAST
        spec = _default_time(rows) if timed else {"kind": "random", "valid": 0.2, "test": 0.2, "seed": 0}
    kind = spec["kind"]
    if kind == "time":
        parts = _by_time(rows, spec)
    elif kind == "group":
        if spec["by"] not in rows.columns:
            raise TrainingInvalid(f"split.group({spec['by']!r}): the features have no such column.")
        parts = _by_hash(rows.select(spec["by"]), spec)
    else:
        parts = _by_hash(rows.select(key), spec)
    for name, mask in (("training", parts.train), ("validation", parts.valid), ("test", parts.test)):
        count = int(mask.sum())
        if count < LEAST:
            raise TooFewRows(
                f"The split leaves {count} {name} rows of {len(rows)}; {LEAST} are the least.",
                hint="Collect more rows with truth, or make the parts of the split smaller.",
                details={"split": spec, "rows": len(rows)},
            )
    return parts


def _default_time(rows: pl.DataFrame) -> dict[str, Any]:
    first, last = rows[AT].min(), rows[AT].max()
    part = duration_text(max(1, int((last - first).total_seconds() * 1000 * 0.15)))  # type: ignore[operator, union-attr]
    return {"kind": "time", "valid": part, "test": part, "gap": "0s", "train": None}


def _by_time(rows: pl.DataFrame, spec: dict[str, Any]) -> Parts:
    at = rows[AT].dt.epoch("ms").to_numpy()
    end = int(at.max())
    test, valid, gap = (parse_duration(str(spec[name])) for name in ("test", "valid", "gap"))
    test_from = end - test
    valid_to = test_from - gap
    valid_from = valid_to - valid
    train_to = valid_from - gap
    train_from = train_to - parse_duration(spec["train"]) if spec["train"] else int(at.min()) - 1
    return Parts(
        train=(at > train_from) & (at <= train_to),
        valid=(at > valid_from) & (at <= valid_to),
        test=at > test_from,
        facts={
            "train_from": train_from,
            "train_to": train_to,
            "valid_from": valid_from,
            "test_from": test_from,
            "end": end,
        },
    )


def _by_hash(frame: pl.DataFrame, spec: dict[str, Any]) -> Parts:
    seeded = frame.with_columns(pl.lit(int(spec.get("seed", 0)), pl.Int64).alias("__seed"))
    place = hash_rows(seeded)[:, :7].astype(np.uint64) @ (256 ** np.arange(7, dtype=np.uint64))
    share = place / float(1 << 56)
    test, valid = float(spec["test"]), float(spec["valid"])
    return Parts(
        train=share >= test + valid, valid=(share >= test) & (share < test + valid), test=share < test, facts={}
    )
