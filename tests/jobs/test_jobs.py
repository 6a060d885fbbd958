from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.base.errors import Conflict, Failed, Invalid, Unavailable
from noria.base.times import DAY, HOUR, parse_time, to_text
from noria.jobs import JobState, Worker
from noria.jobs.cron import next_after, parse_schedule
from noria.jobs.errors import JobFenced, JobMove
from noria.jobs.records import JOB_MOVES
from noria.jobs.service import JOB_LEASE
from noria.workspace import Workspace


def add(ws: Workspace, kind: str = "k", **extra):
    with ws.db.write() as tx:
        return ws.jobs.add(tx, ws.project.id, kind, {"n": 1}, **extra)


def test_a_job_is_claimed_once_and_finished_under_its_fence(both: Workspace) -> None:
    made = add(both)
    assert made is not None
    job = both.jobs.claim(["k"])
    assert job is not None
    assert job.id == made.id
    assert both.jobs.claim(["k"]) is None
    both.jobs.finish(job, {"ok": 1})
    assert both.jobs.get(job.id).state == JobState.DONE
    with pytest.raises(JobMove, match="is done and cannot become failed"):
        both.jobs.fail(job, {}, retry=False)


def test_a_silent_worker_loses_its_job_and_its_result_is_refused(both: Workspace, clock) -> None:
    add(both)
    first = both.jobs.claim(["k"])
    assert first is not None
    clock.tick(JOB_LEASE + 1)
    second = both.jobs.claim(["k"])
    assert second is not None
    assert (second.id, second.fence) == (first.id, first.fence + 1)
    assert not both.jobs.extend(first)
    with pytest.raises(JobFenced):
        both.jobs.finish(first, None)
    both.jobs.finish(second, {"by": "second"})
    assert both.jobs.get(first.id).result == {"by": "second"}


def test_single_flight_is_kept_by_the_database(both: Workspace) -> None:
    assert add(both, unique="train") is not None
    assert add(both, unique="train") is None
    assert add(both, unique="other") is not None
    job = both.jobs.claim(["k"])
    assert job is not None
    assert add(both, unique="train") is None
    both.jobs.finish(job, None)
    assert add(both, unique="train") is not None


def test_failures_are_tried_again_with_growing_pauses_and_end(both: Workspace, clock) -> None:
    add(both, max_attempts=3)
    tries: list[int] = []

    def handler(job, control):
        tries.append(clock.now_ms())
        raise Unavailable("down")

    worker = Worker(both.jobs, clock, {"k": handler})
    for _ in range(20):
        worker.run_one()
        clock.tick(1000)
    assert len(tries) == 3
    assert tries[2] - tries[1] > tries[1] - tries[0]
    (job,) = both.jobs.list(both.project.id)
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert job.error["message"] == "down"
    with both.db.write() as tx:
        both.jobs.again(tx, job.id)
    assert both.jobs.claim(["k"]) is not None


@pytest.mark.parametrize("error", [Failed("user code"), Invalid("wrong")])
def test_errors_that_trying_again_cannot_mend_end_the_job_at_once(both: Workspace, clock, error) -> None:
    add(both)

    def handler(job, control):
        raise error

    Worker(both.jobs, clock, {"k": handler}).run_one()
    assert both.jobs.list(both.project.id)[0].state == JobState.FAILED


def test_a_bug_in_a_handler_is_a_record_and_not_a_dead_loop(both: Workspace, clock) -> None:
    add(both, max_attempts=1)

    def handler(job, control):
        raise KeyError("x")

    assert Worker(both.jobs, clock, {"k": handler}).run_one()
    (job,) = both.jobs.list(both.project.id)
    assert job.error is not None
    assert job.error["code"] == "bug"


def test_cancelled_jobs_do_not_run(both: Workspace) -> None:
    job = add(both)
    assert job is not None
    with both.db.write() as tx:
        both.jobs.cancel(tx, job.id)
    assert both.jobs.claim(["k"]) is None
    assert both.jobs.open_count() == 0


def test_there_is_one_holder_of_a_lease(both: Workspace, clock) -> None:
    first = both.jobs.take_lease("scheduler", HOUR, {"port": 1})
    assert first == 1
    assert both.jobs.take_lease("scheduler", HOUR) == 1
    mine, both.jobs._holder = both.jobs._holder, "another"
    assert both.jobs.take_lease("scheduler", HOUR) is None
    clock.tick(HOUR)
    assert both.jobs.take_lease("scheduler", HOUR, {"port": 2}) == 2
    assert both.jobs.lease_info("scheduler") == {"port": 2}
    both.jobs.release_lease("scheduler")
    assert both.jobs.lease_info("scheduler") is None
    both.jobs._holder = mine


@given(st.lists(st.sampled_from(list(JobState)), max_size=8))
def test_every_path_through_the_table_starts_at_waiting_and_ends_where_it_says(path) -> None:
    state = JobState.WAITING
    for target in path:
        if target in JOB_MOVES[state]:
            state = target
    assert state != JobState.DONE or not JOB_MOVES[state]


def test_moves_are_exactly_those_of_the_table(both: Workspace) -> None:
    for state in JobState:
        for target in JobState:
            job = add(both, kind=f"{state}-{target}")
            assert job is not None
            from noria.jobs import queries
            from noria.jobs import tables as t

            with both.db.write() as tx:
                tx.execute(t.jobs.update().where(t.jobs.c.id == job.id).values(state=state.value))
                assert queries.move(tx.conn, job.id, target, None, {}) == (target in JOB_MOVES[state])


@pytest.mark.parametrize(
    ("text", "start", "due"),
    [
        ("month", "2013-04-15", "2013-05-01"),
        ("day", "2013-04-15T10:00:00Z", "2013-04-16"),
        ("hour", "2013-04-15T10:20:00Z", "2013-04-15T11:00:00Z"),
        ("day at 18:00 America/New_York", "2013-04-15", "2013-04-15T22:00:00Z"),
        ("day at 18:00 America/New_York", "2013-01-15", "2013-01-15T23:00:00Z"),
        ("30 2 * * 1-5", "2013-04-13", "2013-04-15T02:30:00Z"),
    ],
)
def test_schedules(text: str, start: str, due: str) -> None:
    expression, zone = parse_schedule(text)
    assert to_text(next_after(expression, zone, parse_time(start))) == to_text(parse_time(due))


@pytest.mark.parametrize("text", ["", "sometimes", "day at 18:00 Mars/Base", "61 * * * *"])
def test_wrong_schedules_say_what_to_write(text: str) -> None:
    with pytest.raises(Invalid):
        parse_schedule(text)


def test_a_daily_schedule_has_a_due_time_on_every_day_also_where_clocks_change() -> None:
    at = parse_time("2013-03-01")
    for _ in range(300):
        following = next_after("30 2 * * *", "America/New_York", at)
        assert 0 < following - at <= DAY + HOUR
        at = following


def test_conflicts_are_conflicts() -> None:
    assert issubclass(JobFenced, Conflict)
