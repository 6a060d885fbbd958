"""Buckets as sources, on a real S3 server; what no real server is here for is tried as far as it goes without one."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import polars as pl
import pytest

from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.base.errors import Invalid, NotFound, Unavailable
from noria.cli.main import run
from noria.data.collectors import downloads
from noria.data.collectors.buckets import Listing
from noria.data.collectors.downloads import Downloads
from noria.data.edits import Describe
from noria.data.errors import SourceFailed
from noria.data.records import Repository, RepositoryKind
from noria.data.service.collect import SourceSpec
from noria.store.buckets import Bucket, parse
from noria.store.errors import ObjectChanged
from noria.workspace import Workspace, init


class Remote:
    """A prefix in the bucket that no other test sees."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.url = f"s3://packs/lake/{uuid.uuid4().hex}"
        self.bucket = Bucket(parse(self.url), environment, prefix=parse(self.url).key)

    def put(self, key: str, data: bytes) -> None:
        obstore.put(self.bucket.store, key, data)

    def rows(self, key: str, **columns: list[Any]) -> None:
        path = Path(f"/tmp/{uuid.uuid4().hex}.parquet")
        pl.DataFrame(columns).write_parquet(path)
        self.put(key, path.read_bytes())
        path.unlink()

    def delete(self, key: str) -> None:
        obstore.delete(self.bucket.store, key)


@pytest.fixture
def remote(s3_server: Any) -> Remote:
    return Remote(s3_server.environment)


@pytest.fixture
def ws(tmp_path: Path, remote: Remote) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    with init(root, environment=remote.environment) as opened:
        yield opened


@pytest.fixture(params=[("id",), ()], ids=["keyed", "plain"])
def clicks(request: pytest.FixtureRequest, ws: Workspace, actor: Actor) -> Repository:
    return ws.data.create(ws.project.id, "clicks", RepositoryKind.TABLE, actor=actor, key=request.param)


