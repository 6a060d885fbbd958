"""Garbage is collected beside writers, and nothing that a row names is ever lost."""

from __future__ import annotations

import contextlib
import os
import random as numbers
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from noria import workspace as workspaces
from noria.assets import tables as at
from noria.assets.errors import SessionBroken, StoreDamaged, VersionGone
from noria.assets.gc import GarbageCollector
from noria.assets.reach import Reach
from noria.assets.records import AssetKind, Content
from noria.assets.sessions import SESSION_LEASE, StoreSessions
from noria.assets.versions import layout_of
from noria.base import canonical
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.cli.main import run
from noria.data import tables as t
from noria.data.records import RepositoryKind
from noria.store import Entry, FileContent, Kind, ObjectStore, tree
from noria.store.local import LocalBytes
from noria.store.objects import pack_name
from noria.testing import ManualClock
from noria.workspace import Workspace, connect


class Stop(BaseException):
    """Stands for the end of the process."""


class Hook:
    """A crash point at which something happens: once, at the n-th time that it is reached."""

    def __init__(self) -> None:
        self.point, self.left, self.what = "", 0, lambda: None
        self.seen: list[str] = []

    def set(self, point: str, what: Callable[[], Any], nth: int = 1) -> None:
        self.point, self.left, self.what = point, nth, what

    def at(self, point: str) -> None:
        self.seen.append(point)
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                self.point = ""
                self.what()


class Process:
    """A process of its own, as far as the store can tell: its own sessions, and a cache that is its own."""

    def __init__(self, ws: Workspace, cache: Path, hook: Hook | None = None) -> None:
        self.hook = hook or Hook()
        self.cache = str(cache)
        self.ws = ws
        self.store = ObjectStore(LocalBytes(ws.home / "store", self.hook), cache, self.hook)
        self.sessions = StoreSessions(ws.db, self.store, ws.clock, str(cache))
        reach = Reach(ws.db, self.store, ws.reach.providers, ws.reach.children)
        self.gc = GarbageCollector(ws.db, self.sessions, reach, ws.clock, self.hook)

    def write(self, name: str, files: dict[str, bytes], base: Digest | None = None) -> Digest:
        """Lands a tree of files as a version; with ``base``, on top of that tree."""
        with self.sessions.writer() as writer:
            root = put(self.store, writer, files, base)
            return self.land(name, root, writer.flush())

    def land(self, name: str, root: Digest, packs: Any) -> Digest:
        with self.ws.db.write() as tx:
            self.sessions.seal(tx, packs)
            asset = self.ws.assets.define(tx, self.ws.project.id, name, AssetKind.DATASET)
            digest = canonical.digest({"tree": root.hex})
            how = {"digest": digest, "content": Content.TREE, "layout": root, "size": 1}
            self.ws.assets.set_current(tx, asset.id, self.ws.assets.add_version(tx, asset.id, **how).id)
        return root

    def drop(self, name: str) -> None:
        drop(self.ws, name)


def put(store: ObjectStore, writer: Any, files: dict[str, bytes], base: Digest | None) -> Digest:
    entries: dict[str, Entry | None] = {}
    for path, data in sorted(files.items()):
        content = FileContent(kind=Kind.CHUNK, id=writer.put(Kind.CHUNK, data), size=len(data))
        entries[path] = Entry(path=path, size=len(data), content=content)
    if base is None:
        return tree.build(writer, [e for e in entries.values() if e is not None])
    return tree.apply(store, writer, base, entries)


def drop(ws: Workspace, name: str) -> None:
    """Forgets every version of an asset."""
    asset = ws.assets.asset(ws.project.id, name)
    with ws.db.write() as tx:
        ids = [v for (v,) in tx.execute(select(at.versions.c.id).where(at.versions.c.asset_id == asset.id))]
        ws.assets.forget_versions(tx, ids)


def names(ws: Workspace) -> set[str]:
    return {Path(name).stem for name in ws.store.source.list("packs/")}


