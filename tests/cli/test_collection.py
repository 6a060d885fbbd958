"""``noria run`` reads what is new in its sources, each piece once, and says what it could not take."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import create_engine, text
from test_models import PROJECT, world

from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.cli.main import run
from noria.workspace import connect

STEPS = """\
import polars as pl

import noria as nr

orders = nr.source("orders", files="in/*.csv", key="id")


@nr.dataset
def total(orders: pl.DataFrame):
    return {"ids": sorted(orders["id"].to_list()), "sum": int(orders["n"].sum())}
"""


@pytest.fixture
def noria(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(list(args))
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def shop(project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    project({"steps.py": STEPS, "in/1.csv": "id,n\n1,10\n"})
    return tmp_path


def value(root: Path, name: str = "total") -> Any:
    with connect(root) as ws:
        return ws.pipelines.value(name)


def runs(root: Path) -> int:
    with connect(root) as ws:
        return len(ws.assets.list_runs(ws.project.id, kinds=["collection"]).items)


def test_a_file_that_comes_later_is_read_and_nothing_new_writes_nothing(shop: Path, noria: Any) -> None:
    assert noria("run")[0] == 0
    assert value(shop) == {"ids": [1], "sum": 10}
    (shop / "in" / "2.csv").write_text("id,n\n2,20\n")
    plan = {s["asset"]: s for s in json.loads(noria("plan", "--json")[1])["steps"]}
    assert plan["orders"]["action"] == "run"
    assert plan["orders"]["why"] == [{"level": "INPUT", "text": "in/2.csv is new"}]
    assert plan["total"]["why"] == [{"level": "UPSTREAM", "text": "input orders will change"}]
    assert "is collected" in noria("plan")[1]
    assert value(shop) == {"ids": [1], "sum": 10}, "a plan writes nothing"
    assert noria("run")[0] == 0
    assert value(shop) == {"ids": [1, 2], "sum": 30}
    (shop / "in" / "1.csv").write_text("id,n\n1,11\n")
    assert "in/1.csv changed" in noria("plan")[1]
    assert noria("run", "total")[0] == 0
    assert value(shop) == {"ids": [1, 2], "sum": 31}
    before = runs(shop)
    assert noria("run")[0] == 0
    assert runs(shop) == before
    assert "Everything is up to date" in noria("plan")[1]


def test_a_file_that_was_only_touched_is_read_once_and_never_again(
    shop: Path, noria: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert noria("run")[0] == 0
    os.utime(shop / "in" / "1.csv", ns=(1, 1))
    assert "Everything is up to date" in noria("plan")[1]
    assert noria("run")[0] == 0
    assert runs(shop) == 1

    def read(_: Path) -> bytes:
        raise AssertionError("a file of known size and time is not read")

    monkeypatch.setattr("noria.data.collectors.files.Path.read_bytes", read)
    with connect(shop) as ws:
        repository = ws.data.get(ws.project.id, "orders")
        assert ws.collector.pending_files(repository, "in/*.csv") == []


def test_sources_are_taken_as_they_stand_where_that_is_asked_for(shop: Path, noria: Any) -> None:
    code, _, err = noria("run", "--no-collect")
    assert code == 1
    assert "noria data collect orders" in err
    assert noria("run")[0] == 0
    (shop / "in" / "2.csv").write_text("id,n\n2,20\n")
    assert noria("run", "--no-collect")[0] == 0
    assert value(shop) == {"ids": [1], "sum": 10}
    (shop / "in" / "2.csv").write_text("")
    code, _, err = noria("run")
    assert code == 1
    assert "2.csv cannot be read" in err
    assert "noria run --no-collect" in err, "there are rows to go on with"


@pytest.mark.parametrize("point", ["data.head:2", "data.head:3", "change.data.append:2", "store.fsync:4"])
def test_killed_in_the_middle_of_a_collection_the_next_run_has_every_file_once(
    shop: Path, noria: Any, point: str
) -> None:
    for number in (2, 3):
        (shop / "in" / f"{number}.csv").write_text(f"id,n\n{number},{number}0\n")
    (shop / "steps.py").write_text(STEPS.replace(', key="id"', ""))
    command = [sys.executable, "-m", "noria", "run"]
    killed = subprocess.run(command, env={**os.environ, "NORIA_FAULT": point}, capture_output=True, check=False)
    assert killed.returncode == 137, killed.stderr
    assert noria("run")[0] == 0
    assert value(shop) == {"ids": [1, 2, 3], "sum": 60}
    assert noria("run")[0] == 0
    assert value(shop) == {"ids": [1, 2, 3], "sum": 60}


def test_two_runs_at_once_collect_every_file_once(shop: Path, noria: Any) -> None:
    (shop / "steps.py").write_text(STEPS.replace(', key="id"', ""))
    for number in range(2, 9):
        (shop / "in" / f"{number}.csv").write_text(f"id,n\n{number},{number}0\n")

    def collect(_: int) -> bytes:
        done = subprocess.run([sys.executable, "-m", "noria", "run"], capture_output=True, check=False)
        return done.stderr if done.returncode else b""

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(collect, range(2))) == [b"", b""]
    assert noria("run")[0] == 0
    assert value(shop)["ids"] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_rows_that_were_posted_stay_and_files_are_not_taken_again(shop: Path, noria: Any) -> None:
    assert noria("run")[0] == 0
    with connect(shop) as ws:
        repository = ws.data.get(ws.project.id, "orders")
        posted = ws.data.append(repository, [{"id": 1, "n": 99}, {"id": 7, "n": 1}], actor=ws.actor)
        assert noria("run")[0] == 0
        head = ws.data.head(repository)
        assert head is not None
        assert head.id == posted.id
    assert value(shop) == {"ids": [1, 7], "sum": 100}


def test_a_training_from_a_snapshot_takes_what_is_there(shop: Path, noria: Any) -> None:
    """The folder of a snapshot holds code, and perhaps an old copy of a file that was in git."""
    assert noria("run")[0] == 0
    (shop / "in" / "1.csv").write_text("id,n\n1,11\n")
    assert noria("run")[0] == 0
    elsewhere = shop.parent / f"{shop.name}-snapshot"
    (elsewhere / "in").mkdir(parents=True)
    (elsewhere / "in" / "1.csv").write_text("id,n\n1,10\n")
    for name in ("steps.py", "noria.toml"):
        shutil.copyfile(shop / name, elsewhere / name)
    with connect(str(shop), root=str(elsewhere)) as ws:
        ws.pipelines.run(["total"], actor=Actor(name="trigger:drift"), collect=False)
    assert value(shop) == {"ids": [1], "sum": 11}


def test_rows_of_a_database_and_a_folder_are_looked_at_in_each_run(
    project: Any, tmp_path: Path, noria: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    monkeypatch.setenv("SHOP_DB", url)
    steps = """\
