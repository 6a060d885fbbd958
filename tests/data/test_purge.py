"""What is erased is gone from every version and from the disk, and everything else is as it was."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import select, update

from noria.assets import tables as at
from noria.assets.records import Direction
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid, NotFound
from noria.cli.main import run
from noria.data import tables as t
from noria.data.edits import Put
from noria.data.errors import ContractBroken, WasErased
from noria.data.records import Repository, RepositoryKind
from noria.data.service.care.purge import Erase, Erased
from noria.data.service.collecting.collector import SourceSpec
from noria.store import Kind
from noria.workspace import Workspace, connect


def commit(ws: Workspace, actor: Actor, place: Path, files: dict[str, bytes | None], name: str = "files") -> Repository:
    place.mkdir(exist_ok=True)
    for path, data in files.items():
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data) if data is not None else target.unlink()
    found = ws.data.find(ws.project.id, name)
    made = found or ws.data.create(ws.project.id, name, RepositoryKind.FILES, actor=actor)
    ws.data.commit(made, place, actor=actor)
    return made


def on_disk(ws: Workspace, *needles: bytes) -> list[str]:
    """Files of the workspace that hold any of these bytes."""
    hits: list[str] = []
    for path in ws.home.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            hits += [f"{path.relative_to(ws.home)}" for needle in needles if needle in raw]
    return hits


def holding(ws: Workspace, text: str) -> list[str]:
    """Packs of which an object, as it is read, holds a text: also compressed ones, and Parquet files."""
    hits: list[str] = []
    for name in ws.store.source.list("packs/"):
        for found in ws.store.pack_entries(Path(name).stem):
            raw = ws.store.get(Digest(found.id), found.kind)
            if text.encode() in raw or (found.kind == Kind.FRAGMENT and text in str(parquet(raw))):
                hits.append(name)
    return hits


def parquet(raw: bytes) -> list[Any]:
    return pl.read_parquet(io.BytesIO(raw)).to_dicts()


def purge(ws: Workspace, repository: Repository, actor: Actor, wait: float = 5.0, **what: Any) -> Erased:
    return ws.care.purge(repository, Erase(**what), reason="request 17", actor=actor, wait=wait)


# ---- files


def test_a_path_is_gone_from_all_history_and_from_the_disk(both: Workspace, actor: Actor, tmp_path: Path) -> None:
    ws, place = both, tmp_path / "f"
    first, second, big, kept = os.urandom(3000), os.urandom(3000), os.urandom(300_000), os.urandom(3000)
    small = b"a name of 20 letters"
    commit(ws, actor, place, {"people/alice.bin": first, "people/small": small, "keep/a": kept, "keep/same": first})
    commit(ws, actor, place, {"people/alice.bin": second, "people/big": big})
    commit(ws, actor, place, {"people/alice.bin": None, "people/big": None, "people/small": None})
    files = commit(ws, actor, place, {"keep/b": os.urandom(300)})
    before = ws.data.log(files)
    ws.data.create_branch(files, "other", at=before[2].id, actor=actor)
    what = {"path": "people/"}
    look = ws.care.look(files, Erase(**what))
    assert (look.number, look.paths, look.commits, look.done) == (0, 3, 2, False)
    assert on_disk(ws, second)
    done = purge(ws, files, actor, **what)
    assert (done.number, done.paths, done.commits, done.versions, done.done) == (1, 3, 2, 2, True)
    assert done.shared == 1, "keep/same needs the bytes of the first one"
    ws.store._maps.clear()
    assert on_disk(ws, second, small, big[100_000:100_100]) == []
    assert on_disk(ws, first) != []
    assert [c.id for c in ws.data.log(files)] == [c.id for c in before], "commits keep their names"
    assert ws.data.read_file(files, "keep/same", before[3].id) == first
    for number, paths in (
        (3, {"keep/a", "keep/same"}),
        (2, {"keep/a", "keep/same"}),
        (0, {"keep/a", "keep/b", "keep/same"}),
    ):
        assert {e.path for e in ws.data.files(files, before[number].id)} - {"people"} == paths
    with pytest.raises(WasErased, match=r"erasure 1: request 17"):
        ws.data.read_file(files, "people/alice.bin", before[2].id)
    with pytest.raises(WasErased):
        ws.data.entry(files, "people/small", before[3].id)
    with pytest.raises(NotFound, match="has no file"):
        ws.data.read_file(files, "nobody")
    (record,) = ws.care.erasures("files")
    assert (record.state, record.reason, record.actor, record.what) == ("done", "request 17", actor.name, what)
    assert record.counts["paths"] == 3
    assert ws.verify(data=True) == []
    assert ws.care.check(full=True).damage == []
    verbs = [e.verb for e in ws.audit.list(ws.project.id, limit=20).items]
    assert verbs.count("data.purge") == 2
    again = commit(ws, actor, place, {"people/alice.bin": second})
    assert ws.data.read_file(again, "people/alice.bin") == second, "it may come back on purpose"


def test_what_was_made_from_it_and_where_copies_may_be_is_told(
    workspace: Workspace, actor: Actor, tmp_path: Path
) -> None:
    ws = workspace
    files = commit(ws, actor, tmp_path / "f", {"a": os.urandom(300), "b": b"b" * 100})
    head = ws.data.resolve(files)
    with ws.db.write() as tx:
        step = ws.assets.record_run(tx, ws.project.id, kind="step", name="clean", actor=actor)
        ws.assets.link(tx, step, head.version_id, Direction.IN, "files")
        remote = {"repository_id": files.id, "name": "origin", "url": "/elsewhere", "repository": "files"}
        more = {"project": "default", "partial": False, "heads": {}, "created_at": 1}
        tx.insert(t.remotes, {**remote, **more})
    done = purge(ws, files, actor, path="a")
    told = "\n".join(done.elsewhere)
    assert f"step clean ({step[:8]})" in told
    assert "the remote origin (/elsewhere)" in told
    assert "backups" in told


def test_a_draft_is_rewritten_too(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    from noria.data.edits import Put

    ws, secret = workspace, os.urandom(500)
    files = commit(ws, actor, tmp_path / "f", {"b": b"b" * 100})
    draft = ws.data.start(files, actor=actor)
    ws.data.edit(files, draft.id, [Put("people/x", secret)], actor=actor)
    done = purge(ws, files, actor, path="people/*")
    assert (done.paths, done.done) == (1, True)
    ws.store._maps.clear()
    assert on_disk(ws, secret) == []
    made = ws.data.finish(files, draft.id, actor=actor)
    assert {e.path for e in ws.data.files(files, made.id)} == {"b"}


# ---- rows


def orders(ws: Workspace, actor: Actor, name: str = "orders", key: tuple[str, ...] = ("id",)) -> Repository:
    made = ws.data.create(ws.project.id, name, RepositoryKind.TABLE, actor=actor, key=key)
    ws.data.append(made, [{"id": n, "who": f"person-{n % 5}", "n": n} for n in range(50)], actor=actor)
    ws.data.append(made, [{"id": n, "who": f"person-{n % 5}", "n": -n} for n in range(40, 60)], actor=actor)
    if key:
        ws.data.append(made, [{"id": 3}, {"id": 4}], actor=actor, mode="delete")
    return made


@pytest.mark.parametrize("key", [("id",), ()])
def test_rows_are_gone_from_every_version_deleted_ones_too(both: Workspace, actor: Actor, key: tuple[str, ...]) -> None:
    ws, table = both, orders(both, actor, key=key)
    log = ws.data.log(table)
    before = {c.id: ws.data.read(table, c.id, hidden=True) for c in log}
    assert holding(ws, "person-3")
    look = ws.care.look(table, Erase(rows="who = 'person-3'"))
    done = purge(ws, table, actor, rows="who = 'person-3'")
    assert (done.rows, done.commits, done.done, done.unseen) == (look.rows, len(log), True, 0)
    assert done.rows >= 14
    assert holding(ws, "person-3") == []
    for one, frame in before.items():
        after = ws.data.read(table, one, hidden=True)
        assert after.equals(frame.filter(pl.col("who") != "person-3")), "order, __seq and __known stay"
        layout = ws.data.layout(ws.data.resolve(table, one))
        assert layout.rows == len(after)
        fresh = ws.data.create(ws.project.id, f"fresh-{one[:8]}", RepositoryKind.TABLE, actor=actor, key=key)
        ws.data.append(fresh, after.select("id", "who", "n"), actor=actor)
        assert ws.data.layout(ws.data.resolve(fresh)).schema == layout.schema
    ws.data.append(table, [{"id": 1000, "who": "person-3", "n": 1}], actor=actor)
    assert len(ws.data.read(table).filter(pl.col("who") == "person-3")) == 1
    version = ws.assets.version(log[0].version_id)
    assert version.meta["erased"] == [done.number]
    (record,) = ws.care.erasures()
    assert "person-3" not in str(record), "the record says columns, and never values"
    assert record.what["columns"] == ["who"]
    assert ws.care.check(full=True).damage == []


def test_a_row_is_erased_by_its_key_and_readers_are_told(workspace: Workspace, actor: Actor) -> None:
    ws, table = workspace, orders(workspace, actor)
    done = purge(ws, table, actor, key={"id": "3"})
    assert (done.rows, done.done) == (1, True), "deleted since, and there all the same"
    first = ws.data.log(table)[-1]
    assert 3 not in ws.data.read(table, first.id)["id"].to_list()
    with pytest.raises(WasErased, match="erasure 1"):
        ws.data.row_history(table, {"id": 3})
    assert purge(ws, table, actor, key={"id": "3"}).rows == 0, "nothing is left of it"


def test_refused_batches_lose_the_rows_and_the_examples(workspace: Workspace, actor: Actor) -> None:
    from noria.data.contract import parse

    ws, table = workspace, orders(workspace, actor)
    columns = {"id": {"type": "int64"}, "who": {"type": "str"}, "n": {"type": "int64", "max": 100}}
    ws.data.set_contract(table, parse({"columns": columns}), actor=actor)
    table = ws.data.get(ws.project.id, "orders")
    for rows in ([("zoe", 1000), ("abe", 2000)], [("zoe", 5000)]):
        with pytest.raises(ContractBroken):
            batch = [{"id": 900 + n, "who": who, "n": n} for who, n in rows]
            ws.data.append(table, batch, actor=actor)
    done = purge(ws, table, actor, rows="who = 'zoe'")
    assert (done.batches, done.rows, done.done) == (2, 2, True)
    (left,) = ws.data.quarantine(ws.project.id, table)
    assert ws.data.quarantined(left.id)[1]["who"].to_list() == ["abe"]
    assert "zoe" not in str(left.report)
    assert holding(ws, "zoe") == []
    assert on_disk(ws, b"zoe") == []


def set_aside(ws: Workspace, actor: Actor, *bad: str) -> Repository:
    """A table ``orders`` (id, who, n) of a file, whose lines ``bad`` do not fit it."""
    made = ws.data.create(ws.project.id, "orders", RepositoryKind.TABLE, actor=actor, key=("id",))
    path = ws.home.parent / "orders.csv"
    path.write_text("id,who,n\n1,eve,1\n2,eve,2\n")
    ws.collector.collect(made, SourceSpec(files="orders.csv"), actor=actor)
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in bad)
    ws.collector.collect(made, SourceSpec(files="orders.csv"), actor=actor)
    return made


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize(
    ("what", "rows", "undecided", "left"),
    [
        ({"rows": "id = 9"}, 1, 2, [("11", "ann")]),
        ({"key": {"id": "9"}}, 1, 2, [("11", "ann")]),
        ({"rows": "who = 'abe'"}, 1, 1, [("11", "ann"), ("x", "bob")]),
        ({"rows": "n = 5"}, 0, 3, [("x", "bob")]),
    ],
)
def test_lines_that_were_set_aside_are_erased_too(
    both: Workspace, actor: Actor, what: dict[str, Any], rows: int, undecided: int, left: list[Any], dropped: bool
) -> None:
    ws, bad = both, ["9,abe,n/a", "10,abe,1,2,3", "11,ann,n/a", "x,bob,3"]
    table = set_aside(ws, actor, *bad)
    (batch,) = ws.data.quarantine(ws.project.id, table)
    assert batch.rows == 4
    if dropped:
        ws.data.drop_quarantined(batch.id, "not wanted", actor=actor)
    look = ws.care.look(table, Erase(**what))
    assert (look.rows, look.undecided, look.batches) == (rows, undecided, 1)
    done = purge(ws, table, actor, **what)
    assert (done.number, done.rows, done.undecided, done.batches, done.done) == (1, rows, undecided, 1, True)
    assert holding(ws, "abe") == []
    assert "abe" not in str(ws.data.quarantine(ws.project.id, table))
    ws.store._maps.clear()
    assert on_disk(ws, b"9,abe", b"10,abe") == []
    (record,) = ws.care.erasures()
    assert record.counts["undecided"] == undecided
    found = ws.data.quarantine(ws.project.id, table)
    if dropped:  # the rows of such a batch are garbage
        found = []
        left = []
    there = [(row["id"], row["who"]) for one in found for row in ws.data.quarantined(one.id)[1].to_dicts()]
    assert sorted(there) == left
    assert sum(one.rows for one in found) == len(left)
    assert len(ws.data.read(table)) == 2


@pytest.mark.parametrize("what", [{"rows": "who = 'abe'"}, {"rows": "who LIKE 'abe%'"}, {"key": {"who": "abe"}}])
def test_a_line_that_was_set_aside_with_its_values_in_the_wrong_columns_is_erased(
    workspace: Workspace, actor: Actor, what: dict[str, Any]
) -> None:
    ws = workspace
    table = set_aside(ws, actor, "abe,9,3", "10,1,abe", "11,ann,n/a")
    done = purge(ws, table, actor, **what)
    assert (done.rows, done.undecided, done.batches, done.done) == (0, 2, 1, True)
    assert holding(ws, "abe") == []
    (batch,) = ws.data.quarantine(ws.project.id, table)
    assert ws.data.quarantined(batch.id)[1]["who"].to_list() == ["ann"]
    assert "abe" not in str(batch)


def test_a_batch_without_the_columns_is_erased_and_a_table_without_rows_knows_its_contract(
    workspace: Workspace, actor: Actor
) -> None:
    from noria.data.contract import parse

    ws = workspace
    table = ws.data.create(ws.project.id, "orders", RepositoryKind.TABLE, actor=actor)
    columns = {"id": {"type": "int64"}, "who": {"type": "str"}}
    ws.data.set_contract(table, parse({"columns": columns}), actor=actor)
    table = ws.data.get(ws.project.id, "orders")
    for batch in ({"id": [1], "Who": ["zoe"]}, {"id": ["2", "three"], "who": ["zoe", "zoe"]}):
        with pytest.raises(ContractBroken):
            ws.data.append(table, pl.DataFrame(batch), actor=actor)
    with pytest.raises(Invalid, match="has the columns whom"):
        purge(ws, table, actor, rows="whom = 'zoe'")
    done = purge(ws, table, actor, rows="id = 2")
    assert (done.rows, done.undecided, done.batches, done.done) == (1, 1, 1, True)
    assert [one.rows for one in ws.data.quarantine(ws.project.id, table)] == [1]
    done = purge(ws, table, actor, rows="who = 'zoe'")
    assert (done.rows, done.undecided, done.batches, done.done) == (0, 1, 1, True)
    assert holding(ws, "zoe") == []
    assert ws.data.quarantine(ws.project.id, table) == []


def test_an_erasure_that_its_condition_refuses_leaves_no_number(workspace: Workspace, actor: Actor) -> None:
    ws, table = workspace, orders(workspace, actor)
    with pytest.raises(Invalid, match="cannot be used as a condition"):
        purge(ws, table, actor, rows="CAST(who AS INT) = 3")
    assert ws.care.erasures() == []
    assert purge(ws, table, actor, rows="who = 'person-3'").done


def test_a_column_that_came_later_or_was_dropped_since(workspace: Workspace, actor: Actor) -> None:
    from noria.data.rows.alter import Alterations, NewColumn

    ws, table = workspace, orders(workspace, actor)
    ws.data.alter(table, Alterations(add=(NewColumn(name="mail", type="str"),)), actor=actor)
    ws.data.append(table, [{"id": 1, "who": "x", "n": 1, "mail": "a@b.c"}], actor=actor)
    ws.data.alter(table, Alterations(drop=("mail",)), actor=actor)
    assert ws.data.read(table).filter(pl.col("id") == 1)["who"].to_list() == ["x"]
    done = purge(ws, table, actor, rows="mail = 'a@b.c'")
    assert (done.rows, done.commits, done.unseen) == (1, 2, 4), "the one that dropped the column shows the same row"
    assert holding(ws, "a@b.c") == []
    assert 1 not in ws.data.read(table)["id"].to_list()


def test_the_report_of_a_batch_that_was_collected_loses_its_examples(workspace: Workspace, actor: Actor) -> None:
    from noria.data.contract import parse

    ws, table = workspace, orders(workspace, actor)
    columns = {"id": {"type": "int64"}, "who": {"type": "str"}, "n": {"type": "int64", "max": 100}}
    ws.data.set_contract(table, parse({"columns": columns}), actor=actor)
    table = ws.data.get(ws.project.id, "orders")
    with pytest.raises(ContractBroken):
        ws.data.append(table, [{"id": 900, "who": "zoe", "n": 1000}], actor=actor)
    (batch,) = ws.data.quarantine(ws.project.id, table)
    assert "zoe" in str(batch.report)
    ws.data.set_contract(table, parse({"columns": columns | {"n": {"type": "int64"}}}), actor=actor)
    ws.data.offer(batch.id, [{"id": 900, "who": "zoe", "n": 10}], actor=actor)
    ws.sessions.renew()
    ws.gc.run()
    assert not ws.store.has(Digest(bytes.fromhex(batch.object))), "nobody can look any more whether it held such rows"
    done = purge(ws, ws.data.get(ws.project.id, "orders"), actor, rows="who = 'zoe'")
    assert (done.batches, done.rows, done.done) == (1, 1, True)
    with ws.db.read() as conn:
        row = conn.execute(select(t.quarantine)).one()
    assert "zoe" not in str(row.report)
    assert (row.rows, [f["rows"] for f in row.report]) == (1, [[]])
    assert on_disk(ws, b"zoe") == []


# ---- beside open commits and writers, and after a kill


@pytest.mark.parametrize("state", ["dropped", "finished"])
def test_open_commits_that_were_closed_are_left_out(
    workspace: Workspace, actor: Actor, tmp_path: Path, state: str
) -> None:
    ws = workspace
    files = commit(ws, actor, tmp_path / "f", {"people/a": os.urandom(3000), "b": b"b" * 100})
    draft = ws.data.start(files, actor=actor)
    ws.data.edit(files, draft.id, [Put("people/x", os.urandom(3000))], actor=actor)
    ws.data.change(files, [Put("c", b"c")], actor=actor)
    if state == "dropped":
        ws.data.drop_draft(files, draft.id, actor=actor)
    else:
        head = ws.data.finish(files, draft.id, actor=actor)
        assert ws.data.finish(files, draft.id, actor=actor).id == head.id
    with ws.db.read() as conn:
        (row,) = conn.execute(select(t.drafts.c.state, t.drafts.c.layout)).all()
    assert tuple(row) == (state, None), "it names nothing that may be collected"
    ws.sessions.renew()
    ws.gc.run()
    done = purge(ws, files, actor, path="people/*")
    assert done.done
    assert {e.path for e in ws.data.files(files)} == {"b", "c"}


def test_the_layout_of_a_closed_commit_of_before_is_not_read(
    workspace: Workspace, actor: Actor, tmp_path: Path
) -> None:
    ws = workspace
    files = commit(ws, actor, tmp_path / "f", {"people/a": os.urandom(3000), "b": b"b" * 100})
    draft = ws.data.start(files, actor=actor)
    ws.data.edit(files, draft.id, [Put("people/x", os.urandom(3000))], actor=actor)
    layout = str(ws.data.draft(files, draft.id).layout)
    ws.data.drop_draft(files, draft.id, actor=actor)
    with ws.db.write() as tx:  # as it was written once
        tx.execute(update(t.drafts).values(layout=layout))
    ws.sessions.renew()
    ws.gc.run()
    assert purge(ws, files, actor, path="people/*").done


def test_a_writer_of_before_is_waited_for_and_what_it_lands_is_erased_too(
    workspace: Workspace, actor: Actor, tmp_path: Path
) -> None:
    from noria.store import tree

    ws, secret = workspace, os.urandom(3000)
    files = commit(ws, actor, tmp_path / "f", {"people/a": secret, "b": b"b" * 100})
    with connect(ws.home, environment={}) as other, other.sessions.writer() as writer:
        head = other.data.resolve(other.data.get(other.project.id, "files"))
        entry = tree.find(other.store, head.layout, "people/a")
        assert entry is not None
        done = purge(ws, files, actor, path="people/*", wait=0.3)
        assert not done.done, "it holds what it read"
        root = tree.apply(other.store, writer, head.layout, {"c": entry.__class__(path="c", inline=b"c", size=1)})
        other.data.commit_tree(writer, files, root, actor=actor, message="carried over")
    other_done = purge(ws, files, actor, path="people/*")
    assert (other_done.number, other_done.done) == (done.number, True), "the same command finishes it"
    ws.store._maps.clear()
    assert on_disk(ws, secret) == []
    assert {e.path for e in ws.data.files(files)} == {"b", "c"}
    assert ws.care.check(full=True).damage == []


def test_a_commit_that_was_prepared_before_is_built_anew(workspace: Workspace, actor: Actor) -> None:
    """It read the head, then the rows were erased, then it lands: not on what it had read."""
    ws, table = workspace, orders(workspace, actor)
    with connect(ws.home, environment={}) as other:
        mine, erase = other.data.get(other.project.id, "orders"), [True]
        landing = other.data._prepare

        def prepared(*args: Any, **more: Any) -> Any:
            made = landing(*args, **more)
            if erase:
                erase.clear()
                assert not purge(ws, table, actor, rows="who = 'person-3'", wait=0.1).done
            return made

        other.data._prepare = prepared  # pyright: ignore[reportAttributeAccessIssue]
        other.data.append(mine, [{"id": 500, "who": "x", "n": 1}], actor=actor)
    assert purge(ws, table, actor, rows="who = 'person-3'").done
    assert holding(ws, "person-3") == []
    rows = ws.data.read(table)
    assert 500 in rows["id"].to_list()
    assert "person-3" not in rows["who"].to_list()


POINTS = ["purge.layouts", "purge.replaced", "purge.collect", "gc.condemn", "gc.delete", "db.commit"]


class Stop(BaseException):
    pass


def test_stopped_anywhere_the_same_command_goes_on(tmp_path: Path, actor: Actor) -> None:
    from noria import workspace as workspaces

    class At:
        point = ""

        def at(self, point: str) -> None:
            if point == self.point:
                self.point = ""
                raise Stop

    for number, point in enumerate(POINTS):
        root, secret = tmp_path / str(number), os.urandom(3000)
        root.mkdir()
        workspaces.init(root, environment={}).close()
        faults = At()
        with connect(root, faults=faults, environment={}) as ws:
            files = commit(ws, actor, root / "f", {"people/a": secret, "b": os.urandom(5000)})
            commit(ws, actor, root / "f", {"people/c": secret})
            faults.point = point
            with pytest.raises(Stop):
                purge(ws, files, actor, path="people/*")
            assert {e.path for e in ws.data.files(files)} >= {"b"}
        with connect(root, environment={}) as ws:
            with ws.db.write() as tx:
                tx.execute(update(at.store_sessions).values(lease_until=0))
            done = purge(ws, ws.data.get(ws.project.id, "files"), actor, path="people/*")
            assert done.done, point
            assert len(ws.care.erasures()) == 1
            ws.store._maps.clear()
            assert on_disk(ws, secret) == [], point
            assert ws.care.check(full=True).damage == []


# ---- asking


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"rows": "n > 1", "key": {"id": "1"}},
        {"path": "a"},
        {"rows": "n >"},
        {"rows": "nothing"},
        {"rows": "1 = 1"},
        {"rows": "n + 1"},
    ],
)
def test_what_makes_no_sense_is_refused(workspace: Workspace, actor: Actor, what: dict[str, Any]) -> None:
    table = workspace.data.create(workspace.project.id, "orders", RepositoryKind.TABLE, actor=actor, key=("id",))
    workspace.data.append(table, [{"id": 1, "n": 1}], actor=actor)
    with pytest.raises(Invalid) as refused:
        workspace.care.purge(table, Erase(**what), reason="x", actor=actor)
    assert refused.value.hint
    with pytest.raises(Invalid, match="needs a reason"):
        workspace.care.purge(table, Erase(rows="n = 7"), reason=" ", actor=actor)
    assert workspace.care.erasures() == []


def test_the_commands(
    workspace: Workspace,
    actor: Actor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ws = workspace
    commit(ws, actor, tmp_path / "f", {"people/a": os.urandom(500), "b": b"b" * 100})
    ws.sessions.renew()
    monkeypatch.chdir(ws.home.parent)
    assert run(["data", "purge", "files", "--path", "people/*"]) == 0
    out = capsys.readouterr().out
    assert "1 path would be erased from 1 commit and" in out
    assert run(["data", "purge", "files", "--path", "people/*", "--yes"]) == 2
    assert "needs a reason" in capsys.readouterr().err
    assert run(["data", "purge", "files", "--path", "people/*", "--yes", "--reason", "r17", "--wait", "3"]) == 0
    assert "Erasure 1 is done" in capsys.readouterr().out
    assert run(["data", "erasures"]) == 0
    assert "r17" in capsys.readouterr().out
    with ws.db.read() as conn:
        assert conn.execute(select(t.erasures.c.state)).scalar_one() == "done"


def test_the_command_tells_how_many_lines_cannot_be_told(
    workspace: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ws = workspace
    set_aside(ws, actor, "9,abe,n/a", "10,abe,1,2,3")
    ws.sessions.renew()
    monkeypatch.chdir(ws.home.parent)
    assert run(["data", "purge", "orders", "--key", "id=9"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1 stored row would be erased from 0 commits and 1 refused batch of" in out
    assert "1 more rows of refused batches would be erased from quarantine" in out
    assert "errors and warnings of runs" in out
    assert "To do it:" in out
    assert run(["data", "purge", "orders", "--key", "id=9", "--yes", "--reason", "r", "--wait", "3", "--json"]) == 0
    assert '"undecided": 1' in capsys.readouterr().out
    assert ws.data.quarantine(ws.project.id) == []
    assert run(["data", "purge", "orders", "--key", "id=9"]) == 0
    out = capsys.readouterr().out
    assert ("There is nothing to erase." in out, "To do it:" in out) == (True, False)
