"""The rest of the year as live traffic, in the order in which it happened (decision 6).

A tick at t: what was published up to t is posted, then the flights are asked for whose prediction time lies in the
hour that begins. While they are answered, the next hour's rows are posted already: a row counts from its publication
on, whenever it is there, so the answers are the same. Event
time is moved by the days; the server processes a day when it is over, and answers when all that came of it is done. A
tick that is repeated after a crash has no second effect: rows carry an idempotency key, predictions the key of their
flight.
"""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from noria.demo import data
from noria.demo.machine import DemoFailed, Machine, Refused
from noria.demo.screen import Screen

ENDPOINT: Final = "delays"
MODEL: Final = "delay_model"
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
_WORSE: Final = ("learning_rate=0.5", "num_leaves=60", "min_child_samples=5")
"""Hyperparameters of the drill's model: it runs after every single flight that it has seen."""


class Replay:
    def __init__(
        self, machine: Machine, world: data.World, start: datetime, end: datetime, drill: datetime, screen: Screen
    ) -> None:
        self._machine = machine
        self._start = start
        self._end = end
        self._drill = drill
        self._screen = screen
        live = world.flights.with_columns(__at=data.prediction_time())
        self._flights = Pieces(live, "__at", "1h")
        # A landing or an observation of the hour before counts from the full hour on.
        self._landings = Pieces(world.landings, "published_at", "1h")
        self._weather = Pieces(world.weather, "published_at", "1h")
        self._schedule = Pieces(live, "__at", "1d")
        self.predictions = 0
        self._drilled = False

    def run(self) -> None:
        at = self._resume()
        self._screen.begin_replay(self._start, self._end)
        self._drilled = any(c["drill"] for c in self._candidates())
        while at < self._end:
            self._day(at)
            at += DAY
        self._clock(self._end)
        self._publish(self._end, first=False)
        self._screen.day(self._end, self._candidates(), self.predictions)
        self._screen.end_replay()

    def _resume(self) -> datetime:
        """The day at which a replay that was interrupted goes on; the day is told anew, and nothing counts twice."""
        clock = self._machine.get("/v1/clock")
        reached = datetime.fromisoformat(clock["watermark"])
        return max(self._start, reached.replace(hour=0, minute=0, second=0, microsecond=0))

    def _day(self, day: datetime) -> None:
        self._clock(day)
        self._screen.day(day, self._candidates(), self.predictions)
        self._maybe_drill(day)
        asking: Future[None] | None = None
        with ThreadPoolExecutor(1) as pool:
            for number in range(24):
                at = day + number * HOUR
                self._publish(at, first=number == 0)
                if asking is not None:
                    asking.result()
                asking = pool.submit(self._predict, at, single=number % 2 == 0)
            assert asking is not None
            asking.result()

    def _clock(self, to: datetime) -> None:
        self._machine.post("/v1/clock", {"to": _text(to)})

    def _publish(self, at: datetime, *, first: bool) -> None:
        """What is known at ``at``; at midnight the day's schedule too. One transaction."""
        batches: dict[str, list[dict[str, Any]]] = {}
        for name, pieces in (("landings", self._landings), ("weather", self._weather)):
            if (found := pieces.of(at)) is not None:
                batches[name] = data.as_rows(found)
        if first and (found := self._schedule.of(at)) is not None and at < self._end:
            batches["flights"] = data.as_rows(found)
        if batches:
            self._machine.post("/v1/rows", {"repositories": batches}, key=f"tick-{_text(at)}")

    def _predict(self, at: datetime, *, single: bool) -> None:
        """Every flight of the hour through the endpoint: one of them by itself, the others as a batch."""
        found = self._flights.of(at)
        if found is None:
            return
        rows = data.as_rows(found)
        if single:
            self._ask([rows[0]], alone=True)
            rows = rows[1:]
        if rows:
            self._ask(rows, alone=False)

    def _ask(self, rows: list[dict[str, Any]], *, alone: bool) -> None:
        ids = [row["flight_id"] for row in rows]
        body = {"row": rows[0], "id": ids[0]} if alone else {"rows": rows, "ids": ids}
        answer = self._machine.predict(ENDPOINT, json.dumps(body).encode())
        given = [answer["id"]] if alone else [p["id"] for p in answer["predictions"]]
        if given != ids:
            raise DemoFailed(f"Asked for {len(ids)} flights, got {len(given)} answers.")
        self.predictions += len(ids)

    def _maybe_drill(self, day: datetime) -> None:
        """Sends a model to the canary that is worse on purpose. Marked as a drill in every record."""
        if self._drilled or day < self._drill or any(c["state"] in _OPEN for c in self._candidates()):
            return
        # Its check says no, and rightly.
        done = self._machine.noria("run", MODEL, *_WORSE, "--executor", "inline", accept=(0, 1))
        made = next(s for s in done["steps"] if s["asset"] == MODEL)
        versions = self._machine.noria("models", "show", MODEL)["versions"]
        newest = max(v["number"] for v in versions)
        body = {"model": f"{MODEL}/{newest}", "drill": True, "force": True}
        try:
            self._machine.post("/v1/releases", body)
        except Refused as refused:
            raise DemoFailed(f"The drill could not begin: {refused.message}") from None
        self._drilled = True
        self._screen.say(f"{day:%d %b}: drill: {MODEL}/{newest} ({made['action']}) is worse on purpose")
        self._clock(day)

    def _candidates(self) -> list[dict[str, Any]]:
        return self._machine.get(f"/v1/candidates?model={MODEL}")["items"]


_OPEN: Final = ("training", "gating", "releasing")


class Pieces:
    """The rows of each hour, or day, of a table: slices of one sorted frame."""

    def __init__(self, frame: pl.DataFrame, column: str, every: str) -> None:
        self._frame = frame.sort(column, maintain_order=True)
        starts = self._frame.select(pl.col(column).dt.truncate(every)).to_series().rle().struct.unnest()
        ends = starts["len"].cum_sum()
        spans = zip(starts["value"], (ends - starts["len"]).to_list(), starts["len"].to_list(), strict=True)
        self._spans = {start: (offset, size) for start, offset, size in spans}

    def of(self, start: datetime) -> pl.DataFrame | None:
        """The rows of the piece that begins then, without helper columns; None where there are none."""
        span = self._spans.get(start)
        if span is None:
            return None
        rows = self._frame.slice(*span)
        return rows.select([name for name in rows.columns if not name.startswith("__")])


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
