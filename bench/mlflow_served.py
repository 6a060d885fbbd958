"""One row asked of a model that a client logged: ``noria up`` beside ``mlflow models serve``, in turns.

    python -m bench.mlflow_served --mlflow PATH [--rounds 5] [--calls 400]

Both load the same package in their own environment; every answer is compared. Figures: p50 in milliseconds of one
connection, and calls a second of four at once. Peer: MLflow's own scoring server with one worker.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROW = {"a": 0.3, "b": -1.2, "c": 0.8}
_ROUTE = "/endpoints/e/predict"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mlflow", required=True, help="the command of an environment with mlflow and scikit-learn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=400)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        processes: list[subprocess.Popen[bytes]] = []
        try:
            _run(*_start(Path(folder), given.mlflow, processes), given.rounds, given.calls)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(30)
    return 0


Ask = Callable[[http.client.HTTPConnection], float]


def _run(ours: tuple[int, Ask], theirs: tuple[int, Ask], rounds: int, calls: int) -> None:
    found: dict[str, dict[str, list[float]]] = {"noria": {}, "mlflow": {}}
    for number in range(rounds + 1):  # the first one does not count
        for name, (port, ask) in (("noria", ours), ("mlflow", theirs)):
            p50, rate = _one(port, ask, calls), _four(port, ask, calls)
            if number:
                found[name].setdefault("p50", []).append(p50)
                found[name].setdefault("rate", []).append(rate)
    for figure, unit in (("p50", "ms, p50 of one row, 1 connection"), ("rate", "rows/s, 4 connections")):
        mine, other = (statistics.median(found[name][figure]) for name in ("noria", "mlflow"))
        better = other / mine if figure == "p50" else mine / other
        print(f"{unit}: mlflow {other:.2f}, noria {mine:.2f}, better {better:.1f} x")


def _one(port: int, ask: Ask, calls: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times: list[float] = []
    for _ in range(calls):
        began = time.perf_counter()
        _check(ask(connection))
        times.append(time.perf_counter() - began)
    connection.close()
    return statistics.median(times) * 1000


def _four(port: int, ask: Ask, calls: int) -> float:
    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(calls):
            _check(ask(connection))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 4 * calls / (time.perf_counter() - began)


def _check(score: float) -> None:
    if score != 0:  # the class that the fitted model gives to the row
        raise SystemExit(f"The answer is {score}, not 0.")


def _post(connection: http.client.HTTPConnection, path: str, body: Any) -> Any:
    connection.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status} {text.decode()}")
    return json.loads(text)


def _ours(connection: http.client.HTTPConnection) -> float:
    return _post(connection, _ROUTE, {"row": ROW})["score"]


def _theirs(connection: http.client.HTTPConnection) -> float:
    return _post(connection, "/invocations", {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())]}})[
        "predictions"
    ][0]


def _start(
    folder: Path, mlflow: str, processes: list[subprocess.Popen[bytes]]
) -> tuple[tuple[int, Ask], tuple[int, Ask]]:
    """(port, how to ask) of both; what was started stands in ``processes`` as soon as it is."""
    plain = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    model = _fitted(folder)
    up = [sys.executable, "-m", "noria", "up", "--port", "0", "--json", "--workspace", str(folder / "ws")]
    _noria(plain, "init", str(folder / "ws"), folder=folder)
    server = subprocess.Popen(up, stdout=subprocess.PIPE, env=plain, cwd=folder)
    processes.append(server)
    assert server.stdout is not None
    url = json.loads(server.stdout.readline())["url"]
    subprocess.run([sys.executable, "-c", _LOG, url, str(model)], check=True, env=plain, stderr=subprocess.DEVNULL)
    _noria(plain, "deploy", "m", "--endpoint", "e", "--workspace", str(folder / "ws"), folder=folder)
    port = _free()
    serve = [mlflow, "models", "serve", "-m", str(model), "--env-manager", "local", "-p", str(port), "-w", "1"]
    path = {"PATH": f"{Path(mlflow).parent}{os.pathsep}{os.environ.get('PATH', '')}"}  # it starts uvicorn by its name
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes.append(subprocess.Popen(serve, env={**plain, **path}, cwd=folder, **quiet))
    control = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]))
    control.request("GET", "/v1/health")
    endpoints = json.loads(control.getresponse().read())["endpoints"]
    _until(port)
    return (int(endpoints.rpartition(":")[2]), _ours), (port, _theirs)


def _fitted(folder: Path) -> Path:
    program = (
        "import sys, mlflow, numpy as np, pandas as pd\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "X = pd.DataFrame(np.random.default_rng(0).normal(size=(500, 3)), columns=list('abc'))\n"
        "m = LogisticRegression().fit(X, (X.a + X.b > 0).astype(int))\n"
        "mlflow.sklearn.save_model(m, sys.argv[1], input_example=X[:3], pip_requirements=['scikit-learn'])\n"
    )
    target = folder / "model"
    subprocess.run([sys.executable, "-c", program, str(target)], check=True, stderr=subprocess.DEVNULL)
    return target


_LOG = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1]); mlflow.set_registry_uri(sys.argv[1])
with mlflow.start_run():
    model = mlflow.sklearn.load_model(sys.argv[2])
    import pandas as pd
    mlflow.sklearn.log_model(model, name="m", registered_model_name="m", pip_requirements=["scikit-learn"],
        input_example=pd.DataFrame([[0.1, 0.2, 0.3]], columns=list("abc")))
"""


def _noria(environment: dict[str, str], *arguments: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "noria", *arguments], check=True, env=environment, cwd=folder)


def _free() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _until(port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit("MLflow's scoring server did not start: try its command by hand.")


if __name__ == "__main__":
    sys.exit(main())
