"""Files read where they lie: listings, pages, ranges of bytes; the same in library, commands and HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.base.errors import Invalid, NotFound
from noria.cli.main import run
from noria.data import address
from noria.data.http import routes
from noria.data.records import Repository, RepositoryKind
from noria.data.service.access import fitting
from noria.store import Entry, EntryKind, ObjectStore, tree
from noria.store.listing import Listing
from noria.store.local import LocalBytes
from noria.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1] / "http"))
from rooms_client import Client, client

BIG = bytes(range(256)) * 2_000


@pytest.fixture
def photos(workspace: Workspace, actor: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    folder = tmp_path / "photos"
    for name, data in {
        "a.txt": b"inline",
        "b/1.jpg": BIG,
        "b/2.jpg": b"x" * 1000,
        "b/c/3.jpg": b"",
        "z.txt": b"z" * 70,
    }.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (folder / "link").symlink_to("a.txt")
    made = workspace.files.create(workspace.project.id, "photos", RepositoryKind.FILES, actor=actor)
    workspace.files.commit(made, folder, actor=actor)
    monkeypatch.chdir(workspace.home.parent)
    return made


@pytest.fixture
def http(workspace: Workspace) -> Client:
    return client(routes(workspace.data, workspace.project.id))


# ---- listings

PATHS = st.lists(
    st.lists(st.sampled_from(["a", "b", "a-", "a0", "é", "b.txt"]), min_size=1, max_size=3).map("/".join),
    unique=True,
    max_size=25,
)


def without_clashes(paths: list[str]) -> list[str]:
    return [p for p in paths if not any(q.startswith(p + "/") for q in paths)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    made = ObjectStore(LocalBytes(tmp_path / "store"), tmp_path / "cache")
    yield made
    made.close()


@given(
    paths=PATHS, asked=st.sampled_from(["", "a", "b", "a/b", "é"]), after=st.sampled_from(["", "a", "a/a", "b", "zz"])
)
def test_a_listing_answers_as_a_dictionary_would(store: ObjectStore, paths: list[str], asked: str, after: str) -> None:
    paths = sorted(without_clashes(paths), key=tree.key_of)
    with store.writer() as writer:
        root = tree.build(writer, [Entry(path=p, size=1, inline=b"x") for p in paths])
        writer.flush()
    listing = Listing(store, root)
    prefix = f"{asked}/" if asked else ""
    assert [e.path for e in listing.walk(prefix, after)] == [
        p for p in paths if p.startswith(prefix) and tree.key_of(p) > tree.key_of(after)
    ]
    inside: dict[str, None] = {}
    for p in paths:
        if p.startswith(prefix):
            inside[prefix + p[len(prefix) :].partition("/")[0]] = None
    assert [f if isinstance(f, str) else f.path for f in listing.folder(asked)] == list(inside)
    found = listing.find(asked)
    assert (found is not None) == (asked in paths)
    assert listing.is_folder(asked) == (not asked or bool(inside))


def test_a_page_of_a_large_tree_reads_only_its_own_part(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.writer() as writer:
        root = tree.build(
            writer, (Entry(path=f"{n // 1000:03}/{n:06}.txt", size=1, inline=b"x") for n in range(30_000))
        )
        writer.flush()
    listing = Listing(store, root)
    read: list[Any] = []
    get = store.get
    monkeypatch.setattr(store, "get", lambda oid, kind: (read.append(oid), get(oid, kind))[1])
    walk = listing.walk("", "014/014500.txt")
    assert [next(walk).path for _ in range(3)] == [f"014/{n:06}.txt" for n in (14501, 14502, 14503)]
    assert len(read) <= 2
    read.clear()
    assert [f"{n:03}" for n in range(30)] == list(listing.folder(""))
    ranges = len(list(tree.leaves(store, root)))
    assert len(read) <= 61 < ranges, "each folder is entered and stepped over"
    assert listing.find("nothing") is None
    assert len(list(fitting(listing, "007/0070?[05].txt"))) == 20


# ---- library


def test_files_are_opened_at_a_reference_and_mistakes_are_named(workspace: Workspace, photos: Repository) -> None:
    with workspace.open("photos@main/b/1.jpg") as file:
        file.seek(300)
        assert file.read(10) == BIG[300:310]
    assert workspace.open("noria://photos/a.txt").read() == b"inline"
    assert workspace.files.read_range(workspace.files.entry(photos, "b/1.jpg"), -5) == BIG[-5:]
    with pytest.raises(NotFound, match=r"no file 'b/1\.jpeg'") as missing:
        workspace.open("photos/b/1.jpeg")
    assert "'b/1.jpg'" in missing.value.hint
    with pytest.raises(Invalid, match="is a folder"):
        workspace.open("photos/b")
    with pytest.raises(Invalid, match=r"a link to 'a\.txt'"):
        workspace.open("photos/link")
    with pytest.raises(Invalid, match="names no repository"):
        workspace.open("noria://")
    with pytest.raises(Invalid, match="this works on tables"):
        workspace.read("photos")


@pytest.mark.parametrize(
    ("text", "repository", "ref", "path"),
    [
        ("flights", "flights", "main", ""),
        ("flights@/x", "flights", "main", "x"),
        ("noria://flights@v1/2013/01.parquet", "flights", "v1", "2013/01.parquet"),
        ("flights@@2013-04-01T05:00:00Z/x@y", "flights", "@2013-04-01T05:00:00Z", "x@y"),
        ("flights@fix%2Fprices~2/x%20y", "flights", "fix/prices~2", "x%20y"),
    ],
)
def test_an_address_has_three_parts(text: str, repository: str, ref: str, path: str) -> None:
    found = address.parse(text)
    assert (found.repository, found.ref, found.path) == (repository, ref, path)
    again = address.parse(address.write(repository, ref, path))
    assert (again.repository, again.ref, again.path) == (repository, ref, path)


def test_pages_stay_at_one_commit(workspace: Workspace, photos: Repository, actor: Actor, tmp_path: Path) -> None:
    first = workspace.files.page(photos, limit=2)
    assert [e.path for e in first.items] == ["a.txt", "b/1.jpg"]
    (tmp_path / "photos" / "b" / "1a.jpg").write_bytes(b"new")
    workspace.files.commit(photos, tmp_path / "photos", actor=actor)
    second = workspace.files.page(photos, after=first.next, limit=10)
    assert [e.path for e in second.items] == ["b/2.jpg", "b/c/3.jpg", "link", "z.txt"]
    assert (second.next, second.commit) == (None, first.commit)
    assert [e.path for e in workspace.files.page(photos, pattern="b/1*").items] == ["b/1.jpg", "b/1a.jpg"]
    assert [e.path for e in workspace.files.page(photos, pattern="b/c").items] == ["b/c/3.jpg"]
    assert [e.path for e in workspace.files.page(photos, pattern="b/2.jpg").items] == ["b/2.jpg"]
    for bad in ("x", "WzEsMl0", "WyJhIl0"):
        with pytest.raises(Invalid):
            workspace.files.page(photos, after=bad)
    with pytest.raises(Invalid, match="page of 0"):
        workspace.files.page(photos, limit=0)


# ---- commands


@pytest.fixture
def noria(capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    def call(*args: str) -> tuple[int, bytes, str]:
        capfdbinary.readouterr()
        code = run(list(args))
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return call


def test_commands_list_and_write_out_files(photos: Repository, noria: Any) -> None:
    code, out, _ = noria("data", "ls", "photos")
    assert code == 0
    assert [line.split() for line in out.decode().splitlines()][1:3] == [["a.txt", "6"], ["b/1.jpg", "512000"]]
    found = json.loads(noria("data", "ls", "photos", "b/*.jpg", "--ref", "main", "--json")[1])
    assert [one["path"] for one in found] == ["b/1.jpg", "b/2.jpg", "b/c/3.jpg"]
    code, out, err = noria("data", "ls", "photos", "--limit", "1")
    assert (code, "more than 1" in err) == (0, True)
    assert noria("data", "ls", "photos", "none*")[1].strip() == b"Nothing fits."
    assert noria("data", "cat", "photos", "b/1.jpg")[1] == BIG
    assert noria("data", "cat", "photos", "b/1.jpg", "--range", "10-20")[1] == BIG[10:20]
    assert noria("data", "cat", "photos", "b/1.jpg", "--range", "-3")[1] == BIG[-3:]
    assert noria("data", "cat", "photos", "b/1.jpg", "--range", "511990-")[1] == BIG[511990:]
    assert noria("data", "cat", "photos", "a.txt", "--range", "5-5")[:2] == (0, b"")
    for wrong, why in (("9-5", "ends before it begins"), ("abc", "not a range"), ("-", "not a range")):
        code, out, err = noria("data", "cat", "photos", "a.txt", "--range", wrong)
        assert (code, out, why in err, "--range" in err.partition(why)[2]) == (2, b"", True, True)
    code, out, err = noria("data", "cat", "photos", "b/1.jpeg")
    assert (code, out) == (4, b"")
    assert "Did you mean 'b/1.jpg'?" in err
    code, _, err = noria("data", "cat", "photos", "a.txt", "--range", "x")
    assert (code, "not a range" in err) == (2, True)


# ---- HTTP


def test_bytes_over_http_whole_in_part_and_not_at_all(photos: Repository, http: Client) -> None:
    path = "/v1/data/photos/files/b/1.jpg"
    whole = http.get(path)
    assert (whole.status, whole.body) == (200, BIG)
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["content-length"] == str(len(BIG))
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-disposition"] == "attachment"
    tag = whole.headers["etag"]
    for asked, body, where in [
        ("bytes=0-9", BIG[:10], "bytes 0-9/512000"),
        ("bytes=511990-", BIG[511990:], "bytes 511990-511999/512000"),
        ("bytes=-7", BIG[-7:], "bytes 511993-511999/512000"),
        ("bytes=511999-999999999", BIG[-1:], "bytes 511999-511999/512000"),
    ]:
        part = http.call("GET", path, range=asked)
        assert (part.status, part.body, part.headers["content-range"]) == (206, body, where)
    for wrong, why in [
        ("bytes=512000-", "has none of the 512000 bytes"),
        ("bytes=5-4", "ends before it begins"),
        ("bytes=-0", "has none of"),
        ("bytes=" + "9" * 40 + "-", "has none of"),
        ("bytes=-", "not a range"),
        ("bytes=abc", "not a range"),
        ("Bytes=1", "not a range"),
    ]:
        refused = http.call("GET", path, range=wrong)
        assert (refused.status, refused.headers["content-range"]) == (416, "bytes */512000")
        error = refused.json["error"]
        assert error["code"] == "range_not_satisfiable"
        assert why in error["message"]
        assert http.call("HEAD", path, range=wrong).body == b""
    for whole_again in ("bytes=0-1,4-5", "bytes=0-1,abc", "lines=1-2", "lines"):
        assert http.call("GET", path, range=whole_again).status == 200
    assert http.call("GET", path, range="bytes=0-1", if_range=tag).status == 206
    assert http.call("GET", path, range="bytes=0-1", if_range='"other"').status == 200
    same = http.call("GET", path, if_none_match=f'"x", {tag}')
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
    head = http.call("HEAD", path)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(BIG)))
    assert http.get("/v1/data/photos/files/b/c/3.jpg").body == b""
    assert http.get("/v1/data/photos/files/a.txt").body == b"inline"


def test_pages_and_refusals_over_http(photos: Repository, http: Client) -> None:
    first = http.get("/v1/data/photos/files", "limit=2&pattern=*.jpg").json
    assert [i["path"] for i in first["items"]] == ["b/1.jpg", "b/2.jpg"]
    rest = http.get("/v1/data/photos/files", f"limit=2&pattern=*.jpg&after={first['next']}").json
    assert ([i["path"] for i in rest["items"]], rest["next"]) == (["b/c/3.jpg"], None)
    assert rest["commit"] == first["commit"]
    (link,) = http.get("/v1/data/photos/files", "pattern=link").json["items"]
    assert (link["kind"], link["target"], link["digest"]) == ("symlink", "a.txt", None)
    (item,) = http.get("/v1/data/photos/files", "pattern=a.txt").json["items"]
    assert http.get("/v1/data/photos/files/a.txt").headers["etag"] == f'"{item["digest"]}"'
    missing = http.get("/v1/data/photos/files/b/1.jpeg")
    assert (missing.status, missing.error["hint"]) == (404, "Did you mean 'b/1.jpg'?")
    assert http.get("/v1/data/photos/files/b").status == 400
    assert http.get("/v1/data/photos/files/../../etc").status == 404
    assert http.get("/v1/data/photos/files/a.txt", "ref=nothing").status == 404
    for bad in ("limit=0", "limit=x", "after=zzz"):
        assert http.get("/v1/data/photos/files", bad).status == 400


def test_a_damaged_file_is_an_error_and_not_a_part_of_it(
    workspace: Workspace, photos: Repository, http: Client
) -> None:
    found = workspace.files.entry(photos, "b/2.jpg")
    assert found.content is not None
    (pack, place), *_ = workspace.store.index.find(found.content.id.raw)
    path = workspace.store.source.local_path(f"packs/{pack[:2]}/{pack}.pack")
    assert path is not None
    data = bytearray(path.read_bytes())
    data[place.offset + place.stored + 30] ^= 255
    path.write_bytes(data)
    workspace.store._maps.clear()
    refused = http.get("/v1/data/photos/files/b/2.jpg")
    assert (refused.status, refused.error["code"]) == (503, "object_corrupt")
    assert http.get("/v1/data/photos/files/b/1.jpg").status == 200


def test_an_empty_folder_is_listed_as_what_it_is(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    (tmp_path / "f" / "empty").mkdir(parents=True)
    made = workspace.files.create(workspace.project.id, "f", RepositoryKind.FILES, actor=actor)
    workspace.files.commit(made, tmp_path / "f", actor=actor)
    (entry,) = workspace.files.page(made).items
    assert (entry.path, entry.kind) == ("empty", EntryKind.FOLDER)
