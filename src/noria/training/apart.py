"""A model in a process of its own: one that MLflow's client logged, in whatever format its flavor has.

Such formats hold code (pickle, Python files), so the model is loaded by a child, which holds no connections, no
tokens and nothing of another model; when it dies, an answer fails and the next one starts it again. The other side is
``noria.worker.pyfunc``. Both speak in lines of JSON over pipes: the child may be of another environment.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from noria.base.environment import of_child
from noria.training.errors import ModelApartFailed
from noria.training.signature import Signature

if TYPE_CHECKING:
    import polars as pl

_CHILD: Final = "noria.worker.pyfunc"
LOAD_SECONDS: Final = 300.0
ANSWER_SECONDS: Final = 60.0
_ALSO: Final = ("USER", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
"""Variables that a model sees beside those of every child."""
_SAID: Final = 2_000
"""Characters of what a dying child said last."""
_MOST_LINE: Final = 256 << 20

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Apart:
    """A loaded model. Thread-safe: one question after another.

    Attributes:
        facts: what the child said when it had loaded: ``mlflow``, ``probabilities`` (whether it gives them).
    """

    def __init__(
        self,
        folder: Path,
        signature: Signature,
        *,
        probabilities: bool = False,
        load_seconds: float = LOAD_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Starts the child and waits until it has loaded the model.

        Args:
            folder: an ``MLmodel`` with its files, verified by the caller.
            probabilities: ask for the chance of a yes instead of the class.

        Raises:
            ModelApartFailed: it cannot be loaded; the message has the child's own words.
        """
        self._folder = folder
        self._signature = signature
        self._probabilities = probabilities
        self._seconds = load_seconds, answer_seconds
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self.facts: dict[str, Any] = {}
        with self._lock:
            self._start()

    def __call__(self, features: pl.DataFrame) -> Floats:
        """One score for each row, float64 of shape [rows]. Features in the order and the types of the signature.

        Raises:
            ModelApartFailed: the model raised, gave something else than a number for each row, or its process died.
        """
        columns = {name: features.get_column(name) for name in self._signature.types}
        infinite = [name for name, c in columns.items() if c.dtype.is_float() and c.is_infinite().any()]
        if infinite:  # JSON has no word for it
            raise ModelApartFailed(f"The column {infinite[0]!r} holds an infinite value.", hint="Leave such rows out.")
        asked = _encode({"columns": {name: _values(column) for name, column in columns.items()}})
        with self._lock:
            child = self._child
            if child is None or not child.lives:
                child = self._start()
            answer = child.ask(asked, self._seconds[1])
        if "error" in answer:
            raise ModelApartFailed(answer["error"], hint="The run that logged it has its code and environment.")
        scores = np.asarray([np.nan if s is None else s for s in answer["scores"]], np.float64)
        if scores.shape != (len(features),):
            raise ModelApartFailed(f"The model gave {len(scores)} scores for {len(features)} rows.")
        return scores

    def close(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.end()
                self._child = None

    def _start(self) -> _Child:
        if self._child is not None:
            self._child.end()
        child = self._child = _Child(
            [str(self._folder), _encode(self._signature.as_value()).decode(), "1" if self._probabilities else ""]
        )
        weakref.finalize(self, child.end)
        self.facts = child.read(self._seconds[0], "load")
        if "error" in self.facts:
            child.end()
            said = str(self.facts["error"])
            needs = "It needs the libraries that it was logged with: its requirements.txt names them."
            hint = 'pip install "noria[mlflow]"' if "No module named 'mlflow'" in said else needs
            raise ModelApartFailed(f"The model cannot be loaded: {said}", hint=hint)
        return child


class _Child:
    """The process with its pipes."""

    def __init__(self, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _CHILD, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**of_child(os.environ, also=_ALSO), "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONUNBUFFERED": "1"},
            bufsize=0,
        )
        self._buffer = bytearray()
        self._said = bytearray()
        self._said_by = threading.Thread(target=self._listen, name="apart-stderr", daemon=True)
        self._said_by.start()

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def ask(self, line: bytes, seconds: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
        except OSError:
            raise self._died() from None
        return self.read(seconds, "answer")

    def read(self, seconds: float, what: str) -> dict[str, Any]:
        """The next line that the child says.

        Raises:
            ModelApartFailed: it died, or took longer than ``seconds``; it is ended then.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while (end := self._buffer.find(b"\n")) < 0:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.end()
                    raise ModelApartFailed(f"The model did not {what} within {seconds:g} seconds; it was ended.")
                part = os.read(self._process.stdout.fileno(), 1 << 20)
                if not part:
                    raise self._died()
                self._buffer += part
                if len(self._buffer) > _MOST_LINE:
                    self.end()
                    raise ModelApartFailed("The model's answer is larger than 256 MiB; it was ended.")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return _decode(line)

    def end(self) -> None:
        """Ends the process, at once: it holds nothing that could be lost."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._said_by.join(1)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                part = os.read(self._process.stderr.fileno(), 1 << 16)
            except (OSError, ValueError):
                return
            if not part:
                return
            self._said = (self._said + part)[-_SAID:]

    def _died(self) -> ModelApartFailed:
        self.end()
        lines = self._said.decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        return ModelApartFailed(f"The process of the model died with {self._process.returncode}: {last}")


def _values(series: pl.Series) -> list[Any]:
    """Plain values; moments as microseconds, which is what the child makes moments of again."""
    return (series.dt.epoch("us") if series.dtype.is_temporal() else series).to_list()
