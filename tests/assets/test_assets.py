from __future__ import annotations

import threading

import pytest
from sqlalchemy import select, update

from noria.assets import tables as t
from noria.assets.errors import (
    AssetKindTaken,
    ClockBackwards,
    KeyReused,
    RunFenced,
    RunMove,
    RunNotFound,
    SessionBroken,
)
from noria.assets.records import AssetKind, Content, Direction, RunState
from noria.assets.service import RUN_LEASE
from noria.assets.sessions import SESSION_LEASE
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid, NotFound
from noria.base.once import Once
from noria.base.pages import token
from noria.base.times import DAY, HOUR
from noria.store import Kind
from noria.workspace import Workspace


def make_version(ws: Workspace, name: str, text: str, kind: AssetKind = AssetKind.DATASET):
    digest = Digest.of(text.encode())
    with ws.db.write() as tx:
        asset = ws.assets.define(tx, ws.project.id, name, kind)
        return ws.assets.add_version(tx, asset.id, digest=digest, content=Content.JSON, layout=digest, size=len(text))


def run_step(ws: Workspace, inputs, output, actor: Actor):
    with ws.db.write() as tx:
        run = ws.assets.start_run(tx, ws.project.id, kind="step", name=output.asset, actor=actor)
        for version in inputs:
            ws.assets.link(tx, run.id, version.id, Direction.IN, version.asset)
        ws.assets.link(tx, run.id, output.id, Direction.OUT, output.asset)
        ws.assets.end_run(tx, run.id, RunState.DONE)
    return run


def test_equal_content_is_the_same_version(both: Workspace) -> None:
    assert make_version(both, "a", "x") == make_version(both, "a", "x")
    assert make_version(both, "a", "y").id != make_version(both, "a", "x").id
    assert make_version(both, "b", "x").id != make_version(both, "a", "x").id


def test_a_name_belongs_to_one_kind(both: Workspace) -> None:
    make_version(both, "a", "x")
    with pytest.raises(AssetKindTaken, match="dataset already"):
        make_version(both, "a", "x", AssetKind.MODEL)


def test_lineage_goes_both_ways(both: Workspace, actor: Actor) -> None:
    raw, clean, model = (make_version(both, n, n) for n in ("raw", "clean", "model"))
    other = make_version(both, "other", "other")
    first = run_step(both, [raw], clean, actor)
    second = run_step(both, [clean, other], model, actor)
    up = both.lineage.upstream([model.id])
    assert {v.asset for v in up.versions.values()} == {"raw", "clean", "model", "other"}
    assert set(up.runs) == {first.id, second.id}
    down = both.lineage.downstream([raw.id])
    assert {v.asset for v in down.versions.values()} == {"raw", "clean", "model"}
    assert both.lineage.makers(clean.id)[0].id == first.id


def test_two_runs_may_make_the_same_content(both: Workspace, actor: Actor) -> None:
    out = make_version(both, "out", "same")
    runs = [run_step(both, [make_version(both, f"in{n}", str(n))], out, actor) for n in range(2)]
    assert [r.id for r in both.lineage.makers(out.id)] == [r.id for r in runs]


def test_a_run_ends_once_and_may_be_reopened(both: Workspace, actor: Actor) -> None:
    with both.db.write() as tx:
        run = both.assets.start_run(tx, both.project.id, kind="mlflow", name="r", actor=actor, leased=False)
        both.assets.end_run(tx, run.id, RunState.DONE, fence=None, cost={"wall_ms": 3})
        with pytest.raises(RunMove, match="is done and cannot become failed"):
            both.assets.end_run(tx, run.id, RunState.FAILED, fence=None)
        both.assets.amend_run(tx, run.id, state=RunState.RUNNING)
    found = both.assets.run(run.id)
    assert (found.state, found.ended_at, found.cost) == (RunState.RUNNING, None, {"wall_ms": 3})
    with pytest.raises(RunNotFound):
        both.assets.run("0" * 32)  # type: ignore[arg-type]


