"""The composition root: from a URL to everything. The only module that reads the environment or builds a service.

Rooms are built when they are first asked for, and their modules are imported then, so that a command that needs the
metadata only never pays for Polars (the one reason for the imports inside functions below).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

from sqlalchemy import select, update

from noria import project as project_file
from noria.assets import (
    Assets,
    Change,
    Changes,
    Deliveries,
    EvidenceLog,
    Handler,
    Lineage,
    ProjectClock,
    StoreSessions,
)
from noria.assets import queries as asset_queries
from noria.assets import tables as asset_tables
from noria.assets.audit import AuditLog
from noria.assets.errors import ProjectNotFound
from noria.assets.logs import prune_logs
from noria.assets.packing import Packing
from noria.assets.records import Content, Project, Version
from noria.assets.retention import Retention
from noria.assets.versions import Holder
from noria.base import faults as crash_points
from noria.base.actor import Actor
from noria.base.clock import Clock, SystemClock
from noria.base.digest import Digest
from noria.base.errors import Conflict, Invalid, NotFound
from noria.base.faults import Faults
from noria.base.ids import ProjectId, VersionId
from noria.db import Database, Tx
from noria.db.engine import HEAD_REVISION
from noria.delivery.records import FOLLOW, FOLLOWED
from noria.jobs import Jobs
from noria.jobs.queries import prune as prune_jobs

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Connection

    from noria.assets.gc import GarbageCollector
    from noria.assets.reach import Reach
    from noria.assets.verify import Walker
    from noria.data import Collector, Data, Files
    from noria.data.records import Commit, Repository
    from noria.data.rows import RowsChange
    from noria.data.rows.outputs import Form
    from noria.data.service import Services as DataServices
    from noria.data.service.care import Care
    from noria.data.service.hooks import Hooks
    from noria.data.service.promised import Promised
    from noria.data.service.receiving import Side
    from noria.data.service.transfer import Transfer
    from noria.delivery.service import Delivery
    from noria.features.service import Features
    from noria.monitoring.service import Monitoring
    from noria.pipelines.executors import SideWorker
    from noria.pipelines.kinds import StepKind
    from noria.pipelines.service import Pipelines
    from noria.registry import Registry
    from noria.scorecard import Scorecard
    from noria.serving.ingest import Ingest
    from noria.serving.service import Serving
    from noria.store import Kind, ObjectStore
    from noria.trace import Trace
    from noria.tracking import Tracking
    from noria.training.service import Training

HOME = ".noria"
CAPTURE = "capture"
FORMATS = {"pack": 1, "tree": 1, "recipe": 2, "commit": 1, "table": 2, "segment": 1, "manifest": 1, "task": 1}
"""The newest format of each kind that this noria writes; a workspace with a newer one is refused (decision 17)."""

_HOOKS = "hooks.due"
SUBSCRIPTIONS: dict[str, tuple[str, ...]] = {**dict.fromkeys(FOLLOWED, (FOLLOW,)), _HOOKS: (_HOOKS,)}
"""Type of event -> who hears of it (decision 11)."""


class WorkspaceMissing(NotFound):
    """There is no workspace here."""

    code = "workspace_missing"


class WorkspaceExists(Conflict):
    """There is a workspace here already."""

    code = "workspace_exists"


class WorkspaceUrlInvalid(Invalid):
    """No workspace is opened by an URL of this kind."""

    code = "workspace_url_invalid"


class Workspace:
    """An open workspace. Close it, or use it as a context manager.

    Attributes:
        home: the local folder for caches, sockets and logs; of a folder workspace, the workspace itself.
        url: opens the same workspace again, in another process.
        project: the project that verbs work on.
        actor: who asks, where a verb is called without an actor.
    """

    def __init__(
        self,
        db: Database,
        home: Path | None,
        *,
        project_name: str,
        source: project_file.ProjectFile | None,
        environment: Mapping[str, str],
        clock: Clock,
        faults: Faults,
    ) -> None:
        self.db = db
        self.clock = clock
        self.faults = faults
        self.source = source
        self.environment = environment
        self.actor = Actor(name=f"user:{environment.get('NORIA_ACTOR') or environment.get('USER') or 'local'}")
        db.check_revision()
        with db.read() as conn:
            row = conn.execute(select(asset_tables.workspace)).one()
        self.id: str = row.id
        self.home = home or Path.home() / ".cache" / "noria" / self.id
        self.home.mkdir(parents=True, exist_ok=True)
        self.url = str(self.home) if db.url.startswith("sqlite") else db.url
        self.store_url: str = row.store_url
        self._check_formats(row.formats)
        self.event_clock = ProjectClock(db, clock)
        self.assets = Assets(db, clock, self.event_clock, faults)
        self.changes = Changes(db, self.event_clock, SUBSCRIPTIONS, faults)
        self.deliveries = Deliveries(db, clock)
        self.lineage = Lineage(db)
        self.evidence = EvidenceLog(db)
        self.audit = AuditLog(db)
        self.jobs = Jobs(db, clock, self.event_clock, self.assets.holder, faults)
        self.retention = Retention(db)
        self._register_pruners()
        self._register_holders()
        self.project: Project = self.assets.ensure_project(project_name)

    @staticmethod
    def _check_formats(found: Mapping[str, int]) -> None:
        from noria.store.errors import FormatTooNew

        for what, number in found.items():
            if number > FORMATS.get(what, 0):
                raise FormatTooNew(f"This workspace's {what}", number, FORMATS.get(what, 0))

    def _register_pruners(self) -> None:
        def segments(tx: Tx, _: ProjectId, before: int) -> int:
            from noria.serving.pruning import prune_segments

            return prune_segments(tx, self.home / CAPTURE, before)

        register = self.retention.register
        register("jobs", lambda tx, project_id, before: prune_jobs(tx.conn, project_id, before))
        register("logs", lambda tx, project_id, before: prune_logs(tx, project_id, self.home / "logs", before))
        register("segments", segments)

    def _register_holders(self) -> None:
        """Which rows need the content of the versions that they name."""

        def naming(where: Callable[[], Any]) -> Callable[[Connection, Collection[VersionId]], set[VersionId]]:
            def needs(conn: Connection, ids: Collection[VersionId]) -> set[VersionId]:
                column = where()
                return {VersionId(found) for (found,) in conn.execute(select(column).where(column.in_(ids)))}

            return needs

        def commits() -> Any:
            from noria.data import tables

            return tables.commits.c.version_id

        def models() -> Any:
            from noria.registry import tables

            return tables.model_versions.c.version_id

        def deployments() -> Any:
            from noria.serving import tables

            return tables.deployments.c.version_id

        for what, where in (("a commit", commits), ("a model", models), ("a deployment", deployments)):
            self.assets.holders.append(Holder(what=what, needs=naming(where)))

    @cached_property
    def store(self) -> ObjectStore:
        from noria.store import ObjectStore
        from noria.store.factory import byte_store

        source = byte_store(self.store_url, home=self.home, environment=self.environment, faults=self.faults)
        made = ObjectStore(source, self.home / "cache", self.faults)
        made.remote = lambda: self.promised
        return made

    @cached_property
    def promised(self) -> Promised:
        """What partial clones left where it is."""
        from noria.data.service.promised import Promised

        return Promised(self.id, self.db, self.store, lambda: self.sessions, self.faults, self.open_remote)

    @cached_property
    def sessions(self) -> StoreSessions:
        return StoreSessions(self.db, self.store, self.clock, self.assets.holder)

    @cached_property
    def packing(self) -> Packing:
        return Packing(self.db, self.sessions, self.faults)

    @cached_property
    def reach(self) -> Reach:
        """What the rows of every room name, and what that needs: a room that stores ids of objects stands here."""
        from noria.assets.reach import Reach
        from noria.assets.roots import version_roots
        from noria.data.roots import data_roots
        from noria.serving.roots import serving_roots
        from noria.store import Kind, files, tree
        from noria.tracking.roots import tracking_roots

        def table(store: ObjectStore, oid: Digest) -> Iterable[tuple[Kind, bytes]]:
            from noria.data.rows import load_layout
            from noria.data.rows.read import objects_of

            return (found for found in objects_of(oid, load_layout(store, oid)) if found[0] != Kind.TABLE)

        def recipe(store: ObjectStore, oid: Digest) -> Iterable[tuple[Kind, bytes]]:
            here = store.has(oid) or (store.refresh() and store.has(oid))
            if not here and store.promised(oid, Kind.RECIPE):
                return ()  # of a partial clone: it lies at a remote, with its chunks
            return files.chunks(store, oid)

        return Reach(
            self.db,
            self.store,
            providers=[data_roots, tracking_roots, serving_roots, version_roots],
            children={
                Kind.NODE: tree.children,
                Kind.RANGE: tree.contents,
                Kind.RECIPE: recipe,
                Kind.TABLE: table,
            },
        )

    @cached_property
    def gc(self) -> GarbageCollector:
        from noria.assets.gc import GarbageCollector

        return GarbageCollector(self.db, self.sessions, self.reach, self.clock, self.faults)

    @cached_property
    def care(self) -> Care:
        from noria.data.service.care import Care
        from noria.data.service.checking import Checking
        from noria.data.service.purge import Purging
        from noria.data.service.redaction import Redacting
        from noria.data.service.storage import Storage

        checking = Checking(self.db, self.sessions, self.reach, self.faults)
        checking.fetchers.append(lambda wanted: self.promised.heal(wanted))
        storage = Storage(self.db, self.reach, self.store)
        redacting = Redacting(self.db, self.sessions, self.reach, self.faults, lambda: self.data.reader)
        purging = Purging(
            self.db,
            self.changes,
            self.gc,
            redacting,
            self.store,
            self.clock,
            self.faults,
            lambda repository: self.features.rebuild(repository),
            self.home / "cache",
        )
        return Care(self.changes, self.gc, checking, storage, purging, self.project.id)

    @cached_property
    def data(self) -> Data:
        from noria.data import Data

        return Data(self._data_services)

    @cached_property
    def files(self) -> Files:
        """Of ``data``, the verbs of history and of files: they start without Polars."""
        from noria.data import Files

        return self.data if "data" in self.__dict__ else Files(self._data_services)

    def open(self, where: str) -> BinaryIO:
        """A file of a repository, readable and seekable: ``ws.open("photos@v3/train/1.jpg")``.

        Args:
            where: repository, reference (default ``main``) and path, also with ``noria://`` before it.

        Raises:
            RepositoryNotFound, BranchNotFound, NotFound: a part of it is not there.
        """
        from noria.data import address

        at = address.parse(where)
        return self.files.open(self.files.get(self.project.id, at.repository), at.path, at.ref)

    @overload
    def read(
        self, name: str, *, at: str | datetime | None = None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame: ...

    @overload
    def read(
        self, name: str, *, at: str | datetime | None = None, columns: Sequence[str] | None = None, to: Form
    ) -> Any: ...

    def read(
        self,
        name: str,
        *,
        at: str | datetime | None = None,
        columns: Sequence[str] | None = None,
        to: Form = "polars",
    ) -> Any:
        """The rows of a table: ``ws.read("flights", at="v3")``.

        Args:
            name: the repository, also with its reference: ``flights@v3``.
            at: branch, tag or commit, ``main~2``; or a time: as the table was then.
            columns: those to read; default all.
            to: ``polars``, ``arrow``, ``pandas`` or ``duckdb``.

        Raises:
            MissingExtra: the library asked for is not installed.
            RepositoryNotFound, WrongRepositoryKind, BranchNotFound: there is no such table or state of it.
            Invalid: there is no such column.
        """
        from noria.data import address

        where = address.parse(name)
        ref = f"@{at.isoformat()}" if isinstance(at, datetime) else at or where.ref
        repository = self.data.get(self.project.id, where.repository)
        return self.data.read_as(repository, to, ref, columns=columns)

    @cached_property
    def _data_services(self) -> DataServices:
        from noria.data.service import Services

        def on_rows(change: Change, repository: Repository, rows: RowsChange, commit: Commit) -> None:
            self.features.on_rows(change, repository, rows, commit)

        return Services(
            db=self.db,
            assets=self.assets,
            changes=self.changes,
            sessions=self.sessions,
            evidence=self.evidence,
            clock=self.clock,
            event_clock=self.event_clock,
            faults=self.faults,
            home=self.home,
            hooks=self.hooks,
            listeners=[on_rows],
            online=[lambda change, repository: self.features.uses_of(change.tx, repository)],
            forgetters=[lambda change, repository: self.features.forget(change.tx, repository)],
        )

    @cached_property
    def transfer(self) -> Transfer:
        from noria.data.records import RepositoryKind
        from noria.data.service.transfer import Transfer

        def merging(kind: RepositoryKind) -> Files:
            return self.data if kind == RepositoryKind.TABLE else self.files

        return Transfer(self._data_services, self._side, self.open_remote, lambda: self.promised, merging)

    @property
    def _side(self) -> Side:
        from noria.data.service.receiving import Side

        return Side(
            services=self._data_services, workspace=self.id, project_id=self.project.id, project=self.project.name
        )

    @contextmanager
    def open_remote(self, url: str, project: str | None) -> Iterator[Side]:
        """Another workspace, for transfers. It is never made, and neither is a project in it.

        Args:
            url: what ``connect`` takes; of a database, caches lie below this workspace.
            project: a project there. Default: the one of its folder; of a database, the one of the same name as here,
                or the only one.
        """
        place, root = _locate(url, self.environment)
        source = project_file.load(root) if root is not None and not isinstance(place, str) else None
        if isinstance(place, str):
            db_url, home = place, self.home / "cache" / "remotes" / Digest.of(place.encode()).short
        else:
            if not (place / "meta.db").is_file():
                raise WorkspaceMissing(
                    f"There is no workspace in {place.parent}.", hint="noria init   makes one there."
                )
            db_url, home = f"sqlite:///{place / 'meta.db'}", place
        db = Database(db_url, self.clock, self.faults)
        try:
            db.check_revision()
            with db.read() as conn:
                names = [found.name for found in asset_queries.projects(conn)]
        finally:
            db.close()
        wanted = project or (source.name if source is not None else self.project.name)
        if wanted not in names:
            if project is not None or len(names) != 1:
                raise ProjectNotFound(
                    f"There is no project {wanted!r} in {redacted(url) if '://' in url else url}.",
                    hint=f"Write URL#PROJECT. Projects there: {', '.join(names) or 'none'}.",
                )
            wanted = names[0]
        other = _open(db_url, home, None, wanted, self.clock, self.faults, self.environment)
        try:
            yield other._side
        finally:
            other.close()

    @cached_property
    def hooks(self) -> Hooks:
        """Functions of the user's own that are asked before a commit or told after it."""
        from noria.data.service.hooks import Hooks
        from noria.pipelines.hooks import ProjectHooks

        project = ProjectHooks(self.db, lambda: self.store, self.home / "cache", lambda: self.side_worker)
        return Hooks(lambda: self.store, self.changes, project)

    @cached_property
    def collector(self) -> Collector:
        from noria.data import Collector

        root = self.source.root if self.source is not None else self.home.parent
        cache = self.home / "cache"
        return Collector(
            self.db,
            self.data,
            self.sessions,
            self.assets,
            self.changes,
            self.clock,
            root,
            cache,
            self.environment,
        )

    @cached_property
    def tracking(self) -> Tracking:
        from noria.tracking import Tracking

        return Tracking(self.db, self.assets, self.changes)

    @cached_property
    def registry(self) -> Registry:
        from noria.registry import Registry

        return Registry(self.db, self.changes)

    @cached_property
    def pipelines(self) -> Pipelines:
        from noria.pipelines.kinds import StepKinds
        from noria.pipelines.service import Pipelines
        from noria.pipelines.service import Services as PipelineServices

        return Pipelines(
            PipelineServices(
                db=self.db,
                project_id=self.project.id,
                assets=self.assets,
                changes=self.changes,
                sessions=self.sessions,
                evidence=self.evidence,
                data=self.data,
                collector=self.collector,
                tracking=self.tracking,
                clock=self.clock,
                faults=self.faults,
                home=self.home,
                source=self.source,
                kinds=StepKinds(self._step_kinds()),
                environment=self.environment,
                worker=self.side_worker,
                secret=self.environment.get,
            )
        )

    def _step_kinds(self) -> dict[str, StepKind]:
        from noria.features.kinds import feature_kind
        from noria.labels.kinds import label_kind
        from noria.pipelines.kinds import PLAIN
        from noria.training.kinds import check_kind, model_kind

        return {
            **PLAIN,
            "check": check_kind(PLAIN["check"]),
            "features": feature_kind(self.evidence),
            "labels": label_kind(),
            "model": model_kind(self.registry, self.evidence),
        }

    @cached_property
    def training(self) -> Training:
        from noria.training.service import Training

        return Training(
            self.db,
            self.project.id,
            self.assets,
            self.changes,
            self.evidence,
            self.tracking,
            self.registry,
            self.pipelines,
        )

    @cached_property
    def serving(self) -> Serving:
        from noria.serving.service import Serving

        return Serving(
            self.db,
            self.project.id,
            self.assets,
            self.changes,
            self.registry,
            self.training,
            self.features,
            self.pipelines,
            self.home / CAPTURE,
        )

    @cached_property
    def ingest(self) -> Ingest:
        from noria.serving.ingest import Ingest

        return Ingest(self.db, self.project.id, self.data, self.event_clock, self.serving.capture_folder)

    @cached_property
    def side_worker(self) -> SideWorker:
        from noria.pipelines.executors import SideWorker

        return SideWorker(self.environment)

    def rest(self) -> None:
        """Lets go of processes that nobody has needed for long; a server calls it now and then."""
        if "side_worker" in self.__dict__:
            self.side_worker.rest()

    @cached_property
    def monitoring(self) -> Monitoring:
        from noria.monitoring.labeller import Labeller
        from noria.monitoring.service import Monitoring

        return Monitoring(
            self.db,
            self.project.id,
            self.changes,
            self.evidence,
            self.event_clock,
            self.data,
            self.serving,
            self.training,
            self.pipelines,
            self.ingest,
            Labeller(self.side_worker),
        )

    @cached_property
    def delivery(self) -> Delivery:
        from noria.delivery.service import Delivery
        from noria.delivery.service import Services as DeliveryServices

        return Delivery(
            DeliveryServices(
                db=self.db,
                project_id=self.project.id,
                project=self.project.name,
                url=self.url,
                clock=self.clock,
                event_clock=self.event_clock,
                assets=self.assets,
                changes=self.changes,
                evidence=self.evidence,
                jobs=self.jobs,
                registry=self.registry,
                pipelines=self.pipelines,
                training=self.training,
                serving=self.serving,
                monitoring=self.monitoring,
                environment=self.environment,
            )
        )

    @cached_property
    def scorecard(self) -> Scorecard:
        from noria.scorecard import Scorecard

        return Scorecard(
            self.project.id,
            self.assets,
            self.lineage,
            self.evidence,
            self.changes,
            self.sessions,
            self.serving,
            self.registry,
            self.tracking,
            self.event_clock,
        )

    @cached_property
    def trace(self) -> Trace:
        from noria.trace import Trace

        return Trace(
            self.db,
            self.project.id,
            self.assets,
            self.lineage,
            self.changes,
            self.evidence,
            self.data,
            self.registry,
            self.tracking,
            self.serving,
            self.training,
            self.side_worker,
            self.ingest,
        )

    @cached_property
    def features(self) -> Features:
        from noria.features.service import Features

        return Features(self.db, self.data, self.changes, self.evidence, self.project.id, self.home)

    def deliver(self) -> int:
        """Lets the subscribers handle the events that wait for them; returns how many deliveries were tried.

        A server's loop calls it, and each command at its end where no server runs.
        """
        handlers: dict[str, Handler] = {
            FOLLOW: lambda event: self.delivery.follow(event),
            _HOOKS: lambda event: self.hooks.deliver(event),
        }
        return self.deliveries.run_due(handlers, project_id=self.project.id)

    def verify(self, *, data: bool = False, advance: Callable[..., None] | None = None) -> list[str]:
        """What does not hold between rows and bytes, in words; with ``data``, every byte is read."""
        from noria.assets.verify import verify

        return verify(self.db, self.store, self._walkers(), data=data, advance=advance)

    def _walkers(self) -> dict[Content, Walker]:
        from noria.store import Kind, tree

        def folder(version: Version) -> Iterator[tuple[Kind, bytes]]:
            return tree.objects_of(self.store, version.layout)

        def blob(version: Version) -> Iterator[tuple[Kind, bytes]]:
            yield Kind.BLOB, version.layout.raw

        def table(version: Version) -> Iterator[tuple[Kind, bytes]]:
            from noria.data.rows import load_layout
            from noria.data.rows.read import objects_of

            return objects_of(version.layout, load_layout(self.store, version.layout))

        return {Content.TABLE: table, Content.TREE: folder, Content.MODEL: folder, Content.JSON: blob}

    # ---- life

    def close(self) -> None:
        if "side_worker" in self.__dict__:
            self.side_worker.close()
        if "features" in self.__dict__:
            self.features.replica.close()
        if "promised" in self.__dict__:
            self.promised.close()
        if "sessions" in self.__dict__:
            self.sessions.close()
        if "store" in self.__dict__:
            self.store.close()
        self.db.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Workspace({str(self.home)!r}, project={self.project.name!r})"


