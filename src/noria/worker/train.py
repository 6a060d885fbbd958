"""``python -m noria.worker.train``: trainings from one code snapshot, asked for by a server's triggers.

The server itself never imports a project's code (decision 14). Each line of the standard input asks for a training,
each line of the output says what came of one, as JSON. Workers stay warm from one training to the next.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from noria.base.actor import Actor
from noria.base.errors import NoriaError
from noria.pipelines.executors import Executor, ProcessExecutor
from noria.worker.__main__ import die_with_parent
from noria.workspace import connect


def train(asked: dict[str, Any], workers: Executor) -> dict[str, Any]:
    """Trains a model with its checks; returns the number of its version, and how each check went."""
    actor = Actor(name=f"trigger:{asked['trigger']}", automatic=asked["trigger"] not in ("manual", "drill"))
    with connect(asked["url"], project=asked["project"], root=asked["root"]) as ws:
        name, inline = asked["model"], ws.source is not None and ws.source.executor == "inline"
        # A snapshot of code holds no data: sources are taken as they stand in the workspace.
        done = ws.pipelines.run(
            [name],
            asked["params"],
            actor=actor,
            trigger=asked["trigger"],
            check=False,
            collect=False,
            executor=None if inline else workers,
        )
        result = done.steps[name]
        if result.action not in ("made", "reused"):
            first = next((s.error for s in done.steps.values() if s.error), None)
            return {"error": first or {"message": f"{name} was not made.", "hint": "", "details": {}}}
        checks: list[dict[str, Any]] = []
        for step in done.steps.values():
            if step.kind == "check":
                message = "" if step.error is None else step.error["message"]
                checks.append({"name": step.asset, "passed": step.action in ("made", "reused"), "message": message})
        found = ws.registry.versions_with([result.outputs[""]])
        mine = [v.number for v in found if v.model == name]
        if not mine:  # a trial of a sweep made it, and trials are not registered
            version_id, run_id = result.outputs[""], result.run_id
            made = ws.registry.register(ws.project.id, name, actor=actor, version_id=version_id, run_id=run_id)
            mine = [made.number]
        return {"number": max(mine), "action": result.action, "run": done.run_id, "checks": checks}


def main() -> None:
    die_with_parent()
    out = os.fdopen(os.dup(1), "wb")  # the protocol; what the project's code prints goes elsewhere
    os.dup2(2, 1)
    workers = ProcessExecutor()
    while line := sys.stdin.buffer.readline():
        try:
            answer = train(json.loads(line), workers)
        except NoriaError as error:
            answer = error.as_dict()
        out.write(json.dumps(answer).encode() + b"\n")
        out.flush()
    workers.close()


if __name__ == "__main__":
    main()