def whole(ws: Workspace, cache: Path) -> int:
    """Reads everything that rows name, as a process that knows nothing yet; returns how many objects."""
    store = ObjectStore(LocalBytes(ws.home / "store"), cache)
    reach, seen = Reach(ws.db, store, ws.reach.providers, ws.reach.children), set[bytes]()
    for root in reach.roots():
        for kind, oid in reach.walk(root, seen):
            store.get(Digest(oid), kind)
    store.close()
    return len(seen)


def data(seed: int, size: int = 3000) -> bytes:
    return numbers.Random(seed).randbytes(size)


def random(size: int = 5000) -> bytes:
    return os.urandom(size)


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("blank")
    workspaces.init(root, environment={}).close()
    return root


@pytest.fixture
def fresh(blank: Path, tmp_path: Path) -> Iterator[Callable[[], Workspace]]:
    opened: list[Workspace] = []

    def make() -> Workspace:
        root = tmp_path / f"ws{len(opened)}"
        shutil.copytree(blank, root)
        opened.append(connect(root, clock=ManualClock(), environment={}))
        return opened[-1]

    yield make
    for ws in opened:
        ws.close()


# ---- what goes and what stays


def test_what_nothing_names_goes_and_what_is_named_stays(both: Workspace, tmp_path: Path) -> None:
    ws = both
    one = Process(ws, tmp_path / "one")
    kept = one.write("kept", {"a": random(), "b": random()})
    one.write("dropped", {"a": random(), "c": random()})
    mixed = random()
    one.write("mixed", {f"big{n}": random() for n in range(4)} | {"small": mixed})
    one.write("part", {"small": mixed})
    drop(ws, "dropped")
    drop(ws, "mixed")
    before = names(ws)
    plan = one.gc.run(dry_run=True)
    assert (plan.dead, plan.rewritten, plan.removed) == (1, 1, 0)
    assert names(ws) == before
    assert plan.freed > 20_000
    size = sum(ws.store.source.size(pack_name(p)) for p in before)
    done = one.gc.run()
    assert (done.dead, done.rewritten, done.removed, done.waiting) == (1, 1, 2, 0)
    left = sum(ws.store.source.size(pack_name(p)) for p in names(ws))
    assert size - left == pytest.approx(plan.freed, abs=600), "what the dry run said"
    assert whole(ws, tmp_path / "cold") == 7
    assert tree.find(one.store, kept, "a") is not None
    assert ws.verify(data=True) == []
    again = one.gc.run()
    assert (again.dead, again.rewritten, again.removed) == (0, 0, 0)


def test_the_same_content_again_makes_the_same_version_again(both: Workspace, tmp_path: Path) -> None:
    ws, one = both, Process(both, tmp_path / "one")
    root = one.write("x", {"a": data(1)})
    asset = ws.assets.asset(ws.project.id, "x")
    assert asset.current_id is not None
    drop(ws, "x")
    gone = ws.assets.version(asset.current_id)
    assert gone.gone
    assert ws.assets.asset(ws.project.id, "x").current_id is None
    with pytest.raises(VersionGone, match="content was removed"):
        layout_of(gone)
    assert one.gc.run().removed == 1
    assert ws.verify(data=True) == [], "what is gone on purpose is no fault"
    assert one.write("x", {"a": data(1)}) == root
    again = ws.assets.version(asset.current_id)
    assert not again.gone
    assert layout_of(again) == root
    assert whole(ws, tmp_path / "cold") == 3