def test_a_silent_process_loses_its_runs_and_cannot_finish_them(both: Workspace, actor: Actor, clock) -> None:
    with both.db.write() as tx:
        run = both.assets.start_run(tx, both.project.id, kind="step", name="s", actor=actor)
    clock.tick(RUN_LEASE - 1)
    assert both.assets.reap() == []
    both.assets.heartbeat()
    clock.tick(RUN_LEASE - 1)
    assert both.assets.reap() == []
    clock.tick(2)
    assert both.assets.reap() == [run.id]
    assert both.assets.run(run.id).state == RunState.LOST
    with both.db.write() as tx, pytest.raises(RunFenced):
        both.assets.end_run(tx, run.id, RunState.DONE)


def test_runs_are_paged_newest_first(both: Workspace, actor: Actor, clock) -> None:
    for number in range(5):
        with both.db.write() as tx:
            both.assets.start_run(tx, both.project.id, kind="step", name=f"s{number}", actor=actor)
        clock.tick(number % 2)
    names: list[str] = []
    after = None
    while True:
        page = both.assets.list_runs(both.project.id, limit=2, after=after)
        names += [r.name for r in page.items]
        after = page.next
        if after is None:
            break
    assert names == ["s4", "s3", "s2", "s1", "s0"]


def test_a_change_holds_its_audit_row_event_and_answer_together(both: Workspace, actor: Actor) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        both.changes.begin("t.verb", both.project.id, actor, once=Once("k", None)) as change,
    ):
        change.event("thing.made", "a")
        raise ZeroDivisionError
    with both.db.read() as conn:
        assert conn.execute(select(t.events)).all() == []
        assert conn.execute(select(t.idempotency)).all() == []
    for _ in range(2):
        with both.changes.begin("t.verb", both.project.id, actor, once=Once("k", {"n": 1})) as change:
            if change.earlier is None:
                change.event("thing.made", "a", {"n": 1})
                change.note("a", n=1)
                change.answer({"made": 1})
            else:
                assert change.earlier == {"made": 1}
    with both.db.read() as conn:
        assert len(conn.execute(select(t.events)).all()) == 1
        assert len(conn.execute(select(t.audit)).all()) == 1


def test_a_key_cannot_be_used_for_another_request(both: Workspace, actor: Actor) -> None:
    with both.changes.begin("t.verb", both.project.id, actor, once=Once("k", 1)):
        pass
    with pytest.raises(KeyReused), both.changes.begin("t.verb", both.project.id, actor, once=Once("k", 2)):
        pass


def test_requests_with_one_key_from_many_threads_have_one_effect(both: Workspace, actor: Actor) -> None:
    effects: list[int] = []

    def call() -> None:
        with both.changes.begin("t.verb", both.project.id, actor, once=Once("same", None)) as change:
            if change.earlier is None:
                change.answer({"n": 1})
                effects.append(1)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert effects == [1]


def test_the_audit_log_shows_every_kind_of_tampering(both: Workspace, actor: Actor) -> None:
    for number in range(4):
        with both.changes.begin("t.verb", both.project.id, actor) as change:
            change.note(f"s{number}")
    assert both.audit.verify(both.project.id) == []
    assert [e.subject for e in both.audit.list(both.project.id).items] == ["s3", "s2", "s1", "s0"]
    with both.db.write() as tx:
        tx.execute(update(t.audit).where(t.audit.c.subject == "s1").values(actor="user:mallory"))
    assert both.audit.verify(both.project.id) == ["entry 2 was changed"]
    with both.db.write() as tx:
        tx.execute(t.audit.delete().where(t.audit.c.subject == "s1"))
    assert both.audit.verify(both.project.id) == ["entry 3 does not follow the entry before it"]


def test_deliveries_are_in_order_repeated_after_failure_and_given_up_at_last(
    both: Workspace, actor: Actor, clock
) -> None:
    both.changes._subscriptions = {"thing.made": ("good", "bad")}
    for number in range(2):
        with both.changes.begin("t.verb", both.project.id, actor) as change:
            change.event("thing.made", f"s{number}")
    heard: list[str] = []
    tried: list[str] = []

    def bad(event) -> None:
        tried.append(event.subject)
        raise ValueError("always")

    handlers = {"good": lambda event: heard.append(event.subject), "bad": bad}
    both.deliveries.run_due(handlers)
    assert heard == ["s0", "s1"]
    assert tried == ["s0"]
    assert both.deliveries.waiting() == 2
    for _ in range(40):
        clock.tick(HOUR)
        both.deliveries.run_due(handlers)
    assert tried == ["s0"] * 8 + ["s1"] * 8
    assert [(e.subject, who) for e, who, _ in both.deliveries.dead()] == [("s0", "bad"), ("s1", "bad")]
    assert heard == ["s0", "s1"]
    assert both.deliveries.waiting() == 0