@pytest.fixture
def images(ws: Workspace, actor: Actor) -> Repository:
    return ws.data.create(ws.project.id, "images", RepositoryKind.FILES, actor=actor)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the objects whose bytes were asked for."""
    asked: list[str] = []
    plain, part = Bucket.stream, Bucket.read_part

    def stream(self: Bucket, key: str, **how: Any) -> Any:
        asked.append(key.rsplit("/", 1)[-1])
        return plain(self, key, **how)

    def read_part(self: Bucket, key: str, start: int, end: int, **how: Any) -> bytes:
        asked.append(f"{key.rsplit('/', 1)[-1]}:{start}")
        return part(self, key, start, end, **how)

    monkeypatch.setattr(Bucket, "stream", stream)
    monkeypatch.setattr(Bucket, "read_part", read_part)
    return asked


@pytest.mark.s3
def test_objects_of_a_prefix_are_rows_and_only_new_ones_are_fetched(
    ws: Workspace, actor: Actor, clicks: Repository, remote: Remote, fetched: list[str]
) -> None:
    remote.rows("2024/a.parquet", id=[1, 2], n=[10, 20])
    remote.rows("2024/deep/b.parquet", id=[3], n=[30])
    remote.put("2024/c.csv", b"id,n\n4,40\n")
    remote.put("2024/d.jsonl", b'{"id": 5, "n": 50}\n')
    remote.put("other/e.csv", b"id,n\n9,90\n")
    spec = SourceSpec(files=f"{remote.url}/2024/**/*")
    assert len(ws.collector.pending_files(clicks, spec.files or "")) == 4
    done = ws.collector.collect(clicks, spec, actor=actor)
    assert (done.rows, len(done.commits)) == (5, 4)
    source = done.commits[0].meta["source"]
    assert source["url"] == f"{remote.url}/2024/a.parquet"
    assert {"kind", "etag", "digest"} <= source.keys()
    assert sorted(ws.data.read(clicks)["id"]) == [1, 2, 3, 4, 5]
    fetched.clear()
    again = ws.collector.collect(clicks, spec, actor=actor)
    assert (again.commits, again.run_id, fetched) == ([], None, [])
    remote.put("2024/f.csv", b"id,n\n6,60\n")
    assert ws.collector.collect(clicks, spec, actor=actor).rows == 1
    assert fetched == ["f.csv"]
    remote.put("2024/c.csv", b"id,n\n4,41\n")
    done = ws.collector.collect(clicks, spec, actor=actor)
    assert sorted(ws.data.read(clicks).rows()) == [(1, 10), (2, 20), (3, 30), (4, 41), (5, 50), (6, 60)]
    assert [r.state for r in ws.assets.list_runs(ws.project.id, kinds=["collection"]).items] == [RunState.DONE] * 3
    assert not list((ws.home / "cache" / "downloads" / "objects").glob("*.parquet"))


@pytest.mark.s3
def test_one_object_and_what_is_not_there(ws: Workspace, actor: Actor, clicks: Repository, remote: Remote) -> None:
    remote.put("in/one.csv", b"id,n\n1,1\n")
    assert ws.collector.collect(clicks, SourceSpec(files=f"{remote.url}/in/one.csv"), actor=actor).rows == 1
    for pattern in ("in/two.csv", "in/*.parquet", "nowhere/"):
        with pytest.raises(SourceFailed, match="no object"):
            ws.collector.collect(clicks, SourceSpec(files=f"{remote.url}/{pattern}"), actor=actor)
    with pytest.raises(Unavailable, match="no-such-bucket"):
        ws.collector.collect(clicks, SourceSpec(files="s3://no-such-bucket/x/*.csv"), actor=actor)


@pytest.mark.s3
def test_a_prefix_is_mirrored_and_only_what_changed_is_fetched(
    ws: Workspace, actor: Actor, images: Repository, remote: Remote, fetched: list[str], tmp_path: Path
) -> None:
    contents = {f"img/{n:02}.bin": os.urandom(n * 900) for n in range(20)}
    for key, data in contents.items():
        remote.put(key, data)
    contents["img/folder/x"] = b"x"
    remote.put("img/folder/x", b"x")
    remote.put("img/folder", b"")  # a marker of a folder, as some tools make it
    told: list[float] = []
    done = ws.collector.collect_folder(
        images, remote.url + "/img/", actor=actor, advance=lambda n=1, total=None: told.append(n)
    )
    assert sum(told) == sum(map(len, contents.values()))
    assert done.commits[0].meta["source"]["objects"] == 21
    run = ws.assets.list_runs(ws.project.id, kinds=["collection"]).items[0]
    assert (run.id, run.state) == (done.commits[0].run_id, RunState.DONE)
    ws.data.checkout(images, tmp_path / "out")
    out = tmp_path / "out"
    assert {f"img/{p.relative_to(out)}": p.read_bytes() for p in out.rglob("*") if p.is_file()} == contents
    fetched.clear()
    assert ws.collector.collect_folder(images, remote.url + "/img/", actor=actor).commits == []
    remote.put("img/03.bin", b"changed")
    remote.put("img/sub/new.bin", b"new")
    remote.delete("img/05.bin")
    assert sorted(ws.collector.pending_folder(images, remote.url + "/img/")) == [
        "03.bin is new or changed",
        "05.bin is gone",
        "sub/new.bin is new or changed",
    ]
    done = ws.collector.collect_folder(images, remote.url + "/img/", actor=actor)
    assert sorted(fetched) == ["03.bin", "new.bin"]
    stats = done.commits[0].stats
    assert (stats["added"], stats["updated"], stats["deleted"]) == (1, 1, 1)
    assert ws.data.read_file(images, "sub/new.bin") == b"new"


@pytest.mark.s3
def test_a_prefix_that_became_empty_takes_nothing_away(
    ws: Workspace, actor: Actor, images: Repository, remote: Remote
) -> None:
    remote.put("img/a", b"1")
    ws.collector.collect_folder(images, remote.url + "/img/", actor=actor)
    with pytest.raises(SourceFailed, match="no object any more"):
        ws.collector.collect_folder(images, remote.url + "/img/*.png", actor=actor)
    assert ws.data.read_file(images, "a") == b"1"


@pytest.mark.s3
@pytest.mark.parametrize("key", ["img/.noria/x", "img/c\x07d"])
def test_keys_that_are_no_paths_are_named(
    ws: Workspace, actor: Actor, images: Repository, remote: Remote, key: str
) -> None:
    remote.put("img/fine", b"1")
    try:
        remote.put(key, b"1")
    except Exception:  # noqa: BLE001 - the server takes no such key: then there is nothing to refuse
        return
    with pytest.raises(SourceFailed, match="cannot be a file"):
        ws.collector.collect_folder(images, remote.url + "/img/", actor=actor)
    assert ws.data.head(images) is None


KILLED = """
import os, sys
from noria.workspace import connect
from noria.data.collectors.downloads import Downloads
ws = connect(sys.argv[1])
files = ws.data.get(ws.project.id, "images")
plain, count = Downloads._fetch, 0
def fetch(self, info, path, advance):
    global count
    plain(self, info, path, advance)
    count += 1
    if count == 5:
        os._exit(9)
