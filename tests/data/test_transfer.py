"""Repositories between workspaces: clone, push, pull, fetch; in every pairing of database and store."""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from sqlalchemy import select

from noria import workspace as workspaces
from noria.assets import Change
from noria.assets import tables as at
from noria.base.errors import Invalid, Refused, Unavailable
from noria.base.faults import CountPoints, CrashAt, Faults
from noria.data import queries
from noria.data.edits import Delete, Put
from noria.data.errors import (
    BranchNotFound,
    Diverged,
    HeadMoved,
    MergeConflict,
    MoveBreaksContract,
    RemoteExists,
    RemoteNotFound,
    RepositoryExists,
    TransferRefused,
)
from noria.data.http import routes
from noria.data.records import Commit, Repository, RepositoryKind, Transferred
from noria.data.rows import RowsChange
from noria.data.service.care.purge import Erase
from noria.data.service.transfer import exchange, sending
from noria.store.errors import ObjectCorrupt, ObjectMissing
from noria.store.s3 import S3Bytes
from noria.testing import ManualClock
from noria.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1] / "http"))
from rooms_client import client

FAR = [
    "sqlite-local",
    pytest.param("postgres-local", marks=pytest.mark.postgres),
    pytest.param("sqlite-s3", marks=pytest.mark.s3),
    pytest.param("postgres-s3", marks=[pytest.mark.postgres, pytest.mark.s3]),
]


def make(folder: Path, clock: ManualClock, **how: Any) -> Workspace:
    folder.mkdir()
    return workspaces.init(folder, clock=clock, **{"environment": {}, **how})


@pytest.fixture
def near(tmp_path: Path, clock: ManualClock) -> Iterator[Workspace]:
    with make(tmp_path / "near", clock) as ws:
        yield ws


@pytest.fixture
def far(tmp_path: Path, clock: ManualClock) -> Iterator[Workspace]:
    with make(tmp_path / "far", clock) as ws:
        yield ws


