"""A small trained project for the tests of serving: three versions of a model that looks into another table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from noria.base.actor import Actor
from noria.registry.records import ModelVersion
from noria.serving.records import Arm, Deployment, Routing
from noria.workspace import Workspace, connect, init

ME = Actor(name="user:test")
T0 = datetime(2013, 1, 1, tzinfo=UTC)
POLICY = {"p99_ms": 50}

PROJECT = """\
import os
import sys

import noria as nr
import polars as pl
from lightgbm import LGBMClassifier

orders = nr.source("orders", key="id", time="at")
visits = nr.source("visits", key=("shop", "seen"), time="seen", known="seen")
outcomes = nr.source("outcomes", key="id", time="known", known="known")

SPLIT = nr.split.time(valid="4d", test="4d", gap="1d")


@nr.features(of=orders, at=pl.col("at"))
def basket(orders: pl.LazyFrame, visits) -> pl.LazyFrame:
    seen = nr.history(orders, visits, on="shop", at=pl.col("at"), window="12h", visits="count", spent=("mean", "spent"))
    return seen.select("id", "shop", "n", "price", "visits", "spent", big=pl.col("price") > 50)


@nr.labels(of=orders, after="1d")
def returned(outcomes: pl.LazyFrame) -> pl.LazyFrame:
    return outcomes.select("id", returned=pl.col("back"))


@nr.model(features=basket, target=returned, split=SPLIT, metrics=["log_loss"])
def tree(train: nr.Rows, valid: nr.Rows, *, leaves: int = 4):
    model = LGBMClassifier(n_estimators=10, num_leaves=leaves, verbose=-1, n_jobs=1)
    return model.fit(train.X, train.y)
"""


def world(n: int = 1200, days: int = 24) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(0)
    at = [T0 + timedelta(minutes=int(m)) for m in np.sort(rng.integers(0, days * 24 * 60, n))]
    shop, items, price = rng.choice(["a", "b", "c"], n), rng.integers(1, 9, n), rng.gamma(2, 20, n).round(2)
    chance = 1 / (1 + np.exp(-(-2 + 0.05 * price + 0.5 * (shop == "a") - 0.1 * items)))
    orders = pl.DataFrame({"id": [f"o{i}" for i in range(n)], "at": at, "shop": shop, "n": items, "price": price})
    outcomes = pl.DataFrame(
        {"id": orders["id"], "back": rng.random(n) < chance, "known": [t + timedelta(hours=12) for t in at]}
    )
    hours = [T0 + timedelta(hours=h) for h in range(days * 24 + 6)]  # features are made up to the last known moment
    visits = pl.DataFrame(
        {
            "shop": [s for s in "abc" for _ in hours],
            "seen": hours * 3,
            "spent": rng.gamma(2, 10, 3 * len(hours)).round(2),
        }
    )
    times = pl.col(pl.Datetime).cast(pl.Datetime("us", "UTC"))
    return {name: f.with_columns(times) for name, f in (("orders", orders), ("visits", visits), ("outcomes", outcomes))}


@contextmanager
def trained(root: Path, versions: int, text: str = PROJECT, last: str = "") -> Iterator[Workspace]:
    """A workspace in ``root`` with so many versions of ``tree``, and one more that is made with the code ``last``."""
    name = f"trained_{root.name.replace('-', '_')}"
    (root / f"{name}.py").write_text(text)
    (root / "noria.toml").write_text(f'name = "shop"\nmodules = ["{name}"]\nexecutor = "inline"\n')
    init(root).close()
    try:
        with connect(root) as ws:
            graph = ws.pipelines.graph()
            for source, frame in world().items():
                ws.data.append(ws.pipelines.ensure_source(graph.node(source).thing), frame, actor=ME)
            for number in range(versions):
                ws.pipelines.run(["tree"], {"leaves": 4 + number}, actor=ME, check=False)
        if last:
            sys.modules.pop(name, None)
            (root / f"{name}.py").write_text(last)
            with connect(root) as ws:
                ws.pipelines.run(["tree"], {"leaves": 4 + versions}, actor=ME, check=False)
        with connect(root) as ws:
            yield ws
    finally:
        sys.modules.pop(name, None)
        if str(root) in sys.path:
            sys.path.remove(str(root))


def version(ws: Workspace, number: int, model: str = "tree") -> ModelVersion:
    return ws.registry.version(ws.project.id, model, number)


def arm(deployment: Deployment, weight: float, role: str = "champion") -> Arm:
    return Arm(deployment=deployment.id, role=role, weight=weight)


def route(ws: Workspace, name: str, *arms: Arm, expected: int | None = None, **more: Any) -> Routing:
    settings: dict[str, Any] = {"salt": "s", "paired": False, "reason": "test", **more}
    with ws.changes.begin("serving.route", ws.project.id, ME) as change:
        return ws.serving.route(change, ws.serving.get(name), list(arms), expected=expected, **settings)
