"""Finds the supervisor of a workspace, or starts one that outlives the process that asks."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from noria.base.errors import Conflict, NoriaError, Unavailable
from noria.server.listening import PortTaken, url_at
from noria.server.supervisor import Settings
from noria.serving import link
from noria.workspace import Workspace

_START_SECONDS: Final = 90
_STOP_SECONDS: Final = 60


class NothingServes(Unavailable):
    """No process answers predictions for this workspace."""

    code = "nothing_serves"


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


def find_at(ws: Workspace, host: str, port: int) -> dict[str, Any] | None:
    """Like ``find``, for one who wants a certain address; port 0 takes any.

    Raises:
        Conflict: one runs, with another address.
    """
    found = find(ws)
    wanted = url_at(host, port)
    if found is not None and port and found["url"] != wanted:
        raise Conflict(
            f"The endpoints of this workspace are served on {found['url']}, not on {wanted}.",
            hint="Use the same --port, or end it first: noria endpoints stop",
        )
    return found


def ensure(ws: Workspace, *, host: str, port: int, workers: int, hosts: Sequence[str] = ()) -> dict[str, Any]:
    """The running supervisor, started if there is none.

    Raises:
        PortTaken, SupervisorFailed: it could not be started.
        Conflict: one runs, with another address.
    """
    found = find_at(ws, host, port)
    return found if found is not None else start(ws, host=host, port=port, workers=workers, hosts=hosts)


@dataclass(frozen=True, slots=True)
class Relieved:
    """Who stands on the port until the new supervisor's workers do (``standin``).

    Attributes:
        listening: the socket of the inference port, which the supervisor goes on with.
        holder: of the lease.
        leave: ends to accept, and returns when that is so.
    """

    listening: socket.socket
    holder: str
    leave: Callable[[], None]


def start(
    ws: Workspace, *, host: str, port: int, workers: int, hosts: Sequence[str] = (), relieved: Relieved | None = None
) -> dict[str, Any]:
    """Starts a supervisor and waits until it serves what there is.

    Raises:
        PortTaken, SupervisorFailed: it could not be started.
    """
    ours, its = socket.socketpair()
    logs = ws.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        url=ws.url, project=ws.project.name, host=host, port=port, workers=workers, hosts=list(hosts),
        ready=its.fileno(),
    )  # fmt: skip
    passed = [its.fileno()]
    if relieved is not None:
        settings.listening, settings.relieves = relieved.listening.fileno(), relieved.holder
        passed.append(settings.listening)
    with ours:
        with its, (logs / "supervisor.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "noria.server.supervisor", msgspec.json.encode(settings).decode()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=passed,
                start_new_session=True,
                cwd=ws.home.parent if ws.source is None else ws.source.root,
                env={**ws.environment},
            )
        # No zombie, however it ends.
        threading.Thread(target=process.wait, name="supervisor-wait", daemon=True).start()
        answer = _line(ours, process)
        if relieved is not None:
            relieved.leave()
            ours.sendall(b"\n")
            answer = _line(ours, process)
    info = ws.jobs.lease_info(link.LEASE) or {}
    return {**answer, "socket": info.get("socket", "")}


def _line(ours: socket.socket, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What a new supervisor says next.

    Raises:
        PortTaken, SupervisorFailed: that it could not be started; or it ended, or says nothing.
    """
    ours.settimeout(_START_SECONDS)
    data = b""
    while not data.endswith(b"\n"):
        try:
            part = ours.recv(1 << 16)
        except TimeoutError:
            process.kill()
            part = b""
        except ConnectionError:
            part = b""
        if not part:
            raise SupervisorFailed(
                f"The process for the endpoints ended with code {process.wait()} before it served.",
                hint="Look into .noria/logs/supervisor.log.",
            )
        data += part
    answer = json.loads(data)
    if "error" in answer:
        raise _as_error(answer["error"])
    return answer


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
