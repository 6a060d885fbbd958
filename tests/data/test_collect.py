from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import polars as pl
import pytest
from sqlalchemy import Engine, create_engine, text

from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.base.errors import Invalid, NoriaError
from noria.data.collectors.sql import _read, _written
from noria.data.errors import ContractBroken, SourceFailed
from noria.data.records import RepositoryKind
from noria.data.service.collecting.collector import SourceSpec
from noria.workspace import Workspace


@pytest.fixture
def repo(workspace: Workspace, actor: Actor):
    return workspace.data.create(workspace.project.id, "orders", RepositoryKind.TABLE, actor=actor, key=("id",))


def root(ws: Workspace) -> Path:
    return ws.home.parent


def test_files_are_collected_once_and_changed_ones_again(workspace: Workspace, actor: Actor, repo) -> None:
    place = root(workspace) / "in"
    place.mkdir()
    pl.DataFrame({"id": [1, 2], "n": [10, 20]}).write_csv(place / "a.csv")
    pl.DataFrame({"id": [3], "n": [30]}).write_parquet(place / "b.parquet")
    (place / "c.jsonl").write_text('{"id": 4, "n": 40}\n')
    spec = SourceSpec(files="in/*")
    done = workspace.collector.collect(repo, spec, actor=actor)
    assert (len(done.commits), done.rows) == (3, 4)
    assert done.commits[0].meta["source"]["path"] == "in/a.csv"
    assert workspace.collector.collect(repo, spec, actor=actor).commits == []
    pl.DataFrame({"id": [1, 2, 5], "n": [10, 21, 50]}).write_csv(place / "a.csv")
    again = workspace.collector.collect(repo, spec, actor=actor)
    assert again.commits[0].stats == {"added": 1, "updated": 1, "deleted": 0, "unchanged": 1, "rows": 5}
    runs = workspace.assets.list_runs(workspace.project.id, kinds=["collection"]).items
    assert [r.state for r in runs] == [RunState.DONE] * 2, "nothing new leaves no run"
    assert {r.id for r in workspace.lineage.makers(again.commits[0].version_id)} == {runs[0].id}


def test_a_bad_batch_is_set_aside_and_the_rest_goes_on(workspace: Workspace, actor: Actor, repo) -> None:
    contract = {"columns": {"id": {"type": "int64"}, "n": {"type": "int64", "max": 100}}}
    workspace.data.set_contract(repo, contract, actor=actor)
    repo = workspace.data.get(workspace.project.id, "orders")
    place = root(workspace)
    pl.DataFrame({"id": [1], "n": [999]}).write_csv(place / "1.csv")
    pl.DataFrame({"id": [2], "n": [2]}).write_csv(place / "2.csv")
    done = workspace.collector.collect(repo, SourceSpec(files="*.csv"), actor=actor)
    assert len(done.commits) == 1
    assert isinstance(done.refused[0], ContractBroken)
    assert workspace.data.quarantine(workspace.project.id)[0].source == "file:1.csv"


@pytest.mark.parametrize(
    ("name", "content"), [("x.parquet", b"not parquet"), ("x.doc", b"?"), ("x.csv", b"\xff\xfe\x00")]
)
def test_a_file_that_cannot_be_read_fails_the_run_in_words(
    workspace: Workspace, actor: Actor, repo, name, content
) -> None:
    (root(workspace) / name).write_bytes(content)
    with pytest.raises(NoriaError):
        workspace.collector.collect(repo, SourceSpec(files="x.*"), actor=actor)
    (run,) = workspace.assets.list_runs(workspace.project.id, kinds=["collection"]).items
    assert run.state == RunState.FAILED
    assert run.error is not None


@pytest.mark.parametrize(
    ("broken", "state"), [(KeyboardInterrupt, RunState.CANCELLED), (ZeroDivisionError, RunState.FAILED)]
)
def test_a_collection_that_is_interrupted_does_not_stay_running(
    workspace: Workspace,
    actor: Actor,
    repo,
    monkeypatch: pytest.MonkeyPatch,
    broken: type[BaseException],
    state: RunState,
) -> None:
    (root(workspace) / "1.csv").write_text("id,n\n1,10\n")

    def append(*_: object, **__: object) -> None:
        raise broken

    monkeypatch.setattr(workspace.data, "append", append)
    with pytest.raises(broken):
        workspace.collector.collect(repo, SourceSpec(files="*.csv"), actor=actor)
    (run,) = workspace.assets.list_runs(workspace.project.id, kinds=["collection"]).items
    assert run.state == state


