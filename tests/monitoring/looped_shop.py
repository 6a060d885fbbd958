"""A small project that is trained once; every test goes on with a copy of its workspace, in replay.

Predictions are written by hand into capture segments, as an endpoint worker does, so that a test decides how good each
deployment is; everything behind the segments is real.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
import pytest

from noria.base.actor import Actor
from noria.base.clock import Clock
from noria.base.faults import Faults
from noria.base.times import DAY
from noria.delivery.records import JOB
from noria.jobs.work import Worker
from noria.monitoring.labeller import Labeller
from noria.pipelines import queries as pipeline_queries
from noria.pipelines.executors import SideWorker
from noria.serving.records import Arm, Deployment, DeploymentState
from noria.serving.segments import Captured, CapturedRow, SegmentWriter
from noria.workspace import Workspace, connect, init

ME = Actor(name="user:test")
ROBOT = Actor(name="system:test", automatic=True)
T0 = datetime(2013, 1, 1, tzinfo=UTC)
START_MS = int(T0.timestamp() * 1000) + 24 * DAY
"""Where the replay begins: everything before it was there when the models were trained."""
ENDPOINT = "shops"

PROJECT = """\
import noria as nr
import polars as pl
from lightgbm import LGBMClassifier

orders = nr.source("orders", key="id", time="at")
outcomes = nr.source("outcomes", key="id", time="known", known="known")


