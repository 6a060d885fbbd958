"""Small packs are merged, and nobody notices: not a reader, not a writer, not a process that dies in between."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update

from noria.assets import tables
from noria.assets.sessions import SESSION_LEASE, StoreSessions
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.cli.main import run
from noria.data.records import Repository, RepositoryKind
from noria.store import Kind, ObjectStore
from noria.store.local import LocalBytes
from noria.store.objects import pack_name
from noria.testing import ManualClock
from noria.workspace import Workspace, connect

COMMITS = 8


def fill(ws: Workspace, actor: Actor, name: str = "orders", commits: int = COMMITS) -> Repository:
    """A table of several small commits: each makes a pack."""
    repository = ws.data.create(ws.project.id, name, RepositoryKind.TABLE, actor=actor, key=("id",))
    for number in range(commits):
        ws.data.append(repository, [{"id": number, "n": number * 10}], actor=actor)
    return repository


def objects(store: ObjectStore) -> dict[tuple[bytes, Kind], bytes]:
    """Every object that any pack holds, read from the packs themselves."""
    found: dict[tuple[bytes, Kind], bytes] = {}
    for name in store.source.list("packs/"):
        for located in store.pack_entries(Path(name).stem):
            found[located.id, located.kind] = store.get(Digest(located.id), located.kind)
    return found


def files(ws: Workspace) -> set[str]:
    return {Path(name).stem for name in ws.store.source.list("packs/")}


def another(ws: Workspace, folder: Path) -> ObjectStore:
    """The store as a process sees it that has a cache of its own, and knows every pack of now."""
    store = ObjectStore(LocalBytes(ws.home / "store"), folder)
    store.refresh()
    return store


def test_all_objects_are_there_before_and_after(both: Workspace, actor: Actor) -> None:
    ws = both
    repository = fill(ws, actor)
    before, packs = objects(ws.store), files(ws)
    history = [ws.data.read(repository, c.id).to_dicts() for c in ws.data.log(repository)]
    done = ws.packing.run(enough=2)
    assert (done.merged, done.made, done.removed, done.waiting) == (len(packs), 1, 0, len(packs))
    assert len(files(ws)) == len(packs) + 1, "the files stay until the next time"
    assert objects(ws.store) == before
    done = ws.packing.run(enough=2)
    assert (done.merged, done.removed, done.waiting) == (0, len(packs), 0)
    assert len(files(ws)) == 1
    assert objects(ws.store) == before
    assert [ws.data.read(repository, c.id).to_dicts() for c in ws.data.log(repository)] == history
    assert ws.verify(data=True) == []
    assert ws.packing.run(enough=2).removed == 0
    ws.data.append(repository, [{"id": 99, "n": 1}], actor=actor)
    with ws.sessions.writer() as writer:
        for (_, kind), raw in before.items():
            writer.put(kind, raw)
        assert writer.flush() == [], "what lies in the merged pack is known"


def test_few_small_packs_are_left_alone_and_large_ones_always(workspace: Workspace, actor: Actor) -> None:
    fill(workspace, actor)
    assert workspace.packing.run().merged == 0
    large = os.urandom(2 << 20)
    with workspace.sessions.writer() as writer:
        writer.put(Kind.BLOB, large)
        packs = writer.flush()
        with workspace.db.write() as tx:
            workspace.sessions.seal(tx, packs)
    workspace.packing.run(enough=2)
    workspace.packing.run(enough=2)
    assert packs[0].id in files(workspace)
    assert len(files(workspace)) == 2


def test_a_reader_that_did_not_hear_of_it_finds_everything(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    fill(workspace, actor)
    before = objects(workspace.store)
    cold, warm = another(workspace, tmp_path / "cold"), another(workspace, tmp_path / "warm")
    views = {key: warm.view(Digest(key[0]), key[1]) for key in before}  # maps every file
    workspace.packing.run(enough=2)
    workspace.packing.run(enough=2)
    assert len(files(workspace)) == 1
    assert {key: bytes(view) for key, view in views.items()} == before, "what is mapped stays"
    for store in (cold, warm):
        assert {key: store.get(Digest(key[0]), key[1]) for key in before} == before
    assert workspace.data.read(workspace.data.get(workspace.project.id, "orders"))["n"].sum() == 280


def test_files_stay_while_a_writer_is_at_work_that_began_before(
    workspace: Workspace, actor: Actor, clock: ManualClock
) -> None:
    fill(workspace, actor)
    count = len(files(workspace))
    old = StoreSessions(workspace.db, workspace.store, clock, "another process")
    with old.writer() as writer:
        writer.put(Kind.BLOB, b"x")
        assert workspace.packing.run(enough=2).merged == count
        done = workspace.packing.run(enough=2)
        assert (done.removed, done.waiting) == (0, count)
        made = writer.flush()
        with workspace.db.write() as tx:
            old.seal(tx, made)
    clock.sleep((SESSION_LEASE + 1) / 1000)  # it ended, or died
    assert workspace.packing.run(enough=2).removed == count
    assert workspace.verify(data=True) == []


def test_a_pack_with_a_damaged_object_is_not_touched(workspace: Workspace, actor: Actor) -> None:
    fill(workspace, actor)
    pack = min(files(workspace))
    path = workspace.store.source.local_path(pack_name(pack))
    assert path is not None
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    count = len(files(workspace))
    assert workspace.packing.run(enough=2).merged == count - 1
    workspace.packing.run(enough=2)
    assert pack in files(workspace)
    faults = workspace.verify(data=True)
    assert any("is damaged" in fault for fault in faults)
    assert all("is damaged" in fault or "which no pack holds whole" in fault for fault in faults)


def test_the_same_bytes_put_again_while_old_files_go_are_never_lost(workspace: Workspace, tmp_path: Path) -> None:
    """A writer of a machine that knows no pack makes the very pack that was condemned, at any moment."""
    ws = workspace
    raws = [os.urandom(100) for _ in range(3)]

    def write(sessions: StoreSessions) -> None:
        for raw in raws:
            with sessions.writer() as writer:
                writer.put(Kind.BLOB, raw)
                packs = writer.flush()
                with ws.db.write() as tx:
                    sessions.seal(tx, packs)

    def stranger(number: int) -> StoreSessions:
        store = ObjectStore(LocalBytes(ws.home / "store"), tmp_path / f"stranger-{number}")
        return StoreSessions(ws.db, store, ws.clock, f"stranger {number}")

    write(ws.sessions)
    write(stranger(1))
    ws.packing.run(enough=2)
    late = stranger(2)
    write(late)
    late.close()
    ws.packing.run(enough=2)
    write(stranger(3))
    for _ in range(3):
        ws.packing.run(enough=2)
        assert ws.verify(data=True) == []
        held = set(objects(another(ws, tmp_path / os.urandom(4).hex())).values())
        assert held >= set(raws)


POINTS = ["store.write", "store.fsync", "store.rename", "store.fsync_folder", "packing.name", "packing.condemn"]
LATER = ["packing.delete:1", "packing.delete:5", "packing.forget"]


@pytest.fixture
def shop(tmp_path: Path, actor: Actor) -> Path:
    from noria import workspace as workspaces

    with workspaces.init(tmp_path) as ws:
        fill(ws, actor)
    return tmp_path


def pack(shop: Path, fault: str = "") -> int:
    """In a process of its own."""
    command = [sys.executable, "-m", "noria", "admin", "pack"]
    environment = {**os.environ, "NORIA_FAULT": fault}
    return subprocess.run(command, cwd=shop, env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize("point", [*POINTS, *LATER])
def test_killed_anywhere_nothing_is_lost_and_the_next_time_ends_it(
    shop: Path, point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    with connect(shop) as ws:
        before = objects(ws.store)
    if point in LATER:
        assert run(["admin", "pack"]) == 0
    assert pack(shop, point) == 137
    with connect(shop) as ws, ws.db.write() as tx:
        tx.execute(update(tables.store_sessions).values(lease_until=0))  # ten minutes later
    for _ in range(3):
        with connect(shop) as ws:
            assert ws.verify(data=True) == []
            assert objects(ws.store).items() >= before.items()
            assert objects(another(ws, tmp_path / os.urandom(4).hex())).items() >= before.items()
            assert ws.data.read(ws.data.get(ws.project.id, "orders"))["n"].sum() == 280
        assert run(["admin", "pack"]) == 0
    with connect(shop) as ws:
        assert ws.verify(data=True) == []
        assert objects(ws.store).items() >= before.items()
        assert len(files(ws)) <= 2, "what the process that was killed left behind is garbage at most"


def test_several_at_once_with_writers_beside_them_lose_nothing(shop: Path, actor: Actor) -> None:
    def append(number: int) -> int:
        with connect(shop) as ws:
            repository = ws.data.get(ws.project.id, "orders")
            for n in range(10):
                ws.data.append(repository, [{"id": number * 100 + n, "n": 1}], actor=actor)
                assert len(ws.data.read(repository)) >= COMMITS
        return 0

    with ThreadPoolExecutor(4) as pool:
        packing = [pool.submit(lambda: [pack(shop) for _ in range(3)]) for _ in range(2)]
        writing = [pool.submit(append, n) for n in (1, 2)]
        assert [f.result() for f in writing] == [0, 0]
        assert [f.result() for f in packing] == [[0] * 3] * 2
    with connect(shop) as ws:
        assert ws.verify(data=True) == []
        assert len(ws.data.read(ws.data.get(ws.project.id, "orders"))) == COMMITS + 20
    shutil.rmtree(shop / ".noria" / "cache")
    with connect(shop) as ws:
        assert len(ws.data.read(ws.data.get(ws.project.id, "orders"))) == COMMITS + 20


def test_the_command_says_what_it_did(shop: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(shop)
    assert run(["admin", "pack"]) == 0
    assert "packs merged into 1; 0 removed" in capsys.readouterr().out
    assert run(["admin", "pack", "--json"]) == 0
    assert '"merged": 0' in capsys.readouterr().out
    assert run(["admin", "pack"]) == 0
    assert "Nothing to merge; 0 removed." in capsys.readouterr().out
