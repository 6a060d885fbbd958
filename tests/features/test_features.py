"""The registration check, the online store, and their agreement with bulk."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from noria.base.actor import Actor
from noria.base.errors import Conflict
from noria.data.rows.alter import Alterations, NewColumn
from noria.features.errors import TooFarBack
from noria.features.function import FeatureSpec
from noria.pipelines.errors import PipelineFailed
from noria.workspace import Workspace, connect

ME = Actor(name="user:test")
T0 = datetime(2013, 1, 1, tzinfo=UTC)

HEAD = """\
import noria as nr
import polars as pl

flights = nr.source("flights", key="flight", time="departs")
weather = nr.source("weather", key=("origin", "observed"), time="observed", known="published")
landings = nr.source("landings", key="flight", time="landed", known="published")
planes = nr.source("planes", key="tail")

ahead = pl.col("departs") - pl.duration(hours=2)

"""
GOOD = (
    HEAD
    + """
@nr.features(of=flights, at=ahead)
def trip(flights: pl.LazyFrame, weather, landings, planes) -> pl.LazyFrame:
    seen = nr.asof(flights, weather, on="origin", at=ahead, columns=["wind"], tolerance="6h")
    seen = nr.asof(seen, planes, on="tail", at=ahead)
    seen = nr.history(seen, landings, on="origin", at=ahead, window="12h",
                      landed="count", late=("mean", pl.col("delay") > 15), worst=("max", "delay"))
    seen = nr.history(seen, landings, on=["origin", "dest"], at=ahead, window="24h", route_delay=("mean", "delay"))
    return seen.select("flight", "dest", "wind", "seats", "landed", "late", "worst", "route_delay",
                       hour=pl.col("departs").dt.hour())


@nr.labels(of=flights, after="2d")
def late(landings: pl.LazyFrame) -> pl.LazyFrame:
    return landings.select("flight", late=pl.col("delay") > 15)
