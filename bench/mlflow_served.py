"""One row asked of a model that a client logged: ``noria up`` beside ``mlflow models serve``, in turns.

    python -m bench.mlflow_served --mlflow PATH [--rounds 3] [--seconds 1.0]

Both load the same package, and both answers are compared first. Figures: p50 in milliseconds of one connection, and
rows a second of four at once. Peer: MLflow's own scoring server with one worker.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.mlflow_wire.servers import Server
from bench.mlflow_wire.wire import Connection, drive, get, post, repeat

ROW = {"a": 0.3, "b": -1.2, "c": 0.8}
OURS = post("/endpoints/e/predict", {"row": ROW})
THEIRS = post("/invocations", {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())]}})

_SAVE = """
import sys, mlflow, numpy as np, pandas as pd
from sklearn.linear_model import LogisticRegression
X = pd.DataFrame(np.random.default_rng(0).normal(size=(500, 3)), columns=list("abc"))
fitted = LogisticRegression().fit(X, (X.a + X.b > 0).astype(int))
mlflow.sklearn.save_model(fitted, sys.argv[1], input_example=X[:3], pip_requirements=["scikit-learn"])
"""
_LOG = """
import sys, mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1]); mlflow.set_registry_uri(sys.argv[1])
with mlflow.start_run():
    mlflow.sklearn.log_model(
        mlflow.sklearn.load_model(sys.argv[2]), name="m", registered_model_name="m", pip_requirements=["scikit-learn"],
        input_example=pd.DataFrame([[0.1, 0.2, 0.3]], columns=list("abc")))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mlflow", required=True, help="the command of an environment with mlflow and scikit-learn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = root / "model"
        _python(root, "-c", _SAVE, str(model))
        sides = {
            "mlflow": (_theirs(root, given.mlflow, model, stack), THEIRS),
            "noria": (_ours(root, model, stack), OURS),
        }
        _check(sides["noria"][0], sides["mlflow"][0])
        _measure(sides, given.rounds, given.seconds)
    return 0


def _measure(sides: dict[str, tuple[int, bytes]], rounds: int, seconds: float) -> None:
    p50: dict[str, list[float]] = {name: [] for name in sides}
    rate: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, (port, request) in sides.items():
            one = drive(port, [repeat(request)], seconds)
            four = drive(port, [repeat(request) for _ in range(4)], seconds)
            if number:  # the first round does not count
                p50[name].append(one.median)
                rate[name].append(four.rate)
    theirs, ours = (statistics.median(p50[name]) for name in ("mlflow", "noria"))
    print(f"p50 of one row, 1 connection: mlflow {theirs:.2f} ms, noria {ours:.2f} ms, better {theirs / ours:.1f} x")
    theirs, ours = (statistics.median(rate[name]) for name in ("mlflow", "noria"))
    print(f"4 connections: mlflow {theirs:.0f} rows/s, noria {ours:.0f} rows/s, better {ours / theirs:.1f} x")


def _check(ours: int, theirs: int) -> None:
    with Connection(ours) as one, Connection(theirs) as other:
        found, wanted = one.json(OURS)["score"], other.json(THEIRS)["predictions"][0]
    if found != wanted:
        raise SystemExit(f"noria answers {found}, MLflow {wanted}.")


def _ours(root: Path, model: Path, stack: ExitStack) -> int:
    """The port of the endpoint behind which the model was deployed."""
    folder = root / "noria"
    folder.mkdir()
    server = Server("noria", folder, None, [sys.executable, "-m", "noria", "up", "--init", "--port", "{port}"])
    stack.callback(server.stop)
    server.start()
    _python(root, "-c", _LOG, f"http://127.0.0.1:{server.port}", str(model))
    _python(root, "-m", "noria", "deploy", "m", "--endpoint", "e", "--workspace", str(folder))
    with Connection(server.port) as connection:
        return int(connection.json(get("/v1/health"))["endpoints"].rpartition(":")[2])


def _theirs(root: Path, mlflow: str, model: Path, stack: ExitStack) -> int:
    folder = root / "mlflow"
    folder.mkdir()
    path = f"PATH={Path(mlflow).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # it starts uvicorn by its name
    serve = ["models", "serve", "-m", str(model), "--env-manager", "local", "-p", "{port}", "-w", "1"]
    server = Server("mlflow", folder, None, ["env", path, mlflow, *serve])
    stack.callback(server.stop)
    return server.start().port


def _python(folder: Path, *arguments: str) -> None:
    told = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=told, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments[-3:])} ended with {done.returncode}: {done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
