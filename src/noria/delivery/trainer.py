"""A training in a process of its own, from the applied code snapshot: a server imports no user code (decision 14)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from noria.base.errors import Conflict
from noria.delivery.errors import TrainingFailed

_WATCH: Final = 0.5


def train(asked: dict[str, Any], environment: Mapping[str, str], lost: Callable[[], bool]) -> dict[str, Any]:
    """Starts a training and waits for what came of it.

    Args:
        asked: what ``noria.worker.train`` reads.
        environment: of the process.
        lost: whether the training is no longer ours.

    Raises:
        TrainingFailed: it failed, or its process died.
        Conflict: it was taken over by another server.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "noria.worker.train", json.dumps(asked)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
    )
    try:
        while True:
            try:
                out, log = child.communicate(timeout=_WATCH)
                break
            except subprocess.TimeoutExpired:
                if lost():
                    raise Conflict("The training was taken over by another server.") from None
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
    try:
        answer = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        said = log.decode(errors="replace").strip().splitlines()
        last = said[-1] if said else "it said nothing"
        raise TrainingFailed(f"The training of {asked['model']} died with {child.returncode}: {last}") from None
    if "error" in answer:
        error = answer["error"]
        raise TrainingFailed(error["message"], hint=error["hint"], details=error["details"])
    return answer
