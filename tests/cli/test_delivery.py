"""The commands of delivery and monitoring on a small trained project, and exit codes that they alone can give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from looped_shop import ENDPOINT, ME, Traffic, declare, good, level, poor, serve, settle

from noria.cli.main import run
from noria.delivery.records import JOB
from noria.jobs.work import Worker
from noria.registry.records import CHAMPION
from noria.workspace import Workspace

Noria = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def noria(shop: Workspace, capsys: pytest.CaptureFixture[str]) -> Noria:
    """Runs a command on the project: (exit code, its JSON, what it wrote to the error stream)."""

    def call(*args: str, text: bool = False) -> tuple[int, Any, str]:
        code = run([*args, "--workspace", str(shop.home.parent), *([] if text else ["--json"])])
        out, err = capsys.readouterr()
        return code, out if text or not out else json.loads(out), err

    return call


def days(ws: Workspace, count: int, how: dict[str, Any]) -> None:
    traffic = Traffic(ws)
    for _ in range(count):
        arms = ws.serving.status(ENDPOINT).routing.arms
        traffic.day({a.deployment: how[ws.serving.deployment(a.deployment).model] for a in arms})
        settle(ws)


def test_apply_says_what_is_new_and_what_changed(shop: Workspace, noria: Noria) -> None:
    code, found, _ = noria("apply")
    assert code == 0
    assert {"name": "tree", "kind": "model", "state": "same"} in found
    declare(shop, budget={"runs": 9, "per": "30d", "pause": "0s"})
    code, found, _ = noria("apply")
    assert {d["name"]: d["state"] for d in found}["tree"] != "same"
    assert "tree" in noria("apply", text=True)[1]


def test_a_release_without_a_server_says_that_it_waits_for_one(shop: Workspace, noria: Noria) -> None:
    code, found, err = noria("release", "tree/1")
    assert (code, found["state"], found["number"], found["trigger"]) == (0, "gating", 1, "manual")
    assert "No server runs" in err
    settle(shop)
    code, found, _ = noria("candidates")
    assert [(c["number"], c["state"]) for c in found] == [(1, "promoted")]
    assert noria("candidates", "--open")[1] == []
    text = noria("candidates", "tree", text=True)[1]
    assert "tree/1" in text
    assert "promoted" in text
    assert noria("release", "tree/9")[0] == 4
    assert noria("release", "nothing")[0] == 4


def test_a_release_that_waits_hears_the_no_of_a_gate_as_exit_code_3(
    shop: Workspace, noria: Noria, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gates run between two looks of the waiting command, as a server would run them."""
    serve(shop, 1)
    shop.jobs.take_lease("scheduler", 60_000)
    worker = Worker(shop.jobs, shop.clock, {JOB: shop.delivery.bring_on})
    monkeypatch.setattr("noria.delivery.cli.time.sleep", lambda _: worker.run_one())
    code, found, _ = noria("release", "tree/1")
    assert (code, found["state"]) == (3, "refused")
    assert [g["kind"] for g in found["gates"] if not g["passed"]] == ["new"]
    code, text, _ = noria("release", "tree/1", text=True)
    assert (code, "NO" in text, "nothing new" in text) == (3, True, True)
    code, found, _ = noria("train", "tree", "leaves=4")  # the same model again
    assert (code, found["trigger"]) == (3, "manual")
    shop.jobs.release_lease("scheduler")


