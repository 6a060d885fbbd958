"""``noria up`` as a user starts it, and programs that log to it from processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from noria import workspace as ws
from noria.serving import link

WAIT = 90


class Up:
    """A running server. Its supervisor lives on when it is killed, and ends with an orderly end."""

    def __init__(self, folder: Path, *options: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_"))}
        command = [sys.executable, "-m", "noria", "up", "--port", "0", "--json", *options]
        self.process = subprocess.Popen(
            [*command, "--workspace", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.url: str = json.loads(line)["url"]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        done = self.process.wait(WAIT)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return done


@contextmanager
def workspace_folder(folder: Path, db_url: str | None = None) -> Iterator[Path]:
    """A new workspace; whatever is left of its servers is ended at the end."""
    folder.mkdir()
    ws.init(folder, db_url=db_url, environment={}).close()
    try:
        yield folder
    finally:
        with_ws = ws.connect(folder, environment={})
        held = with_ws.jobs.lease_info(link.LEASE)
        with_ws.close()
        if held is not None and psutil.pid_exists(held["pid"]):
            one = psutil.Process(held["pid"])
            for process in (one, *one.children(recursive=True)):
                process.kill()


def started(program: str, *args: str, **environment: str) -> subprocess.Popen[str]:
    """A Python program beside this one; its standard output is kept for ``said``."""
    here = str(Path(__file__).parent)
    # What clients of other tests in this process have chosen is not theirs.
    chosen = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")
    kept = {key: value for key, value in os.environ.items() if key not in chosen}
    told = {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": here, **environment}
    return subprocess.Popen([sys.executable, "-c", program, *args], stdout=subprocess.PIPE, text=True, env=told)


def said(process: subprocess.Popen[str]) -> str:
    """What a program that must succeed has printed."""
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return out
