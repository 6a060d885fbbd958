"""``noria://`` in the hands of the tools that people have: pandas, Polars, PyArrow, DuckDB, loaders with workers."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.data.records import Repository, RepositoryKind
from noria.data.service.care.purge import Erase
from noria.gateways.fsspec import NoriaFileSystem
from noria.gateways.shared_file import SharedFile
from noria.workspace import Workspace, WorkspaceMissing

ROWS = 60_000
FRAME = pl.DataFrame({"id": range(ROWS), "text": [f"row {i * 7919 % 100_003}" for i in range(ROWS)], "n": range(ROWS)})


@pytest.fixture
def photos(workspace: Workspace, tmp_path: Path, actor: Actor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    folder = tmp_path / "photos"
    (folder / "2013").mkdir(parents=True)
    (folder / "empty").mkdir()
    FRAME[:30_000].write_parquet(folder / "2013" / "01.parquet", row_group_size=5_000, compression="uncompressed")
    FRAME[30_000:].write_parquet(folder / "2013" / "02.parquet")
    FRAME[:10].write_csv(folder / "small.csv")
    (folder / "note.txt").write_text("first")
    (folder / "link").symlink_to("note.txt")
    made = workspace.files.create(workspace.project.id, "flights", RepositoryKind.FILES, actor=actor)
    first = workspace.files.commit(made, folder, actor=actor)
    (folder / "note.txt").write_text("second, and longer than what is kept inline: " + "x" * 100)
    workspace.files.commit(made, folder, actor=actor)
    workspace.files.create_branch(made, "fix/prices", at=first.id, actor=actor)
    rows = workspace.data.create(workspace.project.id, "delays", RepositoryKind.TABLE, actor=actor, key=("id",))
    workspace.data.append(rows, FRAME[:100], actor=actor)
    workspace.data.append(rows, FRAME[:1], actor=actor, mode="delete")
    monkeypatch.chdir(workspace.home.parent)  # the nearest project
    yield made
    for one in NoriaFileSystem._cache.values():
        one.close()
    NoriaFileSystem.clear_instance_cache()


@pytest.fixture
def fs(photos: Repository) -> NoriaFileSystem:
    return fsspec.filesystem("noria")


def test_folders_and_files_are_seen_at_any_reference(fs: NoriaFileSystem, workspace: Workspace) -> None:
    assert sorted(fs.ls("noria://", detail=False)) == ["delays", "flights"]
    inside = {i["name"]: i["type"] for i in fs.ls("noria://flights@main/")}
    assert inside == {
        "flights@main/2013": "directory",
        "flights@main/empty": "directory",
        "flights@main/link": "other",
        "flights@main/note.txt": "file",
        "flights@main/small.csv": "file",
    }
    assert fs.ls("flights/2013", detail=False) == ["flights/2013/01.parquet", "flights/2013/02.parquet"]
    assert fs.glob("flights@main/*/*.parquet") == ["flights@main/2013/01.parquet", "flights@main/2013/02.parquet"]
    assert fs.find("flights/2013", detail=True)["flights/2013/02.parquet"]["size"] > 0
    assert fs.find("flights", withdirs=True)[:3] == ["flights", "flights/2013", "flights/2013/01.parquet"]
    assert fs.du("flights/2013") == sum(i["size"] for i in fs.ls("flights/2013"))
    assert fs.isdir("flights")
    assert fs.isdir("flights/empty")
    assert fs.isfile("flights/note.txt")
    assert fs.exists("flights@main~1/note.txt")
    assert not fs.exists("flights@main~1/nothing")
    assert not fs.exists("flihgts")
    assert fs.cat("flights@main~1/note.txt") == fs.cat("noria://flights@fix%2Fprices/note.txt") == b"first"
    commit = workspace.files.log(workspace.files.get(workspace.project.id, "flights"))[1]
    assert fs.cat(f"flights@{commit.id[:10]}/note.txt") == b"first"
    assert fs.ukey("flights/small.csv") == fs.ukey("flights@main~1/small.csv")
    assert fs.ukey("flights/note.txt") != fs.ukey("flights@main~1/note.txt")
    assert fs.modified("flights@main~1/note.txt").timestamp() == commit.at / 1000


def test_what_is_not_there_is_said_as_a_file_system_says_it(fs: NoriaFileSystem) -> None:
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'note\.txt'"):
        fs.open("flights/note.tx")
    with pytest.raises(FileNotFoundError, match="Did you mean 'flights'"):
        fs.ls("flihgts")
    with pytest.raises(FileNotFoundError, match="no branch, tag or commit 'v9'"):
        fs.cat("flights@v9/note.txt")
    with pytest.raises(IsADirectoryError):
        fs.open("flights/2013")
    with pytest.raises(ValueError, match="refused"):
        fs.cat("flights/../../etc/passwd")
    with pytest.raises(ValueError, match="link"):
        fs.cat("flights/link")
    with pytest.raises(FileNotFoundError, match=r"rows\.parquet"):
        fs.cat("delays/fragment.parquet")


def test_parts_of_files_are_read_without_the_rest(fs: NoriaFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fs.cat("flights/2013/01.parquet")
    assert len(whole) > 500_000
    read: list[int] = []
    view = fs.ws.store.view

    def counted(oid: Any, kind: Any) -> Any:
        found = view(oid, kind)
        read.append(len(found))
        return found

    monkeypatch.setattr(fs.ws.store, "view", counted)
    assert fs.cat_file("flights/2013/01.parquet", start=-12) == whole[-12:]
    assert fs.cat_file("flights/2013/01.parquet", 1000, 1010) == whole[1000:1010]
    assert fs.cat_file("flights/2013/01.parquet", 9, 5) == b""
    found = fs.cat_ranges(
        ["flights/2013/01.parquet", "flights/note.txt", "flights/2013/01.parquet"], [5, 0, 0], [9, 6, 4]
    )
    assert found == [whole[5:9], b"second", b"PAR1"]
    assert isinstance(fs.cat_ranges(["flights/none"], 0, 1)[0], FileNotFoundError)
    assert sum(read) < len(whole) * 2
    read.clear()
    names = pq.ParquetFile(fs.open("flights/2013/01.parquet")).read_row_group(0, columns=["n"])
    assert names["n"].to_pylist() == list(range(5_000))
    assert 0 < sum(read) < len(whole) / 2
    with fs.open("flights/2013/01.parquet") as file:
        file.seek(100)
        assert file.read(20) == whole[100:120]


def test_pandas_polars_and_pyarrow_open_it(fs: NoriaFileSystem) -> None:
    assert pd.read_parquet("noria://flights@main/2013/01.parquet", columns=["n"]).n.sum() == sum(range(30_000))
    assert list(pd.read_csv("noria://flights/small.csv").id) == list(range(10))
    assert pl.read_parquet(fs.open("flights@main/2013/02.parquet")).equals(FRAME[30_000:])
    whole = ds.dataset("flights@main/2013", filesystem=fs)
    assert whole.count_rows() == ROWS
    assert pl.scan_pyarrow_dataset(whole).filter(pl.col("id") < 5).select("id").collect()["id"].to_list() == [
        0,
        1,
        2,
        3,
        4,
    ]
    arrow = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))
    assert pq.read_table("flights@main/2013/01.parquet", filesystem=arrow, columns=["id"]).num_rows == 30_000
    assert pl.read_parquet("noria://flights@main/2013/01.parquet", use_pyarrow=True).equals(FRAME[:30_000])


def test_duckdb_queries_it(fs: NoriaFileSystem) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install duckdb")
    with duckdb.connect() as con:
        con.register_filesystem(fs)
        con.execute("set threads = 4")  # they share one open file
        sums = con.sql("select count(*), sum(n) from 'noria://flights@main/2013/*.parquet'").fetchall()
        assert sums == [(ROWS, sum(range(ROWS)))]
        assert con.sql("select max(id) from 'noria://flights@main/small.csv'").fetchall() == [(9,)]
        assert con.sql("select count(*) from 'noria://delays@main/rows.parquet'").fetchall() == [(99,)]


def test_threads_that_share_a_file_read_what_each_has_sought(fs: NoriaFileSystem) -> None:
    whole = fs.cat("flights/2013/01.parquet")
    wrong: list[int] = []
    with fs.open("flights/2013/01.parquet") as file:

        def reader(seed: int) -> None:
            for step in range(400):
                at = (seed * 7919 + step * 104_729) % len(whole)
                file.seek(at)
                if file.read(1000) != whole[at : at + 1000]:
                    wrong.append(at)

        threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert wrong == []


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["read", "seek", "jump", "end", "line"]), st.integers(0, 30)),
        max_size=20,
    )
)
def test_a_file_that_is_handed_from_thread_to_thread_is_like_any_other(steps: list[tuple[int, str, int]]) -> None:
    data = bytes(range(65, 91)) + b"\n" + bytes(range(97, 123)) + b"\n" + b"x" * 40
    plain, shared = io.BytesIO(data), SharedFile(io.BytesIO(data))

    def act(file: Any, what: str, number: int) -> Any:
        if what == "read":
            return file.read(number)
        if what == "line":
            return file.readline()
        return file.seek(
            *{"seek": (number,), "jump": (number - 3 if file.tell() > 3 else 0, 1), "end": (-number, 2)}[what]
        )

    with ThreadPoolExecutor(1) as a, ThreadPoolExecutor(1) as b, ThreadPoolExecutor(1) as c:
        sought: int | None = None  # who has sought and not read: only then is it another file than any other
        for who, what, number in steps:
            if what in ("seek", "jump", "end"):
                if sought not in (None, who):
                    continue
                sought = who
            else:
                sought = None
            done = (a, b, c)[who].submit(act, shared, what, number).result()
            assert done == act(plain, what, number)
            if what != "read":
                continue
            assert (a, b, c)[who].submit(shared.tell).result() == plain.tell()


def test_text_and_lines(fs: NoriaFileSystem) -> None:
    with fs.open("flights/small.csv", "rt") as file:
        assert file.readline() == "id,text,n\n"
        assert len(file.readlines()) == 10
    with fs.open("flights/small.csv") as file:
        assert next(file) == b"id,text,n\n"
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_a_table_is_one_parquet_file_that_holds_its_rows(fs: NoriaFileSystem) -> None:
    assert fs.ls("delays", detail=False) == ["delays/rows.parquet"]
    assert pd.read_parquet("noria://delays/rows.parquet").id.tolist() == list(range(1, 100))
    assert pd.read_parquet("noria://delays@main~1/rows.parquet").id.tolist() == list(range(100))
    assert fs.info("delays/rows.parquet")["size"] == len(fs.cat("delays/rows.parquet"))
    assert fs.ws.read("delays", at="main~1", columns=["id"]).height == 100
    assert fs.ws.read("delays@main~1").height == 100
    assert fs.ws.open("flights@main~1/note.txt").read() == b"first"
    cache = fs.ws.home / "cache" / "rows"
    for _ in range(10):
        fs.ws.data.append(fs.ws.data.get(fs.ws.project.id, "delays"), FRAME[:1], actor=fs.ws.actor)
        fs.ws.data.append(fs.ws.data.get(fs.ws.project.id, "delays"), FRAME[:1], actor=fs.ws.actor, mode="delete")
        fs.info("delays@main~1/rows.parquet")
    assert len(list(cache.iterdir())) <= 8


def test_rows_that_are_erased_are_erased_from_the_file_of_the_table_too(fs: NoriaFileSystem, actor: Actor) -> None:
    assert 7 in pd.read_parquet("noria://delays/rows.parquet").id.tolist()
    table = fs.ws.data.get(fs.ws.project.id, "delays")
    before = fs.ws.data.rows_file(table)
    fs.ws.care.purge(table, Erase(rows="id = 7"), reason="asked for", actor=actor)
    assert not before.exists()
    assert 7 not in pd.read_parquet("noria://delays/rows.parquet").id.tolist()


def load(job: tuple[bytes, str]) -> tuple[int, int]:
    """What a worker of a data loader does: unpickle the file system, read its files."""
    os.chdir("/")  # another folder than that of the project
    fs = pickle.loads(job[0])
    return os.getpid(), len(fs.cat(job[1]))


@pytest.mark.parametrize("how", ["spawn", "fork"])
def test_workers_of_a_loader_open_it_again(fs: NoriaFileSystem, how: str, recwarn: Any) -> None:
    fs.cat("flights/note.txt")  # open in this process
    paths = ["flights/note.txt", "flights@main~1/note.txt"]
    with multiprocessing.get_context(how).Pool(1) as pool:
        found = pool.map(load, [(pickle.dumps(fs), path) for path in paths])
    assert {pid for pid, _ in found}.isdisjoint({os.getpid()})
    assert [size for _, size in found] == [145, 5]
    assert fs.cat("flights@main~1/note.txt") == b"first", "the parent reads on"


def _in_child(fs: NoriaFileSystem, pipe: Any) -> None:
    pipe.send(fs.cat("flights@main~1/note.txt"))
    pipe.send(fs.ws.db is not None)


def test_a_forked_process_that_inherits_it_opens_a_workspace_of_its_own(fs: NoriaFileSystem, recwarn: Any) -> None:
    fs.cat("flights/note.txt")
    parent = fs.ws
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_in_child, args=(fs, there))
    child.start()
    assert here.recv() == b"first"
    assert here.recv()
    child.join()
    assert child.exitcode == 0
    assert fs.ws is parent
    assert fs.cat("flights@main~1/note.txt") == b"first"


def test_each_workspace_has_an_instance_of_its_own(
    fs: NoriaFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    from noria.workspace import init

    init(other, environment={}).close()
    monkeypatch.chdir(other)
    assert fsspec.filesystem("noria").ls("") == []
    named = fsspec.filesystem("noria", workspace=str(workspace.home.parent))
    assert named is fs
    assert "workspace" in fs.to_dict()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkspaceMissing, match="holds a project"):
        fsspec.filesystem("noria")


def test_fsspec_finds_it_by_its_entry_point() -> None:
    from importlib.metadata import entry_points

    (found,) = entry_points(group="fsspec.specs", name="noria")
    assert found.load() is NoriaFileSystem


# ---- writing


def log(fs: NoriaFileSystem) -> list[str]:
    ws = fs.ws
    return [c.message for c in ws.files.log(ws.files.get(ws.project.id, "flights"), limit=50)]


def test_each_closed_file_is_a_commit_and_a_transaction_is_one(fs: NoriaFileSystem) -> None:
    before = len(log(fs))
    with fs.open("flights/new/a.txt", "wb") as file:
        file.write(b"hello ")
        file.write(b"world")
    assert fs.cat("flights/new/a.txt") == b"hello world"
    assert len(log(fs)) == before + 1
    assert fs.last_commit is not None
    assert fs.cat(f"flights@{fs.last_commit}/new/a.txt") == b"hello world"
    with fs.open("flights/new/a.txt", "ab") as file:
        file.write(b"!")
    assert fs.cat("flights/new/a.txt") == b"hello world!"
    with fs.transaction:
        fs.pipe("flights/new/b.txt", b"b")
        fs.cp_file("flights/new/a.txt", "flights/copied.txt")
        fs.rm("flights/note.txt")
        fs.mv("flights/2013/01.parquet", "flights/2014/01.parquet")
        with fs.open("flights/new/c.txt", "w") as text:
            text.write("c")
        assert fs.exists("flights/note.txt"), "nothing has landed yet"
    assert len(log(fs)) == before + 3
    assert log(fs)[0] == "put new/b.txt and 4 more"
    assert fs.find("flights/new") == ["flights/new/a.txt", "flights/new/b.txt", "flights/new/c.txt"]
    assert fs.cat("flights/copied.txt") == b"hello world!"
    assert not fs.exists("flights/note.txt")
    assert not fs.exists("flights/2013/01.parquet")
    assert fs.size("flights/2014/01.parquet") > 500_000


def test_what_an_error_left_is_not_committed(fs: NoriaFileSystem) -> None:
    before = log(fs)
    with pytest.raises(RuntimeError), fs.open("flights/half.txt", "wb") as file:
        file.write(b"half")
        raise RuntimeError
    with pytest.raises(RuntimeError), fs.transaction:
        fs.pipe("flights/one.txt", b"1")
        fs.rm("flights/note.txt")
        raise RuntimeError
    left = fs.open("flights/left.txt", "wb")
    left.write(b"never closed")
    del left
    assert log(fs) == before
    with pytest.raises(FileNotFoundError), fs.transaction:
        fs.pipe("flights/one.txt", b"1")
        fs.rm_file("flights/nothing.txt")
    assert log(fs) == before, "one of two edits does not fit: neither lands"
    fs.pipe("flights/after.txt", b"and the file system goes on")
    assert len(log(fs)) == len(before) + 1
    for path, mode, kind in [
        ("flights/note.txt", "xb", FileExistsError),
        ("flights/note.txt", "r+b", OSError),
        ("flights@v9/x.txt", "wb", FileNotFoundError),
        ("nothing/x.txt", "wb", FileNotFoundError),
        ("delays/rows.parquet", "wb", ValueError),
        ("flights/../x", "wb", ValueError),
        ("flights", "wb", ValueError),
    ]:
        with pytest.raises(kind):
            fs.open(path, mode).close()
    with pytest.raises(IsADirectoryError):
        fs.rm("flights/2013")


def test_folders_are_put_copied_moved_and_removed_in_one_commit_each(fs: NoriaFileSystem, tmp_path: Path) -> None:
    folder = tmp_path / "up"
    (folder / "deep").mkdir(parents=True)
    for name in ("1.txt", "deep/2[x].txt", "deep/3.txt"):
        (folder / name).write_text(name)
    before = len(log(fs))
    fs.put(str(folder), "flights/up", recursive=True)
    assert len(log(fs)) == before + 1
    assert fs.find("flights/up") == ["flights/up/1.txt", "flights/up/deep/2[x].txt", "flights/up/deep/3.txt"]
    fs.copy("flights/up", "flights/twice", recursive=True)
    assert len(fs.find("flights/twice")) == 3
    fs.mv("flights/up", "flights/moved", recursive=True)
    assert not fs.exists("flights/up")
    fs.rm_file("flights/moved/deep/2[x].txt")
    assert fs.find("flights/moved") == ["flights/moved/1.txt", "flights/moved/deep/3.txt"]
    fs.rm("flights/moved", recursive=True)
    assert not fs.exists("flights/moved")
    assert len(log(fs)) == before + 5
    fs.mkdir("noria://other")
    with pytest.raises(FileExistsError):
        fs.mkdir("other")
    fs.makedirs("other/folder", exist_ok=True)
    fs.copy("flights/twice", "other/twice", recursive=True)
    assert fs.cat("other/twice/deep/3.txt") == b"deep/3.txt"
    fs.cp_file("flights@main~1/moved/1.txt", "flights/back.txt")
    assert fs.cat("flights/back.txt") == b"1.txt"
    fs.get("flights@main/twice", str(tmp_path / "down"), recursive=True)
    assert (tmp_path / "down" / "deep" / "3.txt").read_text() == "deep/3.txt"


def test_tools_write_through_it(fs: NoriaFileSystem) -> None:
    pd.DataFrame({"a": [1, 2]}).to_parquet("noria://flights@main/made/pandas.parquet")
    pd.DataFrame({"a": [1, 2]}).to_csv(
        "noria://flights@main/made/pandas.csv", index=False, storage_options={"message": "csv"}
    )
    assert log(fs)[0] == "csv"
    with fs.open("flights/made/polars.parquet", "wb") as file:
        FRAME[:100].write_parquet(file)
    pq.write_to_dataset(FRAME[:10].to_arrow(), "flights/made/set", partition_cols=["n"], filesystem=fs)
    assert len(fs.find("flights/made/set")) == 10
    assert pd.read_parquet("noria://flights/made/pandas.parquet").a.tolist() == [1, 2]
    assert pl.read_parquet(fs.open("flights/made/polars.parquet")).equals(FRAME[:100])
