"""What happens in the demo, stage by stage. Every stage asks the workspace what is done already, and goes on there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

from noria.demo import data, summary
from noria.demo.machine import DemoFailed, Machine, Refused
from noria.demo.replay import Replay
from noria.demo.screen import Screen

ENDPOINT: Final = "delays"
MODEL: Final = "delay_model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of the year is told. Nothing else differs between the quick and the whole demo.

    Attributes:
        start, end: of the replay. drill: the day from which on the drill may begin.
        recomputed: how many answers are computed again in bulk.
    """

    start: datetime = datetime(2013, 4, 1, tzinfo=UTC)
    end: datetime = datetime(2014, 1, 1, tzinfo=UTC)
    drill: datetime = datetime(2013, 10, 10, tzinfo=UTC)
    recomputed: int = 10_000


QUICK: Final = Plan(end=datetime(2013, 5, 16, tzinfo=UTC), drill=datetime(2013, 4, 2, tzinfo=UTC), recomputed=2_000)


@dataclass(slots=True)
class Story:
    """One run of the demo in one folder."""

    folder: Path
    plan: Plan
    screen: Screen
    machine: Machine = field(init=False)
    world: data.World = field(init=False)
    took: dict[str, float] = field(default_factory=dict[str, float])
    _recomputed: int = 0
    _asked: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.machine = Machine(self.folder)

    def tell(self) -> dict[str, Any]:
        """Runs everything that was not run yet; returns the summary."""
        started = time.monotonic()
        if not self.machine.lock():
            self.screen.say("waiting for a command that an interrupted demo began")
            while not self.machine.lock():
                time.sleep(0.2)
        for title, stage in self._stages():
            with self._timed(title):
                stage()
        with self._timed("Reading the records"):
            found = summary.build(
                self.machine, self.plan.start, self.plan.end, ENDPOINT, MODEL, self._asked, self._recomputed
            )
        found["seconds"] = {"total": round(time.monotonic() - started, 1), "stages": self.took}
        return found

    def _stages(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "Reading the data of 2013", self._load
        yield "A project and a workspace", self._make
        yield "The server", self._up
        yield "A damaged batch", self._damaged
        yield "Collecting January to March, features, baselines", self._collect
        yield "Searching hyperparameters", self._search
        yield "Gates and the first champion", self._first
        yield f"Replaying {self.plan.start:%B} to {self.plan.end - timedelta(days=1):%B}", self._replay
        yield "A rollback drill", self._roll_back
        yield f"Computing {self.plan.recomputed:,} answers again", self._recompute
        yield "The trace of a prediction", self._trace

    @contextmanager
    def _timed(self, title: str) -> Iterator[None]:
        begun = time.monotonic()
        self.screen.stage(title)
        try:
            yield
        except BaseException:
            self.screen.rest()
            raise
        self.took[title] = round(time.monotonic() - begun, 1)
        self.screen.done(self.took[title])

    # ---- the stages

    def _load(self) -> None:
        self.world = data.load()

    def _make(self) -> None:
        """Copies the project, writes the first three months as files, applies the project."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with as_file(files("noria.demo") / "project") as project:
            for path in project.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    target = self.folder / path.relative_to(project)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, target)
        (self.folder / ".gitignore").write_text("data/\n.noria/\n.demo.lock\n", encoding="utf-8")
        data.write_files(self.world, self.folder / "data", self.plan.start)
        if not (self.folder / ".noria" / "meta.db").exists():
            self.machine.noria("init", ".")
        self.machine.noria("apply")
        for name in ("flights", "landings"):
            self.machine.noria("data", "contract", "set", name, f"contracts/{name}.toml")

    def _up(self) -> None:
        """From here on event time is the replay's."""
        self.machine.up()
        if self.machine.get("/v1/clock")["mode"] == "wall":
            self.machine.post("/v1/clock", {"to": f"{self.plan.start:%Y-%m-%dT%H:%M:%SZ}"})

    def _damaged(self) -> None:
        """Offers a batch in which somebody mixed up columns and units; the contract has to refuse it."""
        if self.machine.get("/v1/quarantine")["items"]:
            self.screen.say("refused before; it lies in quarantine")
            return
        rows = data.as_rows(data.damaged(self.world))
        try:
            self.machine.post("/v1/data/landings/rows", {"rows": rows})
        except Refused as refused:
            for finding in refused.answer.get("details", {}).get("findings", [])[:3]:
                self.screen.say(f"refused: {finding['message']}")
            return
        raise DemoFailed("The damaged batch was taken.", hint="This is a mistake of noria: report it.")

    def _collect(self) -> None:
        done = self.machine.noria("run", "trip", "late")
        made = [s["asset"] for s in done["steps"] if s["action"] in ("made", "source")]
        self.screen.say(f"made {', '.join(made)}" if made else "all of it was made before")

    def _search(self) -> None:
        if self._candidates():
            self.screen.say("done before")
            return
        found = self.machine.noria("sweep", MODEL)
        best = found["best"]
        values = ", ".join(f"{k}={v}" for k, v in best["params"].items())
        self.screen.say(f"{len(found['trials'])} trials; {found['metric']} {best['value']:.4f} with {values}")

    def _first(self) -> None:
        if not self._candidates():
            self.machine.noria("release", MODEL, accept=(0, 3))
        first = self._candidates()[0]
        for gate in first["gates"]:
            self.screen.say(f"{'yes' if gate['passed'] else 'NO '} {gate['text']}")
        if first["state"] != "promoted":
            raise DemoFailed(f"The first model did not become champion: it is {first['state']}.")

    def _replay(self) -> None:
        Replay(self.machine, self.world, self.plan.start, self.plan.end, self.plan.drill, self.screen).run()
        self._asked = self._asked_for()
        del self.world  # what the system itself says is enough from here on

    def _roll_back(self) -> None:
        """There and back again, and how long it took until every worker answered with the other version."""
        if not [c for c in self._candidates() if c["state"] == "promoted"][1:]:
            self.screen.say("no champion was replaced, so there is nothing to go back to")
            return
        events = self.machine.get("/v1/events?types=champion.changed&limit=1000")["items"]
        before = sum(bool(e["payload"].get("drill")) for e in events)
        for _ in range(2 - before):
            done = self.machine.post(f"/v1/endpoints/{ENDPOINT}/rollback", {"drill": True})
            self.screen.say(f"{done['before']} -> {done['after']} in {done['ms']} ms")

    def _recompute(self) -> None:
        self.machine.noria("run", "trip", "late", "--executor", "inline")  # one process: memory is dear here
        found = self.machine.noria("monitor", "skew", ENDPOINT, "--rows", str(self.plan.recomputed), accept=(0, 1))
        self._recomputed = min(found["equal"], found["scores_equal"])
        self.screen.say(
            f"{found['equal']:,} of {found['rows']:,} with equal features, {found['scores_equal']:,} scores"
        )
        if not found["passed"]:
            raise DemoFailed(f"Answers differ from the bulk path: {found}.")

    def _trace(self) -> None:
        """One prediction back to its rows, one commit forward to what it touched; the score is kept as a version."""
        self.machine.noria("scorecard", MODEL, "--keep")

    def _asked_for(self) -> list[str]:
        """The flights that the endpoint was asked for."""
        at = data.prediction_time()
        return self.world.flights.filter((at >= self.plan.start) & (at < self.plan.end))["flight_id"].to_list()

    def _candidates(self) -> list[dict[str, Any]]:
        return self.machine.get(f"/v1/candidates?model={MODEL}")["items"]