@pytest.fixture(params=FAR)
def pair(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[tuple[Workspace, Workspace]]:
    """(here: SQLite and a folder, there: as the parameter says)."""
    database, store = request.param.split("-")
    how: dict[str, Any] = {"environment": {}}
    if database == "postgres":
        how["db_url"] = request.getfixturevalue("postgres_url")
    if store == "s3":
        how["environment"] = request.getfixturevalue("s3_server").environment
    here = make(tmp_path / "near", clock, environment=how["environment"])
    if store == "s3":
        prefix = f"of/{uuid.uuid4().hex}"
        (tmp_path / "one").write_bytes(b"1")
        S3Bytes("packs", prefix, how["environment"]).put("made", tmp_path / "one")  # the bucket is there from now on
        how["store_url"] = f"s3://packs/{prefix}"
    there = make(tmp_path / "far", clock, **how)
    yield here, there
    here.close()
    there.close()


def url(ws: Workspace) -> str:
    return f"{ws.url}#{ws.project.name}"


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def commit(ws: Workspace, folder: Path, name: str = "photos", **how: Any) -> str:
    repo = ws.data.find(ws.project.id, name)
    if repo is None:
        repo = ws.data.create(ws.project.id, name, RepositoryKind.FILES, actor=ws.actor)
    return ws.data.commit(repo, folder, actor=ws.actor, **how).id


def repository(ws: Workspace, name: str = "photos") -> Repository:
    return ws.data.get(ws.project.id, name)


def contents(ws: Workspace, ref: str = "main", name: str = "photos") -> dict[str, bytes]:
    repo = repository(ws, name)
    return {e.path: ws.data.read_file(repo, e.path, ref) for e in ws.data.files(repo, ref)}


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def test_files_go_there_and_come_back(pair: tuple[Workspace, Workspace], tmp_path: Path) -> None:
    here, there = pair
    folder = write(tmp_path / "work", {"a/one.jpg": noise(1, 3000), "big.bin": noise(2, 900_000), "tiny": b"x"})
    first = commit(here, folder, message="first")
    write(folder, {"two.jpg": noise(3, 5000)})
    second = commit(here, folder, message="second")
    repo = repository(here)
    here.transfer.add_remote(repo, "origin", url(there), actor=here.actor)
    done = here.transfer.push(repo, actor=here.actor)
    assert (done.commits, [(m.branch, m.before, m.after) for m in done.moved]) == (2, [("main", None, second)])
    assert [c.id for c in there.data.log(repository(there))] == [second, first]
    assert contents(there) == contents(here)
    assert there.verify(data=True) == []
    # One file more there: only it comes here.
    write(folder, {"three.jpg": noise(4, 7000)})
    third = commit(there, folder, message="third")
    pulled = here.transfer.pull(repo, actor=here.actor)
    assert [(m.branch, m.before, m.after) for m in pulled.moved] == [("main", second, third)]
    assert 7000 < pulled.written < 12_000
    assert contents(here) == contents(there)
    assert here.verify(data=True) == []
    assert here.transfer.pull(repo, actor=here.actor).commits == 0
    assert here.transfer.push(repo, actor=here.actor).moved == ()


def test_tables_go_there_and_come_back(pair: tuple[Workspace, Workspace]) -> None:
    here, there = pair
    repo = here.data.create(here.project.id, "orders", RepositoryKind.TABLE, actor=here.actor, key=("id",))
    here.data.set_contract(repo, {"columns": {"id": {"type": "int64"}, "n": {"type": "int64"}}}, actor=here.actor)
    here.data.append(repo, [{"id": n, "n": n * 10} for n in range(50)], actor=here.actor)
    here.data.append(repo, [{"id": 7, "n": -1}], actor=here.actor)
    there.transfer.clone(url(here), "orders", actor=there.actor)
    copy = repository(there, "orders")
    assert there.data.read(copy).equals(here.data.read(repo))
    assert there.data.read(copy, "main~1").equals(here.data.read(repo, "main~1"))
    assert (copy.key, copy.contract) == (("id",), 1)
    assert there.data.contract(copy) == here.data.contract(repository(here, "orders"))
    there.data.append(copy, [{"id": 3, "n": 333}], actor=there.actor)
    there.data.append(copy, [{"id": 4}], actor=there.actor, mode="delete")
    done = there.transfer.push(copy, actor=there.actor)
    assert done.commits == 2
    assert here.data.read(repo).equals(there.data.read(copy))
    assert here.data.read(repo, hidden=True).equals(there.data.read(copy, hidden=True))
    assert here.verify(data=True) == there.verify(data=True) == []


def test_a_clone_has_branches_tags_and_a_run_that_says_from_where(
    near: Workspace, far: Workspace, tmp_path: Path
) -> None:
    folder = write(tmp_path / "work", {"a": noise(1, 500)})
    first = commit(far, folder)
    far.data.create_branch(repository(far), "dev", actor=far.actor)
    write(folder, {"b": noise(2, 500)})
    on_dev = commit(far, folder, branch="dev")
    with far.db.write() as tx:
        from noria.data import tables as t

        row = {"repository_id": repository(far).id, "name": "v1", "commit_id": first, "created_at": 0}
        tx.insert(t.tags, row)
    done = near.transfer.clone(url(far), "photos", actor=near.actor, into="pictures")
    here = repository(near, "pictures")
    assert {b.name: b.head for b in near.data.branches(here)} == {"main": first, "dev": on_dev}
    assert near.data.resolve(here, "v1").id == first
    assert done.tags == ("v1",)
    assert done.run is not None
    run = near.assets.run(done.run)
    assert (run.kind, run.trigger) == ("transfer", f"{far.id[:12]} {far.project.name}:photos")
    made = near.lineage.makers(near.data.resolve(here).version_id)
    assert [r.id for r in made] == [done.run]
    assert near.assets.asset(near.project.id, "pictures").current_id == near.data.resolve(here).version_id
    (remote,) = near.transfer.remotes(here)
    assert (remote.name, remote.repository, remote.heads) == ("origin", "photos", {"main": first, "dev": on_dev})
    with pytest.raises(RepositoryExists):
        near.transfer.clone(url(far), "photos", actor=near.actor, into="pictures")
    with pytest.raises(RepositoryExists, match="another repository"):
        near.transfer.clone(url(far), "photos", actor=near.actor, into="again")


def test_branches_that_went_apart_are_refused_and_nothing_moves(
    near: Workspace, far: Workspace, tmp_path: Path
) -> None:
    folder = write(tmp_path / "work", {"a": noise(1, 500)})
    base = commit(far, folder)
    near.transfer.clone(url(far), "photos", actor=near.actor)
    theirs = commit(far, write(tmp_path / "theirs", {"a": noise(1, 500), "t": noise(2, 500)}))
    mine = commit(near, write(tmp_path / "mine", {"a": noise(1, 500), "m": noise(3, 500)}))
    repo = repository(near)
    with pytest.raises(Diverged) as refused:
        near.transfer.pull(repo, actor=near.actor)
    assert refused.value.details["branches"] == ["main"]
    assert "noria data pull photos origin --merge" in refused.value.hint
    with pytest.raises(Diverged):
        near.transfer.push(repo, actor=near.actor)
    # A lease on where the branch was seen last does not hold: it went on.
    with pytest.raises(HeadMoved):
        near.transfer.push(repo, actor=near.actor, force_with_lease=True)
    assert far.data.head(repository(far)).id == theirs
    fetched = near.transfer.pull(repo, actor=near.actor, heads=False)
    assert (fetched.commits, fetched.moved) == (1, ())
    assert near.data.head(repo).id == mine
    assert near.data.resolve(repo, theirs).parents == (base,)
    done = near.transfer.push(repo, actor=near.actor, force_with_lease=True)
    assert [(m.before, m.after) for m in done.moved] == [(theirs, mine)]
    assert far.data.head(repository(far)).id == mine
    assert far.data.resolve(repository(far), theirs).id == theirs  # still there


def test_a_push_does_not_count_as_a_look_at_what_others_sent(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    """A lease holds only for heads that were here: a push of one branch learns nothing of the others."""
    folder = write(tmp_path / "work", {"a": noise(1, 500)})
    base = commit(near, folder)
    repo = repository(near)
    near.data.create_branch(repo, "dev", actor=near.actor)
    near.transfer.add_remote(repo, "origin", str(far.url), actor=near.actor)
    near.transfer.push(repo, actor=near.actor)
    there = repository(far)
    theirs = far.data.change(there, [Put("theirs", b"x")], actor=far.actor, branch="dev").id
    near.data.change(repo, [Put("mine", b"y")], actor=near.actor)
    near.data.change(repo, [Put("mine", b"z")], actor=near.actor, branch="dev")
    near.transfer.push(repo, actor=near.actor, branches=["main"])
    assert near.transfer.remote(repo, "origin").heads == {"main": near.data.head(repo).id, "dev": base}
    with pytest.raises(HeadMoved):
        near.transfer.push(repo, actor=near.actor, branches=["dev"], force_with_lease=True)
    assert far.data.head(there, "dev").id == theirs
    # A branch that was never seen has no lease either.
    far.data.create_branch(there, "new", actor=far.actor)
    far.data.change(there, [Put("new", b"n")], actor=far.actor, branch="new")
    near.transfer.push(repo, actor=near.actor, branches=["main"])
    assert sorted(near.transfer.remote(repo, "origin").heads) == ["dev", "main"]


def test_one_branch_alone(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    folder = write(tmp_path / "work", {"a": noise(1, 500)})
    commit(near, folder)
    repo = repository(near)
    near.data.create_branch(repo, "dev", actor=near.actor)
    write(folder, {"b": noise(2, 500)})
    commit(near, folder, branch="dev")
    near.transfer.add_remote(repo, "backup", str(far.url), actor=near.actor)
    near.transfer.push(repo, "backup", actor=near.actor, branches=["main"])
    there = repository(far)
    assert [b.name for b in far.data.branches(there)] == ["main"]
    with pytest.raises(BranchNotFound, match="dve"):
        near.transfer.push(repo, "backup", actor=near.actor, branches=["dve"])
    near.transfer.push(repo, "backup", actor=near.actor)
    assert sorted(b.name for b in far.data.branches(there)) == ["dev", "main"]


def test_what_is_sent_is_what_changed(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    """Of 3,000 files and a large one: ten changed files and a megabyte in the middle cost about themselves."""
    folder = write(tmp_path / "work", {f"d{n % 7}/{n:05}": noise(n, 300) for n in range(3000)})
    big = bytearray(noise(9, 4 << 20))
    write(folder, {"big": bytes(big)})
    commit(near, folder)
    repo = repository(near)
    near.transfer.add_remote(repo, "origin", url(far), actor=near.actor)
    first = near.transfer.push(repo, actor=near.actor)
    assert first.written > 3000 * 300 + (4 << 20)
    big[2_000_000:2_000_000] = b"inserted"
    write(folder, {"big": bytes(big), **{f"d1/{n:05}": noise(n + 77, 300) for n in range(1, 71, 7)}})
    commit(near, folder)
    second = near.transfer.push(repo, actor=near.actor)
    assert second.written < 10 * 300 + 600_000
    assert far.data.read_file(repository(far), "big") == bytes(big)
    assert far.verify(data=True) == []


def test_wrong_places_are_told(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    commit(near, write(tmp_path / "work", {"a": b"1"}))
    repo = repository(near)
    with pytest.raises(workspaces.WorkspaceMissing):
        near.transfer.add_remote(repo, "r", str(tmp_path / "nowhere"), actor=near.actor)
    with pytest.raises(Invalid, match="is this workspace"):
        near.transfer.add_remote(repo, "r", str(near.url), actor=near.actor)
    with pytest.raises(RemoteNotFound):
        near.transfer.push(repo, "origin", actor=near.actor)
    near.transfer.add_remote(repo, "r", str(far.url), actor=near.actor)
    with pytest.raises(RemoteExists):
        near.transfer.add_remote(repo, "r", str(far.url), actor=near.actor)
    from noria.assets.errors import ProjectNotFound

    with pytest.raises(ProjectNotFound):
        near.transfer.add_remote(repo, "other", f"{far.url}#nosuch", actor=near.actor)
    assert [p for p in ("nosuch",) if far.db and _has_project(far, p)] == []
    near.transfer.remove_remote(repo, "r", actor=near.actor)
    assert near.transfer.remotes(repo) == []


def _has_project(ws: Workspace, name: str) -> bool:
    from noria.assets import queries

    with ws.db.read() as conn:
        return queries.project(conn, name) is not None


@pytest.mark.postgres
def test_a_password_is_not_kept(near: Workspace, tmp_path: Path, clock: ManualClock, postgres_url: str) -> None:
    from sqlalchemy.engine import make_url

    far = make(tmp_path / "pg", clock, db_url=postgres_url)
    commit(far, write(tmp_path / "work", {"a": noise(1, 100)}))
    with_password = make_url(postgres_url).set(password="hush").render_as_string(hide_password=False)
    near.transfer.clone(f"{with_password}#{far.project.name}", "photos", actor=near.actor)
    (remote,) = near.transfer.remotes(repository(near))
    assert "hush" not in remote.url
    write(tmp_path / "work", {"b": noise(2, 100)})
    commit(far, tmp_path / "work")
    assert near.transfer.pull(repository(near), actor=near.actor).commits == 1
    far.close()


@pytest.mark.parametrize("verb", ["push", "pull", "clone"])
def test_a_transfer_that_is_killed_leaves_nothing_half_and_goes_on(
    verb: str,
    tmp_path: Path,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    in_a_child: Callable[..., int],
) -> None:
    """At every point at which the receiver's state changes, in turn."""
    monkeypatch.setattr(sending, "PACK_TARGET", 40_000)
    monkeypatch.setattr(sending, "_PUT_BYTES", 20_000)
    folder = write(tmp_path / "work", {f"{n}": noise(n, 9000) for n in range(6)})
    with make(tmp_path / "near", clock) as near, make(tmp_path / "far", clock) as far:
        first = commit(near, folder)
        near.transfer.add_remote(repository(near), "origin", url(far), actor=near.actor)
        near.transfer.push(repository(near), actor=near.actor)
        far.transfer.add_remote(repository(far), "origin", url(near), actor=far.actor)
        for n in range(6, 9):
            write(folder, {f"{n}": noise(n, 30_000)})
            last = commit(near, folder)
        expected = contents(near)
    whose = {"push": "near", "pull": "far", "clone": "other"}[verb]
    make(tmp_path / "other", clock).close()
    shutil.copytree(tmp_path, tmp_path.with_name("kept"))

    def run(faults: Faults | None) -> None:
        with workspaces.connect(tmp_path / whose, clock=clock, faults=faults, environment={}) as ws:
            if verb == "clone":
                if ws.data.find(ws.project.id, "photos") is None:
                    ws.transfer.clone(f"{tmp_path / 'near'}", "photos", actor=ws.actor)
            else:
                getattr(ws.transfer, verb)(repository(ws), actor=ws.actor)

    receiver = {"push": "far", "pull": "far", "clone": "other"}[verb]
    points = CountPoints()
    run(points)
    assert points.seen.count("transfer.pack") >= 2
    seen = points.seen
    # What differs between the verbs is the receiver's transaction; the store's points are visited once.
    last_ones = {len(seen) - seen[::-1].index(p) for p in seen if verb == "push" or not p.startswith("store.")}
    for number in sorted(last_ones | {seen.index("transfer.pack") + 1}):
        for place in ("near", "far", "other"):
            shutil.rmtree(tmp_path / place)
            shutil.copytree(tmp_path.with_name("kept") / place, tmp_path / place)
        assert in_a_child(lambda number=number: run(CrashAt("", number))) == 137, points.seen[number - 1]
        with workspaces.connect(tmp_path / receiver, clock=clock, environment={}) as ws:
            repo = ws.data.find(ws.project.id, "photos")
            head = None if repo is None else ws.data.head(repo)
            assert (None if head is None else head.id) in ((None, last) if verb == "clone" else (first, last))
            assert ws.verify(data=True) == []
        run(None)
        with workspaces.connect(tmp_path / receiver, clock=clock, environment={}) as ws:
            assert ws.data.head(repository(ws)).id == last
            assert contents(ws) == expected
            assert ws.verify(data=True) == []
    shutil.rmtree(tmp_path.with_name("kept"))


def test_packs_that_arrived_before_a_kill_are_not_sent_again(
    near: Workspace,
    tmp_path: Path,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    in_a_child: Callable[..., int],
) -> None:
    monkeypatch.setattr(sending, "PACK_TARGET", 200_000)
    monkeypatch.setattr(sending, "_PUT_BYTES", 50_000)
    make(tmp_path / "far", clock).close()
    commit(near, write(tmp_path / "work", {f"{n}": noise(n, 30_000) for n in range(20)}))
    near.transfer.add_remote(repository(near), "origin", str(tmp_path / "far"), actor=near.actor)

    def run() -> None:
        with workspaces.connect(tmp_path / "near", clock=clock, faults=CrashAt("transfer.land"), environment={}) as ws:
            ws.transfer.push(repository(ws), actor=ws.actor)

    assert in_a_child(run) == 137
    done = near.transfer.push(repository(near), actor=near.actor)
    assert done.reused > 500_000
    assert done.written < 100_000


def test_over_http_only_remotes_that_were_added_here_are_named(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    folder = write(tmp_path / "work", {"a": noise(1, 500)})
    first = commit(near, folder)
    near.transfer.add_remote(repository(near), "backup", url(far), actor=near.actor)
    http = client(routes(near.data, near.project.id, near.transfer))
    page = http.get("/v1/data/photos/remotes").json
    assert [(r["name"], r["url"]) for r in page["items"]] == [("backup", far.url)]
    pushed = http.send("POST", "/v1/data/photos/push", {"remote": "backup"})
    assert (pushed.status, pushed.json["moved"]) == (200, [{"branch": "main", "before": None, "after": first}])
    write(folder, {"b": noise(2, 500)})
    second = commit(far, folder)
    assert http.send("POST", "/v1/data/photos/fetch", {"remote": "backup"}).json["commits"] == 1
    assert http.send("POST", "/v1/data/photos/pull", {"remote": "backup"}).json["moved"][0]["after"] == second
    for name in ("origin", str(far.url), "../far", "postgresql://h/db"):
        assert http.send("POST", "/v1/data/photos/pull", {"remote": name}).error["code"] == "remote_not_found"
    assert http.send("POST", "/v1/data/photos/pull", {"url": far.url}).status == 400


class Between:
    """Does something once, just before the receiver's transaction."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work

    def at(self, point: str) -> None:
        if point == "transfer.land" and self._work is not None:
            work, self._work = self._work, None
            work()


def test_a_head_that_moves_during_a_push_is_seen(far: Workspace, tmp_path: Path, clock: ManualClock) -> None:
    make(tmp_path / "near", clock).close()
    folder = write(tmp_path / "work", {"a": noise(1, 500)})
    with workspaces.connect(tmp_path / "near", clock=clock, environment={}) as near:
        commit(near, folder)
        near.transfer.add_remote(repository(near), "origin", url(far), actor=near.actor)
        near.transfer.push(repository(near), actor=near.actor)
        write(folder, {"b": noise(2, 500)})
        mine = commit(near, folder)

    def race(work: Callable[[], object]) -> Transferred:
        with workspaces.connect(tmp_path / "near", clock=clock, faults=Between(work), environment={}) as near:
            return near.transfer.push(repository(near), actor=near.actor)

    def same() -> None:
        with workspaces.connect(tmp_path / "near", clock=clock, environment={}) as other:
            other.transfer.push(repository(other), actor=other.actor)

    assert race(same).moved == ()  # another process pushed the same: nothing is left to do
    assert far.data.head(repository(far)).id == mine
    with workspaces.connect(tmp_path / "near", clock=clock, environment={}) as near:
        write(folder, {"c": noise(3, 500)})
        commit(near, folder)
    with pytest.raises(Diverged):
        race(lambda: commit(far, write(tmp_path / "theirs", {"t": noise(4, 500)})))
    assert far.data.log(repository(far))[1].id == mine
    assert far.verify(data=True) == []


def test_who_follows_rows_hears_of_a_pull(near: Workspace, far: Workspace) -> None:
    """The online store takes over a table that was pulled: the new rows, and the ones that they replace."""
    there = far.data.create(far.project.id, "orders", RepositoryKind.TABLE, actor=far.actor, key=("id",))
    far.data.append(there, [{"id": n, "n": n} for n in range(3)], actor=far.actor)
    heard: list[tuple[str, list[int], int]] = []

    def listen(change: Change, _: Repository, rows: RowsChange, commit: Commit) -> None:
        heard.append((commit.id, sorted(rows.new_rows["n"].to_list()), len(rows.old_rows)))

    near._data_services.listeners.append(listen)
    near.transfer.clone(url(far), "orders", actor=near.actor)
    far.data.append(there, [{"id": 1, "n": 100}], actor=far.actor)
    near.transfer.pull(repository(near, "orders"), actor=near.actor)
    first, second = far.data.log(there)[::-1]
    assert heard == [(first.id, [0, 1, 2], 0), (second.id, [100], 1)]


# ---- partial clones


def local(ws: Workspace, oid: Any) -> bool:
    return not ws.store.index.missing([oid.raw])


def partial(ws: Workspace, far: Workspace, name: str = "photos") -> Repository:
    ws.transfer.clone(url(far), name, actor=ws.actor, partial=True)
    return repository(ws, name)


def test_a_partial_clone_brings_contents_when_they_are_read(pair: tuple[Workspace, Workspace], tmp_path: Path) -> None:
    near, far = pair
    data = {"a.jpg": noise(1, 30_000), "b/c.jpg": noise(2, 30_000), "big": noise(3, 700_000), "tiny": b"inline"}
    folder = write(tmp_path / "work", data)
    commit(far, folder)
    write(folder, {"d.jpg": noise(4, 30_000)})
    commit(far, folder)
    done_before = far.store.index.count()
    repo = partial(near, far)
    assert near.store.index.count() < 8  # history, trees and nothing else
    assert [e.path for e in near.data.files(repo)] == ["a.jpg", "b/c.jpg", "big", "d.jpg", "tiny"]
    assert [c.path for c in near.data.diff(repo, "main~1", "main")] == ["d.jpg"]
    assert near.verify() == []  # promised contents count as there: they lie at the remote
    assert near.data.read_file(repo, "a.jpg") == data["a.jpg"]
    assert near.data.read_file(repo, "big") == data["big"]
    content = {e.path: e.content for e in near.data.files(repo)}
    # What was read is kept when the workspace is closed, and is not asked for again.
    near.promised.close()
    assert local(near, content["a.jpg"].id)
    assert not local(near, content["b/c.jpg"].id)
    assert near.verify(data=True) == []
    # Work goes on: a commit here, and a push of what is new.
    write(folder, {"e.jpg": noise(5, 30_000)})
    near.data.checkout(repo, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.jpg", "b", "big", "d.jpg", "tiny"}
    write(tmp_path / "out", {"e.jpg": noise(5, 30_000)})
    near.data.commit(repo, tmp_path / "out", actor=near.actor)
    pushed = near.transfer.push(repo, actor=near.actor)
    assert (pushed.commits, pushed.written < 35_000) == (1, True)
    assert contents(far)["e.jpg"] == noise(5, 30_000)
    assert far.store.index.count() > done_before


def test_a_partial_clone_of_a_table(near: Workspace, far: Workspace) -> None:
    there = far.data.create(far.project.id, "orders", RepositoryKind.TABLE, actor=far.actor, key=("id",))
    far.data.append(there, [{"id": n, "n": n} for n in range(1000)], actor=far.actor)
    far.data.append(there, [{"id": 5, "n": -5}], actor=far.actor)
    here = partial(near, far, "orders")
    assert near.data.schema(here).names == ["id", "n"]
    fragment = near.data.layout(near.data.head(here)).fragments[0]
    assert near.store.index.missing([fragment.id])
    near.data.append(here, [{"id": 6, "n": -6}], actor=near.actor)  # looks for the key in rows that lie there
    assert near.data.read(here).filter(id=6)["n"].to_list() == [-6]
    near.transfer.push(here, actor=near.actor)
    assert far.data.read(there).equals(near.data.read(here))
    assert near.verify() == far.verify(data=True) == []


def test_contents_are_brought_by_path(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    folder = write(tmp_path / "work", {f"{kind}/{n}": noise(n, 2000) for kind in ("train", "test") for n in range(20)})
    write(folder, {f"test/{n}": noise(n + 100, 2000) for n in range(20)})
    commit(far, folder)
    repo = partial(near, far)
    brought = near.transfer.fill(repo, "test/*")
    assert (brought.objects, brought.written) == (20, 40_000)
    assert near.transfer.fill(repo, "test/*").objects == 0
    content = {e.path: e.content for e in near.data.files(repo)}
    assert local(near, content["test/3"].id)
    assert not local(near, content["train/3"].id)
    with pytest.raises(Refused, match="lie only in"):
        near.transfer.remove_remote(repo, "origin", actor=near.actor)
    near.transfer.fill(repo)
    near.transfer.remove_remote(repo, "origin", actor=near.actor)
    assert near.verify(data=True) == []
    assert contents(near) == contents(far)


def test_what_lies_at_a_remote_that_is_gone_is_said(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    commit(far, write(tmp_path / "work", {"a": noise(1, 5000), "b": noise(2, 5000)}))
    repo = partial(near, far)
    near.data.read_file(repo, "a")
    far.close()
    near.promised.close()
    shutil.rmtree(tmp_path / "far")
    assert near.data.read_file(repo, "a") == noise(1, 5000)
    with pytest.raises(Unavailable, match="lie only in"):
        near.data.read_file(repo, "b")
    assert any("lie only in" in fault for fault in near.verify())


def test_a_damaged_answer_of_a_remote_is_refused(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    commit(far, write(tmp_path / "work", {"a": noise(1, 5000)}))
    repo = partial(near, far)
    for pack in (tmp_path / "far" / ".noria" / "store").rglob("*.pack"):
        data = pack.read_bytes()
        where = data.find(noise(1, 5000))
        if where > 0:
            pack.write_bytes(data[: where + 100] + b"damage" + data[where + 106 :])
    with pytest.raises(ObjectCorrupt):
        near.data.read_file(repo, "a")


def test_two_partial_clones_of_each_other_do_not_ask_in_a_circle(
    near: Workspace, far: Workspace, tmp_path: Path
) -> None:
    commit(far, write(tmp_path / "work", {"a": noise(1, 5000)}))
    repo = partial(near, far)
    far.transfer.add_remote(repository(far), "back", url(near), actor=far.actor)
    with far.db.write() as tx:
        queries.set_remote(tx.conn, repository(far).id, "back", partial=True)
    for pack in (tmp_path / "far" / ".noria" / "store").rglob("*.pack"):
        pack.unlink()
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (tmp_path / "far" / ".noria" / "cache" / name).unlink(missing_ok=True)
    with pytest.raises(ObjectMissing):
        near.data.read_file(repo, "a")


def test_the_collector_of_garbage_leaves_a_partial_clone_as_it_is(
    near: Workspace, far: Workspace, tmp_path: Path
) -> None:
    commit(far, write(tmp_path / "work", {"a": noise(1, 5000), "big": noise(2, 400_000), "other": noise(3, 400_000)}))
    repo = partial(near, far)
    near.data.read_file(repo, "big")
    near.promised.close()
    before = near.store.index.count()
    near.care.collect(dry_run=False, actor=near.actor)
    assert near.care.check(full=True).damage == []
    assert near.store.index.count() == before  # nothing was brought, nothing that is needed went
    assert near.data.read_file(repo, "big") == noise(2, 400_000)
    assert near.verify(data=True) == []


def test_what_came_from_a_remote_and_was_collected_is_let_go(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    commit(far, write(tmp_path / "f", {"a": noise(1, 3000)}))
    near.transfer.clone(url(far), "photos", actor=near.actor, partial=True)
    before = set(near.store.source.list("packs/"))
    assert contents(near) == {"a": noise(1, 3000)}
    promised = near.promised
    promised._pack()
    (name,) = set(near.store.source.list("packs/")) - before
    near.store.source.local_path(name).unlink()
    promised.close()
    assert near.care.check(full=True).damage == [], "no row names the pack that is gone"


def test_what_is_damaged_here_is_healed_from_a_remote(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    commit(far, write(tmp_path / "work", {"a": noise(1, 5000), "b": noise(2, 5000)}))
    near.transfer.clone(url(far), "photos", actor=near.actor)
    for pack in (tmp_path / "near" / ".noria" / "store" / "packs").rglob("*.pack"):
        data = pack.read_bytes()
        where = data.find(noise(1, 5000))
        if where > 0:
            pack.write_bytes(data[: where + 100] + b"damage" + data[where + 106 :])
    with pytest.raises(ObjectCorrupt):
        near.data.read_file(repository(near), "a")
    done = near.care.repair(actor=near.actor)
    assert (done.healed, done.lost) == (1, [])
    assert contents(near) == contents(far)


# ---- merging


def test_what_went_on_here_and_there_is_merged(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    commit(far, write(tmp_path / "work", {"a": noise(1, 500)}))
    near.transfer.clone(url(far), "photos", actor=near.actor)
    theirs = commit(far, write(tmp_path / "theirs", {"a": noise(1, 500), "t": noise(2, 500)}))
    mine = commit(near, write(tmp_path / "mine", {"a": noise(1, 500), "m": noise(3, 500)}))
    far.data.create_branch(repository(far), "dev", actor=far.actor)
    done = near.transfer.pull_merged(repository(near), actor=near.actor)
    head = near.data.head(repository(near))
    assert set(head.parents) == {mine, theirs}
    assert {(m.branch, m.before, m.after) for m in done.moved} == {("main", mine, head.id), ("dev", None, theirs)}
    assert contents(near).keys() == {"a", "t", "m"}
    near.transfer.push(repository(near), actor=near.actor)
    assert contents(far) == contents(near)
    # The same path, changed on both sides, is a conflict; the commits are here all the same.
    theirs = commit(far, write(tmp_path / "theirs2", {**contents(far), "a": b"t" * 99}))
    mine = commit(near, write(tmp_path / "mine2", {**contents(near), "a": b"m" * 99}))
    with pytest.raises(MergeConflict):
        near.transfer.pull_merged(repository(near), actor=near.actor)
    assert near.data.head(repository(near)).id == mine
    assert near.data.resolve(repository(near), theirs).id == theirs
    near.transfer.pull_merged(repository(near), actor=near.actor, strategy="theirs")
    assert contents(near)["a"] == b"t" * 99


def test_what_was_erased_there_does_not_come_back(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    """A clone of before the erasure may not push what stands on it; once it erased the same, it may."""
    secret = noise(1, 3000)
    commit(far, write(tmp_path / "f", {"people/a": secret, **{f"d/{n}": noise(n + 2, 2000) for n in range(4)}}))
    near.transfer.clone(url(far), "photos", actor=near.actor)
    what = Erase(path="people/*")
    assert far.care.purge(repository(far), what, reason="request", actor=far.actor, wait=2).done
    head = far.data.resolve(repository(far))
    repo = repository(near)
    near.data.change(repo, [Put("new", noise(9, 300))], actor=near.actor)
    with pytest.raises(TransferRefused, match="was erased there as number 1") as refused:
        near.transfer.push(repo, actor=near.actor)
    assert "noria data purge photos" in refused.value.hint
    assert far.data.resolve(repository(far)).id == head.id
    far.transfer.add_remote(repository(far), "near", url(near), actor=far.actor)
    with pytest.raises(TransferRefused, match="was erased here as number 1"):
        far.transfer.pull(repository(far), "near", actor=far.actor)
    assert set(contents(far)) == {f"d/{n}" for n in range(4)}
    assert near.care.purge(repo, what, reason="request", actor=near.actor, wait=2).done
    assert near.transfer.push(repo, actor=near.actor).commits == 1
    assert contents(far) == contents(near)
    assert set(contents(far)) == {"new", *(f"d/{n}" for n in range(4))}
    assert far.care.check(full=True).damage == []
    near.data.change(repo, [Put("more", noise(10, 300))], actor=near.actor)
    assert near.transfer.push(repo, actor=near.actor).commits == 1


def test_an_old_content_that_was_erased_there_does_not_come_back_in_a_new_commit(
    near: Workspace, far: Workspace, tmp_path: Path
) -> None:
    first = commit(far, write(tmp_path / "f", {"people/a": noise(1, 3000), "b": noise(2, 2000)}))
    far.data.change(repository(far), [Delete("people/a")], actor=far.actor)
    near.transfer.clone(url(far), "photos", actor=near.actor)
    assert far.care.purge(repository(far), Erase(path="people/*"), reason="r", actor=far.actor, wait=2).done
    repo = repository(near)
    near.data.revert(repo, "main", actor=near.actor)
    assert near.data.resolve(repo).layout == near.data.resolve(repo, first).layout
    with pytest.raises(TransferRefused, match="was erased there"):
        near.transfer.push(repo, actor=near.actor)
    assert set(contents(far)) == {"b"}


def test_who_cloned_before_an_erasure_pulls_what_came_after_it(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    """The trees of the commits that both have are not the same any more: nothing stands on them."""
    commit(far, write(tmp_path / "f", {"people/a": noise(1, 3000), "b": noise(2, 2000)}))
    near.transfer.clone(url(far), "photos", actor=near.actor)
    assert far.care.purge(repository(far), Erase(path="people/*"), reason="r", actor=far.actor, wait=2).done
    far.data.change(repository(far), [Put("new", noise(9, 300))], actor=far.actor)
    assert near.transfer.pull(repository(near), actor=near.actor).commits == 1
    assert contents(near) == contents(far)
    assert near.care.check(full=True).damage == []


def test_a_repository_with_erased_paths_or_rows_is_cloned(near: Workspace, far: Workspace, tmp_path: Path) -> None:
    first = commit(far, write(tmp_path / "f", {"people/a": noise(1, 3000), "b": noise(2, 2000)}))
    assert far.care.purge(repository(far), Erase(path="people/*"), reason="r", actor=far.actor, wait=2).done
    assert near.transfer.clone(url(far), "photos", actor=near.actor).commits == 1
    assert contents(near) == {"b": noise(2, 2000)}
    _, made = near.data.commit_by_id(first)
    with near.db.read() as conn:
        meta = conn.execute(select(at.versions.c.meta).where(at.versions.c.id == made.version_id)).scalar_one()
    assert meta["erased"] == [1], "the clone knows why its tree is not the one that the commit names"
    assert near.verify(data=True) == []
    near.data.change(repository(near), [Put("new", noise(9, 300))], actor=near.actor)
    assert near.transfer.push(repository(near), actor=near.actor).commits == 1
    assert contents(far) == contents(near)
    orders = far.data.create(far.project.id, "orders", RepositoryKind.TABLE, actor=far.actor, key=("id",))
    far.data.append(orders, [{"id": n, "who": f"w{n}"} for n in range(5)], actor=far.actor)
    assert far.care.purge(orders, Erase(rows="id = 3"), reason="r", actor=far.actor, wait=2).done
    near.transfer.clone(url(far), "orders", actor=near.actor)
    assert near.data.read(repository(near, "orders"))["id"].to_list() == [0, 1, 2, 4]


def test_tables_that_went_on_here_and_there_are_merged_by_row(near: Workspace, far: Workspace) -> None:
    there = far.data.create(far.project.id, "orders", RepositoryKind.TABLE, actor=far.actor, key=("id",))
    far.data.append(there, [{"id": n, "n": n} for n in range(20)], actor=far.actor)
    near.transfer.clone(url(far), "orders", actor=near.actor)
    here = repository(near, "orders")
    far.data.append(there, [{"id": 1, "n": 100}, {"id": 30, "n": 30}], actor=far.actor)
    near.data.append(here, [{"id": 2, "n": 200}], actor=near.actor)
    near.transfer.pull_merged(here, actor=near.actor)
    near.transfer.push(here, actor=near.actor)
    rows = {row["id"]: row["n"] for row in far.data.read(there).to_dicts()}
    assert (rows[1], rows[2], rows[30], len(rows)) == (100, 200, 30, 21)
    assert near.data.head(here).id == far.data.head(there).id
    assert near.verify(data=True) == far.verify(data=True) == []


def test_the_number_of_a_contract_is_taken_over_only_where_it_is_the_same_one(near: Workspace, far: Workspace) -> None:
    loose, strict = {"files": {"allowed": ["*"]}}, {"files": {"denied": ["*.exe"]}}
    there = far.data.create(far.project.id, "photos", RepositoryKind.FILES, actor=far.actor)
    far.data.set_contract(there, loose, actor=far.actor)
    first = far.data.change(there, [Put("a.jpg", "1")], actor=far.actor)
    near.transfer.clone(url(far), "photos", actor=near.actor)
    here = repository(near)
    assert near.data.resolve(here, first.id).contract == 1, "the clone has the same contract"
    near.data.set_contract(here, strict, actor=near.actor)
    far.data.set_contract(there, {"files": {"max_size": "1 MB"}}, actor=far.actor)
    second = far.data.change(there, [Put("evil.exe", "1")], actor=far.actor)
    assert second.contract == 2
    with pytest.raises(MoveBreaksContract, match=r"photos@main does not keep contract 2: .*evil\.exe"):
        near.transfer.pull(here, actor=near.actor)
    near.transfer.pull(here, heads=False, actor=near.actor)
    assert near.data.resolve(here, second.id).contract is None
    near.data.create_branch(here, "look", at=second.id, actor=near.actor)
    mended = near.data.change(here, [Delete("evil.exe")], actor=near.actor, branch="look")
    assert near.data.merge(here, "look", actor=near.actor).id == mended.id
    near.transfer.push(here, actor=near.actor)
    assert stands(far, there) == mended.id


def stands(ws: Workspace, repo: Repository, branch: str = "main") -> str:
    found = ws.data.head(repo, branch)
    assert found is not None
    return found.id


def columns(most: int | None = None) -> dict[str, Any]:
    return {"columns": {"id": {"type": "int64"}, "n": {"type": "int64", **({} if most is None else {"max": most})}}}


def test_what_a_pull_or_push_brings_keeps_the_contract_of_who_receives_it(pair: tuple[Workspace, Workspace]) -> None:
    near, far = pair
    there = far.data.create(far.project.id, "orders", RepositoryKind.TABLE, actor=far.actor, key=("id",))
    first = far.data.append(there, [{"id": 1, "n": 1}], actor=far.actor)
    near.transfer.clone(url(far), "orders", actor=near.actor)
    here = repository(near, "orders")
    near.data.set_contract(here, columns(10), actor=near.actor)
    far.data.append(there, [{"id": 2, "n": 999}], actor=far.actor)
    last = far.data.append(there, [{"id": 3, "n": 3}], actor=far.actor)
    for name in ("orders", "main"):  # also with a record of the repository from before the contract
        with pytest.raises(MoveBreaksContract, match="above 10; found 999") as broken:
            near.transfer.pull(here if name == "main" else repository(near, name), actor=near.actor)
    assert f"noria data branch orders LOOK --at {last.id[:12]}" in broken.value.hint
    assert (broken.value.details["branch"], broken.value.details["contract"]) == ("main", 1)
    assert stands(near, here) == first.id
    assert near.data.quarantine(near.project.id) == [], "the rows lie in the other workspace"
    near.data.set_contract(here, columns(1000), actor=near.actor)
    assert near.transfer.pull(here, actor=near.actor).moved[0].after == last.id
    # The other way round: a push is checked there, also against what is said of the whole table.
    far.data.set_contract(there, {**columns(), "whole": {"max_rows": 3}}, actor=far.actor)
    mine = near.data.append(repository(near, "orders"), [{"id": 4, "n": 4}], actor=near.actor)
    with pytest.raises(MoveBreaksContract, match=r"main there does not keep contract 1: .* at most 3"):
        near.transfer.push(here, actor=near.actor)
    assert stands(far, there) == last.id
    near.data.create_branch(here, "more", actor=near.actor)
    near.transfer.push(here, branches=["more"], actor=near.actor)
    assert stands(far, there, "more") == mine.id, "a branch that is new there is nobody's head yet"
    with pytest.raises(Refused):
        far.data.merge(there, "more", actor=far.actor)
    assert far.verify(data=True) == near.verify(data=True) == []


def test_commits_that_were_checked_against_the_same_contract_are_not_checked_again(
    near: Workspace, far: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = far.data.create(far.project.id, "orders", RepositoryKind.TABLE, actor=far.actor, key=("id",))
    far.data.set_contract(there, columns(10), actor=far.actor)
    far.data.append(there, [{"id": 1, "n": 1}], actor=far.actor)
    near.transfer.clone(url(far), "orders", actor=near.actor, partial=True)
    here = repository(near, "orders")
    far.data.append(there, [{"id": 2, "n": 2}], actor=far.actor)
    checked: list[object] = []
    monkeypatch.setattr("noria.data.contract.check", lambda *a, **k: checked.append(a) or [])
    near.transfer.pull(here, actor=near.actor)
    assert checked == []
    monkeypatch.undo()
    far.data.set_contract(there, columns(99), actor=far.actor)
    far.data.append(there, [{"id": 3, "n": 50}], actor=far.actor)
    with pytest.raises(MoveBreaksContract, match="found 50"):  # rows that a partial clone fetches to look at them
        near.transfer.pull(here, actor=near.actor)


def test_a_contract_that_is_set_while_commits_arrive_is_asked(
    near: Workspace, far: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = far.data.create(far.project.id, "orders", RepositoryKind.TABLE, actor=far.actor, key=("id",))
    first = far.data.append(there, [{"id": 1, "n": 1}], actor=far.actor)
    near.transfer.clone(url(far), "orders", actor=near.actor)
    here = repository(near, "orders")
    far.data.append(there, [{"id": 2, "n": 999}], actor=far.actor)
    ask = exchange._ask
    left = [True]

    def late(*args: Any) -> None:
        ask(*args)
        if left:
            left.pop()
            near.data.set_contract(here, columns(10), actor=near.actor)

    monkeypatch.setattr(exchange, "_ask", late)
    with pytest.raises(MoveBreaksContract, match="found 999"):
        near.transfer.pull(here, actor=near.actor)
    assert stands(near, here) == first.id


class Peers(RuleBasedStateMachine):
    """Three workspaces commit, push, pull and merge as they like. In the end all of them hold the same.

    Each changes files of its own, so that a merge has no conflicts; what was committed anywhere is never lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="noria-peers-"))
        clock = ManualClock()
        self.peers = [make(self.folder / name, clock) for name in ("hub", "one", "two")]
        self.count = 0
        self.committed: dict[str, bytes] = {}
        hub = self.peers[0]
        commit(hub, write(self.folder / "start", {"base": b"base" * 30}))
        for peer in self.peers[1:]:
            peer.transfer.clone(url(hub), "photos", actor=peer.actor)

    def teardown(self) -> None:
        try:
            for peer in [*self.peers[1:], *self.peers[1:]]:
                peer.transfer.pull_merged(repository(peer), actor=peer.actor)
                peer.transfer.push(repository(peer), actor=peer.actor)
            self.peers[1].transfer.pull_merged(repository(self.peers[1]), actor=self.peers[1].actor)
            heads = {peer.data.head(repository(peer)).id for peer in self.peers}
            assert len(heads) == 1
            for peer in self.peers:
                assert contents(peer) == {"base": b"base" * 30, **self.committed}
                assert peer.verify(data=True) == []
        finally:
            for peer in self.peers:
                peer.close()
            shutil.rmtree(self.folder)

    @rule(who=st.integers(0, 2), number=st.integers(0, 2), size=st.integers(1, 300))
    def commits(self, who: int, number: int, size: int) -> None:
        self.count += 1
        path, data = f"{who}/{number}", f"{self.count}:".encode() * size
        self.peers[who].files.change(repository(self.peers[who]), [Put(path, data)], actor=self.peers[who].actor)
        self.committed[path] = data

    @rule(who=st.integers(1, 2))
    def pulls(self, who: int) -> None:
        self.peers[who].transfer.pull_merged(repository(self.peers[who]), actor=self.peers[who].actor)

    @rule(who=st.integers(1, 2))
    def pushes(self, who: int) -> None:
        with contextlib.suppress(Diverged):
            self.peers[who].transfer.push(repository(self.peers[who]), actor=self.peers[who].actor)


TestPeers = Peers.TestCase
TestPeers.settings = settings(max_examples=3, stateful_step_count=8, deadline=None)
