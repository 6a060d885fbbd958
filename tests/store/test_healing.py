"""An object whose stored bytes were damaged is whole again when the same bytes are written again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from noria.base.digest import Digest
from noria.data.records import RepositoryKind
from noria.store import Kind, ObjectStore
from noria.store.errors import ObjectCorrupt
from noria.store.local import LocalBytes
from noria.store.objects import pack_name

DATA = os.urandom(400)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(LocalBytes(tmp_path / "store"), tmp_path / "cache")


def put(store: ObjectStore, *raws: bytes) -> tuple[list[Digest], list[str]]:
    with store.writer() as writer:
        oids = [writer.put(Kind.BLOB, raw) for raw in raws]
        return oids, [pack.id for pack in writer.flush()]


def damage(path: Path, needle: bytes) -> None:
    """Changes one byte of the stored bytes, in place, as a bad disk does."""
    place = path.read_bytes().index(needle) + len(needle) // 2
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes((byte ^ 1,)))


def local(store: ObjectStore, pack: str) -> Path:
    path = store.source.local_path(pack_name(pack))
    assert path is not None
    return path


@pytest.mark.parametrize("beside", [[b"beside"], []])
@pytest.mark.parametrize("at_once", [False, True])
def test_damaged_bytes_that_are_put_again_are_stored_again(
    store: ObjectStore, tmp_path: Path, beside: list[bytes], at_once: bool
) -> None:
    """Alone in a pack they make the same pack, which takes the place of the damaged one; with others a new one."""
    (oid, *_), (pack,) = put(store, DATA, *beside)
    assert store.get(oid, Kind.BLOB) == DATA
    damage(local(store, pack), DATA)
    for _ in range(2):
        with pytest.raises(ObjectCorrupt, match="does not have its digest"):
            store.get(oid, Kind.BLOB)
    assert not store.has(oid)
    other = ObjectStore(LocalBytes(tmp_path / "store"), tmp_path / "cache")
    assert not other.has(oid), "other processes learn of it"
    if at_once:
        with store.writer() as writer:
            assert writer.put_all(Kind.BLOB, [DATA]) == [oid]
            assert len(writer.flush()) == 1
    else:
        assert len(put(store, DATA)[1]) == 1
    for one in (store, other, ObjectStore(LocalBytes(tmp_path / "store"), tmp_path / "elsewhere")):
        if not one.index.packs():
            one.refresh()
        assert one.has(oid)
        assert one.get(oid, Kind.BLOB) == DATA
    assert put(store, DATA)[1] == [], "and once only"
    assert not store.has_damage


def test_a_pack_that_was_restored_counts_again(store: ObjectStore, tmp_path: Path) -> None:
    (oid, _), (pack,) = put(store, DATA, b"beside")
    shutil.copyfile(local(store, pack), tmp_path / "backup")
    damage(local(store, pack), DATA)
    assert len(store.check_pack(pack)) == 1
    assert not store.has(oid)
    shutil.copyfile(tmp_path / "backup", local(store, pack))
    assert store.has(oid)
    assert not store.has_damage
    assert store.get(oid, Kind.BLOB) == DATA


def damage_all(home: Path, needle: bytes) -> None:
    for path in (home / "store").rglob("*.pack"):
        if needle in path.read_bytes():
            damage(path, needle)


def test_files_heal_when_they_are_committed_again_as_the_hint_says(project: Any, tmp_path: Path) -> None:
    ws, content = project({"files/b.txt": "b"}), os.urandom(20_000)
    (tmp_path / "files" / "a.bin").write_bytes(content)
    repository = ws.data.create(ws.project.id, "pages", RepositoryKind.FILES, actor=ws.actor)
    head = ws.data.commit(repository, tmp_path / "files", actor=ws.actor)
    damage_all(ws.home, content)
    assert ws.verify(data=True)
    with pytest.raises(ObjectCorrupt) as corrupt:
        ws.data.checkout(repository, tmp_path / "out")
    assert "mended by noria data commit" in corrupt.value.hint
    assert ws.data.commit(repository, tmp_path / "files", actor=ws.actor).id == head.id
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    ws.data.checkout(repository, tmp_path / "out")
    assert (tmp_path / "out" / "a.bin").read_bytes() == content


def test_files_heal_when_their_bytes_are_gone_and_nothing_else_changed(project: Any, tmp_path: Path) -> None:
    ws, content = project({"files/b.txt": "b"}), os.urandom(20_000)
    file = tmp_path / "files" / "a.bin"
    file.write_bytes(content)
    os.utime(file, ns=(10**18 + 1, 10**18 + 1))
    repository = ws.data.create(ws.project.id, "pages", RepositoryKind.FILES, actor=ws.actor)
    head = ws.data.commit(repository, tmp_path / "files", actor=ws.actor)
    old = sorted(ws.store.index.packs())
    with ws.store.writer(ignoring=frozenset(old)) as writer, ws.db.write() as tx:
        for pack in old:
            assert writer.copy(pack, {found.id for found in ws.store.pack_entries(pack) if found.raw != len(content)})
        ws.sessions.seal(tx, writer.flush())
    for pack in old:
        ws.store.drop_pack(pack)
    assert not ws.store.has_damage, "what is in no pack is not noted as damaged"
    assert ws.data.commit(repository, tmp_path / "files", actor=ws.actor).id == head.id
    assert ws.data.read_file(repository, "a.bin") == content


def test_what_a_step_made_is_made_again_when_it_is_found_damaged(project: Any, tmp_path: Path) -> None:
    text = "0123456789" * 6
    steps = f"import noria as nr\n@nr.dataset\ndef made():\n    return {json.dumps(text)}\n"
    ws = project({"steps.py": steps})
    first = ws.pipelines.run(["made"], actor=ws.actor).steps["made"]
    damage_all(ws.home, text.encode())
    with pytest.raises(ObjectCorrupt, match="damaged"):
        ws.pipelines.value("made")
    again = ws.pipelines.run(["made"], actor=ws.actor).steps["made"]
    assert (again.action, again.outputs) == ("made", first.outputs)
    assert ws.pipelines.value("made") == text
