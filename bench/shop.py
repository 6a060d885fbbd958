"""A small project with a LightGBM model on columns that pass through, and one on columns looked up as of a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from bench.places import ME
from noria.workspace import Workspace

PLAIN, LOOKED_UP = "plain", "looked_up"
SOURCE = """\
import noria as nr
import polars as pl
from lightgbm import LGBMClassifier

orders = nr.source("orders", key="id", time="at")
outcomes = nr.source("outcomes", key="id", time="known", known="known")
staffing = nr.source("staffing", key=("shop", "since"), time="since", known="since")

FEATURES = ("id", "shop", "n", "price")
SPLIT = nr.split.time(valid="6d", test="6d", gap="1d")


@nr.features(of=orders, at=pl.col("at"))
def basket(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.select(*FEATURES)


@nr.features(of=orders, at=pl.col("at"))
def basket_and_staff(orders: pl.LazyFrame, staffing) -> pl.LazyFrame:
    seen = nr.asof(orders, staffing, on="shop", at=pl.col("at"), columns=["staff", "queue"], tolerance="2d")
    return seen.select(*FEATURES, "staff", "queue")


@nr.labels(of=orders, after="1d")
def returned(outcomes: pl.LazyFrame) -> pl.LazyFrame:
    return outcomes.select("id", returned=pl.col("back"))


def fit(train):
    model = LGBMClassifier(n_estimators=100, num_leaves=15, verbose=-1, n_jobs=1)
    return model.fit(train.X, train.y)


@nr.model(features=basket, target=returned, split=SPLIT, metrics=["log_loss"])
def plain(train, valid):
    return fit(train)


@nr.model(features=basket_and_staff, target=returned, split=SPLIT, metrics=["log_loss"])
def looked_up(train, valid):
    return fit(train)
"""
MODULES = {"shop": SOURCE}
_T0 = datetime(2013, 1, 1, tzinfo=UTC)
_DAYS = 40
_SHOPS = [f"shop {n}" for n in range(12)]


def world(count: int = 4000) -> dict[str, pl.DataFrame]:
    """Orders, what came of them, and how many people worked in each shop, hour by hour."""
    rng = np.random.default_rng(0)
    at = [_T0 + timedelta(minutes=int(m)) for m in np.sort(rng.integers(0, _DAYS * 24 * 60, count))]
    shop, items, price = rng.choice(_SHOPS, count), rng.integers(1, 9, count), rng.gamma(2, 20, count).round(2)
    chance = 1 / (1 + np.exp(2 - 0.03 * price + 0.1 * items))
    ids = [f"o{n}" for n in range(count)]
    hours = [_T0 + timedelta(hours=h - 24) for h in range((_DAYS + 1) * 24)]
    total = len(hours) * len(_SHOPS)
    staffing = {
        "shop": np.repeat(_SHOPS, len(hours)),
        "since": hours * len(_SHOPS),
        "staff": rng.integers(1, 20, total),
        "queue": rng.gamma(2, 3, total).round(1),
    }
    return {
        "orders": pl.DataFrame({"id": ids, "at": at, "shop": shop, "n": items, "price": price}),
        "outcomes": pl.DataFrame(
            {"id": ids, "back": rng.random(count) < chance, "known": [t + timedelta(hours=12) for t in at]}
        ),
        "staffing": pl.DataFrame(staffing),
    }


def fill(ws: Workspace) -> dict[str, pl.DataFrame]:
    """Appends the rows and trains both models; returns the rows."""
    frames = world()
    graph = ws.pipelines.graph()
    for name, frame in frames.items():
        ws.data.append(ws.pipelines.ensure_source(graph.node(name).thing), frame, actor=ME)
    ws.pipelines.run([PLAIN, LOOKED_UP], actor=ME)
    return frames


def newest(orders: pl.DataFrame) -> pl.DataFrame:
    """The orders that single requests may ask about: online, only recent rows of a table are kept."""
    return orders.tail(100)


def requests(orders: pl.DataFrame) -> list[dict[str, Any]]:
    """Orders as the rows of requests."""
    return orders.with_columns(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_dicts()
