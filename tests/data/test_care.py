"""Repositories are deleted, storage is told, damage is named and healed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from noria.assets import tables as at
from noria.assets.errors import VersionGone
from noria.assets.records import Direction
from noria.assets.versions import layout_of
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Unavailable
from noria.cli.main import run
from noria.data.errors import RepositoryInUse, RepositoryNotFound
from noria.data.records import Repository, RepositoryKind
from noria.data.service.deletion import PARTS
from noria.db.metadata import metadata
from noria.store import Kind
from noria.store.errors import ObjectCorrupt
from noria.store.objects import pack_name
from noria.workspace import Workspace, connect


def table(ws: Workspace, actor: Actor, name: str = "orders", commits: int = 3) -> Repository:
    made = ws.data.create(ws.project.id, name, RepositoryKind.TABLE, actor=actor, key=("id",))
    for number in range(commits):
        ws.data.append(made, [{"id": number, "n": number * 10}], actor=actor)
    return made


def folder(ws: Workspace, actor: Actor, place: Path, files: dict[str, bytes], name: str = "files") -> Repository:
    place.mkdir(exist_ok=True)
    for path, data in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
    found = ws.data.find(ws.project.id, name)
    made = found or ws.data.create(ws.project.id, name, RepositoryKind.FILES, actor=actor)
    ws.data.commit(made, place, actor=actor)
    return made


def stored(ws: Workspace) -> int:
    return sum(ws.store.source.size(name) for name in ws.store.source.list("packs/"))


# ---- delete


def test_every_table_that_names_a_repository_is_cleared() -> None:
    naming = {
        table.name
        for table in metadata.tables.values()
        for key in table.foreign_keys
        if key.target_fullname in ("repositories.id", "commits.id")
    }
    online = {"online_uses"}  # by the room of features, which registers itself
    assert naming == {part.name for part in PARTS} | {"commits"} | online


def test_a_deleted_repository_leaves_its_name_and_a_new_one_begins_empty(
    both: Workspace, actor: Actor, tmp_path: Path
) -> None:
    ws = both
    orders = table(ws, actor)
    files = folder(ws, actor, tmp_path / "f", {"a": os.urandom(3000)})
    head = ws.data.resolve(orders)
    ws.data.create_branch(orders, "other", actor=actor)
    done = ws.data.delete(orders, actor=actor)
    assert (done.commits, done.versions, done.kept) == (3, 3, 0)
    with pytest.raises(RepositoryNotFound):
        ws.data.get(ws.project.id, "orders")
    version = ws.assets.version(head.version_id)
    with pytest.raises(VersionGone):
        layout_of(version)
    assert ws.assets.find(ws.project.id, "orders") is not None, "the name stays"
    before = stored(ws)
    assert ws.gc.run().removed >= 3
    assert stored(ws) < before
    assert ws.verify(data=True) == []
    again = table(ws, actor, commits=1)
    assert ws.data.read(again)["n"].to_list() == [0]
    assert len(ws.data.log(again)) == 1
    assert ws.data.read_file(files, "a") == (tmp_path / "f" / "a").read_bytes()
    (entry,) = [e for e in ws.audit.list(ws.project.id, limit=50).items if e.verb == "data.delete"]
    assert entry.detail["commits"] == 3


def test_what_runs_read_is_deleted_only_by_force(workspace: Workspace, actor: Actor) -> None:
    ws, orders = workspace, table(workspace, actor)
    head = ws.data.resolve(orders)
    with ws.db.write() as tx:
        step = ws.assets.record_run(tx, ws.project.id, kind="step", name="clean", actor=actor)
        ws.assets.link(tx, step, head.version_id, Direction.IN, "orders")
    with pytest.raises(RepositoryInUse, match="1 runs read it: step clean") as refused:
        ws.data.delete(orders, actor=actor)
    assert refused.value.details["runs"] == [step]
    assert "--force" in refused.value.hint
    assert len(ws.data.read(orders)) == 3, "nothing was touched"
    done = ws.data.delete(orders, actor=actor, force=True)
    assert (done.versions, done.kept) == (3, 0)
    ws.gc.run()
    assert [e.version_id for e in ws.assets.edges(step)] == [head.version_id], "the lineage keeps the name"


def test_a_folder_that_a_deleted_repository_knew_is_read_anew(
    workspace: Workspace, actor: Actor, tmp_path: Path
) -> None:
    ws = workspace
    files = folder(ws, actor, tmp_path / "f", {"a": os.urandom(3000), "b": b"x" * 100})
    ws.data.delete(files, actor=actor)
    ws.gc.run()
    again = folder(ws, actor, tmp_path / "f", {})
    ws.data.checkout(again, tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == (tmp_path / "f" / "a").read_bytes()
    assert ws.verify(data=True) == []


# ---- storage


def test_storage_is_what_the_store_would_lose_without_it(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    ws = workspace
    shared, first, second = (os.urandom(20_000) for _ in range(3))
    one = folder(ws, actor, tmp_path / "one", {"a": first, "s": shared}, "one")
    folder(ws, actor, tmp_path / "two", {"b": second, "s": shared, "again": shared}, "two")
    table(ws, actor)
    needs = {n.name: n for n in ws.care.storage()}
    assert needs["one"].logical == 40_000
    assert needs["two"].logical == 60_000
    for name in ("one", "two"):
        assert 40_000 < needs[name].stored < 42_000
        assert 20_000 < needs[name].exclusive < 22_000
    assert needs["orders"].exclusive == needs["orders"].stored > 0
    ws.data.delete(one, actor=actor)
    assert {n.name: n for n in ws.care.storage()}["two"].exclusive > 40_000


def test_storage_of_commits_adds_up(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    ws, place = workspace, tmp_path / "f"
    for number in range(5):
        files = folder(ws, actor, place, {f"f{number}": os.urandom(10_000), "same": b"s" * 200})
    (place / "f4").unlink()
    ws.data.commit(files, place, actor=actor)
    needs = ws.care.storage_of_commits(files)
    assert [n.logical for n in needs] == [40_200, 50_200, 40_200, 30_200, 20_200, 10_200]
    assert [10_000 < n.added < 11_500 for n in needs] == [False, True, True, True, True, True]
    (whole,) = ws.care.storage()
    assert sum(n.added for n in needs) == whole.stored
    assert [n.exclusive > 10_000 for n in needs] == [False, True, False, False, False, False], "f4 alone"
    assert needs[1].stored > 50_000


# ---- check and repair


def damage(ws: Workspace, needle: bytes, *, index: bool = False) -> str:
    """Flips a bit of stored bytes, or cuts off the end of their pack; returns the pack."""
    for name in ws.store.source.list("packs/"):
        path = ws.home / "store" / name
        raw = bytearray(path.read_bytes())
        place = raw.find(needle)
        if place >= 0:
            if index:
                raw[-100] ^= 1
            else:
                raw[place + 10] ^= 1
            path.write_bytes(bytes(raw))
            return Path(name).stem
    raise AssertionError("no pack holds it")


def cold(ws: Workspace) -> None:
    ws.store._maps.clear()


def test_damage_is_named_with_pack_offset_and_paths(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    ws, data, big = workspace, os.urandom(3000), os.urandom(300_000)
    files = folder(ws, actor, tmp_path / "f", {"sub/a": data, "b": os.urandom(3000), "big": big})
    folder(ws, actor, tmp_path / "f", {"c": os.urandom(100)})
    other = folder(ws, actor, tmp_path / "g", {"x": os.urandom(3000)}, "other")
    assert ws.care.check(full=True).damage == []
    pack = damage(ws, data)
    damage(ws, big[150_000:150_100])
    cold(ws)
    assert ws.care.check().damage == [], "the fast check reads no bytes of files"
    found = ws.care.check(full=True)
    by_path = {d.users[0].partition(" in ")[0]: d for d in found.damage}
    assert by_path.keys() == {"sub/a", "big"}
    one = by_path["sub/a"]
    assert (one.pack, one.kind, one.lost, one.more) == (pack, "chunk", True, 0)
    assert one.offset is not None
    assert {u.partition(" in ")[2] for u in one.users} == {f"files@{c.id[:12]}" for c in ws.data.log(files)}
    assert ws.care.check(other, full=True).damage == []
    assert len(ws.care.check(files, full=True).damage) == 2


def test_repair_takes_another_copy_and_sets_the_damaged_pack_aside(
    workspace: Workspace, actor: Actor, tmp_path: Path
) -> None:
    ws, data, other = workspace, os.urandom(3000), os.urandom(3000)
    files = folder(ws, actor, tmp_path / "f", {"a": data, "b": other})
    pack = damage(ws, data)
    cold(ws)
    with pytest.raises(ObjectCorrupt):
        ws.data.read_file(files, "a")
    done = ws.care.repair(actor=actor)
    assert done.quarantined == [pack]
    assert [d.users[0].partition(" in ")[0] for d in done.lost] == ["a"], "nothing is made up"
    assert ws.data.read_file(files, "b") == other, "what was whole in it was taken over"
    assert (ws.home / "store" / "damaged" / pack[:2] / f"{pack}.pack").is_file()
    asked: list[Any] = []

    def fetch(wanted: list[tuple[Kind, bytes]]) -> Any:
        asked.extend(wanted)
        for kind, oid in wanted:
            yield kind, oid, b"something else"
            yield kind, oid, data

    ws.care.fetchers.append(fetch)
    done = ws.care.repair(actor=actor)
    assert (done.healed, done.lost, len(asked)) == (1, [], 1)
    assert ws.data.read_file(files, "a") == data
    assert ws.care.check(full=True).damage == []
    ws.sessions.renew()
    assert ws.gc.run().removed == 1
    assert not ws.store.source.local_path(pack_name(pack)).exists()
    assert ws.care.check(full=True).damage == []


def test_repair_reads_a_pack_whose_index_is_damaged(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    ws, data = workspace, os.urandom(3000)
    files = folder(ws, actor, tmp_path / "f", {"a": data})
    damage(ws, data, index=True)
    for name in (ws.home / "cache").glob("index.db*"):
        name.unlink()
    ws.close()
    with connect(ws.home, environment={}) as ws:
        found = ws.care.check()
        assert any("index is damaged" in d.what for d in found.damage)
        done = ws.care.repair(actor=actor)
        assert done.lost == []
        assert ws.data.read_file(files, "a") == data


def test_a_store_that_does_not_answer_costs_nothing(
    workspace: Workspace, actor: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = workspace
    contents = {f"a{n}": os.urandom(3000) for n in range(5)}
    files = folder(ws, actor, tmp_path / "f", contents)
    pack = damage(ws, contents["a0"])
    cold(ws)
    source, read = type(ws.store.source), type(ws.store.source).read

    def silent(self: Any, name: str, offset: int, length: int) -> bytes:
        if name == pack_name(pack) and offset == 0 and length == self.size(name):
            raise Unavailable("The store did not answer: time-out.")
        return read(self, name, offset, length)

    with monkeypatch.context() as patch:
        patch.setattr(source, "read", silent)
        with pytest.raises(Unavailable, match="did not answer"):
            ws.care.repair(actor=actor)
    condemned_ones = select(at.packs.c.id).where(at.packs.c.condemned_epoch.is_not(None))
    with ws.db.read() as conn:
        assert conn.execute(condemned_ones).all() == [], "what is whole in it lies nowhere else"
    done = ws.care.repair(actor=actor)
    assert (done.quarantined, len(done.lost)) == ([pack], 1)
    ws.sessions.renew()
    ws.gc.run()
    assert all(ws.data.read_file(files, name) == contents[name] for name in ("a1", "a2", "a3", "a4"))


def test_a_missing_pack_is_named_and_not_said_to_be_set_aside(
    workspace: Workspace, actor: Actor, tmp_path: Path
) -> None:
    ws, data = workspace, os.urandom(3000)
    folder(ws, actor, tmp_path / "f", {"a": data})
    pack = damage(ws, data)
    cold(ws)
    (ws.home / "store" / pack_name(pack)).unlink()
    found = ws.care.check(full=True).damage
    assert f"The pack {pack} is missing." in [d.what for d in found]
    assert not any("packs/" in d.what for d in found)
    done = ws.care.repair(actor=actor)
    assert done.quarantined == []
    assert done.lost
    assert list(ws.store.source.list("damaged/")) == []


def test_a_table_names_its_commits(workspace: Workspace, actor: Actor) -> None:
    ws, orders = workspace, table(workspace, actor, commits=1)
    layout = ws.data.layout(ws.data.resolve(orders))
    raw = ws.store.get(Digest(layout.fragments[0].id), Kind.FRAGMENT)
    damage(ws, raw[:40])
    cold(ws)
    (found,) = ws.care.check(full=True).damage
    assert (found.kind, found.users) == ("fragment", [f"orders@{ws.data.resolve(orders).id[:12]}"])


def test_the_commands(
    workspace: Workspace,
    actor: Actor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ws, data = workspace, os.urandom(3000)
    folder(ws, actor, tmp_path / "f", {"a": data})
    monkeypatch.chdir(ws.home.parent)
    assert run(["data", "storage"]) == 0
    assert "3.0 KB" in capsys.readouterr().out
    assert run(["data", "storage", "files"]) == 0
    assert "3.0 KB" in capsys.readouterr().out
    assert run(["data", "check", "--full"]) == 0
    assert "Everything holds" in capsys.readouterr().out
    damage(ws, data)
    assert run(["data", "check", "--full"]) == 1
    out = capsys.readouterr().out
    assert "needed by a in files@" in out
    assert "noria data repair" in out
    assert run(["data", "repair"]) == 1
    assert "1 lost" in capsys.readouterr().out
    assert run(["data", "delete", "files", "--yes"]) == 0
    assert "1 commit deleted" in capsys.readouterr().out
    with ws.db.read() as conn:
        assert conn.execute(select(at.versions.c.gone_at)).scalar_one() is not None
