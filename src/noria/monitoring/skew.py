"""Were the features on the request path those of the bulk path? Compared bit by bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from noria.training.keys import with_keys

if TYPE_CHECKING:
    import polars as pl

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Attributes:
    equal: rows with all features equal; scores: rows with an equal score; absent: rows that the bulk does not hold.
    wrong: feature -> number of rows on which it differs.
    """

    equal: int
    scores: int
    absent: int
    wrong: dict[str, int] = field(default_factory=dict[str, int])


def compare(
    captured: pl.DataFrame, bulk: pl.DataFrame, scores: pl.DataFrame, key: list[str], names: list[str]
) -> Compared:
    """Captured rows against the rows of a features table and their bulk scores, by key.

    Both sides are compared as the JSON that the capture writes: a float's shortest text is its bits.
    """
    whole = bulk.join(scores.select(*key, __score="score"), on=key, how="inner", maintain_order="left")
    keys = [_decode(text) for text in captured["entity"].to_list()]
    found = {
        _encode(list(row[: len(key)])).decode(): row[len(key) :]
        for row in with_keys(whole, key, keys).select(*key, *names, "__score").iter_rows()
    }
    equal, same_scores, absent = 0, 0, 0
    wrong: dict[str, int] = {}
    for entity, features, score in captured.select("entity", "features", "score").iter_rows():
        row: Any = found.get(entity)
        if row is None:
            absent += 1
            continue
        mine: dict[str, Any] = _decode(features)
        bad = [n for n, value in zip(names, row, strict=False) if _encode(mine[n]) != _encode(value)]
        for name in bad:
            wrong[name] = wrong.get(name, 0) + 1
        equal += not bad
        same_scores += score == row[-1]
    return Compared(equal=equal, scores=same_scores, absent=absent, wrong=wrong)