def test_versions_that_runs_read_stay(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    from noria.assets.records import Direction

    ws, one = workspace, Process(workspace, tmp_path / "one")
    one.write("x", {"a": data(1)})
    version = ws.assets.asset(ws.project.id, "x").current_id
    assert version is not None
    with ws.db.write() as tx:
        made = ws.assets.record_run(tx, ws.project.id, kind="commit", name="x", actor=actor)
        ws.assets.link(tx, made, version, Direction.OUT)
    with ws.db.write() as tx:
        read = ws.assets.record_run(tx, ws.project.id, kind="step", name="y", actor=actor)
        ws.assets.link(tx, read, version, Direction.IN)
        assert ws.assets.forget_versions(tx, [version]) == []
        assert ws.assets.needed_versions([version], tx) == {version: "a run"}
        assert ws.assets.forget_versions(tx, [version], force=True) == [version]
        assert ws.assets.forget_versions(tx, [version], force=True) == [], "once"


def test_files_of_writers_that_died_go_and_those_that_are_needed_are_named(
    workspace: Workspace, clock: ManualClock, tmp_path: Path
) -> None:
    ws = workspace
    dead, lucky = Process(ws, tmp_path / "dead"), Process(ws, tmp_path / "lucky")
    with dead.sessions.writer() as writer:  # it dies before its transaction
        writer.put(Kind.BLOB, data(1))
        (lost,) = writer.flush()
    with lucky.sessions.writer() as writer:  # its transaction is repeated, and names only what was new to it
        root = put(lucky.store, writer, {"a": data(2)}, None)
        (kept,) = writer.flush()
        lucky.land("x", root, [])
    one = Process(ws, tmp_path / "one")
    done = one.gc.run()
    assert (done.adopted, done.dead, done.stray, done.removed) == (1, 1, 1, 0), "its writer may live"
    clock.sleep((SESSION_LEASE + 1) / 1000)
    assert one.gc.run().removed == 1
    assert names(ws) == {kept.id}
    assert lost.id not in names(ws)
    assert whole(ws, tmp_path / "cold") == 3
    with ws.db.read() as conn:
        assert {p for (p,) in conn.execute(select(at.packs.c.id).where(at.packs.c.removed_at.is_(None)))} == {kept.id}


def test_nothing_is_removed_while_something_needed_cannot_be_read(workspace: Workspace, tmp_path: Path) -> None:
    ws, one = workspace, Process(workspace, tmp_path / "one")
    one.write("x", {"a": random()})
    one.write("y", {"a": random()})
    drop(ws, "x")
    path = max((ws.home / "store" / pack_name(p) for p in names(ws)), key=lambda p: p.stat().st_mtime_ns)
    raw = path.read_bytes()
    place = raw.index(b"NNOD")
    path.write_bytes(raw[:place] + b"?" + raw[place + 1 :])
    with pytest.raises(StoreDamaged, match="damaged") as refused:
        Process(ws, tmp_path / "two").gc.run()
    assert "noria data check" in refused.value.hint
    assert len(names(ws)) == 2


# ---- writers beside it


def test_a_writer_that_asked_before_is_safe(workspace: Workspace, clock: ManualClock, tmp_path: Path) -> None:
    ws = workspace
    a, b = Process(ws, tmp_path / "a"), Process(ws, tmp_path / "b")
    a.write("x", {"a": data(1)})
    drop(ws, "x")
    with a.sessions.writer() as writer:
        root = put(a.store, writer, {"a": data(1)}, None)
        assert writer.written == 0, "it counts on what is there"
        done = b.gc.run()
        assert (done.dead, done.removed, done.waiting) == (1, 0, 1)
        assert b.gc.run().removed == 0
        a.land("x", root, writer.flush())
        assert b.gc.run().removed == 0
    a.sessions.renew()
    done = b.gc.run()
    assert (done.reprieved, done.removed, done.waiting) == (1, 0, 0)
    assert whole(ws, tmp_path / "cold") == 3


def test_a_writer_that_comes_later_stores_again_what_is_condemned(workspace: Workspace, tmp_path: Path) -> None:
    ws = workspace
    a, b, c = (Process(ws, tmp_path / n) for n in "abc")
    a.write("x", {"a": data(1)})
    drop(ws, "x")
    with a.sessions.writer():
        b.gc.run()
        (old,) = names(ws)
        c.store.refresh()
        assert c.write("y", {"a": data(1)})
        assert len(names(ws)) == 2, "under another name, since the old file may go at any moment"
    a.sessions.renew()
    done = b.gc.run()
    assert (done.removed, done.reprieved) == (1, 0)
    assert old not in names(ws)
    assert whole(ws, tmp_path / "cold") == 3


def test_a_cache_that_still_lists_a_file_that_is_gone_is_not_believed(workspace: Workspace, tmp_path: Path) -> None:
    ws = workspace
    a, b = Process(ws, tmp_path / "a"), Process(ws, tmp_path / "b")
    a.write("x", {"a": data(1)})
    b.store.refresh()
    drop(ws, "x")
    assert a.gc.run().removed == 1
    for rows_are_kept in (True, False):
        if not rows_are_kept:
            drop(ws, "y")
            c = Process(ws, tmp_path / "c")
            c.store.refresh()
            a.gc.run()
            with ws.db.write() as tx:  # long after
                tx.execute(delete(at.packs).where(at.packs.c.removed_at.is_not(None)))
            b = c
        assert b.store.index.packs() - names(ws), "it lists a file that is not there"
        b.write("y", {"a": data(1)})
        b.sessions.renew()
        assert whole(ws, tmp_path / os.urandom(4).hex()) == 3


def test_what_a_writer_carries_over_stays_when_its_source_is_dropped(workspace: Workspace, tmp_path: Path) -> None:
    """It read a tree that was named then, puts nothing of it again, and lands after the tree was forgotten."""
    ws = workspace
    a, b, c = (Process(ws, tmp_path / n) for n in "abc")
    base = a.write("x", {"a": random(), "b": random()})
    drop(ws, "x")
    with a.sessions.writer() as old:  # condemned while an old writer lives, and made live again by it
        put(a.store, old, {"a": data(1)}, None)
        b.gc.run()
        a.land("x", base, old.flush())
    a.sessions.renew()
    with c.sessions.writer() as writer:
        root = put(c.store, writer, {"c": data(3)}, base)
        drop(ws, "x")
        for _ in range(2):
            b.gc.run()
        c.land("y", root, writer.flush())
    c.sessions.renew()
    for _ in range(2):
        b.gc.run()
    assert whole(ws, tmp_path / "cold") == 5


def test_a_writer_that_was_given_up_cannot_land(workspace: Workspace, clock: ManualClock, tmp_path: Path) -> None:
    ws = workspace
    a, b = Process(ws, tmp_path / "a"), Process(ws, tmp_path / "b")
    a.write("x", {"a": data(1)})
    drop(ws, "x")
    with a.sessions.writer() as writer:
        root = put(a.store, writer, {"a": data(1)}, None)
        clock.sleep((SESSION_LEASE + 1) / 1000)
        assert b.gc.run().removed == 1
        with a.sessions.writer() as second:  # a later writer of the same process is no help
            second.put(Kind.BLOB, b"something else")
        with pytest.raises(SessionBroken):
            a.land("x", root, writer.flush())
    a.write("x", {"a": data(1)})
    assert whole(ws, tmp_path / "cold") == 3


def test_a_long_write_keeps_its_lease(workspace: Workspace, clock: ManualClock, tmp_path: Path) -> None:
    ws = workspace
    a, b = Process(ws, tmp_path / "a"), Process(ws, tmp_path / "b")
    a.write("x", {"a": data(1)})
    drop(ws, "x")
    with a.sessions.writer() as writer:
        root = put(a.store, writer, {"a": data(1)}, None)
        for _ in range(5):
            clock.sleep(SESSION_LEASE * 0.6 / 1000)
            assert a.sessions.tend(), "done by a thread every few seconds"
            assert b.gc.run().removed == 0
        a.land("x", root, writer.flush())
    assert not a.sessions.tend(), "an idle session is ended, so that nobody waits for it"
    assert b.gc.run().reprieved == 1
    assert whole(ws, tmp_path / "cold") == 3


POINTS = ["gc.dead", "gc.name", "gc.condemn", "gc.adopt", "gc.doom", "gc.delete", "gc.forget"]
POINTS += ["store.write", "store.fsync", "store.rename", "store.fsync_folder"]


def shop(ws: Workspace, tmp_path: Path) -> tuple[Process, Process, dict[str, bytes]]:
    """Something of everything: a dead pack, one that is to be rewritten, files without a row."""
    one, two = Process(ws, tmp_path / f"{ws.id}-1"), Process(ws, tmp_path / f"{ws.id}-2")
    files = {f"big{n}": data(n, 20_000) for n in range(4)}
    one.write("kept", {"k": data(100)})
    one.write("whole", files | {"small": data(50)})
    one.write("part", {"small": data(50)})
    one.write("dead", {"d": data(60, 9000)})
    for name in ("whole", "dead"):
        drop(ws, name)
    with two.sessions.writer() as writer:
        root = put(two.store, writer, {"stray": data(70)}, None)
        writer.flush()
        two.land("stray", root, [])
    with two.sessions.writer() as writer:
        writer.put(Kind.BLOB, data(80))
        writer.flush()
    two.sessions.renew()
    one.sessions.renew()
    return one, two, files


class Beside:
    """A writer that takes what lay in packs on their way out, puts something new, and lands."""

    def __init__(self, process: Process, files: dict[str, bytes]) -> None:
        self.process, self.files, self.root = process, files, None
        self._stack = contextlib.ExitStack()

    def begin(self) -> None:
        self.writer = self._stack.enter_context(self.process.sessions.writer())
        self.root = put(self.process.store, self.writer, self.files, None)

    def land(self) -> None:
        if self.root is not None:
            self.process.land("again", self.root, self.writer.flush())
            self._stack.close()
            self.process.sessions.renew()
            self.root = None


def test_writers_may_begin_ask_and_land_at_any_point_of_it(fresh: Callable[[], Workspace], tmp_path: Path) -> None:
    points = [p for p in POINTS if p != "gc.condemn"]  # inside of a transaction, in which no writer can do anything
    for point in points:
        for began_before in (True, False):
            ws = fresh()
            one, two, files = shop(ws, tmp_path)
            beside = Beside(two, files | {"d": data(60, 9000), "new": data(90)})
            if began_before:
                beside.begin()
            one.hook.set(point, beside.land if began_before else beside.begin)
            for _ in range(2):
                one.gc.run()
            if one.hook.point:  # it is reached only when the writer of before has ended
                assert began_before, point
                beside.land()
            for _ in range(2):
                one.gc.run()
            beside.land()
            for _ in range(2):
                one.gc.run()
                assert whole(ws, tmp_path / os.urandom(4).hex()) == 17, (point, began_before)
            one.sessions.close(), two.sessions.close()


def test_stopped_anywhere_nothing_is_lost_and_the_next_time_ends_it(
    fresh: Callable[[], Workspace], tmp_path: Path
) -> None:
    def stop() -> None:
        raise Stop

    for point in POINTS:
        for nth in (1, 2):
            ws = fresh()
            one, two, _ = shop(ws, tmp_path)
            two.hook.set(point, stop, nth)
            try:
                two.gc.run()
            except Stop:
                pass
            else:
                assert nth == 2, point
            for _ in range(2):
                assert whole(ws, tmp_path / os.urandom(4).hex()) == 9, (point, nth)
                with ws.db.write() as tx:  # ten minutes later
                    tx.execute(update(at.store_sessions).values(lease_until=0))
                one.gc.run()
            assert whole(ws, tmp_path / os.urandom(4).hex()) == 9, (point, nth)
            done = one.gc.run(dry_run=True)
            assert (done.dead, done.rewritten, done.adopted, done.waiting) == (0, 0, 0, 0), (point, nth)
            one.sessions.close(), two.sessions.close()


@pytest.mark.parametrize("point", ["gc.condemn", "gc.delete"])
def test_killed_for_real(tmp_path: Path, actor: Actor, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    with workspaces.init(root, environment={}) as ws:
        shop(ws, tmp_path)
        for n in range(2):
            table = ws.data.create(ws.project.id, f"t{n}", RepositoryKind.TABLE, actor=actor, key=("id",))
            ws.data.append(table, [{"id": 1, "n": n}], actor=actor)
        whole(ws, tmp_path / "c1")
    monkeypatch.chdir(root)
    command = ["data", "gc", "--run"]
    environment = {**os.environ, "NORIA_FAULT": point}
    done = subprocess.run([sys.executable, "-m", "noria", *command], env=environment, capture_output=True)
    assert done.returncode == 137, done.stderr
    for again in range(3):
        if again:
            assert run(command) == 0
        with connect(root, environment={}) as ws:
            whole(ws, tmp_path / os.urandom(4).hex())
            assert ws.verify(data=True) == []
            with ws.db.write() as tx:
                tx.execute(update(at.store_sessions).values(lease_until=0))


# ---- every place that names objects


def test_roots_that_are_no_versions(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    """A draft, a refused batch, a commit whose layout is another than its version's."""
    from noria.data.contract import parse

    ws = workspace
    table = ws.data.create(ws.project.id, "orders", RepositoryKind.TABLE, actor=actor, key=("id",))
    ws.data.append(table, [{"id": 1, "n": 1}], actor=actor)
    contract = parse({"columns": {"id": {"type": "int64"}, "n": {"type": "int64", "max": 5}}})
    ws.data.set_contract(table, contract, actor=actor)
    table = ws.data.get(ws.project.id, "orders")
    with pytest.raises(Exception, match="contract"):
        ws.data.append(table, [{"id": 2, "n": 10}], actor=actor)
    one = Process(ws, tmp_path / "one")
    with one.sessions.writer() as writer:
        root = put(one.store, writer, {"a": data(1)}, None)
        one.land("tmp", root, writer.flush())
    files = ws.data.create(ws.project.id, "files", RepositoryKind.FILES, actor=actor)
    with ws.db.write() as tx:
        row = {"id": "d1", "repository_id": files.id, "branch": "main", "layout": str(root), "number": 1}
        more = {"state": "open", "actor": "a", "message": "", "meta": {}, "created_at": 1, "updated_at": 1}
        tx.insert(t.drafts, {**row, **more})
    drop(ws, "tmp")
    one.gc.run()
    assert whole(ws, tmp_path / "cold") == 7
    assert ws.data.quarantined(1)[1].to_dicts() == [{"id": 2, "n": 10}]
    assert tree.find(one.store, root, "a") is not None
    with ws.db.write() as tx:
        tx.execute(update(t.drafts).values(state="dropped"))
    ws.sessions.renew()
    one.gc.run()
    assert not one.store.has(root)


def test_the_command_shows_first_and_then_does_it(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ws, one = workspace, Process(workspace, tmp_path / "one")
    one.write("x", {"a": random()})
    drop(ws, "x")
    one.sessions.close()
    monkeypatch.chdir(ws.home.parent)
    assert run(["data", "gc"]) == 0
    out = capsys.readouterr().out
    assert "1 packs with nothing needed would go: 5." in out
    assert "noria data gc --run" in out
    assert len(names(ws)) == 1
    assert run(["data", "gc", "--json"]) == 0
    assert '"dry_run": true' in capsys.readouterr().out
    assert run(["data", "gc", "--run"]) == 0
    assert "1 files deleted, 5." in capsys.readouterr().out
    assert names(ws) == set()
    (entry,) = ws.audit.list(ws.project.id, limit=1).items
    assert (entry.verb, entry.detail["removed"]) == ("store.gc", 1)


def test_eight_bytes_of_each_id_are_kept() -> None:
    import numpy as np

    from noria.assets.reach import Live

    live, rng = Live(), np.random.default_rng(1)
    raw = rng.bytes(6_400_000)
    for start in range(0, len(raw), 32):
        live.add(raw[start : start + 32])
    keys = np.frombuffer(raw, "<u8")[::4]
    assert live.holds(keys).all()
    assert len(live) == 200_000
    assert not live.holds(rng.integers(0, 2**63, 1000).astype(np.uint64)).any()
    assert live._keys.nbytes == 1_600_000
    assert not live._new