def connect(
    url: str | os.PathLike[str] | None = None,
    *,
    project: str | None = None,
    root: str | os.PathLike[str] | None = None,
    clock: Clock | None = None,
    faults: Faults | None = None,
    environment: Mapping[str, str] | None = None,
) -> Workspace:
    """Opens a workspace.

    Args:
        url: a folder that holds a project or a workspace, or ``postgresql://...``. Default: the workspace that the
            nearest project names, else ``.noria`` in the nearest project.
        project: another project than the one of the folder.
        root: the folder of the project's code, where it is another one (a materialised snapshot).

    Raises:
        WorkspaceMissing: there is none; ``noria init`` makes one.
        WorkspaceUrlInvalid: the URL is of a kind that opens none.
        WorkspaceTooNew: it was written by a newer noria.
    """
    env = os.environ if environment is None else environment
    place, found = _locate(url, env)
    folder = found if root is None else Path(root)
    source = project_file.load(folder) if folder is not None else None
    if isinstance(place, str):
        home, db_url = (None if found is None else found / HOME), place
    else:
        if not (place / "meta.db").is_file():
            raise WorkspaceMissing(f"There is no workspace in {place.parent}.", hint="noria init")
        home, db_url = place, f"sqlite:///{place / 'meta.db'}"
    return _open(db_url, home, source, project, clock or SystemClock(), faults or _faults(env), env)


