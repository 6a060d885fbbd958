"""The two servers: started in an empty folder, asked until they answer, weighed, and ended with all their processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.mlflow_wire.databases import Databases
from bench.mlflow_wire.signals import deferred
from bench.mlflow_wire.wire import Connection, get

_HEALTHY = 120.0
_ENDED = 15.0


@dataclass(slots=True)
class Server:
    """One server and its folder.

    Attributes:
        name: mlflow or noria.
        folder: its own, all its files.
        url: its PostgreSQL database; None for SQLite.
        command: what starts it; ``{port}`` is filled in.
        before: what makes the database, where that is a command of its own.
        port: where it listens, once started.
        made: seconds that ``before`` took; 0 without it.
        started: seconds from the start of its process until it was healthy.
    """

    name: str
    folder: Path
    url: str | None
    command: Sequence[str]
    before: Sequence[str] = ()
    port: int = 0
    made: float = 0.0
    started: float = 0.0
    _process: psutil.Popen | None = None
    _seen: dict[int, psutil.Process] = field(default_factory=dict[int, psutil.Process])

    @property
    def database(self) -> Path | str:
        """Its database, as ``databases.insert`` takes it."""
        if self.url is not None:
            return self.url
        return self.folder / ("mlflow.db" if self.name == "mlflow" else ".noria/meta.db")

    def make(self) -> None:
        """Makes the database, where that is a command of its own."""
        if self.before:
            began = time.perf_counter()
            done = subprocess.run(self.before, cwd=self.folder, env=_environment(), capture_output=True, check=False)
            self.made = time.perf_counter() - began
            if done.returncode:
                raise SystemExit(f"{' '.join(self.before)} ended with {done.returncode}: {done.stderr.decode()}")

    def start(self) -> Server:
        """Starts it and waits until ``/health`` answers 200.

        Raises:
            SystemExit: it ended, or did not answer in two minutes; with the end of its log.
        """
        self.port = _port()
        command = [word.format(port=self.port) for word in self.command]
        with (self.folder / "server.log").open("ab") as log, deferred():
            began = time.perf_counter()
            self._process = psutil.Popen(
                command,
                cwd=self.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends this script, and the script the server
            )
        while not _healthy(self.port):
            if self._process.poll() is not None or time.perf_counter() - began > _HEALTHY:
                tail = (self.folder / "server.log").read_text(errors="replace")[-3000:]
                raise SystemExit(f"{' '.join(command)} does not answer:\n{tail}")
            time.sleep(0.005)
        self.started = time.perf_counter() - began
        self._look()
        return self

    def connect(self) -> Connection:
        return Connection(self.port)

    def _look(self) -> list[psutil.Process]:
        """All its processes; those seen once are ended at the end, also when their parent has left them."""
        if self._process is None:
            return []
        try:
            found = [psutil.Process(self._process.pid), *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            found = []
        self._seen.update((process.pid, process) for process in found)
        return [process for process in self._seen.values() if process.is_running()]

    def memory(self) -> list[tuple[int, str]]:
        """(bytes of the proportional set size, words of its command) of each of its processes, the largest first."""
        found: list[tuple[int, str]] = []
        for process in self._look():
            try:
                words = [word for word in process.cmdline()[1:] if not word.startswith(("-", "/", "{"))]
                found.append((process.memory_full_info().pss, " ".join(words[:2])[:60]))
            except psutil.Error:
                continue
        return sorted(found, reverse=True)

    def cpu(self) -> float:
        """CPU seconds of all its processes so far."""
        used = 0.0
        for process in self._look():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            used += times.user + times.system
        return used

    def settle(self) -> None:
        """Waits until it rests: some of MLflow's processes go on importing long after the first is healthy."""
        for _ in range(60):
            before = self.cpu()
            time.sleep(0.5)
            if self.cpu() - before < 0.05:
                return

    def stop(self) -> None:
        """Ends it in order, then whatever of it is left."""
        if self._process is None:
            return
        self._look()
        if self._process.poll() is None:
            self._process.terminate()
        family = list(self._seen.values())
        _, left = psutil.wait_procs(family, timeout=_ENDED)
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=5)
        self._process.wait()
        self._process = None
        self._seen.clear()

    def drop(self) -> None:
        """Ends it and deletes its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def mlflow(executable: str, root: Path, databases: Databases, workers: int) -> Server:
    """``mlflow server`` with everything else as it comes. ``executable`` may be its Python."""
    folder = _folder(root, "mlflow")
    url = databases.new()
    start = [executable, "-m", "mlflow"] if Path(executable).name.startswith("python") else [executable]
    backend = url.replace("postgresql://", "postgresql+psycopg2://") if url else f"sqlite:///{folder}/mlflow.db"
    words = ["server", "--host", "127.0.0.1", "--port", "{port}", "--workers", str(workers)]
    words += ["--backend-store-uri", backend, "--artifacts-destination", str(folder / "artifacts")]
    return Server("mlflow", folder, url, [*start, *words])


def noria(executable: str | None, root: Path, databases: Databases) -> Server:
    """``noria init`` and ``noria up`` as they come; without ``executable`` of this environment."""
    folder = _folder(root, "noria")
    url = databases.new()
    start = [executable] if executable else [sys.executable, "-m", "noria"]
    before = [*start, "init", ".", *(["--db", url] if url else [])]
    return Server("noria", folder, url, [*start, "up", "--port", "{port}"], before)


def _folder(root: Path, name: str) -> Path:
    for number in range(1000):
        folder = root / f"{name}{number}"
        if not folder.exists():
            folder.mkdir()
            return folder
    raise AssertionError("a thousand servers")


def _environment() -> dict[str, str]:
    """Without what the caller's shell says about either product; nothing is sent abroad."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "NORIA_", "_MLFLOW"))}
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def _port() -> int:
    """A free port whose neighbour is free as well: noria's endpoints listen there."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
            except (OSError, OverflowError):
                continue
        return port


def _healthy(port: int) -> bool:
    try:
        with Connection(port, timeout=_HEALTHY) as connection:
            connection.exchange(get("/health"))
    except (OSError, RuntimeError):
        return False
    return True
