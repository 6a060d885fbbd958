"""A quota through MLflow's client: it hears the refusal at once and repeats nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mlflow.entities import Metric
from mlflow.exceptions import RestException
from mlflow_server import serve
from urllib3.util.retry import Retry

from mlflow import MlflowClient
from noria import workspace

if TYPE_CHECKING:
    from pathlib import Path


def test_the_client_does_not_repeat_what_a_quota_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: Any, **__: Any) -> Retry:
        raise AssertionError("the client sends it again")

    ws = workspace.init(tmp_path, environment={})
    ws.tracking.set_quota(ws.project.id, "points", 3, actor=ws.actor)
    ws.tracking.set_quota(ws.project.id, "runs", 1, actor=ws.actor)
    monkeypatch.setattr(Retry, "increment", again)
    with serve(ws) as url:
        client = MlflowClient(url, url)
        run = client.create_run("0").info.run_id
        many = [Metric("m", float(n), n, n) for n in range(4)]
        for call in (lambda: client.log_batch(run, metrics=many), lambda: client.create_run("0")):
            with pytest.raises(RestException, match="noria admin quota") as refused:
                call()
            assert refused.value.error_code == "RESOURCE_EXHAUSTED"
        client.log_batch(run, metrics=many[:3])
    ws.close()
