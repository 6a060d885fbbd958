"""A task is data only: what runs, on which inputs, with which parameters. No pickle crosses (pinned: golden/task.json).

The same specification is run by every executor: inline, in a process of its own, later on a cluster.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

FORMAT: Final = 1


class InputSpec(msgspec.Struct, kw_only=True):
    """One input of a task.

    Attributes:
        kind: table, tree, model or json.
        path: the materialised file or folder; empty for an inline task, which reads the store.
        digest, layout: of the version.
        meta: of a table: key, time, known.
    """

    slot: str
    asset: str
    kind: str
    digest: str
    layout: str
    path: str = ""
    meta: dict[str, Any] = {}


class TaskSpec(msgspec.Struct, kw_only=True):
    """One attempt of one step.

    Attributes:
        attempt: the run's id.
        runner: ``module:function`` that knows this kind of step.
        entry: ``module:name`` of the user's function in the code snapshot; empty for commands.
        code: folder of the materialised snapshot; empty for an inline task.
        spec: what belongs to the kind, as plain values.
        out: folder for outputs; empty for an inline task.
        timeout: milliseconds, memory: bytes; None for no limit.
    """

    attempt: str
    asset: str
    kind: str
    runner: str
    entry: str = ""
    code: str = ""
    inputs: list[InputSpec] = []
    params: dict[str, Any] = {}
    spec: dict[str, Any] = {}
    out: str = ""
    cpu: int = 1
    memory: int | None = None
    timeout: int | None = None
    environment: dict[str, str] = {}
    format: int = FORMAT


class OutputSpec(msgspec.Struct, kw_only=True):
    """One output that a worker wrote below ``out``."""

    slot: str
    kind: str
    path: str
    meta: dict[str, Any] = {}


class PointSpec(msgspec.Struct, kw_only=True):
    """A metric point that a step logged; NaN and infinities as text, since JSON has none."""

    key: str
    value: float | str
    at: int
    step: int = 0


class TaskResult(msgspec.Struct, kw_only=True):
    """How an attempt ended.

    Attributes:
        error: the one form of an error, without the outer ``error`` key.
        facts: what the runner says beside its outputs (metrics, evidence), as plain values.
        cost: wall_ms, cpu_ms, memory (bytes at the peak).
    """

    attempt: str
    ok: bool
    outputs: list[OutputSpec] = []
    error: dict[str, Any] | None = None
    facts: dict[str, Any] = {}
    cost: dict[str, Any] = {}


def encode(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value)


def decode_task(data: bytes) -> TaskSpec:
    return msgspec.json.decode(data, type=TaskSpec)