def test_a_training_that_fails_is_exit_code_1(shop: Workspace, noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(shop, 1)
    shop.jobs.take_lease("scheduler", 60_000)
    worker = Worker(shop.jobs, shop.clock, {JOB: shop.delivery.bring_on})
    monkeypatch.setattr("noria.delivery.cli.time.sleep", lambda _: worker.run_one())
    code, found, _ = noria("train", "tree", "leavs=4")
    assert (code, found["state"]) == (1, "failed")
    assert "leavs" in found["error"]["message"]
    assert noria("train", "tree", "leaves")[0] == 2
    assert noria("train", "nothing")[0] in (2, 4)
    shop.jobs.release_lease("scheduler")


def test_a_contract_that_says_no_is_exit_code_3(shop: Workspace, noria: Noria, tmp_path: Path) -> None:
    orders = shop.data.get(shop.project.id, "orders")
    shop.data.set_contract(orders, {"columns": {"n": {"type": "int64", "max": 100}}}, actor=ME)
    frame = shop.data.read(orders).head(1).with_columns(n=pl.lit(1000, pl.Int64), id=pl.lit("wrong"))
    frame.write_parquet(tmp_path / "wrong.parquet")
    code, _, err = noria("data", "append", "orders", str(tmp_path / "wrong.parquet"))
    assert (code, json.loads(err)["error"]["code"]) == (3, "contract_broken")


def test_cancel_and_rollback_say_what_they_did(shop: Workspace, noria: Noria) -> None:
    serve(shop, 1)
    assert noria("cancel", ENDPOINT)[:2] == (0, None)
    assert "No release" in noria("cancel", ENDPOINT, text=True)[1]
    shop.delivery.release(shop.registry.version(shop.project.id, "tree", 2), actor=ME)
    settle(shop)
    code, _, err = noria("rollback", ENDPOINT)
    assert (code, json.loads(err)["error"]["hint"]) == (5, f"noria cancel {ENDPOINT}")
    code, found, _ = noria("cancel", ENDPOINT)
    assert (code, found["state"]) == (0, "cancelled")
    assert noria("rollback", ENDPOINT)[0] == 2  # there is no champion before
    serve(shop, 2)
    code, found, _ = noria("rollback", ENDPOINT, "--drill")
    assert (code, found["before"], found["after"], found["drill"]) == (0, "tree/2", "tree/1", True)
    assert shop.registry.alias(shop.project.id, "tree", CHAMPION) == 1
    assert "tree/1 -> tree/2" in noria("rollback", ENDPOINT, text=True)[1]
    assert noria("rollback", "nothing")[0] == noria("cancel", "nothing")[0] == 4


def test_what_was_served_is_shown(shop: Workspace, noria: Noria) -> None:
    serve(shop, 1)
    days(shop, 3, {"tree/1": level})
    code, found, _ = noria("monitor", "show", ENDPOINT)
    assert (code, [w["n"] for w in found]) == (0, [80, 80, 80])
    code, found, _ = noria("monitor", "accuracy", ENDPOINT, "--by", "all")
    assert (code, found[0]["n"]) == (0, 240)
    code, found, _ = noria("monitor", "drift", ENDPOINT)
    assert (code, found["model"], found["score"]["n"]) == (0, "tree/1", 240)
    for command in ("show", "accuracy", "drift"):
        code, text, _ = noria("monitor", command, ENDPOINT, text=True)
        assert (code, bool(text.strip())) == (0, True)
        assert noria("monitor", command, "nothing")[0] == 4, command
    assert noria("monitor", "show", ENDPOINT, "--since", "never")[0] == 2
    assert noria("monitor", "accuracy", ENDPOINT, "--by", "year")[0] == 2


def test_alerts_are_listed(shop: Workspace, noria: Noria) -> None:
    serve(shop, 1)
    assert noria("monitor", "alerts")[:2] == (0, [])
    shop.delivery.release(shop.registry.version(shop.project.id, "tree", 3), actor=ME)
    settle(shop)
    traffic = Traffic(shop)
    while shop.delivery.open_rollouts(ENDPOINT):
        how = {"tree/1": good, "tree/3": poor}
        arms = shop.serving.status(ENDPOINT).routing.arms
        traffic.day({a.deployment: how[shop.serving.deployment(a.deployment).model] for a in arms})
        settle(shop)
    code, found, _ = noria("monitor", "alerts", "--open")
    assert (code, [a["kind"] for a in found]) == (0, ["release"])
    assert "thrown out" in noria("monitor", "alerts", text=True)[1]


def test_answers_that_cannot_be_computed_again_are_exit_code_1(shop: Workspace, noria: Noria) -> None:
    serve(shop, 1)
    days(shop, 1, {"tree/1": level})  # scores written by hand, that no model gives
    code, found, _ = noria("monitor", "skew", ENDPOINT, "--rows", "20")
    assert (code, found["rows"], found["scores_equal"], found["passed"]) == (1, 20, 0, False)
    code, text, _ = noria("monitor", "skew", ENDPOINT, "--rows", "20", text=True)
    assert (code, "answers computed again" in text) == (1, True)


def test_a_mistake_of_ours_is_exit_code_70_in_the_one_form(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.delenv("NORIA_DEBUG", raising=False)
    monkeypatch.setattr("noria.workspace.connect", broken)
    code, out, err = noria("candidates")
    assert (code, out, json.loads(err)["error"]["code"]) == (70, "", "bug")
    assert "a bug" in json.loads(err)["error"]["message"]
    code, _, err = noria("candidates", text=True)
    assert (code, "NORIA_DEBUG=1" in err, "Traceback" in err) == (70, True, False)


def test_a_command_that_is_interrupted_is_exit_code_130(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal itself: test_pipelines.py."""

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("noria.workspace.connect", interrupted)
    assert noria("candidates")[0] == 130
