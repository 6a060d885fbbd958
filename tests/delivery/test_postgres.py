"""The whole loop of the small project on PostgreSQL: from rows over a served model to the next champion and back."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from looped_shop import (
    ENDPOINT,
    ME,
    PROJECT,
    ROBOT,
    START_MS,
    T0,
    Traffic,
    copied,
    good,
    level,
    make,
    poor,
    serve,
)
from test_releases import consistent, evidence, release, rollout, until_ended

from noria.base.times import DAY
from noria.data.records import RepositoryKind
from noria.delivery.records import CandidateState, Phase
from noria.monitoring.labeller import Labeller
from noria.serving.loaded import Loaded
from noria.serving.segments import Captured, CapturedRow, SegmentWriter
from noria.workspace import Workspace

VISITED = PROJECT.replace(
    """    return orders.select("id", "shop", "n", "price", big=pl.col("price") > 50)
""",
    """    seen = nr.history(orders, visits, on="shop", at=pl.col("at"), window="12h", visits="count", spent=("mean", "spent"))
    return seen.select("id", "shop", "n", "price", "visits", "spent", big=pl.col("price") > 50)
""",
).replace("def basket(orders: pl.LazyFrame)", "def basket(orders: pl.LazyFrame, visits)").replace(
    'outcomes = nr', 'visits = nr.source("visits", key=("shop", "seen"), time="seen", known="seen")\noutcomes = nr'
)  # fmt: skip
"""The looped shop with a table that is looked into, so that the online store has something to keep."""


def visits(days: int = 24) -> pl.DataFrame:
    seen = [T0 + timedelta(hours=h) for h in range(days * 24)]
    frame = pl.DataFrame({"shop": [s for s in "abc" for _ in seen], "seen": seen * 3})
    return frame.with_columns(pl.col("seen").cast(pl.Datetime("us", "UTC")), spent=pl.int_range(pl.len()) % 17 + 0.5)


def answered(ws: Workspace, loaded: Loaded, orders: pl.DataFrame) -> list[str]:
    """Scores and captures rows one by one, as an endpoint worker does."""
    capture = SegmentWriter(ws.serving.capture_folder, "answering")
    ids = []
    for row in orders.iter_rows(named=True):
        (decoded,) = loaded.contract.decode_rows([row])
        computed = loaded.features(loaded.contract.frame([decoded]))
        (score,), (values,), (at,) = loaded.score(computed).tolist(), loaded.values(computed), loaded.moments(computed)
        ids.append(f"a-{row['id']}")
        kept = CapturedRow(ids[-1], loaded.contract.entity(decoded), at, score, msgspec.json.encode(decoded), values)
        capture.write(
            Captured(endpoint=ENDPOINT, revision=1, deployment=loaded.deployment, model=loaded.model, role="champion",
                     answered=True, received=START_MS, latency=700, commits=computed.commits, rows=[kept])
        )  # fmt: skip
    capture.close()
    return ids


@pytest.mark.postgres
def test_the_whole_loop_on_postgresql(postgres_url: str, tmp_path: Path, labeller: Labeller) -> None:
    root = tmp_path / "on_postgres"
    root.mkdir()
    make(root, versions=3, text=VISITED, db_url=postgres_url, more={"visits": visits()})
    with copied(root, root, labeller) as ws:
        assert ws.db.url.startswith("postgresql")
        assert not (ws.home / "meta.db").exists()
        assert {n.asset for n in ws.pipelines.plan(["tree"])} >= {"orders", "basket", "returned", "tree"}
        assert len(ws.registry.versions(ws.project.id, "tree")) == 3

        # served: the online store is filled by commits, and gives what bulk gives
        first = serve(ws, 1)
        loaded = Loaded(first.id, first.model, *ws.serving.folders(first), ws.features.replica_path)
        loaded.warm_up()
        start = datetime.fromtimestamp(START_MS / 1000, tz=UTC)
        ws.data.append(ws.data.get(ws.project.id, "visits"), visits(25).filter(pl.col("seen") >= start), actor=ROBOT)
        new = pl.DataFrame({
            "id": [f"n{n}" for n in range(30)], "at": [start + timedelta(minutes=17 * n + 60) for n in range(30)],
            "shop": ["a", "b", "c"] * 10, "n": [n % 9 for n in range(30)], "price": [7.5 * n for n in range(30)],
        }).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))  # fmt: skip
        ids = answered(ws, loaded, new)
        assert ws.ingest.take(actor=ROBOT)[ENDPOINT] == 30
        assert ws.ingest.take(actor=ROBOT).get(ENDPOINT, 0) == 0
        predictions = ws.data.read(ws.data.get(ws.project.id, f"{ENDPOINT}.predictions", RepositoryKind.TABLE))
        assert sorted(predictions["id"].to_list()) == sorted(ids)
        replays = ws.trace.prove(ENDPOINT, count=30, actor=ROBOT, chance=random.Random(1))
        assert [r.different for r in replays if not r.equal] == []
        assert len({r.recomputed["spent"] for r in replays}) > 2
        trail = ws.trace.trace(f"prediction:{ids[7]}", rows=4)
        assert trail.backward.facts["recomputed"] == "equal"
        assert {n.name for n in trail.backward.find("source")} == {"orders", "visits", "outcomes"}
        assert ws.trace.trace(ws.data.head(ws.data.get(ws.project.id, "visits")).id).backward.kind == "commit"

        # watched: a window with its truth
        traffic = Traffic(ws)
        traffic.day({first.id: level})
        (window,) = ws.monitoring.windows(ENDPOINT, deployment=first.id)
        assert (window.n, window.errors) == (30 + traffic.per_day, 0)
        assert len(ws.monitoring.truth(ENDPOINT)) > 0

        # released: worse is thrown out, better becomes champion, and there is a way back
        worse = release(ws, 2)
        assert rollout(ws, worse).phase == Phase.SHADOW
        until_ended(traffic, worse, {"tree/1": level, "tree/2": poor})
        assert ws.delivery.candidate(worse.id).state == CandidateState.THROWN_OUT
        consistent(ws, "tree/1")
        better = release(ws, 3)
        until_ended(traffic, better, {"tree/1": level, "tree/3": good})
        assert ws.delivery.candidate(better.id).state == CandidateState.PROMOTED
        consistent(ws, "tree/3")
        assert ws.monitoring.accuracy(ENDPOINT)
        assert ws.delivery.rollback(ENDPOINT, actor=ME) == ("tree/3", "tree/1")
        consistent(ws, "tree/1")

        # proven
        assert {e.passed for e in evidence(ws, "canary", "tree/2") + evidence(ws, "canary", "tree/3")} == {True, False}
        score, kept = ws.scorecard.keep(ENDPOINT, actor=ROBOT)
        assert ws.scorecard.again(kept) == score
        assert json.dumps(score.as_value())
        assert ws.audit.verify(ws.project.id) == []
        assert ws.verify(data=True) == []
        assert traffic.now > START_MS + 5 * DAY
    with copied(root, root, labeller) as ws:  # all of it is in the database
        consistent(ws, "tree/1")
        ended = {c.name: c.state for c in ws.delivery.candidates()}
        assert ended == {"tree/2": CandidateState.THROWN_OUT, "tree/3": CandidateState.PROMOTED}