Downloads._fetch = fetch
ws.collector.collect_folder(files, sys.argv[2], actor=ws.actor)
"""


@pytest.mark.s3
def test_a_mirror_that_was_killed_goes_on_with_the_objects_that_are_missing(
    ws: Workspace, actor: Actor, images: Repository, remote: Remote, fetched: list[str]
) -> None:
    for n in range(12):
        remote.put(f"img/{n:02}", os.urandom(2000))
    line = [sys.executable, "-c", KILLED, str(ws.home.parent), remote.url + "/img/"]
    assert subprocess.run(line, env={**os.environ, **remote.environment}).returncode == 9
    assert ws.data.head(images) is None  # nothing half done
    done = ws.collector.collect_folder(images, remote.url + "/img/", actor=actor)
    assert done.commits[0].stats["files"] == 12
    assert len(fetched) <= 7
    left = [p for p in (ws.home / "cache" / "downloads" / "objects").iterdir() if not p.name.endswith(".lock")]
    assert left == []


@pytest.mark.s3
def test_a_commit_that_lands_while_a_prefix_is_fetched_stays(
    ws: Workspace, actor: Actor, images: Repository, remote: Remote, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.put("img/a", b"a" * 900)
    remote.put("img/b", b"b" * 900)
    first = ws.collector.collect_folder(images, remote.url + "/img/", actor=actor).commits[0]
    remote.put("img/b", b"new" * 300)
    fetched.clear()
    fetch_all, meanwhile = Downloads.fetch_all, list[Any]()

    def slow(self: Downloads, *arguments: Any) -> Any:
        yield from fetch_all(self, *arguments)
        if not meanwhile:
            meanwhile.append(ws.data.change(images, [Describe("a", {"label": "cat"})], actor=actor))

    monkeypatch.setattr(Downloads, "fetch_all", slow)
    (commit,) = ws.collector.collect_folder(images, remote.url + "/img/", actor=actor).commits
    assert commit.parents == (meanwhile[0].id,)
    assert meanwhile[0].parents == (first.id,)
    assert {e.path: e.meta.get("label") for e in ws.data.files(images)} == {"a": "cat", "b": None}
    assert ws.data.read_file(images, "b") == b"new" * 300
    assert fetched == ["b"]  # once


@pytest.mark.s3
def test_a_big_object_is_fetched_by_ranges_and_goes_on_with_those_that_are_missing(
    remote: Remote, tmp_path: Path, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "RANGE", 100_000)
    monkeypatch.setattr(downloads, "AT_ONCE", 2)
    data = os.urandom(1_050_001)
    remote.put("big", data)
    ((_, info),) = Listing(remote.url, remote.environment).objects()
    bucket = Bucket(parse(remote.url), remote.environment)
    part = Bucket.read_part
    left = [4]

    def failing(self: Bucket, key: str, start: int, end: int, **how: Any) -> bytes:
        if left[0] == 0:
            raise Unavailable("The line is cut.", hint="Again.")
        left[0] -= 1
        return part(self, key, start, end, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "read_part", failing)
        with pytest.raises(Unavailable, match="cut"):
            Downloads(bucket, tmp_path).fetch(info)
    before = len(fetched)
    told: list[float] = []
    path = Downloads(bucket, tmp_path).fetch(info, lambda n=1: told.append(n))
    assert path.read_bytes() == data
    assert before == 4
    assert len(fetched) - before == 11 - 4
    assert sum(told) == len(data)
    # Replaced in between: bytes of two states are never put together.
    remote.put("big", os.urandom(len(data)))
    path.unlink()
    with pytest.raises(ObjectChanged):
        Downloads(bucket, tmp_path).fetch(info)


@pytest.mark.s3
def test_bytes_that_do_not_have_the_md5_of_the_list_are_fetched_again_and_refused(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"exactly this" * 100
    remote.put("one", data)
    ((_, info),) = Listing(remote.url + "/", remote.environment).objects()
    bucket = Bucket(parse(remote.url), remote.environment)
    plain = Bucket.stream
    noise = [b"A", b"B", b"C"]

    def damaged(self: Bucket, key: str, **how: Any) -> Any:
        meta, pieces = plain(self, key, **how)
        whole = b"".join(bytes(p) for p in pieces)
        return meta, iter([whole[:-1] + noise.pop(0)])

    monkeypatch.setattr(Bucket, "stream", damaged)
    with pytest.raises(SourceFailed, match="MD5"):
        Downloads(bucket, tmp_path).fetch(info)
    assert [p for p in tmp_path.iterdir() if p.suffix != ".lock"] == []
    noise[:] = [b"A", b"s"]  # damaged once on its way
    assert Downloads(bucket, tmp_path).fetch(info).read_bytes()[:-1] == data[:-1]


@pytest.mark.s3
def test_the_command_needs_no_project_and_says_the_same_twice(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in remote.environment.items():
        monkeypatch.setenv(name, value)

    def noria(*words: str) -> str:
        code = run(list(words))
        done = capsys.readouterr()
        assert code == 0, done.err
        return done.out

    noria("init")
    remote.put("in/a.csv", b"id,n\n1,1\n2,2\n")
    line = ("data", "collect", "clicks", "--from", remote.url + "/in/*.csv", "--key", "id")
    assert "2 rows in 1 commits" in noria(*line)
    assert "nothing new" in noria(*line)
    assert "1 commits" in noria("data", "collect", "raw", "--from", remote.url + "/in/", "--folder")
    assert "nothing new" in noria("data", "collect", "raw", "--from", remote.url + "/in/")
    (tmp_path / "local.csv").write_text("id,n\n3,3\n")
    assert "1 rows" in noria("data", "collect", "clicks", "--from", "*.csv")


@pytest.mark.parametrize(
    ("url", "variable"),
    [("gs://bucket/x/*.csv", "GOOGLE_SERVICE_ACCOUNT"), ("az://container/x/*.csv", "AZURE_STORAGE_ACCOUNT_NAME")],
)
def test_without_credentials_the_variable_is_named(workspace: Workspace, actor: Actor, url: str, variable: str) -> None:
    table = workspace.data.create(workspace.project.id, "t", RepositoryKind.TABLE, actor=actor)
    with pytest.raises(Unavailable, match="cannot be opened") as refused:
        workspace.collector.collect(table, SourceSpec(files=url), actor=actor)
    assert variable in refused.value.message
    assert variable in refused.value.hint


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://b/a/*.csv", ("s3", "b", "a/*.csv", False)),
        ("gs://b/", ("gs", "b", "", True)),
        ("az://c/a%20b/", ("az", "c", "a b", True)),
        ("s3://b/q?.csv", ("s3", "b", "q?.csv", False)),
    ],
)
def test_urls_of_buckets(url: str, expected: tuple[str, str, str, bool]) -> None:
    found = parse(url)
    assert (found.scheme, found.bucket, found.key, found.folder) == expected


def test_what_is_no_source_is_said(workspace: Workspace, actor: Actor) -> None:
    from noria.data.service.collect import spec_from

    with pytest.raises(Invalid, match="ftp://"):
        spec_from("ftp://host/x")
    with pytest.raises(Invalid, match="database's URL"):
        spec_from(sql="select 1")
    with pytest.raises(Invalid, match="either"):
        spec_from()
    with pytest.raises(NotFound):
        workspace.data.get(workspace.project.id, "nothing")


DECLARED = """
import noria as nr

