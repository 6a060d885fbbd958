from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid, NotFound
from noria.data.errors import (
    BranchNotFound,
    ContractBroken,
    HeadMoved,
    RepositoryExists,
    RepositoryNotFound,
    WrongRepositoryKind,
)
from noria.data.records import Repository, RepositoryKind
from noria.data.worktree import Worktree
from noria.store import Kind, folders
from noria.workspace import Workspace, connect

T0 = datetime(2013, 1, 1, tzinfo=UTC)


def table(ws: Workspace, actor: Actor, name: str = "flights", **how) -> Repository:
    return ws.data.create(ws.project.id, name, RepositoryKind.TABLE, actor=actor, **{"key": ("k",), **how})


def rows(*keys: int, v: str = "x") -> pl.DataFrame:
    return pl.DataFrame({"k": list(keys), "v": [v] * len(keys)}, schema={"k": pl.Int64, "v": pl.String})


def test_rows_land_are_read_and_looked_back_at(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    first = both.data.append(repo, rows(1, 2), actor=actor, message="first")
    second = both.data.append(repo, rows(2, 3, v="y"), actor=actor)
    assert both.data.read(repo)["v"].to_list() == ["x", "y", "y"]
    assert both.data.read(repo, "main~1").equals(rows(1, 2))
    assert both.data.read(repo, first.id[:8]).equals(rows(1, 2))
    assert [c.id for c in both.data.log(repo)] == [second.id, first.id]
    assert second.stats == {"added": 1, "updated": 1, "deleted": 0, "unchanged": 0, "rows": 3}
    assert second.parents == (first.id,)
    assert both.verify(data=True) == []


def test_equal_content_is_the_same_version_in_another_commit(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    first = both.data.append(repo, rows(1), actor=actor)
    both.data.append(repo, rows(2), actor=actor)
    third = both.data.append(repo, rows(2), actor=actor, mode="delete")
    assert third.id != first.id
    assert third.version_id == first.version_id


def test_rows_that_are_there_already_make_no_commit(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    first = both.data.append(repo, rows(1, 2), actor=actor)
    assert both.data.append(repo, rows(2, 1), actor=actor).id == first.id


def test_a_retried_request_does_not_double(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor, key=())
    first = both.data.append(repo, rows(1), actor=actor, key="request-1")
    assert both.data.append(repo, rows(1), actor=actor, key="request-1").id == first.id
    assert len(both.data.read(repo)) == 1


def test_several_repositories_land_together_or_not_at_all(both: Workspace, actor: Actor) -> None:
    a, b = table(both, actor, "a"), table(both, actor, "b")
    both.data.append(b, rows(1), actor=actor)
    done = both.data.append_many(both.project.id, {"a": (a, rows(1)), "b": (b, rows(2))}, actor=actor)
    assert set(done) == {"a", "b"}
    with pytest.raises(Invalid, match="missing v"):
        both.data.append_many(both.project.id, {"a": (a, rows(5)), "b": (b, [{"k": 1}])}, actor=actor)
    assert both.data.read(a)["k"].to_list() == [1]


def test_expected_head_is_compare_and_swap(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    first = both.data.append(repo, rows(1), actor=actor)
    both.data.append(repo, rows(2), actor=actor, expected=first.id)
    with pytest.raises(HeadMoved, match="stands at"):
        both.data.append(repo, rows(3), actor=actor, expected=first.id)


def test_many_writers_lose_nothing(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    both.data.append(repo, rows(0), actor=actor)
    errors: list[Exception] = []

    def write(start: int) -> None:
        try:
            for number in range(8):
                both.data.append(repo, rows(start + number), actor=actor)
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(100 * n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(both.data.read(repo)) == 33
    assert both.data.head(repo).generation == 33  # type: ignore[union-attr]


def test_a_writer_of_another_process_is_met_by_compare_and_swap(workspace: Workspace, actor: Actor) -> None:
    repo = table(workspace, actor)
    workspace.data.append(repo, rows(0), actor=actor)
    other = connect(workspace.home.parent, environment={})
    real = other.data._prepare
    raced: list[int] = []

    def slow(*args, **kwargs):
        landing = real(*args, **kwargs)
        if not raced:
            raced.append(1)
            workspace.data.append(repo, rows(1), actor=actor)
        return landing

    other.data._prepare = slow  # type: ignore[method-assign]
    other.data.append(other.data.get(other.project.id, "flights"), rows(2), actor=actor)
    assert sorted(other.data.read(repo)["k"].to_list()) == [0, 1, 2]
    other.close()


def test_branches_are_apart(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    both.data.append(repo, rows(1), actor=actor)
    both.data.create_branch(repo, "try/it", actor=actor)
    both.data.append(repo, rows(2), actor=actor, branch="try/it")
    assert len(both.data.read(repo)) == 1
    assert len(both.data.read(repo, "try/it")) == 2
    with pytest.raises(RepositoryExists):
        both.data.create_branch(repo, "try/it", actor=actor)
    with pytest.raises(BranchNotFound) as error:
        both.data.append(repo, rows(3), actor=actor, branch="mian")
    assert "'main'" in error.value.hint


def test_names_that_do_not_exist_are_answered_with_the_nearest(both: Workspace, actor: Actor) -> None:
    table(both, actor)
    with pytest.raises(RepositoryNotFound) as error:
        both.data.get(both.project.id, "flihgts")
    assert "Did you mean 'flights'?" in error.value.hint
    repo = both.data.get(both.project.id, "flights")
    with pytest.raises(BranchNotFound, match="no commit yet"):
        both.data.read(repo)
    both.data.append(repo, rows(1), actor=actor)
    with pytest.raises(Invalid) as column:
        both.data.read(repo, columns=["kk"])
    assert "'k'" in column.value.hint
    with pytest.raises(WrongRepositoryKind, match="'flights' is a table; this works on repositories of files") as kind:
        both.data.get(both.project.id, "flights", RepositoryKind.FILES)
    assert kind.value.hint.startswith("noria data read flights")


def test_row_diff(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    both.data.append(repo, rows(1, 2, 3), actor=actor)
    both.data.append(repo, rows(3, 4, v="y"), actor=actor)
    both.data.append(repo, rows(1), actor=actor, mode="delete")
    added, removed, changed = both.data.diff_rows(repo, "main~2", "main")
    assert (added["k"].to_list(), removed["k"].to_list(), changed["k"].to_list()) == ([4], [1], [3])


def test_looking_back_by_time(both: Workspace, actor: Actor, clock) -> None:
    repo = table(both, actor)
    both.data.append(repo, rows(1), actor=actor)
    clock.tick(86_400_000)
    both.data.append(repo, rows(2), actor=actor)
    assert len(both.data.read(repo, "@2013-01-01T12:00:00Z")) == 1


def test_every_commit_has_a_run_an_event_and_an_audit_row(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    commit = both.data.append(repo, rows(1), actor=actor)
    assert both.assets.run(commit.run_id).kind == "commit"
    assert [r.id for r in both.lineage.makers(commit.version_id)] == [commit.run_id]
    (event,) = both.assets.list_events(both.project.id, types=["commit.created"])
    assert event.payload["commit"] == commit.id
    assert both.audit.list(both.project.id).items[0].verb == "data.append"


def test_listeners_write_in_the_same_transaction(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)

    def fail(change, repository, change_rows, commit) -> None:
        raise ZeroDivisionError

    both.data._s.listeners.append(fail)
    with pytest.raises(ZeroDivisionError):
        both.data.append(repo, rows(1), actor=actor)
    assert both.data.head(repo) is None


# ---- contracts

CONTRACT = {
    "columns": {
        "k": {"type": "int64", "missing": 0.0},
        "v": {"type": "str", "missing": 0.5, "levels": ["x", "y"]},
        "t": {"type": "datetime[us, UTC]", "min": "2013-01-01"},
        "n": {"type": "int64", "min": 0, "max": 10},
    },
    "rules": {"even": "n % 2 = 0 or n is null"},
    "table": {"min_rows": 2, "unique": [["v", "n"]], "fresh": "2d"},
}


def batch(**changes) -> pl.DataFrame:
    good = {"k": [1, 2], "v": ["x", "y"], "t": [T0, T0], "n": [2, 4]}
    return pl.DataFrame({**good, **changes})


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"v": ["x", "z"]}, "v.levels"),
        ({"n": [2, 12]}, "n.max"),
        ({"n": [-2, 4]}, "n.min"),
        ({"n": [2, 3]}, "rules.even"),
        ({"t": [T0, T0.replace(year=2012)]}, "t.min"),
        ({"v": pl.Series([None, None], dtype=pl.String)}, "v.missing"),
        ({"k": [1, None]}, "k.missing"),
        ({"n": ["a", "b"]}, "n.type"),
        ({"v": ["x", "x"], "n": [2, 2]}, "table.unique"),
        ({"extra": [1, 2]}, "extra.known"),
    ],
)
def test_a_broken_rule_refuses_the_batch_and_says_where(both: Workspace, actor: Actor, bad, rule: str) -> None:
    repo = table(both, actor, time="t")
    both.data.set_contract(repo, CONTRACT, actor=actor)
    repo = both.data.get(both.project.id, "flights")
    good = both.data.append(repo, batch(), actor=actor)
    assert good.contract == 1
    with pytest.raises(ContractBroken) as refused:
        both.data.append(repo, batch(**bad).with_columns(pl.col("k") + 10), actor=actor, source="file:bad.csv")
    findings = refused.value.details["findings"]
    assert rule in [f["rule"] for f in findings]
    assert both.data.head(repo).id == good.id  # type: ignore[union-attr]
    (kept,) = both.data.quarantine(both.project.id)
    assert (kept.rows, kept.source, kept.state) == (2, "file:bad.csv", "open")
    assert len(both.data.quarantined(kept.id)[1]) == 2
    kept_once, evidence = both.evidence.list(both.project.id, tests=["contract"])  # the good batch, then the bad one
    assert kept_once.passed
    assert not evidence.passed


def test_a_stale_or_short_batch_is_refused(both: Workspace, actor: Actor, clock) -> None:
    repo = table(both, actor, time="t")
    both.data.set_contract(repo, CONTRACT, actor=actor)
    repo = both.data.get(both.project.id, "flights")
    with pytest.raises(ContractBroken, match="at least 2"):
        both.data.append(repo, batch()[:1], actor=actor)
    clock.tick(3 * 86_400_000)
    with pytest.raises(ContractBroken, match="more than 2d old"):
        both.data.append(repo, batch(), actor=actor)


def test_the_same_bad_batch_is_one_record(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor, time="t")
    both.data.set_contract(repo, CONTRACT, actor=actor)
    repo = both.data.get(both.project.id, "flights")
    for _ in range(2):
        with pytest.raises(ContractBroken):
            both.data.append(repo, batch(n=[1, 3]), actor=actor)
    assert len(both.data.quarantine(both.project.id)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"k": {"type": "int"}}}, "not the name of a column type"),
        ({"columns": {"k": {"typ": "int64"}}}, "unknown field"),
        ({"columns": {"k": {"type": "int64", "levels": ["a"]}}}, "need the type str"),
        ({"columns": {"k": {"type": "str", "min": 0}}}, "need a number"),
        ({"columns": {"k": {"type": "int64", "missing": 2}}}, "share from 0 to 1"),
        ({"columns": {"k": {"type": "int64"}}, "rules": {"r": "k >"}}, "not an SQL expression"),
        ({"columns": {"k": {"type": "int64"}}, "rules": {"r": "kk > 1"}}, "unknown column"),
    ],
)
def test_a_wrong_contract_is_explained(both: Workspace, actor: Actor, change, message: str) -> None:
    repo = table(both, actor)
    with pytest.raises(Invalid, match=message):
        both.data.set_contract(repo, change, actor=actor)


def test_an_inferred_contract_is_kept_by_its_own_data(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor, time="t")
    both.data.append(repo, batch(), actor=actor)
    import msgspec

    inferred = both.data.infer_contract(repo)
    for _ in range(2):
        done = both.data.set_contract(repo, msgspec.to_builtins(inferred), actor=actor)
        assert (done.number, done.findings) == (1, [])
    repo = both.data.get(both.project.id, "flights")
    both.data.append(repo, batch(k=[3, 4]), actor=actor)
    assert both.data.contract_coverage(both.project.id) == {"flights": (2, 1)}


def test_rows_of_json_are_typed_by_the_table(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor, time="t")
    both.data.append(repo, batch(), actor=actor)
    row = {"k": 9, "v": "x", "t": "2013-01-05T00:00:00Z", "n": None}
    both.data.append(repo, [row], actor=actor)
    assert both.data.read(repo).filter(k=9)["t"].to_list() == [datetime(2013, 1, 5, tzinfo=UTC)]
    for bad, message in [
        ({**row, "n": "many"}, "does not fit"),
        ({**row, "t": "yesterday"}, "does not fit"),
        ({k: v for k, v in row.items() if k != "v"}, "missing v"),
        ({**row, "w": 1}, "unknown w"),
        ([1], "not an object"),
    ]:
        with pytest.raises(Invalid, match=message):
            both.data.append(repo, [bad], actor=actor)  # type: ignore[list-item]


# ---- files


def folder_repo(ws: Workspace, actor: Actor) -> Repository:
    return ws.data.create(ws.project.id, "photos", RepositoryKind.FILES, actor=actor)


def test_folders_are_committed_compared_and_checked_out(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    ws, repo, place = workspace, folder_repo(workspace, actor), tmp_path / "photos"
    (place / "deep").mkdir(parents=True)
    (place / "a.txt").write_text("one")
    (place / "deep" / "b.bin").write_bytes(b"b" * 100_000)
    first = ws.data.commit(repo, place, actor=actor, message="first")
    assert ws.data.status(repo, place).changes == []
    assert ws.data.commit(repo, place, actor=actor).id == first.id
    (place / "a.txt").write_text("two!")
    (place / "c.txt").write_text("new")
    (place / "deep" / "b.bin").unlink()
    found = {c.path: c.kind for c in ws.data.status(repo, place).changes}
    assert found == {"a.txt": "changed", "c.txt": "added", "deep/b.bin": "removed", "deep": "added"}
    second = ws.data.commit(repo, place, actor=actor)
    assert {c.path: c.kind for c in ws.data.diff(repo, "main~1", "main")} == found
    assert second.stats["added"] == 2
    assert ws.data.read_file(repo, "a.txt", "main~1") == b"one"
    with pytest.raises(NotFound):
        ws.data.read_file(repo, "nope.txt")
    out = tmp_path / "out"
    assert ws.data.checkout(repo, out, first.id) == 2
    assert (out / "deep" / "b.bin").read_bytes() == b"b" * 100_000
    ws.data.checkout(repo, out)
    assert subprocess.run(["diff", "-r", str(place), str(out)], check=False).returncode == 0
    (out / "a.txt").write_text("mine")
    with pytest.raises(Invalid, match="never committed"):
        ws.data.checkout(repo, out, first.id)
    with pytest.raises(Invalid, match="was not checked out before"):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "x").write_text("x")
        ws.data.checkout(repo, tmp_path / "full")


def test_a_file_that_changes_without_a_new_size_is_seen(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    repo, place = folder_repo(workspace, actor), tmp_path / "photos"
    place.mkdir()
    (place / "a.txt").write_text("one")
    workspace.data.commit(repo, place, actor=actor)
    (place / "a.txt").write_text("two")
    assert [c.path for c in workspace.data.status(repo, place).changes] == ["a.txt"]


def test_an_unchanged_file_that_the_store_has_lost_is_stored_again(workspace: Workspace, tmp_path: Path) -> None:
    store, place = workspace.store, tmp_path / "photos"
    place.mkdir()
    (place / "a.txt").write_text("a" * 100)
    os.utime(place / "a.txt", (1, 1))  # old enough to be trusted
    roots: list[Digest] = []
    for _ in range(2):
        work = Worktree(tmp_path / "home", 1, place)
        with store.writer() as writer:
            roots.append(work.store(store, writer, None, None))
            (pack,) = writer.flush()
        work.save(roots[-1])
        assert folders.read_file(store, roots[0], "a.txt") == b"a" * 100
        store.drop_pack(pack.id)
    assert roots[0] == roots[1]


# ---- crashes

CRASH = """
import sys, polars as pl
from noria.workspace import connect
from noria.base.actor import Actor
ws = connect(sys.argv[1])
repo = ws.data.get(ws.project.id, "flights")
for n in range(10, 13):
    ws.data.append(repo, pl.DataFrame({"k": [n, n + 100], "v": ["y", "y"]}), actor=Actor(name="user:crash"))
    print("acknowledged", n, flush=True)
"""


@pytest.mark.parametrize(
    "point",
    [
        "store.write",
        "store.fsync",
        "store.rename",
        "store.fsync_folder",
        "data.head",
        "change.data.append",
        "db.commit",
        "db.committed",
    ],
)
def test_what_was_acknowledged_survives_a_kill_and_nothing_is_half_there(
    workspace: Workspace, actor: Actor, point: str
) -> None:
    repo = table(workspace, actor)
    workspace.data.append(repo, rows(0), actor=actor)
    env = {"NORIA_FAULT": f"{point}:2", "PATH": "", "USER": "x"}
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(workspace.home.parent)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 137, done.stderr
    told = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert workspace.verify(data=True) == []
    found = set(workspace.data.read(repo)["k"].to_list())
    assert {0, *told, *(n + 100 for n in told)} <= found
    assert all((n in found) == (n + 100 in found) for n in range(10, 13))
    with connect(workspace.home.parent, environment={}) as ws:
        for n in range(10, 13):  # the same again
            frame = pl.DataFrame({"k": [n, n + 100], "v": ["y", "y"]})
            ws.data.append(ws.data.get(ws.project.id, "flights"), frame, actor=Actor(name="user:crash"))
    assert sorted(workspace.data.read(repo)["k"].to_list()) == sorted([0, 10, 11, 12, 110, 111, 112])


@pytest.mark.parametrize("ref", ["main~²", "main~" + "9" * 5_000, "f" * 70_000, "%%%%", "____"])
def test_what_cannot_name_a_commit_names_none(both: Workspace, actor: Actor, ref: str) -> None:
    repo = table(both, actor)
    commit = both.data.append(repo, rows(1), actor=actor)
    with pytest.raises(BranchNotFound):
        both.data.resolve(repo, ref)
    assert both.data.find_commit(both.project.id, ref) is None
    found = both.data.find_commit(both.project.id, commit.id[:10])
    assert found is not None
    assert found[1].id == commit.id


def test_the_format_of_a_commit_never_changes(workspace: Workspace, actor: Actor, golden, tmp_path: Path) -> None:
    """Of files: what a table lies in depends on the version of Parquet's writer."""
    repo = workspace.data.create(workspace.project.id, "pictures", RepositoryKind.FILES, actor=actor)
    (tmp_path / "in").mkdir()
    commits = []
    for text in ("first", "second"):
        (tmp_path / "in" / "a.txt").write_text(text)
        commits.append(workspace.data.commit(repo, tmp_path / "in", actor=actor, message=text))
    raw = [workspace.store.get(Digest(bytes.fromhex(c.id)), Kind.COMMIT) for c in commits]
    assert commits[0].id.encode() in raw[1]  # a commit names its parents
    golden("commit.bin", raw[1])


def test_a_table_that_was_never_written_may_be_declared_again(workspace: Workspace, actor: Actor) -> None:
    project_id, kind = workspace.project.id, RepositoryKind.TABLE
    workspace.data.ensure(project_id, "orders", kind, actor=actor, key=("order_idd",))
    made = workspace.data.ensure(project_id, "orders", kind, actor=actor, key=("order_id",), time="at")
    assert (made.key, made.time) == (("order_id",), "at")
    rows = pl.DataFrame({"order_id": [1], "at": [T0]})
    workspace.data.append(made, rows, actor=actor)
    with pytest.raises(Invalid, match="orders was made with --key order_id --time at; this asks for --key at"):
        workspace.data.ensure(project_id, "orders", kind, actor=actor, key=("at",))


def test_the_graph_follows_main_only(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    first = both.data.append(repo, rows(1), actor=actor)
    both.data.create_branch(repo, "trial", actor=actor)
    both.data.append(repo, rows(2), actor=actor, branch="trial")
    assert both.assets.asset(both.project.id, "flights").current_id == first.version_id
