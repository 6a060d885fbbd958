"""An endpoint that follows an alias: moving it starts a release through the gates, once, whatever crashes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from looped_shop import ENDPOINT, ME, Traffic, copied, good, level, poor, serve, settle

from noria.assets.records import Event
from noria.base.clock import SystemClock
from noria.base.times import HOUR, to_text
from noria.delivery.records import FOLLOW, Candidate, CandidateState
from noria.pipelines import queries as pipeline_queries
from noria.registry.records import CHAMPION
from noria.testing import ManualClock
from noria.workspace import Workspace


def follow(ws: Workspace, alias: str | None = CHAMPION) -> None:
    """Declares and applies that the endpoint follows an alias."""
    made = [
        replace(d, spec={**d.spec, "follow": alias}) if d.kind == "endpoint" else d
        for d in ws.pipelines.definitions().values()
    ]
    with ws.changes.begin("test.declare", ws.project.id, ME) as change:
        pipeline_queries.apply(change.tx, ws.project.id, made)
        change.note("shops")
    (found,) = [d for d in made if d.kind == "endpoint"]
    ws.serving.ensure(ENDPOINT, "tree", {k: found.spec[k] for k in ("p99_ms", "release", "follow")}, actor=ME)


def move(ws: Workspace, to: int | None, alias: str = CHAMPION) -> None:
    ws.registry.move_alias(ws.project.id, "tree", alias, to, actor=ME)


def turn(ws: Workspace) -> None:
    """What the server's loop does."""
    ws.deliver()
    settle(ws)
    ws.deliver()
    assert ws.deliveries.waiting() == 0
    assert ws.deliveries.dead() == []


def candidates(ws: Workspace) -> list[tuple[str, str, str]]:
    return [(c.name, c.trigger, c.state.value) for c in ws.delivery.candidates()]


def days(ws: Workspace, how: dict[str, Any], most: int = 30) -> Candidate:
    """Goes on until the release that is on its way is over."""
    traffic = Traffic(ws)
    for _ in range(most):
        arms = ws.serving.status(ENDPOINT).routing.arms
        traffic.day({a.deployment: how[ws.serving.deployment(a.deployment).model] for a in arms})
        turn(ws)
        if not ws.delivery.open_rollouts(ENDPOINT):
            return ws.delivery.candidates()[-1]
    raise AssertionError(f"not over after {most} days")


@pytest.fixture
def following(shop: Workspace) -> Iterator[Workspace]:
    serve(shop, 1)
    shop.deliver()
    follow(shop)
    yield shop
    assert shop.audit.verify(shop.project.id) == []


def test_a_moved_alias_starts_a_release_and_moves_no_traffic_by_itself(following: Workspace) -> None:
    ws = following
    move(ws, 2)
    assert ws.deliveries.waiting() == 1  # the release hears of it
    turn(ws)
    (made,) = ws.delivery.candidates()
    assert (made.name, made.trigger, made.reason["alias"]) == ("tree/2", "follow", CHAMPION)
    assert [g["kind"] for g in made.gates] == ["beats_baseline", "beats_baseline"]
    assert ws.delivery.champions() == {ENDPOINT: "tree/1"}
    ended = days(ws, {"tree/1": level, "tree/2": good})
    assert ended.state == CandidateState.PROMOTED
    assert ws.delivery.champions() == {ENDPOINT: "tree/2"}
    assert ws.registry.alias(ws.project.id, "tree", CHAMPION) == 2
    turn(ws)
    assert len(ws.delivery.candidates()) == 1  # the promotion moves the alias too
    assert ws.evidence.list(ws.project.id, tests=["pipeline"], subject="tree/2") == []  # a person began it


def test_what_delivery_moves_itself_starts_nothing(following: Workspace) -> None:
    ws = following
    ws.delivery.release(ws.registry.version(ws.project.id, "tree", 2), actor=ME)
    settle(ws)
    days(ws, {"tree/1": level, "tree/2": good})
    ws.delivery.rollback(ENDPOINT, actor=ME)
    turn(ws)
    assert candidates(ws) == [("tree/2", "manual", "promoted")]
    assert ws.registry.alias(ws.project.id, "tree", CHAMPION) == 1


def test_a_release_that_is_thrown_out_is_not_begun_again_until_the_alias_is_moved_again(following: Workspace) -> None:
    ws = following
    move(ws, 3)
    turn(ws)
    assert days(ws, {"tree/1": level, "tree/3": poor}).state == CandidateState.THROWN_OUT
    for _ in range(3):
        turn(ws)
    assert candidates(ws) == [("tree/3", "follow", "thrown_out")]
    assert ws.delivery.champions() == {ENDPOINT: "tree/1"}
    move(ws, 1)
    turn(ws)
    assert len(ws.delivery.candidates()) == 1  # it serves already
    move(ws, 3)
    turn(ws)
    assert candidates(ws)[1:] == [("tree/3", "follow", "releasing")]


