"""The whole loop, as a newcomer runs it; and five times interrupted, with the same result."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from noria.demo import data

DEMO = [sys.executable, "-m", "noria", "demo", "--quick", "--json"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for demos; their servers are ended."""
    folder = tmp_path_factory.mktemp("demo")
    yield folder
    for place in folder.iterdir():
        subprocess.run([*DEMO[:-2], "--stop", "--folder", str(place)], check=False, capture_output=True)


@pytest.fixture(scope="module")
def undisturbed(places: Path) -> dict[str, Any]:
    done = subprocess.run([*DEMO, "--folder", str(places / "whole")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_loop_turns(undisturbed: dict[str, Any], places: Path) -> None:
    found = undisturbed
    assert found["lost_predictions"] == 0
    assert found["refused_batches"] == 1
    assert found["predictions_served"] > 30_000
    assert [m["month"] for m in found["months"]] == ["2013-04", "2013-05"]
    for month in found["months"]:
        assert 0.5 < month["with_loop"]["roc_auc"] < 1
        assert month["labelled"] > 0.9 * month["n"] or month["month"] == "2013-05"
    first, *others = found["candidates"]
    assert (first["state"], first["canary"]["kind"]) == ("promoted", "first")
    drill = next(c for c in others if c["drill"])
    assert drill["state"] == "thrown_out"
    assert not all(g["passed"] for g in drill["gates"])  # the drill went past the gates by force
    assert drill["canary"]["kind"] == "worse"
    assert any(c["trigger"] in ("every", "drift", "worse") for c in others)
    assert found["trace"]["recomputed"] == "equal"
    assert len(found["scorecard"]["tests"]) == 28
    with contextlib.closing(_connect(places / "whole")) as ws:
        joined = ws.monitoring.joined("delays").filter(pl.col("answered"))
        assert len(joined) == joined["id"].n_unique() == found["predictions_served"]
        assert ws.verify() == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_kills_change_nothing(undisturbed: dict[str, Any], places: Path) -> None:
    """The demo, its commands, or its server are killed at random points; the summary is the same to the byte."""
    folder = places / "killed"
    chance = random.Random(7)
    for number in range(5):
        process = subprocess.Popen(
            [*DEMO, "--folder", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            process.communicate(timeout=chance.uniform(5, 15))
            break  # it was faster than the killer
        except subprocess.TimeoutExpired:
            if number % 2:
                _kill_server(folder)
            os.killpg(process.pid, signal.SIGINT if number == 4 else signal.SIGKILL)
            process.communicate()
    done = subprocess.run([*DEMO, "--folder", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    slower = found["scorecard"]["tests"]["Mo6"] != undisturbed["scorecard"]["tests"]["Mo6"]
    assert _comparable(found, slower) == _comparable(undisturbed, slower)


def _kill_server(folder: Path) -> None:
    try:
        pid = json.loads((folder / ".noria" / "demo-server.json").read_text(encoding="utf-8"))["pid"]
        os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        return
    time.sleep(0.2)


def _comparable(found: dict[str, Any], slower: bool) -> str:
    """The summary without seconds, ids and timings.

    One test of the scorecard, Mo6, judges latencies: where its points differ (``slower``), what they count in is left
    out.
    """
    kept = {name: value for name, value in found.items() if name not in ("seconds", "here")}
    if slower:
        kept["scorecard"] = {"tests": {k: v for k, v in found["scorecard"]["tests"].items() if k != "Mo6"}}
    return json.dumps(kept, sort_keys=True)


def _connect(folder: Path) -> Any:
    from noria.workspace import connect

    return connect(folder)


# ---- the data


def test_flights_say_nothing_that_is_known_later() -> None:
    world = data.load()
    assert len(world.flights) == 336_776
    assert world.flights["flight_id"].is_unique().all()
    assert not {"dep_delay", "arr_delay", "arrival_delay", "landed_at"} & set(world.flights.columns)
    assert (world.landings["published_at"] >= world.landings["landed_at"]).all()
    assert (world.weather["published_at"] > world.weather["observed_at"]).all()
    full = world.landings["published_at"].dt.truncate("1h") == world.landings["published_at"]
    assert full.all()


def test_the_damaged_batch_is_damaged() -> None:
    bad = data.damaged(data.load())
    assert (bad["arrival_delay"] == 9999).any()
    assert not bad["origin"].is_in(["EWR", "JFK", "LGA"]).all()


def test_the_projects_file_is_the_example() -> None:
    root = Path(__file__).parents[2]
    shipped = (root / "src/noria/demo/project/flights.py").read_text(encoding="utf-8")
    assert (root / "examples/flights/flights.py").read_text(encoding="utf-8") == shipped
