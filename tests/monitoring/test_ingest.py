"""From capture segments to rows of the table: each record once, whatever happens in between."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from looped_shop import ENDPOINT, ROBOT, START_MS, captured, copied, serve, world
from sqlalchemy import delete

from noria.base.faults import CountPoints
from noria.base.times import DAY, to_datetime
from noria.serving import segments
from noria.serving import tables as serving_tables
from noria.serving.segments import Captured, SegmentWriter
from noria.testing import ManualClock
from noria.workspace import Workspace

ORDERS = list(world(to_datetime(START_MS), 1, 12, 5, "live-")["orders"].iter_rows(named=True))


@pytest.fixture
def writer(shop: Workspace) -> Iterator[SegmentWriter]:
    serve(shop)
    made = SegmentWriter(shop.serving.capture_folder, "w0")
    yield made
    made.close()


def answer(number: int, deployment: int = 1, score: float = 0.5) -> Captured:
    return captured(deployment, f"tree/{deployment}", ORDERS[number], score)


def failure(code: str, count: int, deployment: int = 1) -> Captured:
    return Captured(
        endpoint=ENDPOINT, revision=1, deployment=deployment, model="tree/1" if deployment else "", role="champion",
        answered=True, received=START_MS, latency=500, commits=[], rows=[], error=code, count=count,
    )  # fmt: skip


def rows(ws: Workspace) -> pl.DataFrame:
    return ws.data.read(ws.data.get(ws.project.id, f"{ENDPOINT}.predictions")).sort("id", "deployment")


def files(ws: Workspace) -> list[str]:
    return sorted(p.name for p in ws.serving.capture_folder.glob("*.seg"))


def test_what_was_captured_is_taken_once_however_often_it_is_asked_for(shop: Workspace, writer: SegmentWriter) -> None:
    writer.write(*(answer(n, score=0.1 * n) for n in range(5)))
    assert shop.ingest.take(actor=ROBOT) == {ENDPOINT: 5}
    assert shop.ingest.take(actor=ROBOT) == {}
    writer.write(answer(5), answer(6))
    assert shop.ingest.take(actor=ROBOT) == {ENDPOINT: 2}
    found = rows(shop)
    assert found["id"].to_list() == [f"p-live-{n}" for n in range(7)]
    row = found.row(3, named=True)
    assert (row["score"], row["model"], row["role"], row["answered"]) == (
        pytest.approx(0.3),
        "tree/1",
        "champion",
        True,
    )
    assert (row["entity"], row["at"], row["latency"], row["error"]) == ('["live-3"]', ORDERS[3]["at"], 900, "")
    assert '"shop"' in row["features"]
    assert shop.verify(data=True) == []


def test_rows_are_dropped_that_are_there_even_where_nobody_knows_how_far_a_segment_was_taken(
    shop: Workspace, writer: SegmentWriter
) -> None:
    writer.write(*(answer(n) for n in range(4)))
    shop.ingest.take(actor=ROBOT)
    with shop.db.write() as tx:
        tx.execute(delete(serving_tables.capture_segments))
    head = shop.data.head(shop.data.get(shop.project.id, f"{ENDPOINT}.predictions"))
    shop.ingest.take(actor=ROBOT)
    assert len(rows(shop)) == 4
    assert shop.data.head(shop.data.get(shop.project.id, f"{ENDPOINT}.predictions")) == head
    assert shop.ingest.sizes()[files(shop)[0]] == (shop.serving.capture_folder / files(shop)[0]).stat().st_size


def test_of_a_repeated_id_the_first_answer_stays_and_another_deployments_answer_is_another_row(
    shop: Workspace, writer: SegmentWriter
) -> None:
    writer.write(answer(0, score=0.2), answer(0, score=0.9), answer(0, deployment=2, score=0.7))
    shop.ingest.take(actor=ROBOT)
    writer.write(answer(0, score=0.4), answer(1))
    shop.ingest.take(actor=ROBOT)
    assert rows(shop).select("id", "deployment", "score").rows() == [
        ("p-live-0", 1, 0.2),
        ("p-live-0", 2, 0.7),
        ("p-live-1", 1, 0.5),
    ]


def test_errors_are_counted_for_the_deployment_or_for_nobody(shop: Workspace, writer: SegmentWriter) -> None:
    writer.write(answer(0), failure("scoring_failed", 3), failure("scoring_failed", 1), failure("row_unfit", 7, 0))
    shop.ingest.take(actor=ROBOT)
    found = rows(shop).filter(pl.col("error") != "")
    assert sorted(found.select("error", "deployment", "count", "score").rows(), key=lambda r: r[2]) == [
        ("scoring_failed", 1, 1, None),
        ("scoring_failed", 1, 3, None),
        ("row_unfit", 0, 7, None),
    ]
    nobody, mine = shop.monitoring.process(ENDPOINT)
    assert (nobody.deployment, nobody.errors, nobody.n, nobody.facts) == (0, 7, 0, {"codes": {"row_unfit": 1}})
    assert (mine.deployment, mine.errors, mine.n, mine.answered) == (1, 4, 1, 1)
    assert len(shop.monitoring.joined(ENDPOINT)) == 1


def test_what_has_no_moment_of_its_own_happened_when_it_was_received_but_never_after_event_time(
    shop: Workspace, writer: SegmentWriter
) -> None:
    early, late = failure("a", 1), failure("b", 1)
    early.received, late.received = START_MS - 5, START_MS + 10 * DAY
    writer.write(early, late)
    shop.ingest.take(actor=ROBOT)
    found = dict(rows(shop).select("error", "at").iter_rows())
    assert found == {"a": to_datetime(START_MS - 5), "b": to_datetime(START_MS)}


def keep_segments(ws: Workspace, keep_ms: int) -> None:
    with ws.db.write() as tx:
        ws.retention.set(tx, ws.project.id, "segments", keep_ms)


def prune(ws: Workspace) -> int:
    return ws.retention.prune(ws.project.id)["segments"]


def test_a_segment_is_kept_for_its_retention_and_never_taken_again(template: Path, tmp_path: Path) -> None:
    root = tmp_path / "kept"
    clock = ManualClock("2030-01-01T00:00:00Z")
    with copied(template, root, clock=clock) as ws:
        serve(ws)
        made = SegmentWriter(ws.serving.capture_folder, "w0")
        made.write(*(answer(n) for n in range(4)))
        made.close()
        ws.ingest.take(actor=ROBOT)
        (name,) = files(ws)
        clock.tick(7 * DAY - 1)  # the default is a week
        assert prune(ws) == 0
    with copied(template, root, clock=clock) as ws:  # after a restart
        head = ws.data.head(ws.data.get(ws.project.id, f"{ENDPOINT}.predictions"))
        assert ws.ingest.take(actor=ROBOT) == {}
        assert ws.data.head(ws.data.get(ws.project.id, f"{ENDPOINT}.predictions")) == head
        assert (files(ws), list(ws.ingest.sizes())) == ([name], [name])
        clock.tick(1)
        assert prune(ws) == 1
        assert (files(ws), ws.ingest.sizes()) == ([], {})
        assert len(rows(ws)) == 4


def test_a_segment_is_removed_when_it_was_taken_as_a_whole_and_its_worker_is_gone(shop: Workspace) -> None:
    serve(shop)
    keep_segments(shop, 0)
    folder = shop.serving.capture_folder
    living, dead, idle = (SegmentWriter(folder, name) for name in ("living", "dead", "idle"))
    living.write(answer(0))
    dead.write(answer(1))
    dead.close()
    assert prune(shop) == 0  # nobody took it
    shop.ingest.take(actor=ROBOT)
    assert prune(shop) == 1
    assert {n.partition("-")[0] for n in files(shop)} == {"living", "idle"}
    living.write(answer(2))
    living.close()
    idle.close()
    shop.ingest.take(actor=ROBOT)
    assert prune(shop) == 2
    assert files(shop) == []
    assert len(rows(shop)) == 3
    assert shop.ingest.sizes() == {}


def test_a_file_that_a_worker_is_just_making_is_left_alone(shop: Workspace) -> None:
    folder = shop.serving.capture_folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "new-0.seg").write_bytes(b"")
    (folder / "new-1.seg").write_bytes(segments.HEADER[:3])
    shop.ingest.take(actor=ROBOT)
    keep_segments(shop, 0)
    assert prune(shop) == 0
    assert files(shop) == ["new-0.seg", "new-1.seg"]


def test_a_record_that_is_half_written_is_taken_when_it_is_whole(shop: Workspace, writer: SegmentWriter) -> None:
    writer.write(answer(0), answer(1))
    (name,) = files(shop)
    path = shop.serving.capture_folder / name
    whole = path.read_bytes()
    (shop.serving.capture_folder / "half.seg").write_bytes(whole[:-10])
    path.write_bytes(segments.HEADER)  # only the copy counts here
    shop.ingest.take(actor=ROBOT)
    assert rows(shop)["id"].to_list() == ["p-live-0"]
    (shop.serving.capture_folder / "half.seg").write_bytes(whole)
    shop.ingest.take(actor=ROBOT)
    assert rows(shop)["id"].to_list() == ["p-live-0", "p-live-1"]
    keep_segments(shop, 0)
    assert prune(shop) == 1
    assert "half.seg" not in files(shop)


def test_damage_in_one_segment_keeps_that_file_and_holds_up_no_other(
    shop: Workspace, writer: SegmentWriter, caplog: pytest.LogCaptureFixture
) -> None:
    writer.write(answer(0), answer(1), answer(2))
    (name,) = files(shop)
    data = bytearray((shop.serving.capture_folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (shop.serving.capture_folder / "a-damaged.seg").write_bytes(data)
    (shop.serving.capture_folder / name).write_bytes(segments.HEADER)
    other = SegmentWriter(shop.serving.capture_folder, "z")
    other.write(answer(7))
    other.close()
    for _ in range(2):
        shop.ingest.take(actor=ROBOT)
    assert rows(shop)["id"].to_list() == ["p-live-0", "p-live-7"]
    keep_segments(shop, 0)
    assert prune(shop) == 1  # of the one that is whole
    assert "a-damaged.seg" in files(shop)
    assert "is damaged at byte" in caplog.text


def test_much_is_taken_in_parts(shop: Workspace, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.serving.ingest._MOST_BYTES", 1_000)
    writer.write(*(answer(n) for n in range(12)))
    assert shop.ingest.take(actor=ROBOT) == {ENDPOINT: 12}
    assert len(rows(shop)) == 12
    head = shop.data.head(shop.data.get(shop.project.id, f"{ENDPOINT}.predictions"))
    assert head is not None
    assert head.generation > 2


def test_several_endpoints_land_in_one_transaction(shop: Workspace, writer: SegmentWriter) -> None:
    shop.serving.ensure("other", "tree", {}, actor=ROBOT)
    second = answer(1)
    second.endpoint = "other"
    writer.write(answer(0), second)
    assert shop.ingest.take(actor=ROBOT) == {ENDPOINT: 1, "other": 1}
    landed = [e for e in shop.audit.list(shop.project.id, limit=10).items if e.verb == "data.append"]
    assert landed[0].subject == f"{ENDPOINT}.predictions, other.predictions"


CRASH = """
import sys
from noria.base.actor import Actor
from noria.workspace import connect
with connect(sys.argv[1]) as ws:
    print(ws.ingest.take(actor=Actor(name="system:crash", automatic=True)))
