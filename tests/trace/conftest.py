"""A trained, served project: what was answered is captured by the serving code itself, commits come in between."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest

from noria import workspace as workspaces
from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.data.records import Commit
from noria.serving.loaded import Loaded
from noria.serving.records import Arm, Deployment, DeploymentState
from noria.serving.segments import Captured, CapturedRow, SegmentWriter
from noria.trace import Trace
from noria.workspace import Workspace

ME = Actor(name="user:test")
ROBOT = Actor(name="system:test", automatic=True)
T0 = datetime(2013, 1, 1, tzinfo=UTC)

PROJECT = """\
import noria as nr
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

flights = nr.source("flights", key="flight", time="departs")
weather = nr.source("weather", key=("origin", "observed"), time="observed", known="published")
landings = nr.source("landings", key="flight", time="landed", known="published")
planes = nr.source("planes", key="tail")

ahead = pl.col("departs") - pl.duration(hours=2)


@nr.features(of=flights, at=ahead)
def trip(flights: pl.LazyFrame, weather, landings, planes) -> pl.LazyFrame:
    seen = nr.asof(flights, weather, on="origin", at=ahead, columns=["wind"], tolerance="6h")
    seen = nr.asof(seen, planes, on="tail", at=ahead)
    seen = nr.history(seen, landings, on="origin", at=ahead, window="12h", landed="count",
                      share=("mean", pl.col("delay") > 15), mean=("mean", "wobble"))
    return seen.select("flight", "dest", "wind", "seats", "landed", "share", "mean", hour=pl.col("departs").dt.hour())


@nr.labels(of=flights, after="1d")
def late(landings: pl.LazyFrame) -> pl.LazyFrame:
    return landings.select("flight", late=pl.col("delay") > 15)


@nr.model(features=trip, target=late, split=nr.split.time(valid="3d", test="3d"), metrics=["log_loss"],
          search={"C": nr.space.log(0.1, 10.0)})
def delay(train, valid, *, C: float = 1.0):
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["dest"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), ["wind", "seats", "landed", "share", "mean", "hour"]),
    )
    return make_pipeline(columns, LogisticRegression(C=C)).fit(train.X, train.y)
