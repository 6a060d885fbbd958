"""Our paths and those of the protocols that will be spoken on the same ports do not collide (decision 19)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import compile_path

from noria.http.access import Access
from noria.server.routes import all_routes
from noria.serving.app import InferenceApp
from noria.serving.segments import SegmentWriter
from noria.workspace import Workspace

MLFLOW = [
    *(
        f"{prefix}/{path}"
        for prefix in ("/api/2.0", "/api/3.0", "/ajax-api/2.0", "/ajax-api/3.0")
        for path in (
            "mlflow/runs/create", "mlflow/runs/search", "mlflow/runs/log-batch", "mlflow/experiments/get-by-name",
            "mlflow/registered-models/alias", "mlflow/model-versions/get", "mlflow/metrics/get-history",
            "mlflow/logged-models/m-1", "mlflow/artifacts/list", "mlflow-artifacts/artifacts/a/b", "mlflow/traces",
            "mlflow/server-info", "mlflow/gateway-proxy", "mlflow/upload-artifact",
        )
    ),
    "/health", "/version", "/graphql", "/get-artifact", "/model-versions/get-artifact", "/signup", "/static-files/index.html", "/",
]  # fmt: skip
INFERENCE = [
    "/invocations", "/ping", "/version", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/m",
    "/v2/models/m/infer", "/v2/models/m/versions/1/infer", "/v2/repository/index", "/v1/algo/owner/name",
    "/v1/algo/owner/name/1.0.0",
]  # fmt: skip


def test_no_route_of_the_control_port_takes_a_path_of_mlflow(workspace: Workspace) -> None:
    paths = {route.path for route in all_routes(workspace)}
    assert [p for p in paths if not p.startswith("/v1/")] == []
    patterns = {path: compile_path(path)[0] for path in paths}
    for asked in (*MLFLOW, *INFERENCE):
        assert [path for path, pattern in patterns.items() if pattern.match(asked)] == [], asked
    assert not any(path == "/v1/algo" or path.startswith("/v1/algo/") for path in paths)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_inference_port_leaves_the_paths_of_other_protocols_free(tmp_path: Path, method: str) -> None:
    writer = SegmentWriter(tmp_path, "w1")
    app = InferenceApp(writer, Access(), lambda: 0)
    try:
        for path in INFERENCE:
            status, answer = asyncio.run(asked(app, method, path))
            assert (status, answer["error"]["code"]) == (404, "not_found"), path
    finally:
        app.close()
        writer.close()


async def asked(app: InferenceApp, method: str, path: str) -> tuple[int, Any]:
    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": ("127.0.0.1", 4000)}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])
