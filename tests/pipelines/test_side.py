"""The worker for noria's own tasks, and how many tasks an executor has at once."""

from __future__ import annotations

import itertools
import os
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from noria.base.actor import Actor
from noria.pipelines.executors import ProcessExecutor, SideWorker, TaskFailed
from noria.pipelines.task import TaskSpec

ME = Actor(name="user:alice")
CODE = """
import os, time
import noria as nr

@nr.dataset
def quick():
    return {"pid": os.getpid()}

@nr.dataset
def slow():
    time.sleep(60)
    return {}
"""


@pytest.fixture
def worker() -> Any:
    made = SideWorker(os.environ)
    yield made
    made.close()


@pytest.fixture
def task(tmp_path: Path) -> Any:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "steps.py").write_text(CODE, encoding="utf-8")

    def made(name: str) -> TaskSpec:
        out = tmp_path / f"out{time.monotonic_ns()}"
        out.mkdir()
        return TaskSpec(
            attempt="",
            asset=name,
            kind="dataset",
            runner="noria.pipelines.runners:run_dataset",
            entry=f"steps:{name}",
            code=str(tmp_path / "code"),
            out=str(out),
        )

    return made


def children() -> set[int]:
    return {p.pid for p in psutil.Process().children() if "noria.worker" in p.cmdline()}


def test_the_worker_outlives_the_thread_that_asked_first(worker: SideWorker, task: Any) -> None:
    others = children()
    asking = threading.Thread(target=lambda: worker.run(task("quick")))
    asking.start()
    asking.join()
    (first,) = children() - others
    time.sleep(0.3)  # the kernel would have ended it by now
    assert worker.run(task("quick")).ok
    assert children() - others == {first}


def test_closing_ends_what_runs(worker: SideWorker, task: Any) -> None:
    said: list[str] = []
    others = children()

    def ask() -> None:
        try:
            worker.run(task("slow"))
        except TaskFailed as error:
            said.append(error.message)

    asking = threading.Thread(target=ask)
    asking.start()
    while not children() - others:
        time.sleep(0.05)
    (running,) = children() - others
    worker.close()
    asking.join(10)
    assert said == ["the workspace was closed while it ran"]
    assert not psutil.pid_exists(running)
    with pytest.raises(TaskFailed, match="is closed"):
        worker.run(task("quick"))


def test_one_task_at_once_may_still_ask_for_two_processors(project: Any) -> None:
    ws = project(
        {
            "steps.py": "import time\nimport noria as nr\n\n\n"
            + "\n\n".join(
                f"@nr.dataset({options})\ndef s{number}():\n    begun = time.time()\n    time.sleep(0.4)\n"
                "    return [begun, time.time()]\n"
                for number, options in enumerate(("cpu=2", "", ""))
            )
        }
    )
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor")
    executor = ProcessExecutor(workers=1)
    try:
        ws.pipelines.run(actor=ME, executor=executor)
    finally:
        executor.close()
    spans = sorted(ws.pipelines.value(f"s{number}") for number in range(3))
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