@nr.features(of=orders, at=pl.col("at"))
def basket(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.select("id", "shop", "n", "price", big=pl.col("price") > 50)


@nr.labels(of=orders, after="1d")
def returned(outcomes: pl.LazyFrame) -> pl.LazyFrame:
    return outcomes.select("id", returned=pl.col("back"))


@nr.model(features=basket, target=returned, split=nr.split.time(valid="4d", test="6d"), metrics=["log_loss", "roc_auc"],
          gates=[nr.gate.beats_baseline(confidence=0.01)],
          budget=nr.when.budget(runs=3, per="30d", pause="1d"))
def tree(train: nr.Rows, valid: nr.Rows, *, leaves: int = 4):
    return LGBMClassifier(n_estimators=10, num_leaves=leaves, verbose=-1, n_jobs=1).fit(train.X, train.y)


shops = nr.endpoint("shops", model=tree, p99_ms=250,
                    release=nr.release.canary([0.2, 0.5, 1.0], shadow=True, alpha=0.2, margin=0.005, hold=60, longest="12d"))
"""


def world(
    start: datetime = T0, days: int = 24, per_day: int = 50, seed: int = 0, prefix: str = "o"
) -> dict[str, pl.DataFrame]:
    """Orders, and what came of them twelve hours later."""
    rng = np.random.default_rng(seed)
    n = days * per_day
    at = [start + timedelta(minutes=int(m)) for m in np.sort(rng.integers(0, days * 24 * 60, n))]
    shop, items, price = rng.choice(["a", "b", "c"], n), rng.integers(1, 9, n), rng.gamma(2, 20, n).round(2)
    chance = np.where((price > 35) ^ (shop == "a"), 0.8, 0.2)  # what a tree learns and a line does not
    orders = pl.DataFrame(
        {"id": [f"{prefix}{i}" for i in range(n)], "at": at, "shop": shop, "n": items, "price": price}
    )
    known = [t + timedelta(hours=12) for t in at]
    outcomes = pl.DataFrame({"id": orders["id"], "back": rng.random(n) < chance, "known": known})
    times = pl.col(pl.Datetime).cast(pl.Datetime("us", "UTC"))
    return {"orders": orders.with_columns(times), "outcomes": outcomes.with_columns(times)}


def make(
    root: Path,
    versions: int = 3,
    text: str = PROJECT,
    db_url: str | None = None,
    more: Mapping[str, pl.DataFrame] = MappingProxyType({}),
) -> None:
    """Makes a project with so many versions of ``tree`` in ``root``; nothing serves yet."""
    name = f"looped_{root.name.replace('-', '_')}"
    (root / f"{name}.py").write_text(text)
    place = f'workspace = "{db_url}"\n' if db_url else ""
    (root / "noria.toml").write_text(f'name = "shop"\nmodules = ["{name}"]\nexecutor = "inline"\n{place}')
    init(root, db_url=db_url).close()
    try:
        with connect(root) as ws:
            move_clock(ws, START_MS)
            graph = ws.pipelines.graph()
            for source, frame in {**world(), **more}.items():
                ws.data.append(ws.pipelines.ensure_source(graph.node(source).thing), frame, actor=ME)
            for number in range(versions):
                ws.pipelines.run(["tree"], {"leaves": 4 + number}, actor=ME, check=False)
            ws.delivery.apply(actor=ME)
    finally:
        sys.modules.pop(name, None)
        if str(root) in sys.path:
            sys.path.remove(str(root))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained project that tests copy; made once, whichever folder of tests asks first."""
    root = tmp_path_factory.getbasetemp() / "looped" / "template"
    if not root.exists():
        root.mkdir(parents=True)
        make(root)
    return root


@pytest.fixture(scope="session")
def labeller() -> Iterator[Labeller]:
    """One warm worker for all workspaces of a test session."""
    worker = SideWorker(os.environ)
    yield Labeller(worker)
    worker.close()


@pytest.fixture
def shop(template: Path, tmp_path: Path, labeller: Labeller) -> Iterator[Workspace]:
    """A copy of the trained project; nothing serves yet."""
    with copied(template, tmp_path / "shop", labeller) as ws:
        yield ws


@contextmanager
def copied(
    template: Path,
    root: Path,
    labeller: Labeller | None = None,
    faults: Faults | None = None,
    clock: Clock | None = None,
) -> Iterator[Workspace]:
    """A copy of the template's workspace in ``root`` (made where it is not there yet), opened."""
    if not root.exists():
        shutil.copytree(template, root)
    try:
        with connect(root, faults=faults, clock=clock) as ws:
            if labeller is not None:
                ws.monitoring._labeller = labeller
            yield ws
    finally:  # a test may have run the project's code
        for name in [n for n, m in sys.modules.items() if str(root) in str(getattr(m, "__file__", ""))]:
            del sys.modules[name]
        if str(root) in sys.path:
            sys.path.remove(str(root))


def move_clock(ws: Workspace, to_ms: int) -> None:
    with ws.db.write() as tx:
        ws.event_clock.set(tx, ws.project.id, to_ms)


def declare(ws: Workspace, **options: Any) -> None:
    """Changes what was applied for the model, as an edited project would."""
    made = []
    for found in ws.pipelines.definitions().values():
        if found.name == "tree":
            found = replace(found, spec={**found.spec, "options": {**found.spec["options"], **options}})
        made.append(found)
    with ws.changes.begin("test.declare", ws.project.id, ME) as change:
        pipeline_queries.apply(change.tx, ws.project.id, made)
        change.note("tree")


def deployed(ws: Workspace, number: int) -> Deployment:
    """A deployment of a version that counts as loaded everywhere."""
    model = ws.registry.version(ws.project.id, "tree", number)
    made = ws.serving.deploy(ws.serving.get(ENDPOINT), model, actor=ME)
    ws.serving.mark(made.id, DeploymentState.READY)
    return ws.serving.deployment(made.id)


def routed(ws: Workspace, *arms: Arm) -> None:
    with ws.changes.begin("test.route", ws.project.id, ME) as change:
        ws.serving.route(change, ws.serving.get(ENDPOINT), list(arms), salt="", paired=len(arms) > 1, reason="test")
        change.note(ENDPOINT)


def serve(ws: Workspace, number: int = 1) -> Deployment:
    """Makes a version the champion, without a release."""
    found = deployed(ws, number)
    routed(ws, Arm(deployment=found.id, role="champion", weight=1.0))
    ws.registry.move_alias(ws.project.id, "tree", "champion", number, actor=ME)
    return found


def settle(ws: Workspace, state: DeploymentState = DeploymentState.READY, error: str = "") -> None:
    """What the server's loop does until nothing is due; every worker loads what it is told to, or fails to."""
    worker = Worker(ws.jobs, ws.clock, {JOB: ws.delivery.bring_on})
    while True:
        if worker.run_one():
            continue
        for found in ws.serving.plan().deployments:
            if found.state == DeploymentState.STARTING:
                ws.serving.mark(found.id, state, error)
        if not ws.delivery.begin_loaded():
            return


def version(ws: Workspace, number: int) -> Any:
    return ws.registry.version(ws.project.id, "tree", number)


Scores = Callable[[np.ndarray[Any, Any], np.random.Generator], np.ndarray[Any, Any]]
"""(truth of the rows, chance) -> their scores."""


def good(y: np.ndarray[Any, Any], _: np.random.Generator) -> np.ndarray[Any, Any]:
    return np.where(y, 0.7, 0.3)


def poor(y: np.ndarray[Any, Any], _: np.random.Generator) -> np.ndarray[Any, Any]:
    return np.where(y, 0.45, 0.55)


def fair(y: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """As often a little better than ``level`` as a little worse."""
    return np.clip(np.where(y, 0.6, 0.4) + rng.normal(0, 0.05, len(y)), 0.05, 0.95)


def level(y: np.ndarray[Any, Any], _: np.random.Generator) -> np.ndarray[Any, Any]:
    return np.where(y, 0.6, 0.4)


@dataclass
class Traffic:
    """Day after day of orders, their predictions and their truth."""

    ws: Workspace
    seed: int = 1
    per_day: int = 80
    latency: int = 900
    latencies: Mapping[int, int] = field(default_factory=dict[int, int])
    """Deployment -> another latency."""
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Column -> another value in what is captured."""

    @property
    def now(self) -> int:
        return self.ws.event_clock.event_ms(self.ws.project.id)

    def day(self, scores: Mapping[int, Scores], *, truth: bool = True, process: bool = True) -> pl.DataFrame:
        """One day: orders come, are scored by each deployment, and their truth is there when the day is over."""
        start = datetime.fromtimestamp(self.now / 1000, tz=UTC)
        frames = world(start, 1, self.per_day, self.seed, f"d{self.now // DAY}-")
        self.seed += 1
        self.capture(frames["orders"], frames["outcomes"]["back"].to_numpy(), scores)
        if truth:
            self.tell(frames["outcomes"])
        move_clock(self.ws, self.now + DAY)
        if process:
            self.process()
        return frames["outcomes"]

    def tell(self, outcomes: pl.DataFrame) -> None:
        ws = self.ws
        ws.data.append(ws.data.get(ws.project.id, "outcomes"), outcomes, actor=ROBOT)

    def process(self) -> None:
        """What the server's loop does when a day is over."""
        self.ws.ingest.take(actor=ROBOT)
        self.ws.delivery.process(ENDPOINT)

    def capture(self, orders: pl.DataFrame, y: np.ndarray[Any, Any], scores: Mapping[int, Scores]) -> None:
        """Writes what each deployment scored; who answers is what the routing says, in turns for a canary."""
        routing = self.ws.serving.status(ENDPOINT).routing
        arms = {a.deployment: a for a in routing.arms}
        rng = np.random.default_rng(self.seed + 10_000)
        answers = rng.random(len(orders))
        canary = next((a for a in routing.arms if a.role == "canary"), None)
        writer = SegmentWriter(self.ws.serving.capture_folder, "test")
        for number, how in scores.items():
            made = how(y, rng)
            role = arms[number].role
            for index, row in enumerate(orders.iter_rows(named=True)):
                by_canary = canary is not None and bool(answers[index] < canary.weight)
                answered = role != "shadow" and (by_canary == (role == "canary"))
                model = self.ws.serving.deployment(number).model
                writer.write(captured(number, model, row | dict(self.changes), float(made[index]), role=role,
                                      answered=answered, latency=self.latencies.get(number, self.latency)))  # fmt: skip
        writer.close()


def captured(
    deployment: int, model: str, row: Mapping[str, Any], score: float, *, role: str = "champion",
    answered: bool = True, latency: int = 900, entity: str | None = None, at: datetime | None = None,
) -> Captured:  # fmt: skip
    """What an endpoint worker would have written of one request."""
    moment = at if at is not None else row["at"]
    us = round(moment.timestamp() * 1_000_000)
    features = {"shop": row["shop"], "n": row["n"], "price": row["price"],
                "big": None if row["price"] is None else row["price"] > 50}  # fmt: skip
    made = CapturedRow(
        f"p-{row['id']}", json.dumps([entity or row["id"]]), us, score,
        json.dumps(dict(row), default=str).encode(), json.dumps(features).encode(),
    )  # fmt: skip
    return Captured(
        endpoint=ENDPOINT, revision=1, deployment=deployment, model=model, role=role, answered=answered,
        received=START_MS, latency=latency, commits=[], rows=[made],
    )  # fmt: skip
