"""Two servers of one database: clients of both lose nothing and see what the other was told."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from mlflow_server import serve
from mlflow_wire import Wire, fresh

from noria import workspace as ws

pytestmark = pytest.mark.ours  # starts servers of its own
CLIENTS = 6


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Addresses of both servers; each has its own workspace object, as it would in a process of its own."""
    with contextlib.ExitStack() as stack:
        url = None
        if request.param == "postgres":
            url = stack.enter_context(request.getfixturevalue("postgres_database")())
        root = tmp_path_factory.mktemp("team")
        first = ws.init(root, db_url=url, environment={})
        stack.callback(first.close)
        second = ws.connect(root, environment={})
        stack.callback(second.close)
        yield stack.enter_context(serve(first)), stack.enter_context(serve(second))


def at_once(pair: tuple[str, str], work: Callable[[Wire, int], Any]) -> list[Any]:
    """Runs ``work`` with several clients of both servers, each in a thread with its own connection."""

    def one(number: int) -> Any:
        wire = Wire(pair[number % 2])
        try:
            return work(wire, number)
        finally:
            wire.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one, range(CLIENTS)))


def test_all_that_clients_of_both_log_to_one_run_is_there_once(pair: tuple[str, str]) -> None:
    with contextlib.closing(Wire(pair[0])) as wire:
        experiment = wire.experiment()
        run = wire.run(experiment)

    def log(wire: Wire, me: int) -> None:
        for n in range(40):
            wire.post("runs/log-metric", run_id=run, key="all", value=me, timestamp=n, step=n)
            points = [{"key": f"new {n}", "value": me, "timestamp": me, "step": k} for k in range(4)]
            wire.post("runs/log-batch", run_id=run, metrics=points, params=[{"key": f"p.{me}.{n}", "value": str(n)}])
            wire.post("runs/set-tag", run_id=run, key="shared", value=str(me))
        wire.post(
            "runs/log-batch", run_id=run, metrics=[{"key": "big", "value": me, "timestamp": n} for n in range(500)]
        )

    at_once(pair, log)
    for url in pair:
        with contextlib.closing(Wire(url)) as wire:
            every = range(CLIENTS)
            assert Counter(wire.history(run, "all")) == {(float(me), n, n): 1 for me in every for n in range(40)}
            for n in (0, 39):
                want = {(float(me), me, k): 1 for me in every for k in range(4)}
                assert Counter(wire.history(run, f"new {n}")) == want
            assert wire.history(run, "big") == [(float(me), n, 0) for n in range(500) for me in every]
            found = wire.data(run)
            assert found["params"] == {f"p.{me}.{n}": str(n) for me in every for n in range(40)}
            assert found["tags"]["shared"] in {str(me) for me in every}
            assert found["metrics"]["all"] == CLIENTS - 1


def test_of_several_that_take_a_name_one_gets_it(pair: tuple[str, str]) -> None:
    name = fresh()
    found = at_once(pair, lambda wire, _: wire.call("POST", "experiments/create", {"name": name}))
    made = [one.json["experiment_id"] for one in found if one.status == 200]
    assert len(made) == 1
    assert {one.error[:2] for one in found if one.status != 200} == {(400, "RESOURCE_ALREADY_EXISTS")}
    for url in pair:
        with contextlib.closing(Wire(url)) as wire:
            assert wire.get("experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"] == made[0]


def test_a_parameter_gets_one_value_whoever_asks(pair: tuple[str, str]) -> None:
    with contextlib.closing(Wire(pair[1])) as wire:
        run = wire.run(wire.experiment())

    def log(wire: Wire, me: int) -> int:
        return wire.call("POST", "runs/log-parameter", {"run_id": run, "key": "p", "value": str(me)}).status

    statuses = at_once(pair, log)
    assert sorted(statuses) == [200] + [400] * (CLIENTS - 1)
    for url in pair:
        with contextlib.closing(Wire(url)) as wire:
            assert wire.data(run)["params"] == {"p": str(statuses.index(200))}


def test_what_one_server_changes_the_other_answers(pair: tuple[str, str]) -> None:
    one, other = (Wire(url) for url in pair)
    with contextlib.closing(one), contextlib.closing(other):
        experiment = one.experiment()
        run = other.run(experiment)
        one.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=1)
        assert other.data(run)["metrics"] == {"m": 1.0}
        assert other.post("runs/search", experiment_ids=[experiment], filter="metrics.m = 1", max_results=5)["runs"]
        assert one.get("experiments/get", experiment_id=experiment)["experiment"]["lifecycle_stage"] == "active"
        other.post("experiments/update", experiment_id=experiment, new_name=(name := fresh()))
        assert one.get("experiments/get", experiment_id=experiment)["experiment"]["name"] == name
        other.post("experiments/set-experiment-tag", experiment_id=experiment, key="k", value="v")
        assert one.get("experiments/get", experiment_id=experiment)["experiment"]["tags"] == [
            {"key": "k", "value": "v"}
        ]
        one.post("experiments/delete", experiment_id=experiment)
        assert other.refused("runs/create", {"experiment_id": experiment, "start_time": 1})[0] == 400
        assert other.refused("runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": 2})[0] == 400
        other.post("experiments/restore", experiment_id=experiment)
        one.post("runs/log-metric", run_id=run, key="m", value=2, timestamp=2)
        assert other.history(run, "m") == [(1.0, 1, 0), (2.0, 2, 0)]
