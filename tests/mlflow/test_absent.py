"""Each path of MLflow is served, or says that its feature is absent; no call of the client hangs or crashes."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from asgi import call
from mlflow_paths import BESIDE, REST, TRACES, TRACKING, listed

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.exceptions import MlflowException, RestException

from noria import workspace as ws
from noria.db.group import GroupWriter
from noria.gateways.mlflow import Gateway, all_routes, mlflow_gateway
from noria.gateways.mlflow.absent import ABSENT, spelled
from noria.gateways.mlflow.door import Door
from noria.http.access import Access

WITHOUT = {(method, path) for feature in ABSENT for method, path in spelled((*feature.paths, *feature.empty))}
EMPTY = {(method, path) for feature in ABSENT for method, path in spelled(feature.empty)}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with ws.init(tmp_path_factory.mktemp("absent"), environment={}) as opened:
        writer = GroupWriter(opened.db)
        made = mlflow_gateway(opened, writer, Access())
        yield made
        made.close()
        writer.close()


@pytest.fixture(scope="module")
def address(gateway: Gateway) -> Iterator[str]:
    config = uvicorn.Config(gateway, port=0, log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    socket.listen(100)  # who comes before the thread does waits
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    socket.close()


def filled(path: str) -> str:
    """The path as it is sent, with something for each placeholder."""
    path = re.sub(r"\{\w+:path\}", "some/where", path)
    path = re.sub(r"\{\w+\}", "some-thing", path)
    return path if path.startswith("/") else f"/api/{path}"


def shape(path: str) -> str:
    """The path without the names of its placeholders."""
    return re.sub(r"\{\w+(:path)?\}", r"{\1}", path)


def test_the_lists_hold_all_paths() -> None:
    lines = [[line for line in group.split("\n") if line] for group in (TRACKING, TRACES, REST)]
    assert [len(group) for group in lines] == [62, 61, 42]


def missing(gateway: Gateway) -> list[str]:
    found: list[str] = []
    for group in (TRACKING, TRACES, REST, BESIDE):
        for method, path in listed(group):
            at = filled(path)
            known = gateway._table.find(at.removeprefix("/api/"))
            if known is None or method not in known[0]:
                found.append(f"{method} {path}")
    return found


def test_every_path_of_mlflow_is_served_or_absent(gateway: Gateway) -> None:
    assert missing(gateway) == []


def test_tracking_is_never_absent() -> None:
    tracking = {(method, shape(path)) for method, path in listed(TRACKING)}
    assert not tracking & {(method, shape(path)) for method, path in WITHOUT}


def test_no_path_is_served_and_absent(gateway: Gateway) -> None:
    """What somebody builds leaves the table."""
    served = {
        (r.method, shape(r.path)) for r in gateway._table.routes if r.handler.__module__.split(".")[-1] != "absent"
    }
    assert not served & {(method, shape(path)) for method, path in WITHOUT}


@pytest.mark.parametrize(("method", "path"), sorted(WITHOUT - EMPTY))
def test_an_absent_feature_says_so(gateway: Gateway, method: str, path: str) -> None:
    at = filled(path)
    for target in [at, at.replace("/api/", "/ajax-api/", 1)] if at.startswith("/api/") else [at]:
        found = call(gateway, method, target, {"name": "x"} if method != "GET" else None)
        assert (found.status, found.json["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
        assert found.json["message"].startswith("noria has no ")
        assert target.removeprefix("/api/").removeprefix("/ajax-api/").split("/")[0] in found.json["message"]


@pytest.mark.parametrize(("method", "path"), sorted(EMPTY))
def test_a_list_of_what_is_absent_is_empty(gateway: Gateway, method: str, path: str) -> None:
    found = call(gateway, method, filled(path), {} if method == "POST" else None)
    assert (found.status, found.json) == (200, {})


def test_other_methods_and_unknown_paths(gateway: Gateway) -> None:
    wrong = call(gateway, "PUT", "/api/3.0/mlflow/workspaces")
    assert (wrong.status, wrong.json["error_code"], wrong.headers["allow"]) == (405, "BAD_REQUEST", "GET, POST")
    unknown = call(gateway, "GET", "/api/3.0/mlflow/never-heard-of")
    assert (unknown.status, unknown.json["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


def test_an_absent_feature_needs_the_token_too(gateway: Gateway) -> None:
    assert call(gateway, "GET", "/api/3.0/mlflow/workspaces", headers={"origin": "https://evil.example"}).status == 401
    assert call(gateway, "POST", "/graphql", {"query": "{x}"}, host="evil.example").status == 403


# ---- the client


def calls(client: Any, mlflow: Any) -> dict[str, Any]:
    from mlflow.genai import datasets, scorers
    from mlflow.genai.scorers import scorer

    @scorer
    def length(outputs: str) -> int:
        return len(outputs)

    store = client._tracking_client.store
    return {
        "list workspaces": mlflow.list_workspaces,
        "get workspace": lambda: mlflow.get_workspace("team"),
        "create workspace": lambda: mlflow.create_workspace("team"),
        "delete workspace": lambda: mlflow.delete_workspace("team"),
        "create dataset": lambda: datasets.create_dataset(name="cases", experiment_id="0"),
        "get dataset": lambda: datasets.get_dataset(dataset_id="d-1"),
        "delete dataset": lambda: client.delete_dataset("d-1"),
        "dataset tags": lambda: client.set_dataset_tags("d-1", {"a": "b"}),
        "get scorer": lambda: scorers.get_scorer(name="length", experiment_id="0"),
        "delete scorer": lambda: scorers.delete_scorer(name="length", experiment_id="0", version=1),
        "scorer versions": lambda: store.list_scorer_versions("0", "length"),
        "register scorer": lambda: store.register_scorer("0", "length", "{}"),
        "gateway endpoints": store.list_gateway_endpoints,
        "gateway secrets": store.list_secret_infos,
        "create secret": lambda: store.create_gateway_secret(
            secret_name="s", secret_value={"api_key": "k"}, provider="openai"
        ),
    }


NAMES = [
    "list workspaces", "get workspace", "create workspace", "delete workspace", "create dataset", "get dataset",
    "delete dataset", "dataset tags", "get scorer", "delete scorer", "scorer versions", "register scorer",
    "gateway endpoints", "gateway secrets", "create secret",
]  # fmt: skip


@pytest.fixture
def connected(address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    import mlflow

    # One try more would end the test: what is absent must not be asked for again.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    return calls(mlflow.MlflowClient(), mlflow)


@pytest.mark.filterwarnings("ignore:::mlflow", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_each_call_of_the_client_ends_in_a_clear_exception(
    connected: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("the client tries it again"))
    with pytest.raises(MlflowException) as refused:
        connected[name]()
    if name.endswith(("workspace", "workspaces")):
        assert "does not expose workspace APIs" in str(refused.value)
        assert isinstance(refused.value.__cause__, RestException)
    else:
        assert refused.value.error_code == "ENDPOINT_NOT_FOUND"
        assert "noria has no " in str(refused.value)


@pytest.mark.filterwarnings("ignore:::mlflow", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_lists_that_the_client_asks_for_are_empty(connected: dict[str, Any]) -> None:
    from mlflow.genai import datasets, scorers

    assert scorers.list_scorers(experiment_id="0") == []
    assert list(datasets.search_datasets(experiment_ids="0")) == []


def test_all_routes_are_declared_once(tmp_path: Path) -> None:
    with ws.init(tmp_path, environment={}) as opened:
        writer = GroupWriter(opened.db)
        made = [(route.method, route.path) for route in all_routes(Door(ws=opened, writer=writer))]
        writer.close()
    assert len(made) == len(set(made))