def test_a_delivery_whose_handler_died_is_delivered_again(both: Workspace, actor: Actor, clock) -> None:
    both.changes._subscriptions = {"thing.made": ("s",)}
    with both.changes.begin("t.verb", both.project.id, actor) as change:
        change.event("thing.made", "a")
    assert both.deliveries._claim(["s"]) is not None  # claimed, then the process dies
    assert both.deliveries.run_due({"s": lambda _: None}) == 0
    clock.tick(HOUR)
    assert both.deliveries.run_due({"s": lambda _: None}) == 1


def test_event_time_is_wall_time_until_a_replay_and_never_goes_back(both: Workspace, clock) -> None:
    project = both.project.id
    assert both.event_clock.event_ms(project) == clock.now_ms()
    with both.db.write() as tx:
        both.event_clock.set(tx, project, 5 * DAY)
        assert both.event_clock.set(tx, project, 6 * DAY) == 5 * DAY
        with pytest.raises(ClockBackwards, match="cannot go back"):
            both.event_clock.set(tx, project, 5 * DAY)
    assert both.event_clock.for_project(project).event_ms() == 6 * DAY


def test_a_writer_registers_first_and_a_broken_session_cannot_commit(both: Workspace, clock) -> None:
    with both.sessions.writer() as writer:
        with both.db.read() as conn:
            assert len(conn.execute(select(t.store_sessions)).all()) == 1
        writer.put(Kind.BLOB, b"x")
        packs = writer.flush()
    with both.db.write() as tx:
        both.sessions.seal(tx, packs)
    with both.db.write() as tx:
        tx.execute(t.store_sessions.delete())
    with pytest.raises(SessionBroken), both.db.write() as tx:
        both.sessions.seal(tx, packs)


def test_a_session_that_begins_after_the_epoch_stores_condemned_objects_again(both: Workspace, clock) -> None:
    with both.sessions.writer() as writer:
        writer.put(Kind.BLOB, b"old")
        (pack,) = writer.flush()
    with both.db.write() as tx:
        both.sessions.seal(tx, [pack])
        tx.execute(update(t.workspace).values(gc_epoch=1))
        tx.execute(update(t.packs).values(condemned_epoch=1))
    with both.sessions.writer() as writer:
        writer.put(Kind.BLOB, b"old")
        writer.put(Kind.BLOB, b"new")
        (second,) = writer.flush()
    assert second.count == 2
    clock.tick(SESSION_LEASE)
    with both.sessions.writer() as writer:
        assert writer.flush() == []


def test_pruning_keeps_what_is_young_or_undelivered(both: Workspace, actor: Actor, clock) -> None:
    both.changes._subscriptions = {"kept": ("s",)}
    for kind in ("kept", "gone"):
        with both.changes.begin("t.verb", both.project.id, actor, once=Once(kind, None)) as change:
            change.event(kind, kind)
    clock.tick(31 * DAY)
    with both.changes.begin("t.verb", both.project.id, actor, once=Once("young", None)) as change:
        change.event("young", "young")
    removed = both.retention.prune(both.project.id)
    assert removed["events"] == 1
    assert removed["idempotency"] == 2
    with both.db.read() as conn:
        assert sorted(conn.execute(select(t.events.c.type)).scalars()) == ["kept", "young"]
        assert len(conn.execute(select(t.audit)).all()) == 3


def test_an_unknown_project_is_named_with_the_nearest_one(both: Workspace) -> None:
    with pytest.raises(NotFound) as error:
        both.assets.project(both.project.name + "x")
    assert both.project.name in error.value.hint


