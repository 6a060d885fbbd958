"""Assets, versions, runs and edges: the verbs of the graph."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update

from noria.assets import queries, versions
from noria.assets import tables as t
from noria.assets.errors import (
    AssetKindTaken,
    AssetNotFound,
    ProjectNotFound,
    RunFenced,
    RunMove,
    RunNotFound,
    VersionNotFound,
)
from noria.assets.eventclock import ProjectClock
from noria.assets.records import Asset, AssetKind, Content, Direction, Edge, Event, Project, Run, RunState, Version
from noria.assets.roots import layout_kind
from noria.assets.sessions import retire
from noria.base.actor import Actor
from noria.base.clock import Clock
from noria.base.digest import Digest
from noria.base.faults import Faults, NoFaults
from noria.base.ids import AssetId, IdMaker, ProjectId, RunId, VersionId
from noria.base.names import check_name, nearest
from noria.base.pages import Page, check_limit, number_position, pair_position, token
from noria.base.times import SECOND
from noria.db import Database, Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

RUN_LEASE = 30 * SECOND
"""A running run whose process was silent for this long is lost."""


class Assets:
    """One per workspace. Every verb that writes takes the transaction of the verb that called it."""

    def __init__(self, db: Database, clock: Clock, event_clock: ProjectClock, faults: Faults | None = None) -> None:
        self._db = db
        self._clock = clock
        self._event_clock = event_clock
        self._faults = faults or NoFaults()
        self._ids = IdMaker()
        self.holders: list[versions.Holder] = [versions.RUNS]
        """Rows that need the content of versions; ``workspace`` adds those of other rooms."""
        self._known: dict[tuple[ProjectId, str, AssetKind], AssetId] = {}
        self.holder = f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"
        """Names this process in leases."""

    def now_ms(self) -> int:
        return self._clock.now_ms()

    # ---- projects

    def project(self, name: str) -> Project:
        with self._db.read() as conn:
            found = queries.project(conn, name)
            if found is None:
                raise ProjectNotFound(
                    f"There is no project {name!r}.", hint=nearest(name, (p.name for p in queries.projects(conn)))
                )
            return found

    def ensure_project(self, name: str, tx: Tx | None = None) -> Project:
        with self._db.read(tx) as conn:
            found = queries.project(conn, name)
        if found is not None:
            return found
        check_name(name, "a project")
        with self._db.write(tx) as open_tx:
            open_tx.insert_new(t.projects, {"name": name, "created_at": open_tx.now_ms, "settings": {}})
            made = queries.project(open_tx.conn, name)
        assert made is not None
        return made

    # ---- assets and versions

    def asset(self, project_id: ProjectId, name: str) -> Asset:
        with self._db.read() as conn:
            found = queries.asset(conn, project_id, name)
            if found is None:
                known = (a.name for a in queries.assets(conn, project_id))
                raise AssetNotFound(f"There is no asset {name!r}.", hint=nearest(name, known) or "noria plan")
            return found

    def find(self, project_id: ProjectId, name: str, tx: Tx | None = None) -> Asset | None:
        with self._db.read(tx) as conn:
            return queries.asset(conn, project_id, name)

    def list_assets(self, project_id: ProjectId, kinds: Iterable[AssetKind] | None = None) -> list[Asset]:
        with self._db.read() as conn:
            return queries.assets(conn, project_id, kinds)

    def define(self, tx: Tx, project_id: ProjectId, name: str, kind: AssetKind) -> Asset:
        """The asset of this name, made if it is new.

        Raises:
            AssetKindTaken: the name belongs to another kind of asset.
        """
        found = queries.asset(tx.conn, project_id, name)
        if found is None:
            check_name(name, "an asset")
            row = {"project_id": project_id, "name": name, "kind": kind.value, "created_at": tx.now_ms}
            made = tx.insert_new_key(t.assets, row)
            if made is not None:
                return Asset(
                    id=AssetId(made),
                    project_id=project_id,
                    name=name,
                    kind=kind,
                    current_id=None,
                    created_at=tx.now_ms,
                )
            found = queries.asset(tx.conn, project_id, name)
            assert found is not None
        if found.kind != kind:
            raise AssetKindTaken(
                f"{name!r} is a {found.kind.value} already and cannot be a {kind.value}.",
                hint="Give one of them another name.",
                details={"asset": name, "kind": found.kind.value},
            )
        return found

    def asset_id(self, tx: Tx, project_id: ProjectId, name: str, kind: AssetKind) -> AssetId:
        """The id alone of what ``define`` gives; remembered, since an asset keeps its id and its kind."""
        key = (project_id, name, kind)
        known = self._known.get(key)
        if known is None:
            known = self.define(tx, project_id, name, kind).id
            tx.after_commit(lambda: self._known.__setitem__(key, known))
        return known

    def add_version(
        self,
        tx: Tx,
        asset_id: AssetId,
        *,
        digest: Digest,
        content: Content,
        layout: Digest,
        size: int,
        rows: int | None = None,
        meta: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> Version:
        """The version with this content; a second one with the same digest is the first one again (decision 2)."""
        values = {
            "asset_id": asset_id,
            "digest": str(digest),
            "content": content.value,
            "layout": str(layout),
            "size": size,
            "rows": rows,
            "meta": meta or {},
            "created_at": tx.now_ms,
        }
        made = tx.insert_new_key(t.versions, values)
        if made is None or name is None:
            found = queries.version_by_digest(tx.conn, asset_id, digest)
            assert found is not None
            return self._revived(tx, found, values) if found.gone or "erased" in found.meta else found
        return Version(
            id=VersionId(made),
            asset_id=asset_id,
            asset=name,
            digest=digest,
            content=content,
            layout=layout,
            size=size,
            rows=rows,
            meta=meta or {},
            created_at=tx.now_ms,
        )

    @staticmethod
    def _revived(tx: Tx, found: Version, values: Mapping[str, Any]) -> Version:
        """A version whose content was removed, or parts of it, is there again: the same content was written again."""
        fresh = {name: values[name] for name in ("layout", "size", "rows")}
        meta = {name: value for name, value in found.meta.items() if name != "erased"} | dict(values["meta"])
        tx.execute(update(t.versions).where(t.versions.c.id == found.id).values(**fresh, meta=meta, gone_at=None))
        layout = Digest.parse(fresh["layout"])
        return replace(found, layout=layout, size=fresh["size"], rows=fresh["rows"], meta=meta, gone=False)

    def replace_layout(self, tx: Tx, version_id: VersionId, before: Digest, after: Digest) -> bool:
        """Points a version at another object with the same content (compaction). False if somebody was first."""
        where = (t.versions.c.id == version_id, t.versions.c.layout == str(before))
        content = select(t.versions.c.content).where(*where)
        kind = tx.execute(content).scalar_one_or_none()
        if kind is None or tx.execute(update(t.versions).where(*where).values(layout=str(after))).rowcount != 1:
            return False
        retire(tx, [(layout_kind(Content(kind)), before)])
        return True

    def forget_versions(self, tx: Tx, ids: Collection[VersionId], *, force: bool = False) -> list[VersionId]:
        """Marks versions as gone that nothing needs any more; returns those that are gone now.

        Called after the rows that named them were removed in ``tx``. A version that a commit, a model, a deployment
        or a run's input needs stays; with ``force``, what runs read goes too. The same content written again later
        makes the same version again.
        """
        return versions.forget(tx, self.holders, ids, force=force)

    def needed_versions(self, ids: Collection[VersionId], tx: Tx | None = None) -> dict[VersionId, str]:
        """Version -> what needs its content ("a run", "a commit"), for those of ``ids`` that something needs."""
        with self._db.read(tx) as conn:
            return versions.needed(conn, self.holders, ids)

    def set_current(self, tx: Tx, asset_id: AssetId, version_id: VersionId) -> None:
        queries.set_current(tx.conn, {asset_id: version_id})

    def set_all_current(self, tx: Tx, current: Mapping[AssetId, VersionId]) -> None:
        queries.set_current(tx.conn, current)

    def version(self, version_id: VersionId, tx: Tx | None = None) -> Version:
        with self._db.read(tx) as conn:
            found = queries.version(conn, version_id)
        if found is None:
            raise VersionNotFound(f"There is no version with the number {version_id}.")
        return found

    def versions_by_ids(self, ids: Iterable[VersionId], conn: Connection | None = None) -> dict[VersionId, Version]:
        """The versions that are there; read on ``conn`` where the caller has a view open."""
        if conn is not None:
            return queries.versions_by_ids(conn, ids)
        with self._db.read() as own:
            return queries.versions_by_ids(own, ids)

    def find_version(self, asset_id: AssetId, digest: Digest, tx: Tx | None = None) -> Version | None:
        with self._db.read(tx) as conn:
            return queries.version_by_digest(conn, asset_id, digest)

    def versions_like(self, project_id: ProjectId, prefix: str, limit: int = 5) -> list[Version]:
        with self._db.read() as conn:
            return queries.versions_like(conn, project_id, prefix.removeprefix("blake3:"), limit)

    def list_versions(self, asset_id: AssetId, *, limit: int = 100, after: str | None = None) -> Page[Version]:
        before = number_position(after)
        with self._db.read() as conn:
            found = queries.versions_of(conn, asset_id, before, check_limit(limit))
        return Page(items=found, next=token(found[-1].id) if len(found) == limit else None)

    # ---- runs

    def start_run(
        self,
        tx: Tx,
        project_id: ProjectId,
        *,
        kind: str,
        name: str,
        actor: Actor,
        asset_id: AssetId | None = None,
        parent_id: RunId | None = None,
        trigger: str | None = None,
        identity: Digest | None = None,
        leased: bool = True,
        run_id: RunId | None = None,
        started_at: int | None = None,
    ) -> Run:
        """Starts a run. ``leased``: it is lost when this process falls silent; clients' runs are not leased.

        Args:
            started_at: when a client says that its run began; default now.
        """
        now = tx.now_ms
        began = now if started_at is None else started_at
        run_id = run_id or RunId(self._ids.next(now))
        values: dict[str, Any] = {
            "id": run_id,
            "project_id": project_id,
            "kind": kind,
            "name": name,
            "state": RunState.RUNNING.value,
            "parent_id": parent_id,
            "asset_id": asset_id,
            "actor": actor.name,
            "trigger": trigger,
            "identity": None if identity is None else str(identity),
            "started_at": began,
            "event_ms": self._event_clock.event_ms_in(tx, project_id),
            "cost": {},
            "lease_until": now + RUN_LEASE if leased else None,
            "fence": 1,
            "holder": self.holder if leased else None,
        }
        tx.insert(t.runs, values)
        return Run(
            id=run_id,
            project_id=project_id,
            kind=kind,
            name=name,
            state=RunState.RUNNING,
            parent_id=parent_id,
            asset_id=asset_id,
            actor=actor.name,
            trigger=trigger,
            identity=identity,
            started_at=began,
            ended_at=None,
            event_ms=values["event_ms"],
            error=None,
            cost={},
            deleted_at=None,
        )

    def record_run(
        self, tx: Tx, project_id: ProjectId, *, kind: str, name: str, actor: Actor, event_ms: int | None = None
    ) -> RunId:
        """A run that is over as soon as it is written down, such as a commit: one row, one statement."""
        if event_ms is None:
            event_ms = self._event_clock.event_ms_in(tx, project_id)
        run_id = RunId(self._ids.next(tx.now_ms))
        values: dict[str, Any] = {
            "id": run_id,
            "project_id": project_id,
            "kind": kind,
            "name": name,
            "state": RunState.DONE.value,
            "actor": actor.name,
            "started_at": tx.now_ms,
            "ended_at": tx.now_ms,
            "event_ms": event_ms,
            "cost": {},
            "fence": 1,
        }
        tx.insert(t.runs, values)
        return run_id

    def end_run(
        self,
        tx: Tx,
        run_id: RunId,
        state: RunState,
        *,
        error: dict[str, Any] | None = None,
        cost: dict[str, Any] | None = None,
        fence: int | None = 1,
    ) -> None:
        """Ends a run. ``fence`` is the number under which it was started; None for runs without a lease.

        Raises:
            RunFenced: the run was taken from this process in the meantime.
            RunMove: the run is not running.
        """
        self._faults.at(f"run.{state.value}")
        values: dict[str, Any] = {"ended_at": tx.now_ms, "error": error, "lease_until": None}
        if cost is not None:
            values["cost"] = cost
        if queries.move_run(tx.conn, run_id, state, fence=fence, values=values):
            return
        found = self.run(run_id, tx)
        if fence is not None and queries.fence_of(tx.conn, run_id) != fence:
            raise RunFenced(f"The run {run_id} was taken over after this process had been silent.", hint="Repeat it.")
        raise RunMove(run_id, found.state, state)

    def amend_run(
        self,
        tx: Tx,
        run_id: RunId,
        *,
        state: RunState | None = None,
        ended_at: int | None = None,
        name: str | None = None,
        parent_id: RunId | None = None,
    ) -> None:
        """What a client says of a run of its own: any state may follow any other, and times are the client's.

        A run that noria itself executes has a holder; its name, its state and its end are not the client's to say,
        and stay.
        """
        said: dict[str, Any] = {} if state is None else {"state": state.value}
        said |= {} if name is None else {"name": name}
        said |= {} if parent_id is None else {"parent_id": parent_id}
        if state in (RunState.QUEUED, RunState.RUNNING):
            said["ended_at"] = None
        if ended_at is not None:
            said["ended_at"] = ended_at
        if said:
            tx.execute(update(t.runs).where(t.runs.c.id == run_id, t.runs.c.holder.is_(None)).values(said))

    def mark_deleted(self, tx: Tx, run_id: RunId, *, deleted: bool) -> None:
        mark = tx.now_ms if deleted else None
        tx.execute(update(t.runs).where(t.runs.c.id == run_id).values(deleted_at=mark))

    def run(self, run_id: RunId, tx: Tx | None = None) -> Run:
        with self._db.read(tx) as conn:
            found = queries.run(conn, run_id)
        if found is None:
            raise RunNotFound(f"There is no run {run_id!r}.", hint="noria runs list")
        return found

    def resolve_run(self, project_id: ProjectId, text: str) -> Run:
        """A run of this project by its id or by the beginning of it.

        Raises:
            RunNotFound: there is none, or several begin so.
        """
        with self._db.read() as conn:
            found = queries.runs_like(conn, project_id, text, 2)
        if len(found) > 1:
            raise RunNotFound(f"Several runs begin with {text!r}.", hint="Write more digits: noria runs list")
        if not found:
            raise RunNotFound(f"There is no run {text!r:.60}.", hint="noria runs list")
        return self.run(found[0])

    def runs_by_ids(self, ids: Iterable[RunId]) -> dict[RunId, Run]:
        with self._db.read() as conn:
            return queries.runs_by_ids(conn, ids)

    def list_runs(
        self,
        project_id: ProjectId,
        *,
        kinds: list[str] | None = None,
        name: str | None = None,
        parent_id: RunId | None = None,
        states: list[RunState] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Run]:
        """Newest first."""
        before = pair_position(after)
        with self._db.read() as conn:
            found = queries.runs(
                conn,
                project_id,
                kinds=kinds,
                name=name,
                parent_id=parent_id,
                states=states,
                before=before,
                limit=check_limit(limit),
            )
        more = len(found) == limit
        return Page(items=found, next=token([found[-1].started_at, found[-1].id]) if more else None)

    def heartbeat(self) -> None:
        """Says that this process lives; called at least every third of a lease while runs are open."""
        with self._db.write() as tx:
            queries.extend_run_leases(tx.conn, self.holder, tx.now_ms + RUN_LEASE)

    def reap(self) -> list[RunId]:
        """Marks the runs of dead processes as lost; nothing stays running (promise 5)."""
        with self._db.read() as conn:
            if not queries.expired_runs(conn, self._clock.now_ms()):
                return []
        with self._db.write() as tx:
            lost = queries.expired_runs(tx.conn, tx.now_ms)
            error: dict[str, Any] = {
                "code": "lost",
                "message": "The process that ran it died.",
                "hint": "Run it again.",
            }
            for run_id in lost:
                values: dict[str, Any] = {
                    "ended_at": tx.now_ms,
                    "error": error,
                    "lease_until": None,
                }
                queries.move_run(tx.conn, run_id, RunState.LOST, fence=None, values=values, take=True)
        return lost

    # ---- events

    def list_events(
        self,
        project_id: ProjectId,
        *,
        types: list[str] | None = None,
        subject: str | None = None,
        after: int = 0,
        limit: int = 100,
        newest: bool = False,
    ) -> list[Event]:
        """Those after the event with the number ``after``: the oldest of them first, or the newest."""
        with self._db.read() as conn:
            return queries.events(conn, project_id, types, subject, after, check_limit(limit), newest)

    # ---- edges

    def link(self, tx: Tx, run_id: RunId, version_id: VersionId, direction: Direction, slot: str = "") -> None:
        self.link_all(tx, run_id, [(version_id, direction, slot)])

    def link_all(self, tx: Tx, run_id: RunId, links: Iterable[tuple[VersionId, Direction, str]]) -> None:
        """Several edges of one run at once."""
        rows = [{"run_id": run_id, "version_id": v, "direction": d.value, "slot": slot} for v, d, slot in links]
        tx.insert_new_many(t.edges, rows)

    def unlink(
        self, tx: Tx, run_id: RunId, direction: Direction, slot: str, *, besides: VersionId | None = None
    ) -> None:
        """Takes the edges of a slot away, where a client says that they are not so."""
        c = t.edges.c
        where = [c.run_id == run_id, c.direction == direction.value, c.slot == slot]
        tx.execute(delete(t.edges).where(*where, *(() if besides is None else (c.version_id != besides,))))

    def edges(self, run_id: RunId, tx: Tx | None = None) -> list[Edge]:
        with self._db.read(tx) as conn:
            return queries.edges_of_runs(conn, [run_id])