from pathlib import Path
import polars as pl
import noria as nr
orders = nr.source("orders", sql="select id, n from orders", url=nr.secret("SHOP_DB"), key="id")
grown = nr.source("grown", sql="select id, n from orders", url=nr.secret("SHOP_DB"), key="id", watermark="id")
pages = nr.source("pages", files="pages", folder=True)
@nr.dataset
def total(orders: pl.DataFrame, grown: pl.DataFrame, pages: Path):
    return [int(orders["n"].sum()), int(grown["n"].sum()), sorted(p.name for p in pages.iterdir())]
"""
    engine = create_engine(url)
    with engine.begin() as conn:
        conn.execute(text("create table orders (id integer, n integer)"))
        conn.execute(text("insert into orders values (1, 10), (2, 20)"))
    project({"steps.py": steps, "pages/a.txt": "a"})
    assert noria("run")[0] == 0
    assert value(tmp_path) == [30, 30, ["a.txt"]]
    with engine.begin() as conn:
        conn.execute(text("insert into orders values (3, 30)"))
        conn.execute(text("update orders set n = 11 where id = 1"))
    engine.dispose()
    (tmp_path / "pages" / "b.txt").write_text("b")
    plan = {s["asset"]: s for s in json.loads(noria("plan", "--json")[1])["steps"]}
    assert plan["pages"]["why"] == [{"level": "INPUT", "text": "b.txt is new"}]
    assert plan["orders"]["action"] == "source"
    assert plan["orders"]["why"] == [{"level": "INPUT", "text": "its query is asked when it runs"}]
    assert noria("run")[0] == 0
    assert value(tmp_path) == [61, 60, ["a.txt", "b.txt"]], "a watermark sees what is beyond it"
    monkeypatch.delenv("SHOP_DB")
    code, _, err = noria("run")
    assert code == 1
    assert "SHOP_DB" in err


def test_one_source_is_collected_by_name(shop: Path, noria: Any) -> None:
    code, out, _ = noria("data", "collect", "orders", "--json")
    assert code == 0
    done = json.loads(out)
    assert (done["rows"], len(done["commits"]), done["refused"]) == (1, 1, [])
    again = json.loads(noria("data", "collect", "orders", "--json")[1])
    assert (again["rows"], again["commits"], again["run"]) == (0, [], None)
    assert "nothing new" in noria("data", "collect", "orders")[1]
    assert noria("data", "collect", "ordres")[0] == 4
    code, _, err = noria("data", "collect", "total", "--json")
    assert code == 2
    assert json.loads(err)["error"]["hint"] == "noria run total"


# ---- batches that are refused


@pytest.fixture
def strict(shop: Path, noria: Any) -> Path:
    (shop / "contract.json").write_text(
        json.dumps({"columns": {"id": {"type": "int64"}, "n": {"type": "int64", "max": 100}}})
    )
    assert noria("apply")[0] == 0
    assert noria("data", "contract", "set", "orders", "contract.json")[0] == 0
    return shop


def test_a_run_without_any_good_batch_fails_with_what_the_contract_found(strict: Path, noria: Any) -> None:
    (strict / "in" / "1.csv").write_text("id,n\n1,10\n2,999\n")
    for _ in range(2):
        code, out, err = noria("run", "--json")
        assert code == 1
        step = json.loads(out)["steps"][0]
        assert (step["action"], step["error"]["code"]) == ("failed", "contract_broken")
        (finding,) = step["error"]["details"]["findings"]
        assert (finding["column"], finding["count"]) == ("n", 1)
        assert "999" in json.dumps(finding["rows"])
        assert step["error"]["details"]["source"] == "file:in/1.csv"
        assert "quarantine show 1" in step["error"]["hint"]
        assert json.loads(err)["error"]["code"] == "pipeline_failed"
    code, _, err = noria("run")
    assert "999" in err
    assert "noria data append" not in err
    assert len(json.loads(noria("data", "quarantine", "list", "--json")[1])) == 1, "the same batch is one record"
    assert noria("data", "collect", "orders")[0] == 3
    with connect(strict) as ws:
        states = {r.state for r in ws.assets.list_runs(ws.project.id).items}
    assert RunState.RUNNING not in states


def test_a_run_with_a_good_batch_goes_on_and_warns_of_the_bad_one_each_time(strict: Path, noria: Any) -> None:
    (strict / "in" / "2.csv").write_text("id,n\n2,999\n")
    for _ in range(2):
        code, out, err = noria("run", "--json")
        assert code == 0
        assert err == ""
        step = json.loads(out)["steps"][0]
        assert step["action"] == "source"
        (warning,) = step["warnings"]
        assert warning["code"] == "contract_broken"
        assert warning["details"]["findings"][0]["column"] == "n"
        assert "in/2.csv" in warning["message"]
    assert value(strict) == {"ids": [1], "sum": 10}
    code, _, err = noria("run")
    assert code == 0
    assert "Warning: A batch of orders (file:in/2.csv) was set aside" in err
    assert "noria data quarantine show 1" in err
    (strict / "in" / "2.csv").write_text("id,n\n2,99\n")
    code, _, err = noria("run")
    assert (code, err) == (0, "")
    assert value(strict) == {"ids": [1, 2], "sum": 109}


def test_the_rows_of_a_bad_batch_are_left_out_by_collect_with_a_warning(strict: Path, noria: Any) -> None:
    (strict / "in" / "2.csv").write_text("id,n\n2,999\n")
    code, out, _ = noria("data", "collect", "orders", "--json")
    assert code == 0
    assert [e["code"] for e in json.loads(out)["refused"]] == ["contract_broken"]
    assert pl.DataFrame(json.loads(noria("data", "read", "orders", "--json")[1]))["id"].to_list() == [1]


def test_a_sweep_warns_of_it_too(project: Any, tmp_path: Path, noria: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = PROJECT.replace('"orders", key', '"orders", files="orders/*.parquet", key')
    project({"steps.py": steps.replace('"outcomes", key', '"outcomes", files="outcomes.parquet", key')})
    orders, outcomes = world()
    (tmp_path / "orders").mkdir()
    orders.write_parquet(tmp_path / "orders" / "good.parquet")
    outcomes.write_parquet(tmp_path / "outcomes.parquet")
    assert noria("data", "collect", "orders")[0] == 0
    found = json.loads(noria("data", "contract", "infer", "orders", "--json")[1])
    found["columns"]["n"]["max"] = 100
    (tmp_path / "contract.json").write_text(json.dumps(found))
    assert noria("data", "contract", "set", "orders", "contract.json")[0] == 0
    orders.head(3).with_columns(n=pl.lit(999, pl.Int64)).write_parquet(tmp_path / "orders" / "new.parquet")
    code, out, _ = noria("sweep", "chance", "--trials", "1", "--json")
    assert code == 0
    (warning,) = json.loads(out)["warnings"]
    assert warning["details"]["source"] == "file:orders/new.parquet"
    code, _, err = noria("sweep", "chance", "--trials", "1")
    assert code == 0
    assert "orders/new.parquet) was set aside" in err


def test_a_plan_says_what_cannot_be_read_here_and_goes_on(shop: Path, noria: Any) -> None:
    (shop / "steps.py").write_text(STEPS.replace("in/*.csv", "in/1.csv"), encoding="utf-8")
    assert noria("run")[0] == 0
    (shop / "in" / "1.csv").unlink()
    code, out, _ = noria("plan", "--json")
    assert code == 0
    source = next(s for s in json.loads(out)["steps"] if s["asset"] == "orders")
    assert "cannot be read here" in source["why"][0]["text"]


def test_a_file_that_does_not_fit_is_named(shop: Path, noria: Any) -> None:
    assert noria("run")[0] == 0
    (shop / "in" / "2.csv").write_text("id\n2\n")
    code, _, err = noria("run")
    assert code == 1
    assert "2.csv: The rows do not have the table's columns: missing n" in err


def test_a_posted_source_can_be_appended_to_after_a_run_that_found_it_empty(shop: Path, noria: Any) -> None:
    (shop / "steps.py").write_text(STEPS.replace('files="in/*.csv", ', ""), encoding="utf-8")
    code, _, err = noria("run")
    assert code == 1
    assert "noria data append orders FILE" in err
    assert noria("data", "append", "orders", "in/1.csv")[0] == 0
    assert noria("run")[0] == 0
    assert value(shop) == {"ids": [1], "sum": 10}