def _open(
    db_url: str,
    home: Path | None,
    source: project_file.ProjectFile | None,
    project: str | None,
    clock: Clock,
    faults: Faults,
    env: Mapping[str, str],
) -> Workspace:
    return Workspace(
        Database(db_url, clock, faults),
        home,
        project_name=project or (source.name if source else "default"),
        source=source,
        environment=env,
        clock=clock,
        faults=faults,
    )


def init(
    folder: str | os.PathLike[str],
    *,
    db_url: str | None = None,
    store_url: str = "file:",
    clock: Clock | None = None,
    environment: Mapping[str, str] | None = None,
) -> Workspace:
    """Makes a workspace in ``folder`` (and a ``noria.toml`` where there is none) and opens it."""
    from noria.db.migrate import upgrade
    from noria.store.factory import byte_store

    env = os.environ if environment is None else environment
    if db_url is not None:
        _check_url(db_url)
    root = Path(folder).resolve()
    home = root / HOME
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    byte_store(store_url, home=home, environment=env, faults=_faults(env))  # refused before anything is made
    clock = clock or SystemClock()
    db = Database(db_url or f"sqlite:///{home / 'meta.db'}", clock, _faults(env))
    if db.revision() >= HEAD_REVISION:
        db.close()
        raise WorkspaceExists(f"There is a workspace in {root} already.", hint="noria doctor")
    if db_url is not None and store_url == "file:":
        store_url = (home / "store").as_uri()  # a database is seen from several places: the store's is written out
    with db.write() as tx:
        upgrade(db, tx)
        row = {"id": secrets.token_hex(16), "created_at": tx.now_ms, "store_url": store_url, "formats": FORMATS}
        tx.insert(asset_tables.workspace, {**row, "gc_epoch": 0})
    db.close()
    if project_file.find_root(root) is None:
        setting = f'workspace = "{db_url}"\n' if db_url else ""
        name = "".join(c if c.isalnum() or c in "_.-" else "-" for c in root.name).lstrip("-.0123456789") or "default"
        (root / "noria.toml").write_text(f'name = "{name}"\nmodules = []\n{setting}', encoding="utf-8")
    found = project_file.find_root(root)
    assert found is not None
    url = db_url or f"sqlite:///{home / 'meta.db'}"
    return _open(url, home, project_file.load(found), None, clock, _faults(env), env)


