"""Where branches went is written down: what one held at a time is read from it, and a move is undone by it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from noria import workspace as workspaces
from noria.base.actor import Actor
from noria.base.errors import Conflict, Invalid
from noria.base.times import to_text
from noria.data import queries
from noria.data import tables as t
from noria.data.edits import Put
from noria.data.errors import BranchNotFound, CommitForgotten
from noria.data.records import Commit, Repository, RepositoryKind
from noria.testing import ManualClock
from noria.workspace import Workspace

NUMBERS = itertools.count()
BOB = Actor(name="user:bob")


def files(ws: Workspace, actor: Actor, name: str = "f") -> Repository:
    return ws.data.create(ws.project.id, name, RepositoryKind.FILES, actor=actor)


def put(ws: Workspace, repo: Repository, actor: Actor, text: str, branch: str = "main") -> Commit:
    return ws.data.change(repo, [Put("a", text.encode())], actor=actor, branch=branch)


def at(ws: Workspace, repo: Repository, ref: str) -> str:
    return ws.data.resolve(repo, ref).id


def seen(ws: Workspace, repo: Repository, branch: str | None = None) -> list[tuple[Any, ...]]:
    return [(m.branch, m.verb, m.before, m.after, m.actor) for m in ws.data.moves(repo, branch).items]


def test_every_move_is_written_down_and_an_unlucky_one_undone(
    both: Workspace, actor: Actor, clock: ManualClock
) -> None:
    repo = files(both, actor)
    clock.tick(1000)
    one = put(both, repo, actor, "1").id
    two = put(both, repo, BOB, "2").id
    clock.tick(1000)
    both.data.create_branch(repo, "x", at=one, actor=actor)
    three = put(both, repo, actor, "3", "x").id
    clock.tick(1000)
    both.data.reset(repo, one, actor=BOB)
    both.data.delete_branch(repo, "x", actor=actor)
    who, other = actor.name, BOB.name
    assert seen(both, repo) == [
        ("x", "data.unbranch", three, None, who),
        ("main", "data.reset", two, one, other),
        ("x", "data.change", one, three, who),
        ("x", "data.branch", None, one, who),
        ("main", "data.change", one, two, other),
        ("main", "data.change", None, one, who),
        ("main", "data.create", None, None, who),
    ]
    assert seen(both, repo, "x") == [row for row in seen(both, repo) if row[0] == "x"]
    pages, after = [], None
    while True:
        page = both.data.moves(repo, limit=3, after=after)
        pages.append([m.number for m in page.items])
        after = page.next
        if after is None:
            break
    assert [len(page) for page in pages] == [3, 3, 1]
    numbers = [number for page in pages for number in page]
    assert numbers == sorted(numbers, reverse=True)
    (unlucky,) = [m for m in both.data.moves(repo, "main").items if m.verb == "data.reset"]
    assert both.data.reset(repo, str(unlucky.before), actor=actor).id == two
    both.data.create_branch(repo, "x", at=three, actor=actor)  # of a removed branch as well
    with pytest.raises(BranchNotFound):
        both.data.moves(repo, "nowhere")
    with pytest.raises(Invalid):
        both.data.moves(repo, after="abc")


def test_a_time_is_answered_by_what_the_branch_held_then(both: Workspace, actor: Actor, clock: ManualClock) -> None:
    repo, times = files(both, actor), list[str]()

    def now() -> str:
        clock.tick(1000)
        times.append(to_text(clock.now_ms()))
        clock.tick(1000)
        return times[-1]

    before = now()
    one = put(both, repo, actor, "1").id
    both.data.create_branch(repo, "x", actor=actor)
    two = put(both, repo, actor, "2", "x").id
    main_had_one = now()
    both.data.merge(repo, "x", actor=actor)  # main gets a commit that was made before it had it
    main_had_two = now()
    both.data.reset(repo, one, actor=actor)
    main_had_one_again = now()
    assert at(both, repo, f"@{main_had_one}") == one
    assert at(both, repo, f"x@{main_had_one}") == two
    assert at(both, repo, f"@{main_had_two}") == two
    assert at(both, repo, f"@{main_had_one_again}") == one
    with pytest.raises(BranchNotFound, match="held nothing at") as early:
        at(both, repo, f"@{before}")
    assert at(both, repo, f"main@{early.value.details['first']}") == one
    both.data.delete_branch(repo, "x", actor=actor)
    gone = now()
    assert at(both, repo, f"x@{main_had_two}") == two
    with pytest.raises(BranchNotFound, match="held nothing at"):
        at(both, repo, f"x@{gone}")
    with pytest.raises(BranchNotFound, match="no branch"):
        at(both, repo, f"nowhere@{gone}")
    both.data.prune(repo, actor=actor)
    with pytest.raises(CommitForgotten, match=two[:12]) as lost:
        at(both, repo, f"@{main_had_two}")
    assert at(both, repo, f"main@{lost.value.details['kept']}") == one


def test_a_clock_that_was_set_back_does_not_turn_moves_around(
    both: Workspace, actor: Actor, clock: ManualClock
) -> None:
    repo = files(both, actor)
    one = put(both, repo, actor, "1").id
    late = to_text(clock.now_ms())
    clock.tick(-3_600_000)
    two = put(both, repo, actor, "2").id
    assert at(both, repo, f"@{late}") == two
    clock.tick(7_200_000)
    three = put(both, repo, actor, "3").id
    times = [m.at for m in both.data.moves(repo).items]
    assert times == sorted(times, reverse=True)
    assert at(both, repo, f"@{late}") == two
    assert [m.after for m in both.data.moves(repo).items][:3] == [three, two, one]


def test_a_clone_and_an_older_workspace_answer_by_the_line_for_what_was_before(
    workspace: Workspace, actor: Actor, clock: ManualClock, tmp_path: Path
) -> None:
    repo = files(workspace, actor)
    made = list[Commit]()
    for n in range(3):
        clock.tick(60_000)
        made.append(put(workspace, repo, actor, str(n)))
    clock.tick(60_000)
    (tmp_path / "far").mkdir()
    with workspaces.init(tmp_path / "far", clock=clock, environment={}) as far:
        far.transfer.clone(str(workspace.home.parent), "f", actor=actor)
        there = far.data.get(far.project.id, "f")
        for commit in made:
            assert at(far, there, f"@{to_text(commit.at + 1)}") == commit.id
        with pytest.raises(BranchNotFound):
            at(far, there, "@2001-01-01")
        assert seen(far, there)[0][1:4] == ("data.clone", None, made[-1].id)
    with workspace.db.write() as tx:
        tx.execute(delete(t.moves))  # as it is after an upgrade
    assert at(workspace, repo, f"@{to_text(made[1].at + 1)}") == made[1].id
    clock.tick(60_000)
    workspace.data.reset(repo, made[0].id, actor=actor)
    assert at(workspace, repo, f"@{to_text(made[1].at + 1)}") == made[1].id
    assert at(workspace, repo, f"@{to_text(clock.now_ms())}") == made[0].id


OPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "branch", "delete", "reset", "drop", "squash", "merge", "prune"]),
        st.sampled_from(["main", "x"]),
        st.integers(0, 5),
        st.integers(-300, 1000),
    ),
    min_size=4,
    max_size=14,
)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(ops=OPS)
def test_at_each_time_a_branch_held_what_it_was_seen_to_hold(
    workspace: Workspace, actor: Actor, clock: ManualClock, ops: list[tuple[str, str, int, int]]
) -> None:
    """Against a list of what was seen after each step that moved a branch; time goes on, or stands still."""
    ws, data = workspace, workspace.data
    repo = files(ws, actor, f"law{next(NUMBERS)}")
    stood: dict[str, list[tuple[int, str | None]]] = {"main": [(clock.now_ms(), None)], "x": [(0, None)]}
    put(ws, repo, actor, "0")
    for number, (op, branch, n, tick) in enumerate([("none", "main", 0, 0), *ops]):
        clock.tick(tick)
        here = {b.name: b.head for b in data.branches(repo)}
        try:
            if op == "branch" and branch not in here:
                data.create_branch(repo, branch, actor=actor)
            elif branch in here:
                commits = data.log(repo, branch)
                if op == "put":
                    put(ws, repo, actor, str(number), branch)
                elif op == "delete" and branch != "main":
                    data.delete_branch(repo, branch, actor=actor)
                elif op == "reset":
                    every = [*commits, *data.log(repo)]
                    data.reset(repo, every[n % len(every)].id, branch=branch, actor=actor)
                elif op == "drop" and len(commits) > 1:
                    data.drop(repo, branch=branch, actor=actor)
                elif op == "squash" and len(commits) > 1:
                    data.squash(repo, commits[-1].id, branch=branch, actor=actor)
                elif op == "merge":
                    data.merge(repo, branch, strategy="theirs", actor=actor)
                elif op == "prune":
                    data.prune(repo, actor=actor)
        except (Conflict, Invalid):
            pass  # a commit is held, or there is nothing to squash
        now = {b.name: b.head for b in data.branches(repo)}
        for name, line in stood.items():
            if now.get(name) != line[-1][1]:
                line.append((max(clock.now_ms(), line[-1][0]), now.get(name)))
    with ws.db.read() as conn:
        kept = set(queries.graph(conn, repo.id))
    moments = {moment for line in stood.values() for moment, _ in line if moment} | {clock.now_ms() + 5000}
    for name, line in stood.items():
        for moment in moments:
            expected = [head for since, head in [(-1, None), *line] if since <= moment][-1]
            ref = f"{name}@{to_text(moment)}"
            if expected is None:
                with pytest.raises(BranchNotFound):
                    at(ws, repo, ref)
            elif expected not in kept:
                with pytest.raises(CommitForgotten):
                    at(ws, repo, ref)
            else:
                assert at(ws, repo, ref) == expected
    assert data.moves(repo, "main").items[0].after == stood["main"][-1][1]
