"""A warm process that trains from a code snapshot: a server imports no user code (decision 14)."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import IO, Any, Final

from noria.base.errors import Conflict
from noria.delivery.errors import TrainingFailed

IDLE_SECONDS: Final = 120.0
_WATCH: Final = 0.5


class Trainer:
    """One training at a time, used by one thread. The process stays for the next training of the same code.

    Most of the time of a short training would be the import of machine-learning libraries, in this process and in its
    workers.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._code = ""
        self._used = 0.0

    def train(self, asked: dict[str, Any], lost: Callable[[], bool]) -> dict[str, Any]:
        """Asks for a training and waits for its answer.

        Args:
            asked: what ``noria.worker.train`` reads. lost: whether the training is no longer ours.

        Raises:
            TrainingFailed: it failed, or its process died.
            Conflict: it was taken over by another server.
        """
        process = self._ready(asked["root"])
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
            line = self._line(process, lost)
        except BrokenPipeError:
            line = b""
        except BaseException:
            self.close()
            raise
        self._used = time.monotonic()
        if not line:
            raise self._died(asked["model"])
        answer = json.loads(line)
        if "error" in answer:
            error = answer["error"]
            raise TrainingFailed(error["message"], hint=error["hint"], details=error["details"])
        return answer

    def rest(self) -> None:
        """Ends the process if it has idled for long."""
        if self._process is not None and time.monotonic() - self._used > IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.terminate()
                process.wait()
            for pipe in (process.stdout, process.stdin):
                if pipe is not None:
                    pipe.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _ready(self, code: str) -> subprocess.Popen[bytes]:
        """The process for this code snapshot: a module that was imported once stays what it was."""
        if self._process is not None and (self._code != code or self._process.poll() is not None):
            self.close()
        if self._process is None:
            self._code = code
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
            self._process = subprocess.Popen(
                [sys.executable, "-m", "noria.worker.train"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=self._environment,
            )
        return self._process

    @staticmethod
    def _line(process: subprocess.Popen[bytes], lost: Callable[[], bool]) -> bytes:
        """The next line of its output; nothing where it died."""
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not selector.select(_WATCH):
                if lost():
                    raise Conflict("The training was taken over by another server.")
        return process.stdout.readline()

    def _died(self, model: str) -> TrainingFailed:
        assert self._process is not None
        assert self._log is not None
        code = self._process.wait()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        self.close()
        return TrainingFailed(f"The training of {model} died with {code}: {said[-1] if said else 'it said nothing'}")