"""


def world(days: int = 20, seed: int = 3) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    n = days * 40
    departs = [T0 + timedelta(minutes=int(m)) for m in np.sort(rng.integers(0, days * 24 * 60, n))]
    flights = pl.DataFrame({
        "flight": [f"F{i:04d}" for i in range(n)], "departs": departs,
        "origin": rng.choice(["EWR", "JFK"], n), "dest": rng.choice(["BOS", "SFO", "ORD"], n),
        "tail": rng.choice(["N1", "N2", "N9"], n),
    }).with_columns(pl.col("departs").cast(pl.Datetime("us", "UTC")))  # fmt: skip
    hours = [T0 + timedelta(hours=h) for h in range(-6, days * 24)]
    weather = pl.DataFrame({
        "origin": ["EWR"] * len(hours) + ["JFK"] * len(hours), "observed": hours * 2,
        "published": [h + timedelta(minutes=int(rng.integers(5, 90))) for h in hours * 2],
        "wind": rng.normal(10, 3, 2 * len(hours)).round(1),
    }).with_columns(pl.col("observed", "published").cast(pl.Datetime("us", "UTC")))  # fmt: skip
    landings = flights.filter(pl.Series(rng.random(n) > 0.05)).select(
        "flight", "origin", "dest", landed=pl.col("departs") + pl.duration(hours=3)
    )
    landings = landings.with_columns(
        pl.Series("delay", rng.integers(-20, 90, len(landings))),
        pl.Series("wobble", rng.normal(size=len(landings))),
        published=pl.col("landed").dt.truncate("1h") + pl.duration(hours=1),
    )
    return {"flights": flights, "weather": weather, "landings": landings,
            "planes": pl.DataFrame({"tail": ["N1", "N2"], "seats": [100, 200]})}  # fmt: skip


@dataclass
class Served:
    """The project, and what was done with it."""

    ws: Workspace
    trace: Trace
    deployment: Deployment
    weather: list[Commit] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


def trace_of(ws: Workspace) -> Trace:
    return Trace(
        ws.db, ws.project.id, ws.assets, ws.lineage, ws.changes, ws.evidence, ws.data, ws.registry, ws.tracking,
        ws.serving, ws.training, ws.side_worker, ws.ingest,
    )  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("flights")
    before = set(sys.modules)
    (root / "trips.py").write_text(PROJECT)
    (root / "noria.toml").write_text('name = "flights"\nmodules = ["trips"]\nexecutor = "inline"\n')
    ws = workspaces.init(root)
    yield _serve(ws)
    ws.close()
    if str(root) in sys.path:
        sys.path.remove(str(root))
    for name in set(sys.modules) - before:
        if str(root) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def _serve(ws: Workspace) -> Served:
    """Trains on 14 days, then answers for three days while weather and landings come in every four hours."""
    tables, graph = world(), ws.pipelines.graph()
    start = T0 + timedelta(days=14)
    known = {"flights": "departs", "weather": "published", "landings": "published"}
    sources = {name: ws.pipelines.ensure_source(graph.node(name).thing) for name in tables}
    for name, frame in tables.items():
        part = frame.filter(pl.col(known[name]) <= start) if name in known else frame
        ws.data.append(sources[name], part, actor=ME)
    ws.pipelines.run(["delay"], actor=ME)
    endpoint = ws.serving.ensure("delays", "delay", {}, actor=ME)
    deployment = ws.serving.deploy(endpoint, ws.registry.resolve(ws.project.id, "delay"), actor=ME)
    ws.serving.mark(deployment.id, DeploymentState.READY)
    with ws.changes.begin("serving.route", ws.project.id, ME) as change:
        arms = [Arm(deployment=deployment.id, role="champion", weight=1.0)]
        ws.serving.route(change, endpoint, arms, salt="s", paired=False, reason="first")
        change.note("delays")
    made = Served(ws, trace_of(ws), ws.serving.deployment(deployment.id))
    loaded = Loaded(deployment.id, deployment.model, *ws.serving.folders(deployment), ws.features.replica_path)
    capture = SegmentWriter(ws.serving.capture_folder, "w0")
    for hour in range(0, 72, 4):
        now = start + timedelta(hours=hour)
        for name in ("weather", "landings"):
            since = now - timedelta(hours=4)
            part = tables[name].filter((pl.col(known[name]) > since) & (pl.col(known[name]) <= now))
            if len(part):
                commit = ws.data.append(sources[name], part, actor=ROBOT)
                if name == "weather":
                    made.weather.append(commit)
        soon = pl.col("departs").is_between(now + timedelta(hours=2), now + timedelta(hours=6), closed="right")
        made.ids += _answer(loaded, capture, tables["flights"].filter(soon))
    capture.close()
    assert ws.ingest.take(actor=ROBOT)["delays"] >= 100
    assert all(r.state == RunState.DONE for r in ws.assets.list_runs(ws.project.id).items)
    return made


def _answer(loaded: Loaded, capture: SegmentWriter, flights: pl.DataFrame) -> list[str]:
    """Scores and captures rows one by one, exactly as an endpoint worker does."""
    ids: list[str] = []
    for row in flights.iter_rows(named=True):
        (decoded,) = loaded.contract.decode_rows([row])
        computed = loaded.features(loaded.contract.frame([decoded]))
        (score,), (values,), (at,) = loaded.score(computed).tolist(), loaded.values(computed), loaded.moments(computed)
        ids.append(f"p-{row['flight']}")
        entity = loaded.contract.entity(decoded)
        capture.write(
            Captured(
                endpoint="delays", revision=1, deployment=loaded.deployment, model=loaded.model, role="champion",
                answered=True, received=round(datetime.now(UTC).timestamp() * 1000), latency=700,
                commits=computed.commits, rows=[CapturedRow(ids[-1], entity, at, score, msgspec.json.encode(decoded), values)],
            )
        )  # fmt: skip
    return ids