def migrate(url: str | os.PathLike[str] | None = None, *, environment: Mapping[str, str] | None = None) -> Any:
    """Brings an older workspace to this version, after a backup; returns (before, after, path of the backup)."""
    from noria.db.migrate import upgrade

    env = os.environ if environment is None else environment
    place, _ = _locate(url, env)
    db_url = place if isinstance(place, str) else f"sqlite:///{place / 'meta.db'}"
    if not isinstance(place, str) and not (place / "meta.db").is_file():
        raise WorkspaceMissing(f"There is no workspace in {place.parent}.", hint="noria init")
    clock = SystemClock()
    db = Database(db_url, clock, _faults(env))
    found = db.revision()
    if found >= HEAD_REVISION:
        db.check_revision()
        return found, found, None
    backup = None
    if not isinstance(place, str):
        backup = db.backup(place / f"meta-before-{HEAD_REVISION}-{clock.now_ms()}.db")
    with db.write() as tx:
        before, after = upgrade(db, tx)
        tx.execute(update(asset_tables.workspace).values(formats=FORMATS))
    db.close()
    return before, after, backup


def place_of(url: str | os.PathLike[str] | None = None, *, environment: Mapping[str, str] | None = None) -> str:
    """What opens the workspace of ``url`` (default: of the nearest project) from any folder: a path or an URL.

    Raises:
        WorkspaceMissing: there is none.
    """
    env = os.environ if environment is None else environment
    text = (None if url is None else os.fspath(url)) or env.get("NORIA_WORKSPACE")
    if text is not None:
        return _check_url(text) if "://" in text else str(Path(text).expanduser().resolve())
    root = project_file.find_root(Path.cwd())
    if root is None:
        raise WorkspaceMissing(f"Neither {Path.cwd()} nor a folder above it holds a project.", hint="noria init")
    return str(root)


