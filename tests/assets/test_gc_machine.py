"""Writers and collectors of several processes, in any order that a machine can think of, against a model."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import update
from test_gc import Process, drop, put, whole  # pyright: ignore[reportMissingImports] - beside this file

from noria import workspace as workspaces
from noria.assets import tables as at
from noria.assets.errors import SessionBroken
from noria.base.digest import Digest
from noria.store import ObjectStore, tree
from noria.store.local import LocalBytes
from noria.testing import ManualClock
from noria.workspace import connect

TIMES = int(os.environ.get("NORIA_TEST_FUZZ", "1"))

PROCESSES = 2
CONTENTS = [random.Random(n).randbytes(400 + 900 * (n % 4)) for n in range(8)]
NAMES = ["a", "b"]

who = st.integers(0, PROCESSES - 1)
name = st.sampled_from(NAMES)
contents = st.sets(st.integers(0, len(CONTENTS) - 1), min_size=1, max_size=2)


class Store(RuleBasedStateMachine):
    blank: Path

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="noria-gc-"))
        shutil.copytree(self.blank, self.folder / "ws")
        self.clock = ManualClock()
        self.ws = connect(self.folder / "ws", clock=self.clock, environment={})
        self.count = 0
        self.graves: list[Any] = []
        self.processes = [self.made(n) for n in range(PROCESSES + 1)]  # the last one collects
        self.writing: dict[int, tuple[Any, Any, Digest, set[int], list[Any]]] = {}
        self.marked: Any = None
        self.model: dict[str, tuple[Digest, set[int]]] = {}

    def made(self, number: int) -> Process:
        self.count += 1
        return Process(self.ws, self.folder / f"cache-{number}-{self.count}")

    def teardown(self) -> None:
        if not hasattr(self, "ws"):
            return
        for number in list(self.writing):
            self.abandon(number)
        for process in self.processes:
            process.sessions._closed.set()
            process.store.close()
        self.ws.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- writers

    @rule(number=who, some=contents, base=st.one_of(st.none(), name), asset=name, at_once=st.booleans())
    def write(self, number: int, some: set[int], base: str | None, asset: str, at_once: bool) -> None:
        """Begins, reads what it builds upon, and asks for what it puts; the next time, lands."""
        if number not in self.writing:
            self.begin_writing(number, some, base)
            if not at_once:
                return
        self.land(number, asset)

    @precondition(lambda self: self.model)
    @rule(number=who, first=st.booleans(), again=st.booleans())
    def forget(self, number: int, first: bool, again: bool) -> None:
        """An asset is dropped; somebody may be at writing the same once more."""
        asset = (min if first else max)(self.model)
        _, has = self.model.pop(asset)
        drop(self.ws, asset)
        if again and number not in self.writing:
            self.begin_writing(number, has, None)

    def begin_writing(self, number: int, some: set[int], base: str | None) -> None:
        process, stack = self.processes[number], contextlib.ExitStack()
        writer = stack.enter_context(process.sessions.writer())
        process.store.refresh()
        root, has = self.model.get(base or "", (None, set[int]()))
        made = put(process.store, writer, {f"f{n}": CONTENTS[n] for n in some}, root)
        self.writing[number] = (stack, writer, made, some | has, writer.flush() if len(some) > 1 else [])

    @precondition(lambda self: self.writing)
    @rule(asset=name)
    def end_one(self, asset: str) -> None:
        self.land(next(iter(self.writing)), asset)

    def land(self, number: int, asset: str) -> None:
        stack, writer, root, has, packs = self.writing.pop(number)
        try:
            self.processes[number].land(asset, root, [*packs, *writer.flush()])
            self.model[asset] = (root, has)
        except SessionBroken:
            pass  # it was given up; nothing of it landed
        stack.close()

    @precondition(lambda self: self.writing)
    @rule(number=who, knows=st.booleans())
    def perish(self, number: int, knows: bool) -> None:
        """A process ends as by kill -9, and another one takes its place; or it was silent for ten minutes."""
        if knows:
            if number in self.writing:
                self.abandon(number)
            self.processes[number].sessions._current = None
            self.processes[number] = self.made(number)
            return
        mine = at.store_sessions.c.owner == self.processes[number].cache
        with self.ws.db.write() as tx:
            tx.execute(update(at.store_sessions).where(mine).values(lease_until=0))

    def abandon(self, number: int) -> None:
        self.graves.append(self.writing.pop(number))  # nobody closes what it had open

    # ---- collectors, step by step

    def collector(self) -> Any:
        for number, process in enumerate(self.processes):
            if number not in self.writing:
                process.sessions.renew()  # as an idle process does after a while
        return self.processes[-1].gc

    @rule(whole=st.booleans())
    def collect(self, whole: bool) -> None:
        """All of it; or it looks now, and acts the next time, by what it saw then."""
        gc = self.collector()
        if whole:
            gc.run()
        elif self.marked is None:
            listed = gc._listed()
            due, _ = gc._due()
            self.marked = (listed, due, gc._mark(lambda *_: None))
        else:
            (listed, due, marked), self.marked = self.marked, None
            gc._sweep(due, marked.live)
            gc._condemn(gc._judge(listed, marked.live, (), False, lambda *_: None))
            gc._finish()

    @precondition(lambda self: len(self.model) > 1)
    @rule()
    def merge(self) -> None:
        self.ws.packing.run(enough=2)

    # ---- what has to hold

    def check(self, store: ObjectStore, asset: str) -> None:
        root, has = self.model[asset]
        found = {e.path: e for e in tree.walk(store, root)}
        assert found.keys() == {f"f{n}" for n in has}
        for path, entry in found.items():
            assert entry.content is not None
            assert store.get(entry.content.id, entry.content.kind) == CONTENTS[int(path[1:])]

    @invariant()
    def everything_named_is_there(self) -> None:
        if not hasattr(self, "ws"):
            return
        self.count += 1
        whole(self.ws, self.folder / f"cold-{self.count}")
        cold = ObjectStore(LocalBytes(self.ws.home / "store"), self.folder / f"cold-{self.count}")
        for asset in self.model:
            self.check(cold, asset)
            for process in self.processes[:-1]:
                self.check(process.store, asset)
        cold.close()


@pytest.fixture(scope="module", autouse=True)
def blank(tmp_path_factory: pytest.TempPathFactory) -> None:
    Store.blank = tmp_path_factory.mktemp("blank")
    workspaces.init(Store.blank, environment={}).close()


TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=10 * TIMES,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