def test_a_move_while_another_candidate_is_on_its_way_waits_for_its_end(following: Workspace) -> None:
    ws = following
    ws.delivery.release(ws.registry.version(ws.project.id, "tree", 2), actor=ME)
    settle(ws)
    move(ws, 2)  # this one is on its way
    turn(ws)
    move(ws, 3)
    turn(ws)
    assert candidates(ws) == [("tree/2", "manual", "releasing")]
    ws.delivery.cancel(ENDPOINT, actor=ME)
    turn(ws)
    assert candidates(ws) == [("tree/2", "manual", "cancelled"), ("tree/3", "follow", "releasing")]
    ws.delivery.cancel(ENDPOINT, actor=ME)
    turn(ws)
    assert len(ws.delivery.candidates()) == 2


def test_other_aliases_and_endpoints_that_follow_none_start_nothing(following: Workspace) -> None:
    ws = following
    move(ws, 2, "staging")
    move(ws, None)
    turn(ws)
    assert ws.delivery.candidates() == []
    follow(ws, None)
    move(ws, 2)
    turn(ws)
    assert ws.delivery.candidates() == []
    follow(ws, "staging")
    move(ws, 3, "staging")
    turn(ws)
    assert candidates(ws) == [("tree/3", "follow", "releasing")]


def test_only_the_last_of_several_moves_counts(following: Workspace) -> None:
    ws = following
    for number in (2, 1, 3):
        move(ws, number)
    turn(ws)
    assert candidates(ws) == [("tree/3", "follow", "releasing")]


def test_an_event_that_is_delivered_again_starts_nothing_more(following: Workspace) -> None:
    ws = following
    move(ws, 2)
    turn(ws)
    (event,) = [e for e in events(ws) if (e.payload["alias"], e.payload["after"]) == (CHAMPION, 2)]
    ws.delivery.cancel(ENDPOINT, actor=ME)
    for _ in range(2):
        ws.delivery.follow(event)
    turn(ws)
    assert candidates(ws) == [("tree/2", "follow", "cancelled")]


def events(ws: Workspace) -> list[Event]:
    return ws.assets.list_events(ws.project.id, types=["alias.moved"], limit=1000)


DELIVER = """
import sys
from noria.workspace import connect
with connect(sys.argv[1]) as ws:
    ws.deliver()
"""


@pytest.mark.parametrize("point", ["change.delivery.follow", "db.commit:2", "db.committed:2", "db.committed:3"])
def test_after_a_crash_the_move_is_followed_once(following: Workspace, template: Path, point: str) -> None:
    """Commit 1 claims the delivery, 2 is the handler's, 3 says that it is done."""
    ws = following
    folder = ws.home.parent
    move(ws, 2)
    env = {**os.environ, "NORIA_FAULT": point}
    asked = [sys.executable, "-c", DELIVER, str(folder)]
    assert subprocess.run(asked, env=env, check=False, capture_output=True).returncode == 137
    later = ManualClock(to_text(SystemClock().now_ms() + HOUR))  # the lease of the delivery is over
    with copied(template, folder, clock=later) as again:
        again.deliver()
        settle(again)
        again.deliver()
        assert candidates(again) == [("tree/2", "follow", "releasing")]
        assert again.deliveries.waiting() == 0


def test_a_command_follows_where_no_server_runs(following: Workspace) -> None:
    ws = following
    assert noria(ws, "models", "alias", "tree", "champion", "2").returncode == 0
    assert ws.deliveries.waiting() == 0
    assert candidates(ws) == [("tree/2", "follow", "gating")]  # a server brings it on
    ws.jobs.take_lease("scheduler", 60_000)
    assert noria(ws, "models", "alias", "tree", "champion", "3").returncode == 0
    assert ws.deliveries.waiting() == 1  # the server does it
    ws.jobs.release_lease("scheduler")
    assert noria(ws, "models", "list").returncode == 0
    assert ws.deliveries.waiting() == 0


def test_another_projects_events_wait_for_its_own_server(following: Workspace, template: Path) -> None:
    ws = following
    move(ws, 2)
    with copied(template, ws.home.parent) as other:
        elsewhere = other.assets.ensure_project("elsewhere")
        assert other.deliveries.run_due({FOLLOW: lambda _: None}, project_id=elsewhere.id) == 0
    assert ws.deliver() == 1  # the release


def noria(ws: Workspace, *args: str) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, "-m", "noria", *args, "--workspace", str(ws.home.parent)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("NORIA_")}
    return subprocess.run(asked, env=env, capture_output=True, text=True, check=False)
