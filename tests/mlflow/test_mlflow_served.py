"""From ``mlflow.log_model`` to a served, watched, followed model: clients, commands and HTTP only, on a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from tracking_process import Up, said, started, workspace_folder

import waiting

pytestmark = [pytest.mark.ours, pytest.mark.slow]
WAIT = 120

LOG = """
import sys
import mlflow
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

uri, rows = sys.argv[1], int(sys.argv[2])
mlflow.set_tracking_uri(uri)
mlflow.set_registry_uri(uri)
draw = np.random.default_rng(0)
X = pd.DataFrame(draw.normal(size=(rows, 3)), columns=list("abc"))
y = (X["a"] + X["b"] + draw.normal(size=rows) > 0).astype(int)
with mlflow.start_run():
    mlflow.log_metric("acc", 0.7)
    model = LogisticRegression().fit(X, y)
    mlflow.sklearn.log_model(
        model, name="model", input_example=X[:3], registered_model_name="iris", pip_requirements=["scikit-learn"]
    )
if rows > 100:
    mlflow.MlflowClient().set_registered_model_alias("iris", "best", 2)
"""


until = partial(waiting.until, seconds=WAIT)


def noria(folder: Path, *arguments: str) -> Any:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_"))}
    command = [sys.executable, "-m", "noria", *arguments, "--workspace", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_client_logs_and_noria_serves_watches_and_follows(tmp_path: Path) -> None:
    with workspace_folder(tmp_path / "shop") as folder:
        server = Up(folder)
        try:
            _story(server, folder)
        finally:
            assert server.end() == 0


def ask(base: str, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None


def _story(server: Up, folder: Path) -> None:
    port = until(lambda: ask(server.url, "GET", "/v1/health").get("endpoints"), "endpoints are up")
    said(started(LOG, server.url, "40"))
    adopted = noria(folder, "adopt", "iris", "--task", "binary", "--proba", "--gate", "acc>=0.6")
    assert (adopted["rows"], adopted["task"], adopted["probabilities"]) == (0, "binary", True)
    assert noria(folder, "deploy", "iris", "--endpoint", "flowers", "--follow", "best")["answers"]

    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    advance(server.url, start)
    rows = [{"a": n / 10 - 2, "b": 0.1, "c": -n / 7} for n in range(40)]
    ids = [f"order-{n}" for n in range(40)]
    answer = ask(port, "POST", "/endpoints/flowers/predict", {"rows": rows, "ids": ids})
    scores = [p["score"] for p in answer["predictions"]]
    assert scores == sorted(scores)
    assert 0 < scores[0] < 0.5 < scores[-1] < 1

    truth = [{"id": name, "truth": int(n > 20)} for n, name in enumerate(ids)]
    told = ask(server.url, "POST", "/v1/monitor/flowers/truth", {"rows": truth})
    assert told == {"endpoint": "flowers", "told": 40}
    advance(server.url, start + timedelta(days=1))
    (window,) = ask(server.url, "GET", "/v1/monitor/flowers/windows")["items"]
    assert (window["n"], window["labelled"], window["errors"], window["model"]) == (40, 40, 0, "iris/1")
    assert window["metrics"]["roc_auc"] > 0.9
    drift = ask(server.url, "GET", "/v1/monitor/flowers/drift")
    assert (drift["score"]["psi"], drift["features"]) == (0, [])  # nobody showed it rows to compare with

    _kill_the_model(server)
    one = ask(port, "POST", "/endpoints/flowers/predict", {"row": rows[3], "id": "again"})
    assert (one["score"], one["model"]) == (scores[3], "iris/1")

    said(started(LOG, server.url, "400"))  # it moves the alias, which the endpoint follows
    found = until(lambda: _candidate(server, "releasing"), "a release that follows the alias")
    assert (found["trigger"], found["number"]) == ("follow", 2)
    assert [g["kind"] for g in found["gates"]] == ["loads", "metric"]
    until(lambda: len(ask(port, "GET", "/endpoints/flowers")["arms"]) == 2, "both versions are loaded")
    ask(port, "POST", "/endpoints/flowers/predict", {"rows": rows, "ids": [f"next-{n}" for n in range(40)]})
    advance(server.url, start + timedelta(days=2))
    models = {w["model"] for w in ask(server.url, "GET", "/v1/monitor/flowers/windows")["items"] if w["n"]}
    assert models == {"iris/1", "iris/2"}

    back = ask(server.url, "GET", "/v1/trace?thing=flowers/order-3")["backward"]
    assert back["facts"]["recomputed"] == "equal"
    kinds = [(node["kind"], node["name"]) for node in _nodes([back])]
    assert ("run", "iris/1") in kinds
    assert ("model", "logged.model") in kinds
    noria(folder, "scorecard", "iris")


def advance(url: str, to: datetime) -> None:
    ask(url, "POST", "/v1/clock", {"to": to.strftime("%Y-%m-%dT%H:%M:%SZ")})


def _candidate(server: Up, state: str) -> Any:
    found = ask(server.url, "GET", "/v1/candidates")["items"]
    assert not [c for c in found if c["state"] in ("failed", "refused")], found
    return next((c for c in found if c["state"] == state), None)


def _kill_the_model(server: Up) -> None:
    """Ends every process that holds a model: those of the endpoint workers stay."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    held = [p for p in children if any("noria.worker.pyfunc" in part for part in p.cmdline())]
    assert held
    for process in held:
        process.send_signal(signal.SIGKILL)
    until(lambda: all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in held), "they are dead")


def _nodes(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [found for node in nodes for found in (node, *_nodes(node["children"]))]
