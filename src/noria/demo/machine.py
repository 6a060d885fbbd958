"""What the demo has at hand: the commands of noria, its HTTP API, and nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import urllib3

from noria.base.errors import Conflict, Failed, NoriaError, Unavailable

_SECONDS: Final = 900.0
_START: Final = 90.0
PORT: Final = 5000
_ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""As in noria's worker processes: sums of floats depend on how many threads add them up."""


class DemoFailed(Failed):
    """A step of the demo did not do what it has to do."""

    code = "demo_failed"


class ServerFailed(Unavailable):
    """The server of the demo did not come up."""

    code = "server_failed"


class Refused(Conflict):
    """The server answered with an error.

    Attributes:
        answer: the error, as it was sent.
    """

    code = "refused"

    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        super().__init__(answer.get("message", f"HTTP {status}"), hint=answer.get("hint", ""))
        self.status = status
        self.answer = answer


class Machine:
    """Commands and HTTP calls on one workspace.

    Attributes:
        folder: the project's folder, with its workspace.
        url, endpoints: of the running server.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = -1
        self.url = ""
        self.endpoints = ""
        self._http = urllib3.PoolManager(maxsize=4, retries=urllib3.Retry(3, backoff_factor=0.2), timeout=_SECONDS)

    def lock(self) -> bool:
        """Takes the folder for this demo; False while a command that an interrupted demo began still runs.

        Commands inherit the lock, so it outlives a demo that is killed for as long as its last command runs.
        """
        if self._lock < 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / ".demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    # ---- commands

    def noria(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> Any:
        """Runs a command of noria with ``--json``; returns what it printed.

        Raises:
            DemoFailed: it ended with another code than those that are accepted.
        """
        done = subprocess.run(
            [sys.executable, "-m", "noria", *arguments, "--json"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **_ONE_THREAD},
            pass_fds=(self._lock,) if self._lock >= 0 else (),
        )
        if done.returncode not in accept:
            said = done.stderr.strip().splitlines()
            try:
                message = json.loads(said[-1])["error"]["message"]
            except (IndexError, ValueError, KeyError, TypeError):
                message = said[-1] if said else f"exit code {done.returncode}"
            raise DemoFailed(f"noria {' '.join(arguments)}: {message}", hint=f"cd {self.folder}; noria doctor")
        return json.loads(done.stdout) if done.stdout.strip() else None

    # ---- the server

    def up(self) -> None:
        """Finds the running server of the workspace, or starts one that outlives the demo."""
        noted = self._noted()
        if noted is not None:
            self.url, self.endpoints = noted["url"], noted["endpoints"]
            return
        for port in (PORT, 0):
            if self._start(port):
                return
        raise ServerFailed("The server did not come up.", hint=f"Look into {self._log()}.")

    def _start(self, port: int) -> bool:
        self._log().parent.mkdir(parents=True, exist_ok=True)
        with self._log().open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "noria", "up", "--port", str(port), "--json"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait(_START)
            return False
        found = json.loads(line)
        self.url, self.endpoints = found["url"], found["endpoints"]
        note = {**found, "pid": process.pid}
        self._note().write_text(json.dumps(note), encoding="utf-8")
        return True

    def _note(self) -> Path:
        return self.folder / ".noria" / "demo-server.json"

    def _log(self) -> Path:
        return self.folder / ".noria" / "logs" / "server.log"

    def _noted(self) -> dict[str, Any] | None:
        try:
            noted: dict[str, Any] = json.loads(self._note().read_text(encoding="utf-8"))
            # Patient: a busy machine answers late, and a second server beside the first would be refused its work.
            health = self._json(self._http.request("GET", noted["url"] + "/v1/health", timeout=30.0, retries=False))
        except (OSError, ValueError, KeyError, urllib3.exceptions.HTTPError, NoriaError):
            return None
        return noted if health.get("endpoints") == noted["endpoints"] else None

    def down(self) -> None:
        """Ends the server, and the endpoints with it."""
        noted = self._noted()
        if noted is None:
            return
        os.kill(noted["pid"], signal.SIGTERM)
        deadline = time.monotonic() + 60
        while self._noted() is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        self._note().unlink(missing_ok=True)

    # ---- HTTP

    def get(self, path: str) -> Any:
        return self._json(self._http.request("GET", self.url + path))

    def post(self, path: str, body: Any, *, key: str | None = None, method: str = "POST") -> Any:
        """Calls the API. A repeated call with the same key has no second effect.

        Raises:
            Refused: the answer was an error.
        """
        headers = {"content-type": "application/json"}
        if key is not None:
            headers["idempotency-key"] = key
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._json(self._http.request(method, self.url + path, body=data, headers=headers))

    def predict(self, endpoint: str, body: bytes) -> Any:
        """Asks an endpoint."""
        headers = {"content-type": "application/json"}
        path = f"{self.endpoints}/endpoints/{endpoint}/predict"
        return self._json(self._http.request("POST", path, body=body, headers=headers))

    @staticmethod
    def _json(answer: Any) -> Any:
        value = json.loads(answer.data)
        if answer.status >= 400:
            raise Refused(answer.status, value.get("error", {}))
        return value