clicks = nr.source("clicks", files="{url}/in/*.csv", key="id")
images = nr.source("images", files="{url}/img/", folder=True)

@nr.dataset
def totals(clicks):
    return clicks.select("id", "n")
"""


@pytest.mark.s3
def test_a_project_declares_prefixes_as_sources(project: Any, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in remote.environment.items():
        monkeypatch.setenv(name, value)
    remote.put("in/a.csv", b"id,n\n1,1\n")
    remote.put("img/x.png", b"not really")
    ws = project({"shop.py": DECLARED.format(url=remote.url)})
    ws.pipelines.run(actor=ws.actor)
    assert ws.data.read(ws.data.get(ws.project.id, "clicks")).rows() == [(1, 1)]
    assert ws.data.read_file(ws.data.get(ws.project.id, "images"), "x.png") == b"not really"
    assert {s.asset: s.action for s in ws.pipelines.run(actor=ws.actor).steps.values()}["totals"] == "reused"
    remote.put("in/b.csv", b"id,n\n2,2\n")
    planned = {s.asset: s for s in ws.pipelines.plan()}
    assert "b.csv is new" in planned["clicks"].why[0].text
    ws.pipelines.run(actor=ws.actor)
    assert sorted(ws.data.read(ws.data.get(ws.project.id, "clicks")).rows()) == [(1, 1), (2, 2)]