"""
)


def world(seed: int = 0) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    n = 300
    departs = [T0 + timedelta(minutes=int(m)) for m in np.sort(rng.integers(0, 5 * 24 * 60, n))]
    flights = pl.DataFrame({
        "flight": [f"F{i:04d}" for i in range(n)], "departs": departs,
        "origin": rng.choice(["EWR", "JFK"], n), "dest": rng.choice(["BOS", "SFO", "ORD"], n),
        "tail": rng.choice(["N1", "N2", "N9"], n),
    }).with_columns(pl.col("departs").cast(pl.Datetime("us", "UTC")))  # fmt: skip
    hours = [T0 + timedelta(hours=h) for h in range(-6, 5 * 24 + 6)]
    weather = pl.DataFrame({
        "origin": ["EWR"] * len(hours) + ["JFK"] * len(hours), "observed": hours * 2,
        "published": [h + timedelta(minutes=int(rng.integers(5, 90))) for h in hours * 2],
        "wind": rng.normal(10, 3, 2 * len(hours)).round(1),
    }).with_columns(pl.col("observed", "published").cast(pl.Datetime("us", "UTC")))  # fmt: skip
    landed = flights.filter(pl.Series(rng.random(n) > 0.05))
    delay = pl.Series("delay", rng.integers(-20, 90, len(landed)))
    landings = landed.select(
        "flight", "origin", "dest", landed=pl.col("departs") + pl.duration(hours=3), delay=delay
    ).with_columns(published=pl.col("landed").dt.truncate("1h") + pl.duration(hours=1))
    planes = pl.DataFrame({"tail": ["N1", "N2"], "seats": [100, 200]})
    return {"flights": flights, "weather": weather, "landings": landings, "planes": planes}


def fill(ws: Workspace, data: dict[str, pl.DataFrame]) -> None:
    graph = ws.pipelines.graph()
    for name, frame in data.items():
        repo = ws.pipelines.ensure_source(graph.node(name).thing)
        ws.data.append(repo, frame, actor=ME)


def spec_of(ws: Workspace) -> FeatureSpec:
    return FeatureSpec.of(ws.pipelines.current("trip").meta["features"])


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_an_honest_function_passes_and_makes_one_row_a_flight(project, executor: str) -> None:
    ws = project({"flights.py": GOOD}, executor)
    data = world()
    fill(ws, data)
    ws.pipelines.run(["trip", "late"], actor=ME)
    made = ws.pipelines.value("trip")
    known = max(data["weather"]["published"].max(), data["landings"]["published"].max())
    ahead = data["flights"].filter(pl.col("departs") - pl.duration(hours=2) <= known)
    assert made["flight"].to_list() == ahead["flight"].to_list()
    assert set(made.columns) == {
        "flight",
        "_at",
        "dest",
        "wind",
        "seats",
        "landed",
        "late",
        "worst",
        "route_delay",
        "hour",
    }
    spec = spec_of(ws)
    assert spec.online is None
    assert len(spec.uses) == 4
    (evidence,) = ws.evidence.list(ws.project.id, tests=["feature_check"])
    assert evidence.passed
    assert evidence.details["rows"] == 24
    truth = ws.pipelines.value("late")
    assert truth.columns == ["flight", "late", "_known"]
    joined = truth.join(data["landings"], on="flight")
    assert (joined["_known"] == joined["published"]).all()


FAULTS = {
    "the arrival delay itself": (
        'return landings_of(flights, landings)\n\n\ndef landings_of(flights, landings):\n'
        '    return flights.join(landings.select("flight", "delay"), on="flight", how="left").select("flight", "delay")',
        "'delay' of 'trip' sees what was not known yet",
    ),
    "the arrival delay through asof": (
        'return nr.asof(flights, landings, on="flight", at=pl.col("departs") + pl.duration(hours=8), columns=["delay"]).select("flight", "delay")',
        "sees what was not known yet",
    ),
    "the weather of one hour later": (
        'return nr.asof(flights, weather, on="origin", at=ahead + pl.duration(hours=1)).select("flight", "wind")',
        "'wind' of 'trip' sees what was not known yet",
    ),
    "the known-since time ignored": (
        'w = weather.sort("observed")\n    return flights.with_columns(at=ahead).sort("at").join_asof(\n'
        '        w, left_on="at", right_on="observed", by="origin", check_sortedness=False).sort("flight").select("flight", "wind")',
        "'wind' of 'trip' sees what was not known yet",
    ),
    "a mean over the request": (
        'return flights.select("flight", share=pl.len().over("origin"))',
        "'share' of 'trip' is",
    ),
    "a rank over the frame": (
        'return flights.select("flight", rank=pl.col("departs").rank())',
        "for a single request",
    ),
    "rows repeated by a join": (
        'return flights.join(weather.select("origin", "wind"), on="origin").select("flight", "wind")',
        "one row each",
    ),
    "the key forgotten": ('return flights.select(hour=pl.col("departs").dt.hour())', "does not return the key"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_refused_with_the_column(project, fault: str) -> None:
    body, message = FAULTS[fault]
    text = (
        HEAD
        + f"\n@nr.features(of=flights, at=ahead)\ndef trip(flights: pl.LazyFrame, weather, landings):\n    {body}\n"
    )
    ws = project({"flights.py": text}, "inline")
    fill(ws, world())
    with pytest.raises(PipelineFailed, match=message) as error:
        ws.pipelines.run(["trip"], actor=ME)
    assert error.value.hint


@pytest.mark.parametrize("fault", list(FAULTS)[:4])
def test_without_the_check_the_planted_faults_would_pass(project, fault: str, monkeypatch) -> None:
    """The test above must be able to fail: it is the check, and nothing else, that catches them."""
    from noria.features import run

    monkeypatch.setattr(run, "check", lambda *_: (0, None))
    body, _ = FAULTS[fault]
    text = (
        HEAD
        + f"\n@nr.features(of=flights, at=ahead)\ndef trip(flights: pl.LazyFrame, weather, landings):\n    {body}\n"
    )
    ws = project({"flights.py": text}, "inline")
    fill(ws, world())
    ws.pipelines.run(["trip"], actor=ME)


def test_raw_use_of_a_table_is_bulk_only_and_says_so(project) -> None:
    text = HEAD + (
        "\n@nr.features(of=flights, at=ahead)\ndef trip(flights: pl.LazyFrame, planes):\n"
        '    return flights.join(planes.select("tail", "seats"), on="tail", how="left").select("flight", "seats")\n'
    )
    ws = project({"flights.py": text}, "inline")
    fill(ws, world())
    ws.pipelines.run(["trip"], actor=ME)
    assert "planes is used without nr.asof" in str(spec_of(ws).online)


def test_single_requests_equal_bulk_while_rows_arrive(project) -> None:
    """A replay: rows are posted as they become known; each flight is asked for at its moment, bulk is computed after."""
    ws = project({"flights.py": GOOD}, "inline")
    data = world(3)
    start = T0 + timedelta(days=2)
    early = {
        "flights": data["flights"],
        "weather": data["weather"].filter(pl.col("published") <= start),
        "landings": data["landings"].filter(pl.col("published") <= start),
        "planes": data["planes"],
    }
    fill(ws, early)
    ws.pipelines.run(["trip"], actor=ME)
    spec = spec_of(ws)
    function = ws.pipelines.graph().node("trip").thing
    ws.features.keep(spec)
    server = ws.features.server(spec, function)
    answers: list[pl.DataFrame] = []
    commits: set[str] = set()
    for hour in range(60):
        now, then = start + timedelta(hours=hour), start + timedelta(hours=hour + 1)
        for name in ("weather", "landings"):
            new = data[name].filter((pl.col("published") > now - timedelta(hours=1)) & (pl.col("published") <= now))
            if len(new) and hour:
                ws.data.append(ws.data.get(ws.project.id, name), new, actor=ME)
        ahead = pl.col("departs") - pl.duration(hours=2)
        due = data["flights"].filter((ahead >= now) & (ahead < then))
        if not len(due):
            continue
        batch, ids = server.compute(due)
        single = pl.concat([server.compute(due[n : n + 1])[0] for n in range(len(due))])
        assert batch.equals(single)
        answers.append(batch)
        commits.update(ids)
    asked = pl.concat(answers)
    for name in ("weather", "landings"):
        ws.data.append(ws.data.get(ws.project.id, name), data[name], actor=ME)
    ws.pipelines.run(["trip"], actor=ME)
    bulk = asked.select("flight").join(ws.pipelines.value("trip"), on="flight", how="left", maintain_order="left")
    # landings are published on the hour, so the two agree to the last bit; weather is published in between
    same = [c for c in bulk.columns if c != "wind"]
    assert bulk.select(same).equals(asked.select(same))
    assert len(asked) > 100
    known = {
        c.id
        for name in ("weather", "landings", "planes")
        for c in ws.data.log(ws.data.get(ws.project.id, name), limit=500)
    }
    assert commits <= known
    server.close()


def test_a_corrected_row_replaces_the_old_one_online_too(project) -> None:
    ws = project({"flights.py": GOOD}, "inline")
    data = world(4)
    fill(ws, data)
    ws.pipelines.run(["trip"], actor=ME)
    spec, function = spec_of(ws), ws.pipelines.graph().node("trip").thing
    ws.features.keep(spec)
    last = data["flights"][-1:]
    server = ws.features.server(spec, function)
    before = server.compute(last)[0]
    ahead = last["departs"][0] - timedelta(hours=2)
    origin = last["origin"][0]
    seen = data["landings"].filter(
        (pl.col("published") <= ahead) & (pl.col("landed") > ahead - timedelta(hours=12)) & (pl.col("origin") == origin)
    )
    assert len(seen)
    corrected = seen[:1].with_columns(delay=pl.lit(500, pl.Int64))
    ws.data.append(ws.data.get(ws.project.id, "landings"), corrected, actor=ME)
    after = server.compute(last)[0]
    assert after["worst"][0] == 500
    assert after["landed"][0] == before["landed"][0]
    server.close()


def test_columns_that_an_endpoint_looks_up_stay(project) -> None:
    """A column that slices do not hold may come and go; one that they hold may not, and says who reads it."""
    ws = project({"flights.py": GOOD}, "inline")
    data = world(4)
    fill(ws, data)
    ws.pipelines.run(["trip"], actor=ME)
    spec, function = spec_of(ws), ws.pipelines.graph().node("trip").thing
    ws.features.keep(spec)
    planes = ws.data.get(ws.project.id, "planes")
    with pytest.raises(Conflict, match="look up the column 'seats' of planes"):
        ws.data.alter(planes, Alterations(rename={"seats": "places"}), actor=ME)
    ws.data.alter(planes, Alterations(add=(NewColumn(name="age", type="int8", default="3"),)), actor=ME)
    more = pl.DataFrame({"tail": ["N9"], "seats": [900], "age": [1]})
    ws.data.append(planes, more, actor=ME)
    server = ws.features.server(spec, function)
    asked = data["flights"][-1:].with_columns(tail=pl.lit("N9"), departs=pl.col("departs") + timedelta(days=300))
    assert server.compute(asked)[0]["seats"].to_list() == [900]
    server.close()


def test_a_request_about_the_far_past_is_refused_and_not_answered_wrongly(project) -> None:
    ws = project({"flights.py": GOOD}, "inline")
    data = world(5)
    fill(ws, data)
    ws.pipelines.run(["trip"], actor=ME)
    spec = spec_of(ws)
    ws.features.keep(spec)
    server = ws.features.server(spec, ws.pipelines.graph().node("trip").thing)
    with pytest.raises(TooFarBack):
        server.compute(data["flights"][:1])
    server.close()


def test_a_new_key_and_a_missing_one_are_null_and_not_an_error(project) -> None:
    ws = project({"flights.py": GOOD}, "inline")
    data = world(6)
    fill(ws, data)
    ws.pipelines.run(["trip"], actor=ME)
    spec = spec_of(ws)
    ws.features.keep(spec)
    server = ws.features.server(spec, ws.pipelines.graph().node("trip").thing)
    strange = data["flights"][-1:].with_columns(origin=pl.lit("XXX"), tail=pl.lit(None, pl.String))
    row: dict[str, Any] = server.compute(strange)[0].row(0, named=True)
    assert (row["wind"], row["seats"], row["landed"], row["late"]) == (None, None, 0, None)
    server.close()


CRASH = """
import sys, polars as pl
from noria.workspace import connect
from noria.base.actor import Actor
ws = connect(sys.argv[1])
rows = pl.read_ipc(sys.argv[2])
ws.data.append(ws.data.get(ws.project.id, "landings"), rows, actor=Actor(name="user:x"))
"""


# the first transaction registers the writer's session, the second one is the commit
@pytest.mark.parametrize("point", ["change.data.append", "db.commit:3", "db.committed:2"])
def test_the_online_store_is_with_the_commit_or_without_it_but_never_half(project, tmp_path, point: str) -> None:
    ws = project({"flights.py": GOOD}, "inline")
    data = world(7)
    cut = T0 + timedelta(days=4)
    fill(ws, {**data, "landings": data["landings"].filter(pl.col("published") <= cut)})
    ws.pipelines.run(["trip"], actor=ME)
    spec, function = spec_of(ws), ws.pipelines.graph().node("trip").thing
    ws.features.keep(spec)
    new = data["landings"].filter(pl.col("published") > cut)
    new.write_ipc(tmp_path / "new.arrow")
    env = {**os.environ, "NORIA_FAULT": point}
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path), str(tmp_path / "new.arrow")], env=env, check=False
    )
    assert done.returncode == 137
    again = connect(tmp_path)
    landed = again.data.get(again.project.id, "landings")
    head = again.data.head(landed)
    server = again.features.server(spec, function)
    last = data["flights"][-1:]
    found, commits = server.compute(last)
    assert head is not None
    assert head.id in commits
    frame = again.data.read(landed)
    ahead = last["departs"][0] - timedelta(hours=2)
    window = (
        (pl.col("landed") > ahead - timedelta(hours=12)) & (pl.col("landed") <= ahead) & (pl.col("published") <= ahead)
    )
    assert found["landed"][0] == len(frame.filter(window & (pl.col("origin") == last["origin"][0])))
    assert (len(frame) == len(data["landings"])) == (point == "db.committed:2")
    server.close()
    again.close()