"""


def points_of(template: Path, root: Path) -> list[str]:
    """Every point that taking over announces, in order."""
    count = CountPoints()
    with copied(template, root, faults=count) as ws:
        serve(ws)
        made = SegmentWriter(ws.serving.capture_folder, "w0")
        made.write(*(answer(n) for n in range(6)))
        made.close()
        before = len(count.seen)
        ws.ingest.take(actor=ROBOT)
        return count.seen[before:]


def test_a_crash_anywhere_while_rows_land_loses_nothing_and_takes_nothing_twice(template: Path, tmp_path: Path) -> None:
    """Killed at the transaction that lands and marks, before and after it."""
    seen = points_of(template, tmp_path / "count")
    assert "change.data.append" in seen
    commits = seen.count("db.commit")
    wanted = ["change.data.append"]
    wanted += [f"{point}:{n}" for n in (commits - 1, commits) for point in ("db.commit", "db.committed")]
    root = tmp_path / "crash"
    with copied(template, root) as ws:
        serve(ws)
        made = SegmentWriter(ws.serving.capture_folder, "w0")
        made.write(*(answer(n) for n in range(6)))
        made.close()
    original = root.with_name("original")
    root.rename(original)
    for number, point in enumerate(wanted):
        with copied(original, tmp_path / f"crash-{number}") as ws:
            folder = ws.home.parent
        env: dict[str, Any] = {**os.environ, "NORIA_FAULT": point}
        done = subprocess.run(
            [sys.executable, "-c", CRASH, str(folder)], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 137, (point, done.stderr)
        with copied(original, folder) as ws:
            ws.ingest.take(actor=ROBOT)
            assert ws.ingest.take(actor=ROBOT) == {}, point
            assert rows(ws)["id"].to_list() == [f"p-live-{n}" for n in range(6)], point
            assert list(ws.ingest.sizes()) == files(ws), point
            keep_segments(ws, 0)
            assert prune(ws) == 1, point
            assert (files(ws), ws.ingest.sizes()) == ([], {}), point
            assert ws.ingest.take(actor=ROBOT) == {}, point
            assert ws.verify(data=True) == [], point