def test_a_missing_file_is_named(workspace: Workspace, actor: Actor, repo) -> None:
    with pytest.raises(SourceFailed, match="no file"):
        workspace.collector.collect(repo, SourceSpec(files="nope.csv"), actor=actor)
    with pytest.raises(Invalid, match="posted"):
        workspace.collector.collect(repo, SourceSpec(), actor=actor)


def test_sql_is_collected_by_watermark(workspace: Workspace, actor: Actor, repo) -> None:
    url = f"sqlite:///{root(workspace) / 'shop.db'}"
    engine = create_engine(url)
    with engine.begin() as conn:
        conn.execute(text("create table orders (id integer, n integer)"))
        conn.execute(text("insert into orders values (1, 10), (2, 20)"))
    spec = SourceSpec(sql="select id, n from orders", url=url, watermark="id")
    assert workspace.collector.collect(repo, spec, actor=actor).rows == 2
    assert workspace.collector.collect(repo, spec, actor=actor).commits == []
    with engine.begin() as conn:
        conn.execute(text("insert into orders values (3, 30)"))
    engine.dispose()
    assert workspace.collector.collect(repo, spec, actor=actor).rows == 1
    whole = SourceSpec(sql="select id, n from orders", url=url, mode="overwrite")
    assert workspace.collector.collect(repo, whole, actor=actor).commits == []
    with pytest.raises(SourceFailed, match="no such table"):
        workspace.collector.collect(repo, SourceSpec(sql="select * from nope", url=url), actor=actor)
    with pytest.raises(SourceFailed, match="not usable") as wrong:
        workspace.collector.collect(repo, SourceSpec(sql="select 1", url="nonsense://secret"), actor=actor)
    assert "secret" not in str(wrong.value)


@pytest.fixture
def shop(workspace: Workspace) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{root(workspace) / 'shop.db'}")
    with engine.begin() as conn:
        conn.execute(text("create table orders (id integer, n integer, at text)"))
    yield engine
    engine.dispose()


def add(engine: Engine, *rows: tuple[int, int, str | None]) -> None:
    with engine.begin() as conn:
        for row in rows:
            conn.execute(text("insert into orders values (:a, :b, :c)"), dict(zip("abc", row, strict=True)))


def watermarked(engine: Engine) -> SourceSpec:
    url = engine.url.render_as_string(hide_password=False)
    return SourceSpec(sql="select id, n, at from orders", url=url, watermark="at")


@pytest.fixture(params=["key", "no key"])
def table(request: pytest.FixtureRequest, workspace: Workspace, actor: Actor):
    key = ("id",) if request.param == "key" else ()
    return workspace.data.create(workspace.project.id, "events", RepositoryKind.TABLE, actor=actor, key=key)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 100])