@pytest.mark.parametrize("text", ["", "%", "_", "0%", "a" * 33, "f" * 70_000, "x", "0\0", "²", " "])
def test_only_the_beginning_of_an_id_names_a_run_or_version(both: Workspace, actor: Actor, text: str) -> None:
    out = make_version(both, "out", "x")
    run_step(both, [], out, actor)
    with pytest.raises(RunNotFound, match="There is no run"):
        both.assets.resolve_run(both.project.id, text)
    assert both.assets.versions_like(both.project.id, text) == []
    assert both.assets.versions_like(both.project.id, str(out.digest)) == [out]


def test_a_run_is_named_by_its_beginning_in_its_own_project_only(both: Workspace, actor: Actor) -> None:
    run = run_step(both, [], make_version(both, "out", "x"), actor)
    assert both.assets.resolve_run(both.project.id, run.id).id == run.id
    assert both.assets.resolve_run(both.project.id, run.id[:20]).id == run.id
    other = both.assets.ensure_project("other")
    for text in (run.id, run.id[:20]):
        with pytest.raises(RunNotFound, match="There is no run"):
            both.assets.resolve_run(other.id, text)


@pytest.mark.parametrize("mark", [["x", "y"], [1], [1, 2], [1, "a\0"], [10**30, "a"], [-1, "a"], [True, "a"], 7, "x"])
def test_a_page_token_of_another_list_of_runs_is_refused(both: Workspace, mark) -> None:
    with pytest.raises(Invalid, match="page token"):
        both.assets.list_runs(both.project.id, after=token(mark))


@pytest.mark.parametrize("mark", [["x", "y"], -1, "x", 10**30, True])
def test_a_page_token_of_another_list_of_numbers_is_refused(both: Workspace, mark) -> None:
    version = make_version(both, "out", "x")
    with pytest.raises(Invalid, match="page token"):
        both.assets.list_versions(version.asset_id, after=token(mark))
    with pytest.raises(Invalid, match="page token"):
        both.audit.list(both.project.id, after=token(mark))


def test_events_come_oldest_or_newest_first(both: Workspace, actor: Actor) -> None:
    for number in range(5):
        with both.changes.begin("t.verb", both.project.id, actor) as change:
            change.event("t.done", str(number))
    oldest = both.assets.list_events(both.project.id, limit=2)
    assert [e.subject for e in oldest] == ["0", "1"]
    newest = both.assets.list_events(both.project.id, limit=2, newest=True)
    assert [e.subject for e in newest] == ["4", "3"]
    between = both.assets.list_events(both.project.id, after=oldest[-1].id, limit=9, newest=True)
    assert [e.subject for e in between] == ["4", "3", "2"]


def test_a_remembered_asset_is_not_one_that_was_rolled_back(both: Workspace) -> None:
    def asset_id(kind: AssetKind = AssetKind.DATASET):
        with both.db.write() as tx:
            return both.assets.asset_id(tx, both.project.id, "a", kind)

    with pytest.raises(ZeroDivisionError), both.db.write() as tx:
        both.assets.asset_id(tx, both.project.id, "a", AssetKind.REPORT)
        both.assets.asset_id(tx, both.project.id, "a", AssetKind.REPORT)
        raise ZeroDivisionError
    assert both.assets.find(both.project.id, "a") is None
    assert asset_id() == asset_id() == both.assets.asset(both.project.id, "a").id
    with pytest.raises(AssetKindTaken):
        asset_id(AssetKind.REPORT)


def test_a_new_run_and_version_are_what_is_read_back(both: Workspace, actor: Actor) -> None:
    with both.db.write() as tx:
        asset = both.assets.define(tx, both.project.id, "a", AssetKind.DATASET)
        digest = Digest.of(b"x")
        how = {"digest": digest, "content": Content.JSON, "layout": digest, "size": 1, "rows": 2, "meta": {"k": [1]}}
        made = both.assets.add_version(tx, asset.id, name="a", **how)
        again = both.assets.add_version(tx, asset.id, name="a", **how)
        run = both.assets.start_run(
            tx, both.project.id, kind="step", name="s", actor=actor, asset_id=asset.id, trigger="t", identity=digest
        )
    assert made == again == both.assets.version(made.id)
    assert run == both.assets.run(run.id)
    assert asset == both.assets.asset(both.project.id, "a")
