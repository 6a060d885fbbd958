"""Where tasks run: inline, in processes; one interface, one contract (reference pipelines.md, section 3.4)."""

from __future__ import annotations

from noria.pipelines.executors.inline import InlineExecutor
from noria.pipelines.executors.process import ProcessExecutor
from noria.pipelines.executors.protocol import Capabilities, Done, Executor, Logged, Lost, Started
from noria.pipelines.executors.side import SideWorker, TaskFailed

__all__ = [
    "Capabilities",
    "Done",
    "Executor",
    "InlineExecutor",
    "Logged",
    "Lost",
    "ProcessExecutor",
    "SideWorker",
    "Started",
    "TaskFailed",
]
