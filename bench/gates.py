"""What the champion's gate says of a retraining on the first of each month, over several seeds.

``python -m bench.gates FOLDER`` reads the features and the truth of a finished demo in FOLDER and trains what the
demo's project would train at each month's end. Nothing is released: each month is set against the model of the first
quarter, with the same seed. Not part of ``bench.run``: it judges models, not time.
"""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from lightgbm import LGBMClassifier

from noria.features.function import AT
from noria.training import metrics as m
from noria.training.evaluation import days_of
from noria.training.metrics import METRICS
from noria.training.rows import columns_of, conform, to_matrix
from noria.training.splitting import split
from noria.workspace import connect

SEEDS = (0, 1, 2, 3, 4)
SPLIT = {"kind": "time", "valid": "7d", "test": "14d", "train": "100d", "gap": "1d", "by": None, "seed": 0}


def rows_of(folder: Path) -> tuple[pl.DataFrame, list[str], dict[str, Any]]:
    """(key, moment, features and truth of every labelled flight; names of the features; the hyperparameters)."""
    with connect(folder) as ws:
        features = ws.pipelines.value("trip")
        entities = pl.Series("entity", ws.monitoring.entities(features.select("flight_id")), dtype=pl.String)
        truth = ws.monitoring.truth("delays").select("entity", "truth")
        joined = features.with_columns(entities).join(truth, on="entity", how="inner", maintain_order="left")
        champion = next(c for c in ws.delivery.candidates(model="delay_model") if c.state == "promoted")
        model = ws.registry.resolve(ws.project.id, f"delay_model/{champion.number}")
        params = ws.training.package_of(model).params
    names = [n for n in features.columns if n not in ("flight_id", AT)]
    return joined, names, params


def fit(rows: pl.DataFrame, names: list[str], params: dict[str, Any], seed: int) -> tuple[Any, Any, Any]:
    """(score of test rows as a function of rows, the split, the columns)."""
    parts = split(rows, SPLIT, ["flight_id"])
    train, valid = rows.filter(pl.Series(parts.train)), rows.filter(pl.Series(parts.valid))
    columns = columns_of(train.select(names))
    model = LGBMClassifier(
        n_estimators=150, n_jobs=2, verbose=-1, random_state=seed, deterministic=True, subsample=0.9,
        subsample_freq=1, **params,
    )  # fmt: skip
    x = to_matrix(conform(train.select(names), columns), columns)
    v = to_matrix(conform(valid.select(names), columns), columns)
    model.fit(x, train["truth"].to_numpy(), eval_X=v, eval_y=valid["truth"].to_numpy())

    def score(frame: pl.DataFrame) -> Any:
        return np.asarray(model.predict_proba(to_matrix(conform(frame.select(names), columns), columns)))[:, 1]

    return score, parts, columns


def main() -> None:
    """Prints one line a month: for each seed the gain over the first model and whether the gate passes."""
    rows, names, params = rows_of(Path(sys.argv[1]))
    primary = METRICS["log_loss"]

    def until(year: int, month: int) -> pl.DataFrame:
        end = dt.datetime(year, month, 1, tzinfo=dt.UTC) - dt.timedelta(days=2)
        return rows.filter(pl.col(AT) <= end)

    first = {seed: fit(until(2013, 4), names, params, seed)[0] for seed in SEEDS}
    print("| trained on the first of | " + " | ".join(f"seed {s}" for s in SEEDS) + " | passes |")
    print("|---|" + "--:|" * len(SEEDS) + "--:|")
    for month in range(5, 13):
        known = until(2013, month)
        cells: list[str] = []
        passed = 0
        for seed in SEEDS:
            score, parts, _ = fit(known, names, params, seed)
            test = known.filter(pl.Series(parts.test))
            y, days = test["truth"].to_numpy(), days_of(test)
            found = m.compare(primary, y, score(test), first[seed](test), days)
            passed += found.chance >= 0.9
            cells.append(f"{found.gain:+.4f} ({found.chance:.0%})")
        print(f"| {dt.date(2013, month, 1):%B} | " + " | ".join(cells) + f" | {passed} of {len(SEEDS)} |", flush=True)


if __name__ == "__main__":
    main()