def _locate(url: str | os.PathLike[str] | None, env: Mapping[str, str]) -> tuple[Path | str, Path | None]:
    """(home folder or database URL, project root)."""
    text = None if url is None else os.fspath(url)
    text = text or env.get("NORIA_WORKSPACE")
    if text is not None and "://" in text:
        return _check_url(text), project_file.find_root(Path.cwd())
    if text is not None:
        folder = Path(text).expanduser().resolve()
        if folder.name == HOME:
            return folder, project_file.find_root(folder.parent)
        root = project_file.find_root(folder)
        if root is None or root != folder or (folder / HOME / "meta.db").is_file():
            return folder / HOME, root
        return _named(root, folder / HOME), root
    root = project_file.find_root(Path.cwd())
    if root is None:
        raise WorkspaceMissing(f"Neither {Path.cwd()} nor a folder above it holds a project.", hint="noria init")
    return _named(root, root / HOME), root


def _named(root: Path, default: Path) -> Path | str:
    """The workspace that a project's ``noria.toml`` names."""
    named = project_file.load(root).workspace
    if named is None:
        return default
    return _check_url(named) if "://" in named else (root / named).resolve() / HOME


def _check_url(url: str) -> str:
    """The URL, if a workspace can be opened by it."""
    scheme = url.partition("://")[0].lower()
    if scheme in ("postgresql", "postgresql+psycopg"):
        return url
    shown = redacted(url)
    if scheme in ("http", "https"):
        raise WorkspaceUrlInvalid(
            f"A workspace behind a server ({shown}) cannot be opened yet: that client is not built.",
            hint="Call the server's HTTP API (GET /openapi.json), or open its database: postgresql://host/name",
        )
    raise WorkspaceUrlInvalid(
        f"A workspace is not opened by {scheme}:// ({shown}).",
        hint="Write a folder that holds a project or a workspace, or postgresql://host/name.",
        details={"scheme": scheme},
    )


def redacted(url: str) -> str:
    """An URL as it may be shown: without user and password, query and fragment."""
    scheme, _, rest = url.partition("://")
    before, _, place = rest.rpartition("@")  # a password may hold any of the signs that end other parts
    if "?" in before or "#" in before:  # or a query holds an @: where the host stands cannot be told
        place = "..."
    return f"{scheme}://{place}".partition("?")[0].partition("#")[0]


def _faults(env: Mapping[str, str]) -> Faults:
    return crash_points.of(env.get(crash_points.SETTING))
