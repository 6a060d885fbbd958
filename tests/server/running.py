"""A real server process as a user starts it, and questions to it over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from looped_shop import ENDPOINT, copied

from noria.serving import link
from noria.workspace import Workspace

WAIT = 90


class Up:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], line: str) -> None:
        self.process = process
        self.line = line
        self.told = json.loads(line)
        self.place = urlsplit(self.told["url"])

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        assert self.place.hostname is not None
        connection = http.client.HTTPConnection(self.place.hostname, self.place.port, timeout=WAIT)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def family(self, ws: Workspace) -> list[psutil.Process]:
        """The server, its supervisor, and everything below them."""
        if self.told["endpoints"] is None:
            return [psutil.Process(self.process.pid)]
        info = ws.jobs.lease_info(link.LEASE)
        assert info is not None
        found: dict[int, psutil.Process] = {}
        for pid in (self.process.pid, info["pid"]):
            one = psutil.Process(pid)
            found |= {p.pid: p for p in (one, *one.children(recursive=True))}
        return list(found.values())

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT)


def command(folder: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "noria", *args, "--workspace", str(folder)]


def environment(**more: str) -> dict[str, str]:
    found = {k: v for k, v in os.environ.items() if not k.startswith("NORIA_")}
    return {**found, **more}


@contextmanager
def up(folder: Path, *args: str, cwd: Path | None = None, **env: str) -> Iterator[Up]:
    """``noria up``, ready; whatever is left of it is ended at the end."""
    asked = command(folder, "up", "--port", "0", "--workers", "1", "--json", *args)
    process = subprocess.Popen(
        asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**env), cwd=cwd or folder
    )
    assert process.stdout is not None
    assert process.stderr is not None
    below: list[psutil.Process] = []
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        made = Up(process, line)
        with copied(folder, folder) as ws:
            below = made.family(ws)
        yield made
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(WAIT)
            except subprocess.TimeoutExpired:
                process.kill()
        with copied(folder, folder) as ws:  # one that took over from another may have begun processes since
            held = ws.jobs.held("scheduler")
        if not held:
            for one in below:
                if one.is_running() and one.pid != process.pid:
                    one.kill()
        process.wait(WAIT)
        process.stdout.close()
        process.stderr.close()


def noria(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *args), env=environment(**env), capture_output=True, text=True, check=False, timeout=WAIT,
        cwd=folder,
    )  # fmt: skip


def gone(processes: list[psutil.Process]) -> list[str]:
    """Those that live on."""
    _, alive = psutil.wait_procs(processes, timeout=20)
    return [f"{p.pid} {' '.join(p.cmdline()[:4])}" for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def ask_endpoint(server: Up) -> dict[str, Any]:
    at = datetime(2013, 1, 25, 1, tzinfo=UTC) + timedelta(minutes=1)
    body = {"row": {"id": "u0", "at": at.isoformat(), "shop": "a", "n": 3, "price": 12.5}}
    place = urlsplit(server.told["endpoints"])
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=WAIT)
    connection.request("POST", f"/endpoints/{ENDPOINT}/predict", json.dumps(body))
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    connection.close()
    return json.loads(text)["predictions"][0] if b'"predictions"' in text else json.loads(text)