def test_rows_of_one_watermark_are_all_taken_once_whatever_the_batch(
    workspace: Workspace, actor: Actor, table, shop: Engine, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr("noria.data.collectors.sql._BATCH", batch)
    spec = watermarked(shop)

    def collected() -> list[int]:
        workspace.collector.collect(table, spec, actor=actor)
        assert workspace.collector.collect(table, spec, actor=actor).commits == [], "nothing twice"
        return sorted(workspace.data.read(table)["id"].to_list())

    add(shop, (1, 1, "a"), (2, 1, "b"), (3, 1, "b"), (4, 1, "b"), (5, 1, "b"), (6, 1, "c"))
    assert collected() == [1, 2, 3, 4, 5, 6]
    add(shop, (7, 1, "c"), (8, 1, "c"))
    assert collected() == [1, 2, 3, 4, 5, 6, 7, 8], "those that come later with the largest value"
    add(shop, (9, 1, "c"), (10, 1, "d"))
    assert collected() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


def test_rows_without_a_watermark_arrive_once(workspace: Workspace, actor: Actor, table, shop: Engine) -> None:
    spec = watermarked(shop)
    add(shop, (1, 1, None), (2, 1, "a"), (3, 1, None))
    workspace.collector.collect(table, spec, actor=actor)
    add(shop, (4, 1, None))
    workspace.collector.collect(table, spec, actor=actor)
    assert workspace.collector.collect(table, spec, actor=actor).commits == []
    assert sorted(workspace.data.read(table)["id"].to_list()) == [1, 2, 3, 4]


def test_equal_rows_without_a_key_are_as_many_as_there_are(workspace: Workspace, actor: Actor, shop: Engine) -> None:
    table = workspace.data.create(workspace.project.id, "events", RepositoryKind.TABLE, actor=actor)
    spec = watermarked(shop)
    add(shop, (1, 1, "a"), (1, 1, "a"))
    workspace.collector.collect(table, spec, actor=actor)
    add(shop, (1, 1, "a"))
    workspace.collector.collect(table, spec, actor=actor)
    assert len(workspace.data.read(table)) == 3


def test_a_watermark_does_not_move_past_a_batch_that_was_refused(
    workspace: Workspace, actor: Actor, repo, shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.data.collectors.sql._BATCH", 1)
    contract = {"columns": {"id": {"type": "int64"}, "n": {"type": "int64", "max": 100}, "at": {"type": "str"}}}
    workspace.data.set_contract(repo, contract, actor=actor)
    repo = workspace.data.get(workspace.project.id, "orders")
    spec = watermarked(shop)
    add(shop, (1, 1, "a"), (2, 999, "b"), (3, 3, "c"))
    assert len(workspace.collector.collect(repo, spec, actor=actor).refused) == 1
    with shop.begin() as conn:
        conn.execute(text("update orders set n = 2 where id = 2"))
    assert workspace.collector.collect(repo, spec, actor=actor).rows == 2
    assert workspace.data.read(repo)["n"].to_list() == [1, 2, 3]


@pytest.mark.parametrize(
    "value",
    [
        7,
        0.5,
        "x",
        date(2026, 1, 2),
        datetime(2026, 1, 2, 3, 4, 5, 6),
        datetime(2026, 1, 2, tzinfo=UTC),
        Decimal("1.50"),
        UUID(int=5),
        b"\x00\xff",
    ],
)
def test_a_watermark_of_any_type_is_written_and_read(value: object) -> None:
    mark = json.loads(json.dumps(_written(value, "at")))
    assert _read(mark) == value
    assert type(_read(mark)) is type(value)


def test_a_watermark_that_is_no_column_or_does_not_grow_is_named(
    workspace: Workspace, actor: Actor, table, shop: Engine
) -> None:
    add(shop, (1, 1, "a"))
    spec = replace(watermarked(shop), watermark="n + 1")
    with pytest.raises(SourceFailed, match=r"no column 'n \+ 1'") as wrong:
        workspace.collector.collect(table, spec, actor=actor)
    assert wrong.value.hint == "Its columns: id, n, at."
    with pytest.raises(SourceFailed, match="holds a list"):
        _written([1], "at")


@pytest.mark.postgres
def test_dates_and_decimals_of_postgresql_are_watermarks(
    workspace: Workspace, actor: Actor, bare_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.data.collectors.sql._BATCH", 2)
    url = bare_postgres_url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    with engine.begin() as conn:
        conn.execute(text("create table sold (id integer, day date, price numeric(8, 2), at timestamptz)"))
        for n in range(6):
            conn.execute(
                text(f"insert into sold values ({n}, '2026-01-0{1 + n // 3}', {n // 2}.5, '2026-01-01 0{n}:00Z')")
            )
    for column in ("day", "price", "at"):
        table = workspace.data.create(workspace.project.id, column, RepositoryKind.TABLE, actor=actor, key=("id",))
        spec = SourceSpec(sql="select * from sold", url=url, watermark=column)
        assert workspace.collector.collect(table, spec, actor=actor).rows == 6
        assert workspace.collector.collect(table, spec, actor=actor).commits == []
    engine.dispose()


# ---- without a key


@pytest.fixture
def plain(workspace: Workspace, actor: Actor):
    return workspace.data.create(workspace.project.id, "lines", RepositoryKind.TABLE, actor=actor)


def numbers(workspace: Workspace, repository) -> list[int]:
    return sorted(workspace.data.read(repository)["n"].to_list())


def test_without_a_key_new_files_are_appended_and_a_changed_one_makes_the_table_anew(
    workspace: Workspace, actor: Actor, plain
) -> None:
    place, spec = root(workspace), SourceSpec(files="*.csv")
    (place / "1.csv").write_text("n\n1\n1\n")
    (place / "2.csv").write_text("n\n2\n")
    workspace.collector.collect(plain, spec, actor=actor)
    (place / "3.csv").write_text("n\n3\n")
    done = workspace.collector.collect(plain, spec, actor=actor)
    assert done.commits[0].stats["added"] == 1
    assert numbers(workspace, plain) == [1, 1, 2, 3]
    (place / "1.csv").write_text("n\n1\n7\n")
    (place / "4.csv").write_text("n\n4\n")
    done = workspace.collector.collect(plain, spec, actor=actor)
    assert len(done.commits) == 1
    assert done.commits[0].meta["source"]["whole"] == 4
    assert numbers(workspace, plain) == [1, 2, 3, 4, 7]
    assert workspace.collector.collect(plain, spec, actor=actor).commits == []
    (place / "2.csv").unlink()
    assert workspace.collector.collect(plain, spec, actor=actor).commits == []
    assert numbers(workspace, plain) == [1, 2, 3, 4, 7], "a file that is gone takes nothing with it"
    (place / "1.csv").write_text("n\n8\n")
    with pytest.raises(SourceFailed, match=r"1.csv changed, and 2.csv, which was collected before, is not among"):
        workspace.collector.collect(plain, spec, actor=actor)
    assert numbers(workspace, plain) == [1, 2, 3, 4, 7]


def test_without_a_key_rows_that_were_appended_are_not_lost(workspace: Workspace, actor: Actor, plain) -> None:
    place, spec = root(workspace), SourceSpec(files="*.csv")
    (place / "1.csv").write_text("n\n1\n")
    workspace.collector.collect(plain, spec, actor=actor)
    workspace.data.append(plain, [{"n": 50}], actor=actor)
    (place / "2.csv").write_text("n\n2\n")
    assert workspace.collector.collect(plain, spec, actor=actor).rows == 1
    (place / "1.csv").write_text("n\n9\n")
    with pytest.raises(SourceFailed, match="has no key") as refused:
        workspace.collector.collect(plain, spec, actor=actor)
    assert "key=" in refused.value.hint
    assert numbers(workspace, plain) == [1, 2, 50]


def test_without_a_key_an_answer_that_differs_takes_the_place_of_the_one_before(
    workspace: Workspace, actor: Actor, plain
) -> None:
    url = f"sqlite:///{root(workspace) / 'shop.db'}"
    engine = create_engine(url)
    with engine.begin() as conn:
        conn.execute(text("create table lines (n integer)"))
        conn.execute(text("insert into lines values (1), (2)"))
    spec = SourceSpec(sql="select n from lines", url=url)
    workspace.collector.collect(plain, spec, actor=actor)
    with engine.begin() as conn:
        conn.execute(text("insert into lines values (3)"))
        conn.execute(text("delete from lines where n = 1"))
    engine.dispose()
    workspace.collector.collect(plain, spec, actor=actor)
    assert numbers(workspace, plain) == [2, 3]
    assert workspace.collector.collect(plain, spec, actor=actor).commits == []


def test_without_a_key_a_document_that_changed_takes_the_place_of_the_one_before(
    workspace: Workspace, actor: Actor, plain, web: str
) -> None:
    for etag, content in (('"k1"', b"n\n1\n2\n"), ('"k2"', b"n\n2\n3\n")):
        Handler.content, Handler.etag = content, etag
        workspace.collector.collect(plain, SourceSpec(url=web), actor=actor)
    assert numbers(workspace, plain) == [2, 3]


class Handler(BaseHTTPRequestHandler):
    """A server of one file. ``wrong`` says how it answers a request for the rest; ``cut`` ends its next answer."""

    content = b""
    etag = '"1"'
    cut = 0
    wrong = ""
    ranges: ClassVar[list[str]] = []
    asked: ClassVar[int] = 0

    def do_GET(self) -> None:
        Handler.asked += 1
        if self.etag and self.headers.get("If-None-Match") == self.etag:
            self.send_response(304)
            self.end_headers()
            return
        start, wanted = 0, self.headers.get("Range")
        if wanted:
            self.ranges.append(wanted)
            if self.wrong or self.headers.get("If-Range") == self.etag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(self.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.content)}")
            self.end_headers()
            return
        first = 0 if self.wrong == "from the beginning" else start
        body = self.content[first:]
        self.send_response(206 if start else 200)
        if self.etag and not (start and self.wrong == "no etag"):
            self.send_header("ETag", self.etag)
        if start and self.wrong != "no range":
            self.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if Handler.cut:
            body, Handler.cut = body[: Handler.cut], 0
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def web() -> Iterator[str]:
    Handler.etag, Handler.cut, Handler.wrong, Handler.ranges, Handler.asked = '"1"', 0, "", [], 0
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/orders.csv"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_url_is_collected_resumed_and_not_fetched_again(workspace: Workspace, actor: Actor, repo, web: str) -> None:
    Handler.content = pl.DataFrame({"id": list(range(5000)), "n": list(range(5000))}).write_csv().encode()
    Handler.cut, Handler.ranges = 10_000, []
    spec = SourceSpec(url=web)
    with pytest.raises(SourceFailed, match="goes on"):
        workspace.collector.collect(repo, spec, actor=actor)
    assert workspace.collector.collect(repo, spec, actor=actor).rows == 5000
    assert Handler.ranges
    assert workspace.collector.collect(repo, spec, actor=actor).commits == []
    with pytest.raises(SourceFailed, match="has the checksum"):
        Handler.etag = '"2"'
        workspace.collector.collect(repo, SourceSpec(url=web, checksum="blake3:00"), actor=actor)
    with pytest.raises(Invalid, match="not an HTTP address"):
        workspace.collector.collect(repo, SourceSpec(url="file:///etc/passwd"), actor=actor)


def lines(first: int) -> bytes:
    """A file of 5,000 rows; another first number gives another file of the same length."""
    return pl.DataFrame({"id": list(range(5000)), "n": list(range(first, first + 5000))}).write_csv().encode()


def cut(workspace: Workspace, actor: Actor, repo, url: str, hint: str) -> None:
    """Fetches a first part of the old file; then the new one is in its place."""
    Handler.content, Handler.cut = lines(10_000), 20_000
    with pytest.raises(SourceFailed, match=hint):
        workspace.collector.collect(repo, SourceSpec(url=url), actor=actor)
    Handler.content = lines(20_000)


@pytest.mark.parametrize("etag", ["", 'W/"1"', '""', "1"])
def test_without_a_strong_etag_a_download_begins_anew(
    workspace: Workspace, actor: Actor, repo, web: str, etag: str
) -> None:
    Handler.etag = etag
    cut(workspace, actor, repo, web, "begins anew")
    workspace.collector.collect(repo, SourceSpec(url=web), actor=actor)
    assert Handler.ranges == []
    assert workspace.data.read(repo)["n"].to_list() == list(range(20_000, 25_000))
    assert workspace.collector.collect(repo, SourceSpec(url=web), actor=actor).commits == []


@pytest.mark.parametrize("wrong", ["", "no etag", "no range", "from the beginning", "another etag"])
def test_bytes_of_two_states_of_a_file_are_never_put_together(
    workspace: Workspace, actor: Actor, repo, web: str, wrong: str
) -> None:
    cut(workspace, actor, repo, web, "goes on")
    Handler.wrong = wrong
    if wrong in ("", "another etag"):  # with a server that keeps If-Range, and with one that does not
        Handler.etag = '"2"'
    workspace.collector.collect(repo, SourceSpec(url=web), actor=actor)
    assert Handler.ranges == ["bytes=20000-"]
    assert workspace.data.read(repo)["n"].to_list() == list(range(20_000, 25_000))


@pytest.mark.parametrize("shorter", [True, False])
def test_a_download_of_which_nothing_is_left_is_whole_only_at_its_length(
    workspace: Workspace, actor: Actor, repo, web: str, shorter: bool
) -> None:
    """A process that died after the last byte; and a file that is shorter now, from a careless server."""
    cut(workspace, actor, repo, web, "goes on")
    (part,) = (p for p in (workspace.home / "cache" / "downloads").iterdir() if p.suffix == ".csv")
    part.write_bytes(lines(20_000) + (b"9999,1\n" if shorter else b""))
    workspace.collector.collect(repo, SourceSpec(url=web), actor=actor)
    assert workspace.data.read(repo)["n"].to_list() == list(range(20_000, 25_000))
    assert Handler.asked == (3 if shorter else 2)


def test_a_new_etag_of_the_same_bytes_is_remembered(workspace: Workspace, actor: Actor, repo, web: str) -> None:
    Handler.content = lines(0)
    workspace.collector.collect(repo, SourceSpec(url=web), actor=actor)
    Handler.etag = '"2"'
    for _ in range(2):
        assert workspace.collector.collect(repo, SourceSpec(url=web), actor=actor).commits == []
    (mark,) = marks_of(workspace, repo)
    assert mark["etag"] == '"2"'


def marks_of(workspace: Workspace, repo) -> list[dict[str, str]]:
    return list(workspace.collector.ledger.marks(repo).values())
