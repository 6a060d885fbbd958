"""Appending a few rows to a table, and what an edit of a hundredth of it stores."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from bench.places import ME, folder, project
from bench.result import Result, in_turns, seconds
from noria.data.records import Repository, RepositoryKind
from noria.workspace import Workspace

_T0 = datetime(2013, 1, 1, tzinfo=UTC)
_APPENDED = 50


def table(first: int, count: int, seed: int = 0) -> pl.DataFrame:
    """Orders: a number, a time, two categories, three measured values."""
    rng = np.random.default_rng(seed)
    number = pl.Series("id", np.arange(first, first + count))
    return pl.DataFrame(
        {
            "id": number,
            "at": pl.Series([_T0]).dt.cast_time_unit("us").new_from_index(0, count) + number * timedelta(seconds=7),
            "shop": rng.choice([f"shop {n}" for n in range(40)], count),
            "item": rng.choice([f"item {n}" for n in range(500)], count),
            "n": rng.integers(1, 9, count),
            "price": rng.gamma(2, 20, count).round(2),
            "weight": rng.normal(3, 1, count),
        }
    )


def _stored(root: Path) -> int:
    """Bytes of all files in the store."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _edited(frame: pl.DataFrame, rows: np.ndarray) -> pl.DataFrame:
    """These rows with a new price."""
    return frame[rows].with_columns(price=pl.col("price") + 1)


def measure(*, quick: bool = False) -> list[Result]:
    """Edits are stored once as a run of neighbouring rows (a day that is corrected), once strewn over the table."""
    count, rounds = (50_000, 3) if quick else (500_000, 15)
    frame = table(0, count)
    with folder() as here, project() as ws:
        store = ws.home / "store"
        repository = ws.data.create(ws.project.id, "orders", RepositoryKind.TABLE, actor=ME, key=("id",))
        empty = _stored(store)
        filling = seconds(lambda: ws.data.append(repository, frame, actor=ME))
        whole = _stored(store) - empty
        share = count // 100
        together = _growth(ws, repository, store, _edited(frame, np.arange(count // 2, count // 2 + share)))
        strewn = np.sort(np.random.default_rng(1).choice(count, share, replace=False))
        apart = _growth(ws, repository, store, _edited(frame, strewn))
        batches = (table(count + _APPENDED * n, _APPENDED, n) for n in range(1_000_000))

        def append() -> float:
            rows = next(batches)
            return 1000 * seconds(lambda: ws.data.append(repository, rows, actor=ME))

        def bare() -> float:
            rows = next(batches)

            def write() -> None:
                with (here / "rows.parquet").open("wb") as file:
                    rows.write_parquet(file)
                    file.flush()
                    os.fsync(file.fileno())

            return 1000 * seconds(write)

        ours, peer = in_turns(rounds, append, bare)
    mega = 1 << 20
    size = {"unit": "MiB", "peer": whole / mega, "peer_name": "the table", "goal": 0.02, "compare": "ratio"}
    return [
        Result(name=f"first append of {count:,} rows", unit="s", ours=filling),
        Result(
            name=f"append of {_APPENDED} rows to them",
            unit="ms",
            ours=ours,
            peer=peer,
            peer_name="Parquet file, fsync",
        ),
        Result(name="stored for 1 % edited rows, neighbours", ours=together / mega, **size),
        Result(name="stored for 1 % edited rows, strewn", ours=apart / mega, **size),
    ]


def _growth(ws: Workspace, repository: Repository, store: Path, rows: pl.DataFrame) -> int:
    before = _stored(store)
    ws.data.append(repository, rows, actor=ME)
    return _stored(store) - before
