"""From a sweep to a prediction, typed at the shell: one trained project, one real supervisor."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from noria.base.actor import Actor
from noria.cli.main import run
from noria.server import launch
from noria.workspace import connect, init

ME = Actor(name="user:test")
T0 = datetime(2013, 1, 1, tzinfo=UTC)
MODULE = "returns_project"
PROJECT = """\
import noria as nr
import polars as pl
from sklearn.linear_model import LogisticRegression

orders = nr.source("orders", key="id", time="at")
outcomes = nr.source("outcomes", key="id", time="known", known="known")


@nr.features(of=orders, at=pl.col("at"))
def basket(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.select("id", "n", "price", big=pl.col("price") > 50)


@nr.labels(of=orders, after="1d")
def returned(outcomes: pl.LazyFrame) -> pl.LazyFrame:
    return outcomes.select("id", returned=pl.col("back"))


@nr.model(features=basket, target=returned, split=nr.split.time(valid="6d", test="6d", gap="1d"),
          metrics=["log_loss"], search={"C": nr.space.log(0.01, 10)}, trials=3)
def chance(train: nr.Rows, valid: nr.Rows, *, C: float = 1.0):
    return LogisticRegression(C=C).fit(train.X, train.y)


returns = nr.endpoint("returns", model=chance, p99_ms=20)
"""


def world(n: int = 1500) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(0)
    at = [T0 + timedelta(minutes=int(m)) for m in np.sort(rng.integers(0, 40 * 24 * 60, n))]
    items, price = rng.integers(1, 9, n), rng.gamma(2, 20, n).round(2)
    odds = 1 / (1 + np.exp(-(-2 + 0.03 * price - 0.1 * items)))
    orders = pl.DataFrame({"id": [f"{i:05}" for i in range(n)], "at": at, "n": items, "price": price})
    known = [t + timedelta(hours=12) for t in at]
    return orders, pl.DataFrame({"id": orders["id"], "back": rng.random(n) < odds, "known": known})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose model was swept once."""
    root = tmp_path_factory.mktemp("trained")
    (root / f"{MODULE}.py").write_text(PROJECT)
    (root / "noria.toml").write_text(f'name = "shop"\nmodules = ["{MODULE}"]\nexecutor = "inline"\n')
    with init(root) as ws:
        graph = ws.pipelines.graph()
        for name, frame in zip(("orders", "outcomes"), world(), strict=True):
            ws.data.append(ws.pipelines.ensure_source(graph.node(name).thing), frame, actor=ME)
        ws.training.sweep("chance", actor=ME)
        ws.pipelines.run(["chance"], {"C": 5.0}, actor=ME)
    forget(root)
    return root


def forget(root: Path) -> None:
    sys.modules.pop(MODULE, None)
    if str(root) in sys.path:
        sys.path.remove(str(root))


class Shop:
    """Types commands in the project's folder."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys

    def __call__(self, *args: str, code: int = 0) -> Any:
        self._capsys.readouterr()
        found = run([*args, "--json"])
        out, err = self._capsys.readouterr()
        assert found == code, err
        return json.loads(out) if out else json.loads(err.strip().splitlines()[-1])["error"]

    def text(self, *args: str) -> str:
        self._capsys.readouterr()
        assert run(list(args)) == 0
        return self._capsys.readouterr().out


@pytest.fixture
def shop(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[Shop]:
    root = tmp_path / "shop"
    shutil.copytree(trained, root)
    monkeypatch.chdir(root)
    yield Shop(root, capsys)
    forget(root)


def test_a_sweep_answers_its_trials_the_best_and_the_version(shop: Shop) -> None:
    done = shop("sweep", "chance", "--trigger", "a new month")
    assert set(done) == {"run", "model", "metric", "better", "trials", "best", "model_version", "warnings"}
    assert (done["model"], done["metric"], done["better"], len(done["trials"])) == ("chance", "log_loss", -1, 3)
    assert all(t["cached"] for t in done["trials"])
    assert done["best"]["value"] == min(t["value"] for t in done["trials"])
    assert done["model_version"].startswith("chance/")
    assert shop("runs", "show", done["run"])["run"]["trigger"] == "a new month"
    text = shop.text("sweep", "chance", "--trials", "4")
    assert "chance/" in text
    assert text.count("cached") == 3


def test_models_are_listed_shown_and_aliases_moved(shop: Shop) -> None:
    (model,) = shop("models", "list")
    assert model["name"] == "chance"
    shown = shop("models", "show", "chance")
    assert [v["number"] for v in shown["versions"]] == [2, 1]
    assert shop("models", "alias", "chance", "champion", "1") == {
        "model": "chance", "alias": "champion", "before": None, "after": 1,
    }  # fmt: skip
    assert shop("models", "alias", "chance", "challenger", "v2", "--expected", "0")["after"] == 2
    moved = shop("models", "alias", "chance", "champion", "9", code=4)
    assert moved["code"] == "model_not_found"
    moved = shop("models", "alias", "chance", "champion", "2", "--expected", "2", code=5)
    assert (moved["code"], moved["details"]["found"]) == ("alias_moved", 1)
    assert shop("models", "alias", "chance", "champion", "challenger", "--expected", "1")["before"] == 1
    one = shop("models", "show", "chance@champion")
    assert (one["name"], one["aliases"]) == ("chance/2", ["challenger", "champion"])
    assert one["metrics"]["test.log_loss"] > 0
    assert shop("models", "show", "chance@v1")["name"] == "chance/1"
    assert shop("models", "show", "chance@champoin", code=4)["hint"] == "Did you mean 'champion'?"
    assert shop("models", "show", "chanse", code=4)["hint"] == "Did you mean 'chance'?"
    assert shop("models", "show", "chance/²", code=4)["code"] == "model_not_found"
    assert shop("models", "show", "chance/99999999999999999999", code=4)["code"] == "model_not_found"
    assert shop("models", "alias", "chance", "latest", "1", code=2)["code"] == "alias_invalid"
    assert shop("models", "alias", "chance", "champion", code=2)["code"] == "invalid"
    assert shop("models", "alias", "chance", "challenger", "--remove")["after"] is None
    for args in (["list"], ["show", "chance"], ["show", "chance/1"]):
        assert "chance" in shop.text("models", *args)


def test_a_deployment_without_running_endpoints_waits(shop: Shop) -> None:
    made = shop("deploy", "chance@v1", "--endpoint", "returns")
    assert (made["deployment"]["state"], made["answers"], made["revision"]) == ("starting", False, 0)
    assert "gets no traffic yet" in shop.text("deploy", "chance@v1", "--endpoint", "returns")
    assert [e["endpoint"]["name"] for e in shop("endpoints", "list")] == ["returns"]
    assert "nobody yet" in shop.text("endpoints", "list")
    assert shop("endpoints", "show", "retruns", code=4)["hint"] == "Did you mean 'returns'?"
    assert shop("endpoints", "status", code=6)["code"] == "nothing_serves"
    assert shop("endpoints", "stop") == {"stopped": False}
    with connect(shop.root) as ws:
        ws.registry.register(ws.project.id, "other", actor=ME, version_id=None, run_id=None)
    assert shop("deploy", "other", "--endpoint", "returns", code=5)["details"]["serves"] == "chance"
    assert shop("deploy", "other", "--endpoint", "others", code=2)["code"] == "training_invalid"


def test_an_applied_endpoint_keeps_its_policy(shop: Shop) -> None:
    with connect(shop.root) as ws:
        ws.pipelines.apply(actor=ME)
    shop("deploy", "chance", "--endpoint", "returns")
    policy = shop("endpoints", "show", "returns")["endpoint"]["policy"]
    assert policy["p99_ms"] == 20
    assert policy["release"]["steps"] == [0.05, 0.25, 1.0]


def test_deploy_predict_and_stop_with_a_real_supervisor(shop: Shop, tmp_path: Path, monkeypatch) -> None:
    orders, _ = world()
    # Another process starts it, as noria up does: the supervisor outlives it.
    subprocess.run([sys.executable, "-c", START], check=True, cwd=shop.root)
    try:
        ask_everything(shop, orders.head(5), tmp_path, monkeypatch)
    finally:
        with connect(shop.root) as ws:
            launch.stop(ws)
    assert gone(shop)


START = """\
from noria.server import launch
from noria.workspace import connect

with connect(".") as ws:
    launch.start(ws, host="127.0.0.1", port=0, workers=1)
"""


def gone(shop: Shop) -> bool:
    with connect(shop.root) as ws:
        for _ in range(200):
            if launch.find(ws) is None:
                return True
            time.sleep(0.1)
    return False


def ask_everything(shop: Shop, orders: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop("deploy", "chance/1", "--endpoint", "returns")
    assert (made["deployment"]["state"], made["answers"], made["revision"]) == ("ready", True, 1)
    assert shop("models", "show", "chance/1")["aliases"] == ["champion"]
    again = shop("deploy", "chance@champion", "--endpoint", "returns")
    assert again["revision"] == 1
    assert shop("endpoints", "status")["routed"] == {"returns": 1}
    assert "returns" in shop.text("endpoints", "status")

    orders.write_csv(tmp_path / "orders.csv")
    orders.write_parquet(tmp_path / "orders.parquet")
    orders.write_ndjson(tmp_path / "orders.jsonl")
    (tmp_path / "one.json").write_text(json.dumps({"row": json.loads(orders.head(1).write_json())[0]}))
    answers = [shop("predict", "returns", str(tmp_path / f"orders.{kind}")) for kind in ("csv", "parquet", "jsonl")]
    scores = [[p["score"] for p in a["predictions"]] for a in answers]
    assert scores[0] == scores[1] == scores[2]
    assert len(scores[0]) == 5
    assert {p["model"] for p in answers[0]["predictions"]} == {"chance/1"}
    assert [p["score"] for p in shop("predict", "returns", str(tmp_path / "one.json"))["predictions"]] == scores[0][:1]
    assert "chance/1" in shop.text("predict", "returns", str(tmp_path / "orders.csv"))
    for text in ((tmp_path / "orders.csv").read_text(), (tmp_path / "orders.jsonl").read_text()):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        assert [p["score"] for p in shop("predict", "returns", "-")["predictions"]] == scores[0]

    wrong = shop("predict", "retruns", str(tmp_path / "orders.csv"), code=4)
    assert (wrong["code"], wrong["hint"]) == ("endpoint_not_found", "Did you mean 'returns'?")
    (tmp_path / "bad.json").write_text('[{"id": "1", "prize": 3}]')
    bad = shop("predict", "returns", str(tmp_path / "bad.json"), code=2)
    assert (bad["code"], bad["hint"]) == ("request_invalid", "Did you mean 'price'?")
    for name, text in {"empty.json": "[]", "no.json": "{", "short.csv": "id,n\n1\n", "n.csv": "id,n\n1,x\n"}.items():
        (tmp_path / name).write_text(text)
        assert shop("predict", "returns", str(tmp_path / name), code=2)["code"] == "invalid"

    better = shop("deploy", "chance/2", "--endpoint", "returns")
    assert (better["answers"], better["revision"]) == (True, 2)
    shown = shop("endpoints", "show", "returns")
    assert [a["model"] for a in shown["routing"]["arms"]] == ["chance/2"]
    assert [d["state"] for d in shown["deployments"]] == ["ready", "ready"]
    assert [r["number"] for r in shown["history"]] == [2, 1]
    assert "chance/2 champion 100%" in shop.text("endpoints", "show", "returns")
    answer = shop("predict", "returns", str(tmp_path / "orders.csv"))
    assert {p["model"] for p in answer["predictions"]} == {"chance/2"}
    assert shop("endpoints", "stop") == {"stopped": True}
