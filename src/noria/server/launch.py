"""Finds the supervisor of a workspace, or starts one that outlives the process that asks."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from noria.base.errors import Conflict, NoriaError, Unavailable
from noria.server.listening import PortTaken
from noria.server.supervisor import Settings
from noria.serving import link
from noria.workspace import Workspace

_START_SECONDS: Final = 90
_STOP_SECONDS: Final = 60


class SupervisorFailed(Unavailable):
    """The process for the endpoints did not come up."""

    code = "supervisor_failed"


def find(ws: Workspace) -> dict[str, Any] | None:
    """The status of the running supervisor; None where there is none."""
    info = ws.jobs.lease_info(link.LEASE)
    if info is None:
        return None
    try:
        return {**link.call(info["socket"], "status", 10), "socket": info["socket"]}
    except link.SupervisorGone:
        return None


def ensure(ws: Workspace, *, host: str, port: int, workers: int, hosts: Sequence[str] = ()) -> dict[str, Any]:
    """The running supervisor, started if there is none.

    Raises:
        PortTaken, SupervisorFailed: it could not be started.
        Conflict: one runs, with another address.
    """
    found = find(ws)
    if found is not None:
        wanted = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        if port and found["url"] != wanted:
            raise Conflict(
                f"The endpoints of this workspace are served on {found['url']}, not on {wanted}.",
                hint="Use the same --port, or end it first: noria endpoints stop",
            )
        return found
    return start(ws, host=host, port=port, workers=workers, hosts=hosts)


def start(ws: Workspace, *, host: str, port: int, workers: int, hosts: Sequence[str] = ()) -> dict[str, Any]:
    reading, writing = os.pipe()
    logs = ws.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        url=ws.url, project=ws.project.name, host=host, port=port, workers=workers, hosts=list(hosts), ready=writing
    )
    with (logs / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "noria.server.supervisor", msgspec.json.encode(settings).decode()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writing,),
            start_new_session=True,
            cwd=ws.home.parent if ws.source is None else ws.source.root,
            env={**ws.environment},
        )
    os.close(writing)
    threading.Thread(target=process.wait, name="supervisor-wait", daemon=True).start()  # no zombie, however it ends
    try:
        answer = _first_line(reading, process)
    finally:
        os.close(reading)
    if "error" in answer:
        raise _as_error(answer["error"])
    info = ws.jobs.lease_info(link.LEASE) or {}
    return {**answer, "socket": info.get("socket", "")}


def _first_line(descriptor: int, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], _START_SECONDS)
        part = os.read(descriptor, 1 << 16) if ready else b""
        if not part:
            process.kill() if not ready else None
            raise SupervisorFailed(
                f"The process for the endpoints ended with code {process.wait()} before it served.",
                hint="Look into .noria/logs/supervisor.log.",
            )
        data += part
    return json.loads(data)


def _as_error(found: dict[str, Any]) -> NoriaError:
    kind = PortTaken if found["code"] == PortTaken.code else SupervisorFailed
    return kind(found["message"], hint=found["hint"], details=found["details"])


def stop(ws: Workspace) -> bool:
    """Lets the supervisor drain and end, and waits for that; False where none runs.

    Raises:
        SupervisorFailed: it did not end in time.
    """
    found = find(ws)
    if found is None:
        return False
    link.call(found["socket"], "stop")
    end = time.monotonic() + _STOP_SECONDS
    while True:
        info = ws.jobs.lease_info(link.LEASE)  # given back when the workers have ended and the port is free
        if info is None or info["pid"] != found["pid"]:
            return True
        if time.monotonic() > end:
            raise SupervisorFailed(
                f"The process for the endpoints ({found['pid']}) did not end in {_STOP_SECONDS} s.",
                hint="Look into .noria/logs/supervisor.log.",
            )
        time.sleep(0.02)
