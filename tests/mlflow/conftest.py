"""One live server for each file; the real client and raw HTTP talk to it.

``NORIA_TEST_MLFLOW_URI=http://127.0.0.1:5000`` lets another server answer instead, to see whether a test asks for what
MLflow's own server does. Tests marked ``ours`` say where noria is meant to differ, and are left out then.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")

import pytest
from mlflow_server import serve
from mlflow_wire import Wire

import mlflow
from mlflow import MlflowClient
from noria import workspace as ws

HERE = Path(__file__).parent
OTHER = os.environ.get("NORIA_TEST_MLFLOW_URI")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent != HERE:
            continue
        for text in ("ignore:::mlflow", "ignore::FutureWarning", "ignore::DeprecationWarning"):
            item.add_marker(pytest.mark.filterwarnings(text))
        if OTHER and item.get_closest_marker("ours"):
            item.add_marker(pytest.mark.skip(reason="where noria is meant to differ from MLflow's own server"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ours: noria is meant to differ from MLflow's own server here")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Files that say ``DATABASES`` run on each of them."""
    if "server" in metafunc.fixturenames:
        names = ("sqlite",) if OTHER else getattr(metafunc.module, "DATABASES", ("sqlite",))
        marks = {"postgres": [pytest.mark.postgres]}
        params = [pytest.param(name, marks=marks.get(name, [])) for name in names]
        metafunc.parametrize("server", params, indirect=True, scope="module")


@pytest.fixture
def serving() -> Any:
    """``serve``, for tests that bring a workspace of their own."""
    return serve


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a tracking server; tests make what they need in experiments of their own."""
    if OTHER:
        yield OTHER
        return
    url = None
    with contextlib.ExitStack() as stack:
        if request.param == "postgres":
            url = stack.enter_context(request.getfixturevalue("postgres_database")())
        root = tmp_path_factory.mktemp("tracked")
        opened = ws.init(root, db_url=url, environment={})
        stack.callback(opened.close)
        yield stack.enter_context(serve(opened))


@pytest.fixture
def wire(server: str) -> Iterator[Wire]:
    """Raw HTTP to the server."""
    made = Wire(server)
    yield made
    made.close()


@pytest.fixture
def client(server: str) -> MlflowClient:
    return MlflowClient(server, server)


@pytest.fixture
def experiment(wire: Wire) -> str:
    """The id of a new experiment."""
    return wire.experiment()


@pytest.fixture
def fluent(server: str, experiment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module ``mlflow`` itself, which logs to a new experiment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(server)
    mlflow.set_registry_uri(server)
    mlflow.set_experiment(experiment_id=experiment)
    yield mlflow
    while mlflow.active_run() is not None:
        mlflow.end_run()
