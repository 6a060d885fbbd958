"""What a server holds that is moved in, written by the real client.

Run by itself, where the whole of MLflow is installed, it makes the golden database and files of a real ``mlflow server``:

    python tests/mlflow/moving_content.py tests/golden/mlflow-3.17.zip
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

BINARY = bytes(range(256)) * 20
FILES = {
    "top.txt": b"at the top\n",
    "empty": b"",
    "plots/roc curve.png": BINARY,
    "plots/deep/er/x.json": b"{}",
    "odd/100% #1.txt": b"odd",
}
LONG = 1_500
"""Points of the longest history."""


def fill(uri: str, root: str | None = None) -> dict[str, Any]:
    """Writes everything; returns the ids that a test asks for.

    Args:
        root: where the artifacts of the experiment go; default as the store has it.
    """
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        InputTag,
        LoggedModelOutput,
        LoggedModelStatus,
        Metric,
        Param,
        RunTag,
    )

    import mlflow
    from mlflow import MlflowClient

    mlflow.set_tracking_uri(uri)  # the registry of a folder or database asks it where a logged model lies
    client = MlflowClient(uri, uri)
    place = None if root is None else Path(root).as_uri()
    ids: dict[str, Any] = {}
    flights = client.create_experiment(
        "flights", artifact_location=place, tags={"team": "ops", "mlflow.note.content": "About\nflights"}
    )
    binned = client.create_experiment("thrown away")
    ids["flights"], ids["binned"] = flights, binned

    one = client.create_run(
        flights,
        start_time=1_700_000_000_000,
        tags={"mlflow.user": "ada", "a/b": "c", "mlflow.source.git.commit": "c0ffee"},
        run_name="one",
    )
    id = ids["one"] = one.info.run_id
    client.log_batch(
        id,
        metrics=[Metric("loss", 1 / (n + 1), 1_700_000_000_000 + n, n) for n in range(5)]
        + [Metric("odd", v, 1_700_000_000_000, n) for n, v in enumerate([math.nan, math.inf, -math.inf, 0.0, -1.5])]
        + [Metric("val/auc", 0.5, 1_700_000_000_001, -3), Metric("val/auc", 0.75, 1_700_000_000_002, -3)],
        params=[Param("depth", "3"), Param("text", "two\nlines, ünïcode: 'x' #no"), Param("model/kind", "gbm")],
        tags=[RunTag("colour", "red"), RunTag("multi", "a\nb\n")],
    )
    data = Dataset("2024.csv", "abc123", "local", '{"uri": "2024.csv"}', '{"columns": []}', '{"rows": 3}')
    client.log_inputs(id, [DatasetInput(data, [InputTag("mlflow.data.context", "train")])])
    with tempfile.TemporaryDirectory() as folder:
        for path, content in FILES.items():
            file = Path(folder) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        client.log_artifacts(id, folder)
    model = client.create_logged_model(
        flights,
        name="tree",
        source_run_id=id,
        tags={"kind": "tree"},
        params={"leaves": "31"},
        model_type="classifier",
    )
    ids["model"] = model.model_id
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "MLmodel").write_text("flavors: {}\n")
        (Path(folder) / "data").mkdir()
        (Path(folder) / "data/model.bin").write_bytes(BINARY)
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(id, [LoggedModelOutput(model.model_id, 2)])
    client.log_metric(id, "accuracy", 0.9, 1_700_000_000_100, 2, model_id=model.model_id)
    client.set_terminated(id, "FINISHED", 1_700_000_100_000)

    child = client.create_run(flights, 1_700_000_001_000, {"mlflow.parentRunId": id}, "child")
    ids["child"] = child.info.run_id
    for start in range(0, LONG, 500):
        points = [Metric("curve", math.sin(n / 50), 1_700_000_001_000 + n, n) for n in range(start, start + 500)]
        client.log_batch(child.info.run_id, points)
    client.set_terminated(child.info.run_id, "FAILED", 1_700_000_002_000)

    running = client.create_run(flights, 1_700_000_003_000, run_name="still running")
    ids["running"] = running.info.run_id
    client.log_metric(running.info.run_id, "loss", 2.0, 1_700_000_003_000, 0)

    gone = client.create_run(flights, 1_700_000_004_000, run_name="gone")
    ids["gone"] = gone.info.run_id
    client.log_param(gone.info.run_id, "p", "kept")
    client.log_metric(gone.info.run_id, "m", 1.0, 1_700_000_004_000, 0)
    client.set_terminated(gone.info.run_id, "KILLED", 1_700_000_005_000)
    client.delete_run(gone.info.run_id)

    lost = client.create_run(binned, 1_700_000_006_000, run_name="lost")
    ids["lost"] = lost.info.run_id
    client.log_metric(lost.info.run_id, "m", 3.0, 1_700_000_006_000, 0)
    client.set_terminated(lost.info.run_id, "FINISHED", 1_700_000_007_000)
    client.delete_experiment(binned)

    plain = client.create_run("0", 1_700_000_008_000, run_name="default")
    ids["default"] = plain.info.run_id
    client.set_terminated(plain.info.run_id, "FINISHED", 1_700_000_009_000)

    client.create_registered_model("eta", {"owner": "ada"}, "How late it will be.")
    for n in range(3):
        made = client.create_model_version(
            "eta", f"models:/{model.model_id}", id, {"n": str(n)}, None, f"version {n + 1}", model_id=model.model_id
        )
        assert int(made.version) == n + 1
    client.delete_model_version("eta", "2")
    client.set_registered_model_alias("eta", "champion", "3")
    client.transition_model_version_stage("eta", "1", "Archived")
    client.transition_model_version_stage("eta", "3", "Production")
    client.create_registered_model("empty")
    ids["trace"] = _traces(uri, flights, id)
    return ids


def _traces(uri: str, experiment: str, run: str) -> str:
    """Two traces: one of three spans with all that can be said of it, and one that failed. Returns the first one's id."""
    from mlflow.entities import AssessmentSource, SpanEvent
    from mlflow.exceptions import MlflowException
    from mlflow.tracing.attachments import Attachment

    import mlflow
    from mlflow import MlflowClient

    client = MlflowClient(uri, uri)
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_span("ask", "CHAIN", {"model": "tiny", "odd": [1.5, None, {"deep": "ü"}]}) as root:
        root.set_inputs({"question": "when?", "picture": Attachment(content_type="image/png", content_bytes=BINARY)})
        mlflow.update_current_trace(
            tags={"team": "ops"}, metadata={"mlflow.trace.session": "s-1"}, client_request_id="c-1"
        )
        with mlflow.start_span("look up", "RETRIEVER") as inner:
            inner.add_event(SpanEvent("cache miss", attributes={"tries": 2}))
        with mlflow.start_span("answer", "LLM") as inner:
            inner.set_outputs({"text": "soon"})
            inner.set_attribute("big", 1 << 62)
        root.set_outputs("soon")
    with mlflow.start_span("fail") as failed:
        failed.set_status("ERROR")
        failed.set_attribute("mlflow.chat.tokenUsage", {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12})
    mlflow.flush_trace_async_logging()
    id = root.trace_id
    client.set_trace_tag(id, "later", "yes")
    human = AssessmentSource("HUMAN", "ada")
    first = mlflow.log_feedback(trace_id=id, name="good", value=True, source=human, rationale="it is")
    mlflow.override_feedback(trace_id=id, assessment_id=first.assessment_id, value=False, source=human)
    mlflow.log_expectation(trace_id=id, name="truth", value={"at": [1, 2]}, source=human, span_id=inner.span_id)
    with contextlib.suppress(MlflowException):  # a folder knows no links
        client.link_traces_to_run([id], run)
    return id


def make(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        database, files = Path(folder) / "mlflow.db", Path(folder) / "files"
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(files)]
        server = subprocess.Popen(command, cwd=folder, start_new_session=True)
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                    break
                time.sleep(0.2)
            fill(f"http://127.0.0.1:{port}")
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
        with sqlite3.connect(database) as conn:
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            conn.execute("VACUUM")
        conn.close()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
            for path in [database, *sorted(files.rglob("*"))]:
                made.write(path, path.relative_to(folder))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
