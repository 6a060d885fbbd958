"""The driver's end: an address, a token for each attempt of a step, and MLflow's gateway behind them.

The socket is bound with the first step, which takes microseconds. A server starts when somebody connects to it; until
then nothing of the gateway is imported, and no thread of its own runs.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.base.ids import RunId
from noria.gateways.steps.admitted import Admitted
from noria.gateways.steps.names import EXPERIMENT, HIDDEN, OWN, PASSWORD, RUN, TOKEN, TOKEN_BEGINS, URI, USER
from noria.pipelines.task import PointSpec
from noria.workspace.location import redacted

if TYPE_CHECKING:
    from noria.gateways.steps.serving import Serving
    from noria.workspace import Workspace

_BACKLOG: Final = 128
_SECRET: Final = 32
_DEFAULT: Final = "0"
_QUIET: Final = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
"""The address is gone when the run is."""


class StepDoor:
    """One per workspace and process. Thread-safe."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._admitted: dict[str, Admitted] = {}
        self.tokens: dict[str, Admitted] = {}
        self._socket: socket.socket | None = None
        self._url = ""
        self._has_password = False
        self._lock = threading.Lock()
        self._serving: Serving | None = None
        environment = ws.environment
        others = {*OWN, *HIDDEN}
        self._settings = {k: v for k, v in environment.items() if k.startswith("MLFLOW_") and k not in others}
        self._settings |= _QUIET | {name: "" for name in HIDDEN if name in environment}
        self._random = b""
        self._theirs: dict[str, str] = {}
        if environment.get(URI) and not _is_server_of(ws, environment[URI], environment.get(TOKEN)):
            self._theirs = {k: v for k, v in environment.items() if k.startswith("MLFLOW_")}

    @property
    def url(self) -> str:
        return self._url

    def warnings(self, parts: Collection[str]) -> tuple[dict[str, Any], ...]:
        if not self._theirs or not any(part.startswith("lib:mlflow") for part in parts):
            return ()
        url = self._theirs[URI]
        place = redacted(url) if "://" in url else url
        found = {
            "code": "tracked_elsewhere",
            "message": f"MLflow logged to {place}, as {URI} says, and not to the run of the step.",
            "hint": f"unset {URI}   and it logs to the step's own run.",
            "details": {},
        }
        return (found,)

    def admit(
        self, attempt: str, run_id: RunId, *, asset: str, actor: Actor, params: Mapping[str, str]
    ) -> dict[str, str]:
        if self._theirs:
            return self._theirs
        if self._socket is None:
            self._bind()
        token = TOKEN_BEGINS + self._secret()
        admitted = Admitted(token=token, run_id=run_id, asset=asset, actor=actor, params=params)
        self._admitted[attempt] = self.tokens[token] = admitted
        made = {**self._settings, URI: self._url, TOKEN: token, RUN: run_id, EXPERIMENT: _DEFAULT}
        if self._has_password:  # MLflow would send it instead of the token
            made |= {USER: "step", PASSWORD: token}
        return made

    def _secret(self) -> str:
        """The system's generator is asked for many steps at once: one call of it takes as long as all else here."""
        with self._lock:
            if not self._random:
                self._random = secrets.token_bytes(_SECRET * 64)
            found, self._random = self._random[:_SECRET], self._random[_SECRET:]
        return found.hex()

    def _bind(self) -> None:
        with self._lock:
            if self._socket is not None:
                return
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            made.bind(("127.0.0.1", 0))
            made.listen(_BACKLOG)
            self._url = f"http://127.0.0.1:{made.getsockname()[1]}"
            home = self._ws.environment.get("HOME")
            self._has_password = home is not None and (Path(home) / ".mlflow" / "credentials").exists()
            self._socket = made

    def said(self, attempt: str, points: list[PointSpec]) -> None:
        admitted = self._admitted.get(attempt)
        if admitted is not None:
            for point in points:
                point.at = admitted.once("noria", point.key, point.step, float(point.value), point.at)

    def dismiss(self, attempt: str, *, done: bool) -> None:
        admitted = self._admitted.pop(attempt, None)
        if admitted is None:
            return
        self.tokens.pop(admitted.token, None)
        children = [id for id in admitted.runs if id != admitted.run_id]
        if children:
            self._end(children, RunState.DONE if done else RunState.FAILED)

    def _end(self, children: list[RunId], state: RunState) -> None:
        """Ends what a step's client has begun and left open: nobody else will."""
        for run in self._ws.assets.runs_by_ids(children).values():
            if run.state in (RunState.RUNNING, RunState.QUEUED) and run.deleted_at is None:
                now = self._ws.clock.now_ms()
                self._ws.tracking.update_run(run.id, state=state, ended_at=now)

    def listener(self) -> socket.socket | None:
        return self._socket if self._serving is None else None

    def serve(self) -> None:
        from noria.gateways.steps.serving import Serving

        with self._lock:
            if self._socket is not None and self._serving is None:
                self._serving = Serving(self._ws, self._socket, self.tokens)

    def close(self) -> None:
        with self._lock:
            if self._serving is not None:
                self._serving.close()
            if self._socket is not None:
                self._socket.close()
            self._socket = self._serving = None


def _is_server_of(ws: Workspace, url: str, token: str | None) -> bool:
    """Whether an address that the user has set is a server of this very workspace and project."""
    if not url.startswith(("http://", "https://")):
        return False
    import json
    import urllib.request

    request = urllib.request.Request(f"{url.rstrip('/')}/v1/health")  # noqa: S310 - the user's own setting
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310 - the same
            found = json.loads(answer.read(65_536))
        return bool(found["workspace"] == ws.id and found["project"] == ws.project.name)
    except (OSError, ValueError, KeyError, TypeError):
        return False
