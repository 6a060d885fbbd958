"""``python -m noria.worker.train '<json>'``: one training from a code snapshot, started by a server's trigger.

The server itself never imports a project's code (decision 14). The last line of output says what came of it, as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from noria.base.actor import Actor
from noria.base.errors import NoriaError
from noria.pipelines.executors import Executor, ProcessExecutor
from noria.worker.__main__ import die_with_parent
from noria.workspace import connect


def train(asked: dict[str, Any], workers: Executor) -> dict[str, Any]:
    """Trains a model with its checks; returns the number of its version, and how each check went."""
    actor = Actor(name=f"trigger:{asked['trigger']}", automatic=asked["automatic"])
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
    asked = json.loads(sys.argv[1])
    # One core for a training; the others answer predictions. Its worker imports the project while this process does.
    workers = ProcessExecutor(workers=1)
    workers.prepare(asked["root"])
    try:
        answer = train(asked, workers)
    except NoriaError as error:
        answer = error.as_dict()
    finally:
        workers.close()
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
