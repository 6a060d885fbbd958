"""What a branch has taken of a source is what its commits say: whatever moves the branch."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from noria import workspace as workspaces
from noria.base.actor import Actor
from noria.base.errors import Conflict
from noria.data import ancestry, queries
from noria.data import tables as t
from noria.data.collectors import FileSource
from noria.data.errors import SourceFailed
from noria.data.records import QuarantineState, Repository, RepositoryKind
from noria.data.rows.alter import Alterations
from noria.data.service.collecting.collector import Collected, SourceSpec
from noria.data.service.collecting.opening import Begun, Sources
from noria.data.service.tables.produce import SequenceWrong
from noria.testing import ManualClock
from noria.workspace import Workspace

TIMES = int(os.environ.get("NORIA_TEST_FUZZ", "1"))

SPEC = SourceSpec(files="in/*.csv")
NUMBERS = itertools.count()


def table(ws: Workspace, actor: Actor, *key: str, name: str = "t") -> Repository:
    return ws.data.create(ws.project.id, name, RepositoryKind.TABLE, actor=actor, key=key)


def write(ws: Workspace, name: str, *ids: int, folder: str = "in") -> None:
    path = ws.home.parent / folder / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_text("id,n\n")
    with path.open("a") as file:
        file.writelines(f"{one},{one * 10}\n" for one in ids)


def collect(ws: Workspace, repo: Repository, actor: Actor, branch: str = "main", spec: SourceSpec = SPEC) -> Collected:
    return ws.collector.collect(repo, spec, actor=actor, branch=branch)


def ids(ws: Workspace, repo: Repository, branch: str = "main") -> list[int]:
    return sorted(ws.data.read(repo, branch)["id"]) if ws.data.head(repo, branch) is not None else []


def replayed(ws: Workspace, repo: Repository, branch: str) -> dict[str, Any]:
    """The marks of a branch from nothing but its commits: oldest first, the later one wins."""
    head = ws.data.head(repo, branch)
    with ws.db.read() as conn:
        held = ancestry.ancestors(queries.graph(conn, repo.id), [] if head is None else [head.id])
        found = select(t.collected).where(t.collected.c.repository_id == repo.id)
        rows = [row for row in conn.execute(found) if row.commit_id in held]
    return {row.source: row.mark for row in sorted(rows, key=lambda r: (r.generation, r.at, r.commit_id))}


@pytest.mark.parametrize("key", [("id",), ()], ids=["keyed", "plain"])
def test_what_drop_and_reset_take_away_is_collected_again(both: Workspace, actor: Actor, key: tuple[str, ...]) -> None:
    repo = table(both, actor, *key)
    write(both, "a.csv", 1, 2)
    assert collect(both, repo, actor).rows == 2
    write(both, "a.csv", 3)
    write(both, "b.csv", 4)
    assert collect(both, repo, actor).rows == 2
    both.data.drop(repo, count=2, actor=actor)
    assert ids(both, repo) == [1, 2]
    assert collect(both, repo, actor).rows == 2
    assert ids(both, repo) == [1, 2, 3, 4]
    assert collect(both, repo, actor).commits == []
    first = both.data.log(repo)[-1]
    stood = both.data.log(repo)[0]
    both.data.reset(repo, first.id, actor=actor)
    assert collect(both, repo, actor).rows == 2
    both.data.reset(repo, stood.id, actor=actor)  # forward: what it holds is known again
    assert collect(both, repo, actor).commits == []
    assert ids(both, repo) == [1, 2, 3, 4]


def test_each_branch_takes_what_it_does_not_hold(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    write(both, "a.csv", 1, 2)
    collect(both, repo, actor)
    first = both.data.log(repo)[0].id
    write(both, "a.csv", 3)
    both.data.create_branch(repo, "trial", actor=actor)
    assert collect(both, repo, actor, "trial").rows == 1
    assert ids(both, repo) == [1, 2]
    both.data.merge(repo, "trial", actor=actor)
    assert collect(both, repo, actor).commits == []
    assert ids(both, repo) == [1, 2, 3]
    both.data.delete_branch(repo, "trial", actor=actor)
    both.data.create_branch(repo, "trial", at=first, actor=actor)
    assert collect(both, repo, actor, "trial").rows == 1
    assert ids(both, repo, "trial") == [1, 2, 3]


def test_a_commit_that_takes_the_place_of_others_has_taken_what_they_took(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    for n in range(1, 5):
        write(both, f"{n % 2}.csv", n)
        assert collect(both, repo, actor).rows == 1
        both.data.produce(repo, [{"id": 100 + n, "n": 0}], producer="p", sequence=n, actor=actor)
    first = both.data.log(repo)[-1]
    before = both.collector.ledger.marks(repo)
    both.data.squash(repo, first.id, actor=actor)
    assert len(both.data.log(repo)) == 2
    assert both.collector.ledger.marks(repo) == before == replayed(both, repo, "main")
    assert collect(both, repo, actor).commits == []
    assert [p.sequence for p in both.data.producers(repo)] == [4]
    assert both.data.produce(repo, [{"id": 104, "n": 0}], producer="p", sequence=4, actor=actor).repeated
    both.data.drop(repo, actor=actor)
    assert collect(both, repo, actor).rows == 3
    assert ids(both, repo) == [1, 2, 3, 4]
    assert both.data.producers(repo) == []
    with both.db.read() as conn:  # nothing is kept of commits that are gone
        assert conn.execute(select(t.producers)).all() == []


def test_what_was_taken_back_by_a_commit_stays_taken(workspace: Workspace, actor: Actor) -> None:
    repo = table(workspace, actor, "id")
    write(workspace, "a.csv", 1)
    collect(workspace, repo, actor)
    write(workspace, "b.csv", 2)
    collect(workspace, repo, actor)
    workspace.data.revert(repo, "main", actor=actor)
    assert collect(workspace, repo, actor).commits == []
    workspace.data.revert(repo, "main", actor=actor)  # the way back
    assert ids(workspace, repo) == [1, 2]


def test_a_part_that_brings_no_rows_is_known_as_of_the_head_it_met(workspace: Workspace, actor: Actor) -> None:
    repo = table(workspace, actor, "id")
    write(workspace, "a.csv", 1, 2)
    collect(workspace, repo, actor)
    workspace.data.append(repo, pl.DataFrame({"id": [3], "n": [30]}), actor=actor)
    write(workspace, "b.csv", 3)
    assert collect(workspace, repo, actor).commits == []
    assert set(workspace.collector.ledger.marks(repo)) == {"file:in/a.csv", "file:in/b.csv"}
    assert workspace.collector.pending_files(repo, "in/*.csv") == []
    workspace.data.drop(repo, actor=actor)
    assert collect(workspace, repo, actor).rows == 1
    assert ids(workspace, repo) == [1, 2, 3]


@pytest.mark.parametrize("how", ["touched", "known rows", "refused"])
def test_a_part_is_marked_only_on_a_commit_that_holds_it(
    both: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    repo = table(both, actor, "id")
    write(both, "0.csv", 1)
    collect(both, repo, actor)
    first = both.data.log(repo)[0]
    write(both, "a.csv", 2)
    collect(both, repo, actor)
    file, real = both.home.parent / "in" / "a.csv", FileSource._look
    if how == "touched":
        os.utime(file, ns=(1, 1))
    elif how == "known rows":
        write(both, "a.csv", 1)
    else:
        columns = {"id": {"type": "int64", "max": 9}, "n": {"type": "int64"}}
        both.data.set_contract(repo, {"columns": columns}, actor=actor)
        repo = both.data.get(both.project.id, "t")
        write(both, "a.csv", 99)

    def look(source: FileSource, path: Path, *about: Any) -> Any:
        found = real(source, path, *about)
        if path == file and len(both.data.log(repo)) > 1:  # somebody resets the branch while the file is read
            both.data.reset(repo, first.id, actor=actor)
        return found

    monkeypatch.setattr(FileSource, "_look", look)
    done = collect(both, repo, actor)
    monkeypatch.undo()
    if how == "refused":
        assert len(done.refused) == 1
        refused = both.collector.ledger.marks(repo)["file:in/a.csv"]["refused"]
        assert both.data.quarantined(refused["batch"])[0].rows == 2, "also what the branch does not hold any more"
    else:
        assert done.rows == 1
        assert ids(both, repo) == [1, 2]
    assert collect(both, repo, actor).commits == []


def test_two_first_collections_of_a_new_name_take_each_row_once(
    both: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(both, "a.csv", 1, 2)
    real = Sources.begun

    def begun(*about: Any, **how: Any) -> Any:
        found = real(*about, **how)
        monkeypatch.undo()  # somebody else is faster
        assert both.collector.collect_from(both.project.id, "clicks", SPEC, actor=actor).rows == 2
        assert isinstance(found, Begun)
        return found

    monkeypatch.setattr(Sources, "begun", begun)
    assert both.collector.collect_from(both.project.id, "clicks", SPEC, actor=actor).commits == []
    repo = both.data.get(both.project.id, "clicks")
    assert ids(both, repo) == [1, 2]
    write(both, "a.csv", 3)
    assert collect(both, repo, actor).rows == 1


def test_a_refusal_belongs_to_a_branch(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor, "id")
    write(both, "a.csv", 1)
    collect(both, repo, actor)
    both.data.create_branch(repo, "trial", actor=actor)
    both.data.set_contract(repo, {"columns": {"id": {"type": "int64", "max": 9}, "n": {"type": "int64"}}}, actor=actor)
    repo = both.data.get(both.project.id, "t")
    write(both, "b.csv", 2, 99)
    assert len(collect(both, repo, actor).refused) == 1
    done = collect(both, repo, actor)
    assert (done.refused, done.waiting) == ([], ["file:in/b.csv"])
    assert len(collect(both, repo, actor, "trial").refused) == 1
    other, batch = both.data.quarantine(both.project.id, repo)
    assert (batch.branch, other.branch) == ("main", "trial"), "each is decided by itself"
    mended = both.data.offer(batch.id, pl.DataFrame({"id": [2], "n": [20]}), actor=actor)
    assert collect(both, repo, actor).waiting == []
    assert ids(both, repo) == [1, 2]
    # The other branch does not hold it: there it still waits.
    assert collect(both, repo, actor, "trial").waiting == ["file:in/b.csv"]
    both.data.merge(repo, "main", into="trial", actor=actor)
    assert mended.id in {c.id for c in both.data.log(repo, "trial")}
    both.data.drop_quarantined(other.id, "main has it mended", actor=actor)
    done = collect(both, repo, actor, "trial")
    assert (done.refused, done.waiting) == ([], [])


def test_a_part_whose_batch_was_accepted_is_taken_when_it_comes_again(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor, "id")
    both.data.set_contract(repo, {"columns": {"id": {"type": "int64", "max": 9}, "n": {"type": "int64"}}}, actor=actor)
    repo = both.data.get(both.project.id, "t")
    write(both, "a.csv", 1)
    collect(both, repo, actor)
    write(both, "b.csv", 2, 99)
    (refused,) = collect(both, repo, actor).refused
    number = refused.details["quarantine"]
    both.data.offer(number, pl.DataFrame({"id": [2], "n": [20]}), actor=actor)
    path = both.home.parent / "in" / "b.csv"
    path.write_text(path.read_text().replace("\n", "\r\n"))  # another file, the same rows
    assert [e.details["quarantine"] for e in collect(both, repo, actor).refused] == [number], "told once"
    done = collect(both, repo, actor)
    assert (done.refused, done.waiting, done.run_id) == ([], [], None)
    batch, _ = both.data.quarantined(number)
    assert batch.state == QuarantineState.ACCEPTED


def test_what_was_taken_travels_with_the_commits(
    workspace: Workspace, actor: Actor, clock: ManualClock, tmp_path: Path
) -> None:
    repo = table(workspace, actor, "id")
    write(workspace, "a.csv", 1, 2)
    collect(workspace, repo, actor)
    how: dict[str, Any] = {"actor": actor, "producer": "p"}
    workspace.data.produce(repo, [{"id": 7, "n": 0}], sequence=1, **how)
    (tmp_path / "far").mkdir()
    with workspaces.init(tmp_path / "far", clock=clock, environment={}) as far:
        shutil.copytree(workspace.home.parent / "in", tmp_path / "far" / "in", copy_function=shutil.copy2)
        far.transfer.clone(str(workspace.home.parent), "t", actor=actor)
        there = far.data.get(far.project.id, "t")
        assert far.collector.ledger.marks(there) == workspace.collector.ledger.marks(repo)
        assert collect(far, there, actor).commits == []
        assert far.data.produce(there, [{"id": 7, "n": 0}], sequence=1, **how).repeated
        write(workspace, "a.csv", 3)
        collect(workspace, repo, actor)
        workspace.data.produce(repo, [{"id": 8, "n": 0}], sequence=2, **how)
        far.transfer.pull(there, actor=actor)
        shutil.copy2(workspace.home.parent / "in" / "a.csv", tmp_path / "far" / "in" / "a.csv")
        assert collect(far, there, actor).commits == []
        assert not far.data.produce(there, [{"id": 9, "n": 0}], sequence=3, **how).repeated
        far.transfer.push(there, actor=actor)
    assert [p.sequence for p in workspace.data.producers(repo)] == [3]


def test_a_producer_goes_on_where_its_branch_stands(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    how: dict[str, Any] = {"actor": actor, "producer": "p"}
    sent = [both.data.produce(repo, [{"id": n, "n": 0}], sequence=n, **how) for n in (1, 2, 3)]
    both.data.create_branch(repo, "trial", actor=actor)
    assert both.data.produce(repo, [{"id": 3, "n": 0}], sequence=3, branch="trial", **how).commit == sent[2].commit
    both.data.produce(repo, [{"id": 4, "n": 1}], sequence=4, branch="trial", **how)
    both.data.reset(repo, sent[1].commit, actor=actor)
    with pytest.raises(SequenceWrong) as refused:
        both.data.produce(repo, [{"id": 5, "n": 0}], sequence=5, **how)
    assert refused.value.details["expected"] == 3
    again = both.data.produce(repo, [{"id": 33, "n": 0}], sequence=3, **how)
    assert (again.repeated, ids(both, repo)) == (False, [1, 2, 33])
    assert [(p.branch, p.sequence) for p in both.data.producers(repo)] == [("main", 3), ("trial", 4)]
    both.data.drop(repo, actor=actor)
    assert not both.data.produce(repo, [{"id": 33, "n": 0}], sequence=3, **how).repeated
    assert ids(both, repo, "trial") == [1, 2, 3, 4]


def rewrite(ws: Workspace, name: str, *ids: int) -> None:
    (ws.home.parent / "in" / name).unlink()
    write(ws, name, *ids)


@pytest.mark.parametrize("how", ["squash", "merge", "clone"])
def test_without_a_key_a_changed_file_is_read_anew_where_nothing_but_files_was_read(
    workspace: Workspace, actor: Actor, clock: ManualClock, tmp_path: Path, how: str
) -> None:
    ws, repo = workspace, table(workspace, actor)
    for n in (1, 2, 3):
        write(ws, "a.csv", n)
        collect(ws, repo, actor)
    if how == "squash":
        first = ws.data.log(repo)[-1]
        ws.data.squash(repo, first.id, actor=actor)
        write(ws, "b.csv", 4)
        collect(ws, repo, actor)
        ws.data.squash(repo, first.id, actor=actor)  # of one that was squashed before
        assert len(ws.data.log(repo)) == 2
    elif how == "merge":
        ws.data.create_branch(repo, "trial", actor=actor)
        write(ws, "b.csv", 4)
        collect(ws, repo, actor, "trial")
        collect(ws, repo, actor, spec=SourceSpec(files="in/a.csv"))
        write(ws, "a.csv", 5)
        collect(ws, repo, actor, spec=SourceSpec(files="in/a.csv"))
        assert len(ws.data.merge(repo, "trial", actor=actor).parents) == 2
    else:
        (tmp_path / "far").mkdir()
        shutil.copytree(ws.home.parent / "in", tmp_path / "far" / "in", copy_function=shutil.copy2)
        near, ws = ws, workspaces.init(tmp_path / "far", clock=clock, environment={})
        ws.transfer.clone(str(near.home.parent), "t", actor=actor)
        repo = ws.data.get(ws.project.id, "t")
    rewrite(ws, "a.csv", 8, 9)
    assert len(collect(ws, repo, actor).commits) == 1
    assert ids(ws, repo) == ([8, 9] if how == "clone" else [4, 8, 9])
    if how == "clone":  # what was done by hand in the other workspace is told as if it was done here
        near.data.append(near.data.get(near.project.id, "t"), [{"id": 50, "n": 0}], actor=actor, message="mine")
        ws.data.reset(repo, "main~1", actor=actor)
        ws.transfer.pull(repo, actor=actor)
        with pytest.raises(SourceFailed, match=r"without what the commit [0-9a-f]{12} \(mine\) did"):
            collect(ws, repo, actor)
        ws.close()


def test_without_a_key_a_changed_file_does_not_undo_what_another_source_brought(
    workspace: Workspace, actor: Actor
) -> None:
    ws, repo = workspace, table(workspace, actor)
    write(ws, "a.csv", 1)
    collect(ws, repo, actor)
    with sqlite3.connect(ws.home.parent / "shop.db") as shop:
        shop.execute("CREATE TABLE t (id INTEGER, n INTEGER)")
        shop.execute("INSERT INTO t VALUES (2, 0)")
    collect(ws, repo, actor, spec=SourceSpec(sql="SELECT id, n FROM t", url=f"sqlite:///{ws.home.parent / 'shop.db'}"))
    assert ids(ws, repo) == [1, 2]
    rewrite(ws, "a.csv", 8)
    with pytest.raises(SourceFailed, match=r"a\.csv changed, and .* was collected before, is not among in/"):
        collect(ws, repo, actor)
    assert ids(ws, repo) == [1, 2]


@pytest.mark.parametrize("how", ["squash", "revert", "alter"])
def test_without_a_key_what_no_source_says_is_not_undone_by_a_changed_file(
    workspace: Workspace, actor: Actor, how: str
) -> None:
    ws, repo = workspace, table(workspace, actor)
    write(ws, "a.csv", 1)
    collect(ws, repo, actor)
    first = ws.data.log(repo)[0]
    write(ws, "b.csv", 2)
    collect(ws, repo, actor)
    if how == "squash":
        ws.data.append(repo, [{"id": 50, "n": 0}], actor=actor)
        done = ws.data.squash(repo, first.id, actor=actor, message="the week")
    elif how == "revert":
        done = ws.data.revert(repo, "main", actor=actor)
    else:
        done = ws.data.alter(repo, Alterations(drop=("n",)), actor=actor)
    before = ids(ws, repo)
    rewrite(ws, "a.csv", 9)
    with pytest.raises(SourceFailed, match=f"without what the commit {done.id[:12]}") as refused:
        collect(ws, repo, actor)
    assert refused.value.details["commit"] == done.id
    assert (ws.data.head(repo), ids(ws, repo)) == (done, before)


def test_a_branch_that_stayed_behind_asks_nothing_about_what_came_since(
    both: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = table(both, actor)
    both.data.produce(repo, [{"id": 1, "n": 1}], producer="p", sequence=1, actor=actor)
    with both.db.read() as conn:
        (first,) = (dict(row._mapping) for row in conn.execute(select(t.commits)))
        (sent,) = (dict(row._mapping) for row in conn.execute(select(t.producers)))
    line, parts = [first], 80
    for n in range(400):
        line.append({**first, "id": f"{n:064x}", "generation": n + 2, "parents": [line[-1]["id"]]})
    with both.db.write() as tx:
        tx.conn.execute(t.commits.insert(), line[1:])
        places = [{"repository_id": repo.id, "commit_id": c["id"], "generation": c["generation"]} for c in line[1:]]
        marks = [{**p, "source": f"file:{p['generation'] % parts}", "mark": {"n": p["generation"]}} for p in places]
        tx.conn.execute(t.collected.insert(), [{**mark, "at": 1} for mark in marks])
        tx.conn.execute(t.producers.insert(), [{**sent, **p, "sequence": p["generation"]} for p in places])
        tx.conn.execute(t.branches.update().values(head=line[-1]["id"]))
    both.data.create_branch(repo, "trial", at=line[100]["id"], actor=actor)
    asked, real = list[int](), both.data.holds

    def holds(*about: Any) -> Any:
        answer = real(*about)

        def counted(commit: Any, generation: int) -> bool:
            asked.append(generation)
            return answer(commit, generation)

        return counted

    monkeypatch.setattr(both.data, "holds", holds)
    for branch in ("main", "trial"):
        asked.clear()
        assert both.collector.ledger.marks(repo, branch) == replayed(both, repo, branch)
        assert len(asked) == parts
        few = ["file:1", "file:2"]
        with both.db.read() as conn:
            _, head = queries.head(conn, repo.id, branch)
            assert head is not None
            one = both.collector.ledger.marks_at(conn, repo, branch, head, few)
        assert one == {name: replayed(both, repo, branch)[name] for name in few}
        asked.clear()
        assert [p.sequence for p in both.data.producers(repo, branch)] == [head.generation]
        assert len(asked) == 1


OPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "write", "branch", "reset", "drop", "squash", "forward", "produce"]),
        st.sampled_from(["main", "main", "x", "y"]),
        st.integers(0, 5),
    ),
    min_size=8,
    max_size=12,
)


@settings(max_examples=5 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(ops=OPS)
def test_however_branches_moved_a_collection_leaves_each_line_once(
    workspace: Workspace, actor: Actor, clock: ManualClock, ops: list[tuple[str, str, int]]
) -> None:
    ws, number = workspace, next(NUMBERS)
    repo = table(ws, actor, name=f"law{number}")
    spec, written, sent = SourceSpec(files=f"law{number}/*.csv"), list[int](), itertools.count(1000)

    def check(branch: str) -> None:
        assert ws.collector.ledger.marks(repo, branch) == replayed(ws, repo, branch)
        collect(ws, repo, actor, branch, spec)
        assert [one for one in ids(ws, repo, branch) if one < 1000] == sorted(written)
        assert ws.collector.ledger.marks(repo, branch) == replayed(ws, repo, branch)

    written.append(1)
    write(ws, "0.csv", 1, folder=f"law{number}")
    check("main")
    for op, branch, n in ops:
        clock.tick(5)
        here = {b.name for b in ws.data.branches(repo)}
        if op in ("write", "take"):
            written.append(len(written) + 1)
            write(ws, f"{n}.csv", written[-1], folder=f"law{number}")
        if op == "write":
            continue
        if op == "branch" and branch not in here:
            commits = ws.data.log(repo)
            ws.data.create_branch(repo, branch, at=commits[n % len(commits)].id, actor=actor)
        elif branch in here:
            line = ws.data.log(repo, branch)
            try:
                if op == "take":
                    check(branch)
                elif op == "produce":
                    ws.data.produce(repo, [{"id": next(sent), "n": 0}], branch=branch, actor=actor)
                elif op == "reset":
                    every = ws.data.log(repo) + line
                    ws.data.reset(repo, every[n % len(every)].id, branch=branch, actor=actor)
                elif op == "drop" and len(line) > n + 1:
                    ws.data.drop(repo, branch=branch, count=n + 1, actor=actor)
                elif op == "squash" and len(line) > 1:
                    ws.data.squash(repo, line[1 + n % (len(line) - 1)].id, branch=branch, actor=actor)
                elif op == "forward" and ws.data.head(repo).id in {c.id for c in line}:
                    ws.data.merge(repo, branch, actor=actor)
            except Conflict:
                pass  # another branch holds what should go
    for one in ws.data.branches(repo):
        check(one.name)


def test_marks_of_before_are_those_of_the_heads(tmp_path: Path) -> None:
    """Up to revision 1 they were kept for the whole repository."""
    with zipfile.ZipFile(Path(__file__).parents[1] / "golden" / "workspace-1.zip") as file:
        file.extractall(tmp_path)
    refused = {"contract": 1, "batch": 7, "mark": {"size": 3}}
    marks = {
        "file:a.csv": {"size": 1},
        "file:b.csv": {"size": 2, "refused": refused},
        "file:c.csv": {"refused": refused},
    }
    with closing(sqlite3.connect(tmp_path / ".noria" / "meta.db")) as db:
        number = db.execute("SELECT id FROM repositories ORDER BY id").fetchone()[0]
        rows = [(number, source, json.dumps(mark)) for source, mark in marks.items()]
        db.executemany("INSERT INTO collected (repository_id, source, mark, at) VALUES (?, ?, ?, 5)", rows)
        db.commit()
    workspaces.migrate(tmp_path)
    with workspaces.connect(tmp_path) as ws:
        repo = next(r for r in ws.data.repositories(ws.project.id) if r.id == number)
        assert ws.collector.ledger.marks(repo) == marks
        assert ws.collector.ledger.went_on(repo, "main", None, ws.data.head(repo))
