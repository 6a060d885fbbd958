"""The composition root: from a URL to everything. The only module that reads the environment or builds a service.

Rooms are built when they are first asked for, and their modules are imported then, so that a command that needs the
metadata only never pays for Polars (the one reason for the imports inside functions below).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

from sqlalchemy import select

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
from noria.assets.records import Event, Project
from noria.assets.retention import Retention
from noria.base.actor import Actor
from noria.base.clock import Clock
from noria.base.digest import Digest
from noria.base.faults import Faults
from noria.base.ids import ProjectId
from noria.db import Database, Tx
from noria.delivery.records import FOLLOW, FOLLOWED
from noria.jobs import Jobs
from noria.jobs.queries import prune as prune_jobs
from noria.webhooks import KINDS, SUBSCRIBER, Webhooks, anybody_hears
from noria.workspace.datasets import commit_of
from noria.workspace.glance import Glance
from noria.workspace.holders import loaded_from, model_users, version_holders
from noria.workspace.location import database_of, locate, redacted

if TYPE_CHECKING:
    import polars as pl

    from noria.assets.gc import GarbageCollector
    from noria.assets.reach import Reach
    from noria.data import Collector, Data, Files
    from noria.data.records import Commit, Repository
    from noria.data.rows import RowsChange
    from noria.data.rows.outputs import Form
    from noria.data.service import Services as DataServices
    from noria.data.service.care.care import Care
    from noria.data.service.hooks import Hooks
    from noria.data.service.transfer.promised import Promised
    from noria.data.service.transfer.receiving import Side
    from noria.data.service.transfer.verbs import Transfer
    from noria.delivery.days import Days
    from noria.delivery.service import Delivery
    from noria.features.service import Features
    from noria.monitoring.service import Monitoring
    from noria.pipelines.doors import StepDoor
    from noria.pipelines.executors import SideWorker
    from noria.pipelines.kinds import StepKind
    from noria.pipelines.service import Pipelines
    from noria.registry import Registry
    from noria.scorecard import Scorecard
    from noria.serving.ingest import Ingest
    from noria.serving.service import Serving
    from noria.store import ObjectStore
    from noria.trace import Trace
    from noria.tracking import Tracking
    from noria.training.service import Training

CAPTURE = "capture"
FORMATS = {"pack": 1, "tree": 1, "recipe": 2, "commit": 1, "table": 2, "segment": 1, "manifest": 1, "task": 1}
"""The newest format of each kind that this noria writes; a workspace with a newer one is refused (decision 17)."""

STEP_DOOR = "noria.gateways.steps.door:StepDoor"
_HOOKS = "hooks.due"
SUBSCRIPTIONS: dict[str, tuple[str, ...]] = {
    kind: (*((FOLLOW,) if kind in FOLLOWED else ()), *((SUBSCRIBER,) if kind in KINDS else ()))
    for kind in (*FOLLOWED, *KINDS)
}
SUBSCRIPTIONS[_HOOKS] = (_HOOKS,)
"""Type of event -> who hears of it (decision 11)."""


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
        self.changes.listens[SUBSCRIBER] = anybody_hears
        self.deliveries = Deliveries(db, clock)
        self.lineage = Lineage(db)
        self.evidence = EvidenceLog(db)
        self.audit = AuditLog(db)
        self.jobs = Jobs(db, clock, self.event_clock, self.assets.holder, faults)
        self.retention = Retention(db)
        self._register_pruners()
        self.assets.holders += version_holders()
        self.project: Project = self.assets.ensure_project(project_name)
        self.glance = Glance(db, self.project.id)

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
        self.retention.register_own(
            "runs.bin",
            lambda project_id, before: self.tracking.purge_bin(
                project_id, before, actor=Actor(name="system:retention", automatic=True)
            ),
        )

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
        from noria.data.service.transfer.promised import Promised

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
        from noria.workspace.reaching import reach

        return reach(self.db, self.store)

    @cached_property
    def gc(self) -> GarbageCollector:
        from noria.assets.gc import GarbageCollector

        return GarbageCollector(self.db, self.sessions, self.reach, self.clock, self.faults)

    @cached_property
    def care(self) -> Care:
        from noria.data.service.care.care import Care
        from noria.data.service.care.checking import Checking
        from noria.data.service.care.purge import Purging
        from noria.data.service.care.redaction import Redacting
        from noria.data.service.care.storage import Storage

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
        from noria.data.service.transfer.verbs import Transfer

        def merging(kind: RepositoryKind) -> Files:
            return self.data if kind == RepositoryKind.TABLE else self.files

        return Transfer(self._data_services, self._side, self.open_remote, lambda: self.promised, merging)

    @property
    def _side(self) -> Side:
        from noria.data.service.transfer.receiving import Side

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
        place, root = locate(url, self.environment)
        source = project_file.load(root) if root is not None and not isinstance(place, str) else None
        if isinstance(place, str):
            db_url, home = place, self.home / "cache" / "remotes" / Digest.of(place.encode()).short
        else:
            db_url, home = database_of(place, hint="noria init   makes one there."), place
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
        other = Workspace(
            Database(db_url, self.clock, self.faults),
            home,
            project_name=wanted,
            source=None,
            environment=self.environment,
            clock=self.clock,
            faults=self.faults,
        )
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

        made = Tracking(self.db, self.assets, self.changes, self.sessions, self.faults)
        made.holders.append(loaded_from)
        made.origins.append(lambda project_id, dataset: commit_of(lambda: self.files, project_id, dataset))
        return made

    @cached_property
    def registry(self) -> Registry:
        from noria.registry import Registry

        made = Registry(self.db, self.changes)
        made.users += model_users()
        return made

    @cached_property
    def webhooks(self) -> Webhooks:
        return Webhooks(self.db, self.changes, self.deliveries)

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
                door=self.step_door,
            )
        )

    @cached_property
    def step_door(self) -> StepDoor:
        """Where MLflow's clients in steps log to. The gateway stands above this room, so it is named by a text."""
        module, _, name = STEP_DOOR.partition(":")
        return getattr(importlib.import_module(module), name)(self)

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
        from noria.training.adoption import Adoption
        from noria.training.service import Training

        adoption = Adoption(
            self.project.id, self.assets, self.changes, self.evidence, self.sessions, self.pipelines, self.clock
        )
        return Training(
            self.db,
            self.project.id,
            self.assets,
            self.changes,
            self.evidence,
            self.tracking,
            self.registry,
            self.pipelines,
            adoption,
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
    def days(self) -> Days:
        from noria.delivery.days import Days

        return Days(self.db, self.project.id)

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
            FOLLOW: self._follow,
            _HOOKS: lambda event: self.hooks.deliver(event),
            SUBSCRIBER: lambda event: self.webhooks.share(event),
        }
        return self.deliveries.run_due(handlers, project_id=self.project.id)

    def _follow(self, event: Event) -> None:
        if self.glance.has_endpoints():  # nobody else follows an alias
            self.delivery.follow(event)

    def verify(self, *, data: bool = False, advance: Callable[..., None] | None = None) -> list[str]:
        """What does not hold between rows and bytes, in words; with ``data``, every byte is read."""
        from noria.assets.verify import verify

        return verify(self.db, self.store, self.reach, data=data, advance=advance)

    # ---- life

    def close(self) -> None:
        if "step_door" in self.__dict__:
            self.step_door.close()
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
