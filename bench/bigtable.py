"""A table of ten million rows, of which one in a hundred changes: what that stores, and what reading costs then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from bench.places import ME, folder, project
from bench.result import Result, in_turns, seconds
from bench.rows import table
from noria.data.records import Repository, RepositoryKind
from noria.workspace import Workspace

_MEGA = 1 << 20


def _stored(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _batch(frame: pl.DataFrame, number: int) -> pl.DataFrame:
    """One per cent of the rows, at random, with a new price, and one in a thousand new ones."""
    count = len(frame)
    rows = np.sort(np.random.default_rng(number).choice(count, count // 100, replace=False))
    news = table(count + number * (count // 1000), count // 1000, number)
    return pl.concat([frame[rows].with_columns(price=pl.col("price") + number), news])


def measure(*, quick: bool = False) -> list[Result]:
    """Our reading against ``pl.read_parquet`` of the same rows in one file, before and after a compaction."""
    count, rounds = (200_000, 3) if quick else (10_000_000, 7)
    with folder() as here, project() as ws:
        store, frame = ws.home / "store", table(0, count)
        repository = ws.data.create(ws.project.id, "orders", RepositoryKind.TABLE, actor=ME, key=("id",))
        filling = seconds(lambda: ws.data.append(repository, frame, actor=ME))
        whole = _stored(store)
        batch = _batch(frame, 1)
        editing = seconds(lambda: ws.data.append(repository, batch, actor=ME))
        edited = _stored(store) - whole
        file = here / "plain.parquet"
        ws.data.read(repository).write_parquet(file)
        before, plain = _reading(ws, repository, file, rounds)
        ws.data.compact(repository, actor=ME)
        folded = ws.data.layout(ws.data.resolve(repository)).size
        after, plain_again = _reading(ws, repository, file, rounds)
    ratio = {"compare": "ratio", "unit": "s", "peer_name": "pl.read_parquet, one file"}
    size = {"unit": "MiB", "peer": whole / _MEGA, "peer_name": "the table"}
    name = f"{count / 1e6:g} M rows"
    return [
        Result(name=f"first append of {name}", unit="s", ours=filling),
        Result(name=f"{name}: append of 1 % edited, 0.1 % new", unit="s", ours=editing),
        Result(name=f"{name}: stored for it", ours=edited / _MEGA, goal=0.02, compare="ratio", **size),
        Result(name=f"{name}: read before the fold", ours=before, peer=plain, goal=1.6, **ratio),
        Result(name=f"{name}: read after the fold", ours=after, peer=plain_again, goal=1.3, **ratio),
        Result(name=f"{name}: bytes that a whole fold writes", ours=folded / _MEGA, **size),
    ]


def _reading(ws: Workspace, repository: Repository, file: Path, rounds: int) -> tuple[float, float]:
    def ours() -> float:
        return seconds(lambda: ws.data.read(repository))

    def plain() -> float:
        return seconds(lambda: pl.read_parquet(file))

    found = in_turns(rounds, ours, plain)
    return found[0], found[1]
