"""Packs in a bucket: the contract of a byte store and a whole workspace, on a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from noria.base.actor import Actor
from noria.base.errors import Unavailable
from noria.data.records import RepositoryKind
from noria.data.service.care.purge import Erase
from noria.store.errors import ObjectCorrupt, ObjectMissing
from noria.store.s3 import S3Bytes
from noria.testing import ByteStoreContract
from noria.workspace import Workspace, connect

pytestmark = pytest.mark.s3


@pytest.fixture
def prefix() -> str:
    """A place in the bucket that no other test sees."""
    return f"of/{uuid.uuid4().hex}"


class TestS3Bytes(ByteStoreContract):
    @pytest.fixture
    def backend(self, s3_server: Any, prefix: str) -> S3Bytes:
        return S3Bytes("packs", prefix, s3_server.environment)


def test_a_file_of_several_parts_comes_back(s3_server: Any, prefix: str, tmp_path: Path) -> None:
    backend = S3Bytes("packs", prefix, s3_server.environment)
    data = bytes(range(256)) * 50_000
    (tmp_path / "source").write_bytes(data)
    backend.put("packs/ab/big.pack", tmp_path / "source")
    assert backend.size("packs/ab/big.pack") == len(data)
    assert backend.read("packs/ab/big.pack", 0, len(data)) == data
    assert backend.read("packs/ab/big.pack", 9_000_000, 7) == data[9_000_000:9_000_007]


def test_two_prefixes_of_a_bucket_do_not_see_each_other(s3_server: Any, prefix: str, tmp_path: Path) -> None:
    one, other = (S3Bytes("packs", prefix + end, s3_server.environment) for end in ("/a", "/ab"))
    (tmp_path / "source").write_bytes(b"x")
    one.put("packs/a/1", tmp_path / "source")
    assert list(other.list("packs/")) == []
    with pytest.raises(ObjectMissing):
        other.size("packs/a/1")


def test_a_wrong_key_is_said_with_what_to_check(s3_server: Any, prefix: str, tmp_path: Path) -> None:
    backend = S3Bytes("packs", prefix, {**s3_server.environment, "AWS_SECRET_ACCESS_KEY": "another"})
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(Unavailable, match="did not answer") as refused:
        backend.put("packs/a/1", tmp_path / "source")
    assert "AWS_ENDPOINT_URL" in refused.value.hint
    assert "another" not in refused.value.message
    assert (tmp_path / "source").exists()  # nothing is given up before it is stored


ROWS = pl.DataFrame({"k": list(range(500)), "v": [f"value {n}" for n in range(500)]})


def made(s3_server: Any, prefix: str, folder: Path, actor: Actor) -> Workspace:
    """A workspace with its store in the bucket, made by the command and filled with rows and files."""
    url = f"s3://packs/{prefix}"
    command = [sys.executable, "-m", "noria", "init", str(folder), "--store", url]
    done = subprocess.run(command, env={**os.environ, **s3_server.environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ws = connect(folder, environment=s3_server.environment)
    assert ws.store_url == url
    table = ws.data.create(ws.project.id, "t", RepositoryKind.TABLE, key=("k",), actor=actor)
    ws.data.append(table, ROWS, actor=actor)
    source = folder / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a.txt").write_text("hello")
    (source / "sub" / "b.bin").write_bytes(bytes(range(256)) * 5000)
    files = ws.data.create(ws.project.id, "f", RepositoryKind.FILES, actor=actor)
    ws.data.commit(files, source, actor=actor)
    return ws


def test_a_workspace_keeps_its_rows_and_files_in_the_bucket(
    s3_server: Any, prefix: str, tmp_path: Path, actor: Actor
) -> None:
    with made(s3_server, prefix, tmp_path / "one", actor) as ws:
        assert not (ws.home / "store").exists()
        packs = list(ws.store.source.list("packs/"))
    assert packs
    for name in (tmp_path / "one" / ".noria" / "cache").iterdir():
        name.unlink() if name.is_file() else None
    with connect(tmp_path / "one", environment=s3_server.environment) as ws:  # another process, without a cache
        assert ws.data.read(ws.data.get(ws.project.id, "t")).sort("k").equals(ROWS)
        files = ws.data.get(ws.project.id, "f")
        assert ws.data.read_file(files, "a.txt") == b"hello"
        ws.data.checkout(files, tmp_path / "out")
        assert (tmp_path / "out" / "sub" / "b.bin").read_bytes() == bytes(range(256)) * 5000
        assert ws.verify(data=True) == []


def test_a_changed_and_a_lost_object_are_found_and_never_returned(
    s3_server: Any, prefix: str, tmp_path: Path, actor: Actor
) -> None:
    with made(s3_server, prefix, tmp_path / "one", actor) as ws:
        source = ws.store.source
        for pack in source.list("packs/"):
            data = bytearray(source.read(pack, 0, source.size(pack)))
            data[len(data) // 3] ^= 1
            source.delete(pack)
            (tmp_path / "changed").write_bytes(bytes(data))
            source.put(pack, tmp_path / "changed")
        assert ws.verify(data=True)
    with connect(tmp_path / "one", environment=s3_server.environment) as ws:
        with pytest.raises(ObjectCorrupt):
            ws.data.checkout(ws.data.get(ws.project.id, "f"), tmp_path / "out")
        assert not (tmp_path / "out" / "sub" / "b.bin").exists()
        for pack in ws.store.source.list("packs/"):
            ws.store.source.delete(pack)
        assert ws.verify()
        with pytest.raises(ObjectMissing):
            ws.data.read(ws.data.get(ws.project.id, "t"))


def test_garbage_goes_and_a_purge_leaves_nothing_in_the_bucket(
    s3_server: Any, prefix: str, tmp_path: Path, actor: Actor
) -> None:
    secret = os.urandom(3000)
    with made(s3_server, prefix, tmp_path / "one", actor) as ws:
        source = tmp_path / "one" / "source"
        (source / "people").mkdir()
        (source / "people" / "alice").write_bytes(secret)
        files = ws.data.get(ws.project.id, "f")
        ws.data.commit(files, source, actor=actor)
        (source / "people" / "alice").unlink()
        ws.data.commit(files, source, actor=actor)

        def held() -> bool:
            packs = (ws.store.source.read(n, 0, ws.store.source.size(n)) for n in ws.store.source.list("packs/"))
            return any(secret in raw for raw in packs)

        assert held()
        done = ws.care.purge(files, Erase(path="people/*"), reason="r", actor=actor, wait=5)
        assert (done.paths, done.done) == (1, True)
        assert not held()
        before = len(list(ws.store.source.list("packs/")))
        ws.data.delete(ws.data.get(ws.project.id, "t"), actor=actor)
        collected = ws.care.collect(dry_run=False, actor=actor)
        assert (collected.dead, collected.removed) == (1, 1)
        assert len(list(ws.store.source.list("packs/"))) == before - 1
        assert ws.data.read_file(files, "a.txt") == b"hello"
        assert ws.care.check(full=True).damage == []
