"""Paths or rows are erased from all history of a repository, and their bytes from the store.

Commits and versions keep their ids and digests, so that history and lineage stay; their layouts are replaced by ones
without what was erased, and each version says which erasures touched it. The store is collected until no copy is left
that nothing else needs. It may be killed anywhere: the same command goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, delete, select, update

from noria.assets import Changes
from noria.assets import tables as at
from noria.assets.gc import GarbageCollector
from noria.assets.records import Direction
from noria.base.actor import Actor
from noria.base.clock import Clock
from noria.base.errors import Invalid
from noria.base.faults import Faults
from noria.base.once import Once
from noria.data import erased
from noria.data import tables as t
from noria.data.records import Repository, RepositoryKind
from noria.data.service.care.redaction import Pass, Pattern, Redacting
from noria.data.statcache import StatCache
from noria.db import Database
from noria.store import ObjectStore

_VERB: Final = "data.purge"
_SHOWN: Final = 50
_PASSES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Erase:
    """What is to be erased: one of the three.

    Attributes:
        path: glob of files; ``*`` crosses folders, and a folder's name means all that lies in it.
        rows: a condition in SQL, what stands after WHERE.
        key: column -> value, as text.
    """

    path: str | None = None
    rows: str | None = None
    key: Mapping[str, str] = field(default_factory=dict[str, str])

    def pattern(self, repository: Repository) -> Pattern:
        """What it means in this repository.

        Raises:
            Invalid: not exactly one of the three, or one that does not fit the repository.
        """
        if sum((self.path is not None, self.rows is not None, bool(self.key))) != 1:
            raise Invalid("Say what to erase.", hint="--path GLOB for files; --rows SQL or --key COLUMN=VALUE for rows")
        files = repository.kind == RepositoryKind.FILES
        if files != (self.path is not None):
            what, how = ("files", "--path GLOB") if files else ("rows", "--rows SQL or --key COLUMN=VALUE")
            raise Invalid(f"{repository.name} holds {what}.", hint=f"Say which: {how}")
        if self.path is not None:
            if not self.path.strip("/"):
                raise Invalid("An empty pattern fits no file.", hint="--path 'people/alice/*'")
            return Pattern(path=self.path)
        from noria.data.rows.redact import Selection

        return Pattern(rows=Selection(self.rows, self.key or None))

    def stated(self, pattern: Pattern) -> dict[str, Any]:
        """What is kept of it: a pattern of paths as it is; of rows the columns, and a digest instead of values."""
        if pattern.rows is None:
            return {"path": self.path}
        return {"columns": pattern.rows.columns, "digest": erased.digest_of(self.rows, self.key)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What an erasure did, or would do.

    Attributes:
        number: of the erasure; 0 for a look.
        paths: distinct paths. rows: stored rows, of all versions. commits, versions: that held them.
        batches: refused batches of which rows were taken.
        undecided: rows of them of which it cannot be told whether they are meant, and that are erased too: lines that
            are no rows, values that do not fit the table, batches without the columns, lines that were set aside with
            a text of the condition in another column.
        objects: of the store, that held them; shared: those that something else needs, and that stay.
        freed: bytes of the files that were deleted.
        unseen: versions of a table that lack the columns, whose rows were therefore not looked at.
        done: no copy is left in the store that nothing else needs; else writers of before are still at work, and the
            same command again finishes it.
        elsewhere: what else may hold a copy.
    """

    number: int
    repository: str
    paths: int = 0
    rows: int = 0
    commits: int = 0
    versions: int = 0
    batches: int = 0
    undecided: int = 0
    objects: int = 0
    shared: int = 0
    freed: int = 0
    unseen: int = 0
    done: bool = False
    elsewhere: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """The record of an erasure. It never says what was erased, but for the pattern of the paths."""

    number: int
    repository: str
    what: dict[str, Any]
    reason: str
    actor: str
    state: str
    counts: dict[str, Any]
    created_at: int
    done_at: int | None


Rebuild = Callable[[Repository], int]
"""Fills what a later room keeps of a table anew, from its head."""


class Purging:
    """Erases. One per workspace.

    Args:
        rebuild: for tables, the online store.
        cache: the folder of values that can be made again.
    """

    def __init__(
        self,
        db: Database,
        changes: Changes,
        gc: GarbageCollector,
        redacting: Redacting,
        store: ObjectStore,
        clock: Clock,
        faults: Faults,
        rebuild: Rebuild,
        cache: Path,
    ) -> None:
        self._db = db
        self._changes = changes
        self._gc = gc
        self._redacting = redacting
        self._store = store
        self._clock = clock
        self._faults = faults
        self._rebuild = rebuild
        self._cache = cache

    def look(self, repository: Repository, what: Erase, step: Callable[..., None]) -> Erased:
        """What an erasure would take out; changes nothing."""
        pattern = what.pattern(repository)
        self._redacting.try_out(repository, pattern)
        found = self._redacting.look(repository, pattern, step)
        return self._erased(0, repository, found, done=False, freed=0, shared=0)

    def erase(
        self,
        repository: Repository,
        what: Erase,
        *,
        reason: str,
        actor: Actor,
        wait: float,
        once: Once | None,
        step: Callable[..., None],
    ) -> Erased:
        """Erases from all history. See the module.

        Args:
            wait: seconds to wait for writers that began before; they may be carrying something of it over.
        """
        earlier = self._changes.answered(_VERB, repository.project_id, once)
        if earlier is not None:
            return Erased(**earlier)
        pattern = what.pattern(repository)
        if not reason.strip():
            raise Invalid("An erasure needs a reason; it is kept.", hint="--reason 'request 17 of a person'")
        self._redacting.try_out(repository, pattern)
        number, again = self._begin(repository, what.stated(pattern), reason, actor)
        until = self._clock.now_ms() + wait * 1000
        total, freed = Pass(), 0
        for passed in range(_PASSES):
            try:
                found = self._redacting.redact(repository, pattern, number, step)
            except Invalid:  # a condition that fails only at a value
                if not passed and not again:
                    self._withdraw(repository, number, actor)
                raise
            _add(total, found)
            self._faults.at("purge.collect")
            epoch = self._gc.epoch()
            left = max(0.0, (until - self._clock.now_ms()) / 1000)
            collected = self._gc.run(erase=total.objects, thorough=again, wait=left, advance=step)
            freed += collected.removed_bytes
            quiet = self._gc.quiet(epoch, max(0.0, (until - self._clock.now_ms()) / 1000))
            if quiet and not collected.waiting and self._redacting.look(repository, pattern, step).nothing:
                break
            if self._clock.now_ms() >= until:
                break
        self._forget_caches(total)
        if repository.kind == RepositoryKind.TABLE:
            self._rebuild(repository)
        self._db.vacuum()
        live = self._gc.living(total.objects, step)
        gone = total.objects - live
        clean = self._redacting.look(repository, pattern, step).nothing and not self._held(gone)
        done = clean and self._gc.quiet(self._gc.epoch(), 0)
        made = self._erased(number, repository, total, done=done, freed=freed, shared=len(live))
        return self._end(repository, made, once, actor)

    def erasures(self, repository: str | None, project_id: int) -> list[Erasure]:
        """The record of what was erased, newest first."""
        c = t.erasures.c
        found = select(t.erasures).where(c.project_id == project_id).order_by(c.id.desc())
        if repository is not None:
            found = found.where(c.repository == repository)
        with self._db.read() as conn:
            return [_erasure(row) for row in conn.execute(found)]

    # ---- the record

    def _begin(self, repository: Repository, stated: dict[str, Any], reason: str, actor: Actor) -> tuple[int, bool]:
        """(number of the erasure, whether it was begun before and did not end)."""
        c = t.erasures.c
        open_ones = select(t.erasures).where(
            c.project_id == repository.project_id, c.repository == repository.name, c.state == "running"
        )
        with self._changes.begin(_VERB, repository.project_id, actor) as change:
            for row in change.tx.execute(open_ones.order_by(c.id)):
                if row.what == stated:
                    change.note(repository.name, erasure=row.id, again=True)
                    return int(row.id), True
            row = {"project_id": repository.project_id, "repository": repository.name, "what": stated}
            more = {"reason": reason.strip(), "actor": actor.name, "state": "running", "counts": {}}
            number = change.tx.insert(t.erasures, {**row, **more, "created_at": change.tx.now_ms})
            change.note(repository.name, erasure=number, what=stated, reason=reason.strip())
            change.event("data.purging", repository.name, {"erasure": number})
        return number, False

    def _withdraw(self, repository: Repository, number: int, actor: Actor) -> None:
        """Takes back an erasure that changed nothing, and that the same command could not end."""
        with self._changes.begin(_VERB, repository.project_id, actor) as change:
            change.tx.execute(delete(t.erasures).where(t.erasures.c.id == number))
            change.note(repository.name, erasure=number, withdrawn=True)

    def _end(self, repository: Repository, made: Erased, once: Once | None, actor: Actor) -> Erased:
        counts = {name: value for name, value in asdict(made).items() if isinstance(value, int)}
        with self._changes.begin(_VERB, repository.project_id, actor, once=once) as change:
            before = change.tx.execute(select(t.erasures.c.counts).where(t.erasures.c.id == made.number)).scalar_one()
            kept = {name: max(value, before.get(name, 0)) for name, value in counts.items()}
            values: dict[str, Any] = {"counts": kept}
            if made.done:
                values |= {"state": "done", "done_at": change.tx.now_ms}
            change.tx.execute(update(t.erasures).where(t.erasures.c.id == made.number).values(**values))
            change.note(repository.name, erasure=made.number, done=made.done, counts=kept)
            if made.done:
                change.event("data.purged", repository.name, {"erasure": made.number})
            change.answer(asdict(made))
        return made

    def _erased(
        self, number: int, repository: Repository, found: Pass, *, done: bool, freed: int, shared: int
    ) -> Erased:
        with self._db.read() as conn:
            elsewhere = [*_elsewhere(conn, repository, found.versions), *self._places(repository)]
        return Erased(
            number=number,
            repository=repository.name,
            paths=len(found.paths),
            rows=found.rows,
            commits=found.commits,
            versions=len(found.versions),
            batches=found.batches,
            undecided=found.undecided,
            objects=len(found.objects),
            shared=shared,
            freed=freed,
            unseen=found.unseen,
            done=done,
            elsewhere=elsewhere,
        )

    # ---- what is left

    def _held(self, gone: set[bytes]) -> set[bytes]:
        """Objects that a pack still holds."""
        return gone - self._store.index.missing(list(gone))

    def _forget_caches(self, total: Pass) -> None:
        """Removes copies of this machine that can be made again."""
        names = {layout.hex for layout in total.replaced}
        for folder in ("values", "code", "rows"):
            for path in (self._cache / folder).glob("*") if names else ():
                if path.name.partition(".")[0] in names:
                    _remove(path)
        for path in (self._cache / "stat").glob("*") if names else ():
            if StatCache.load(path).root in names:
                path.unlink(missing_ok=True)

    def _places(self, repository: Repository) -> Iterable[str]:
        if repository.kind == RepositoryKind.TABLE:
            yield "errors and warnings of runs that collected rows: they show some values that were refused"
        aside = sum(1 for _ in self._store.source.list("damaged/"))
        if aside:
            yield f"{aside} damaged packs that a repair set aside, in damaged/ of the store: delete them by hand"
        yield "backups of the store and of the database, and folders that were checked out"


def _add(total: Pass, found: Pass) -> None:
    total.replaced |= found.replaced
    total.objects |= found.objects
    total.paths |= found.paths
    total.rows += found.rows
    total.batches += found.batches
    total.undecided += found.undecided
    total.unseen = max(total.unseen, found.unseen)
    total.commits += found.commits
    total.versions = sorted({*total.versions, *found.versions})


def _remove(path: Path) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _elsewhere(conn: Connection, repository: Repository, versions: list[int]) -> Iterable[str]:
    """What was made from the versions, and other workspaces that have them."""
    e, r, v = at.edges.c, at.runs.c, at.versions.c
    seen, pending, made, runs = set(versions), list(versions), dict[str, set[str]](), set[str]()
    while pending and len(seen) < 100_000:
        some, pending = pending[:500], pending[500:]
        read = select(e.run_id).where(e.version_id.in_(some), e.direction.in_([Direction.IN, Direction.REUSED]))
        fresh = [run for (run,) in conn.execute(read.distinct()) if run not in runs]
        runs.update(fresh)
        for start in range(0, len(fresh), 500):
            out = select(e.version_id, at.assets.c.kind, at.assets.c.name).join(at.versions, v.id == e.version_id)
            out = out.join(at.assets, at.assets.c.id == v.asset_id)
            out = out.where(e.run_id.in_(fresh[start : start + 500]), e.direction == Direction.OUT)
            for row in conn.execute(out):
                if row.version_id not in seen:
                    seen.add(row.version_id)
                    pending.append(row.version_id)
                    made.setdefault(row.kind, set()).add(row.name)
    if runs:
        shown = sorted(runs, reverse=True)[:_SHOWN]
        names = dict[str, str]()
        for row in conn.execute(select(r.id, r.kind, r.name).where(r.id.in_(shown))):
            names[row.id] = f"{row.kind} {row.name} ({row.id[:8]})"
        more = f" and {len(runs) - _SHOWN} more" if len(runs) > _SHOWN else ""
        yield f"{len(runs)} runs read it: {', '.join(names[run] for run in shown if run in names)}{more}"
    for kind in sorted(made):
        yield f"{kind} made from it: {', '.join(sorted(made[kind])[:_SHOWN])}"
    c = t.remotes.c
    for row in conn.execute(select(c.name, c.url).where(c.repository_id == repository.id)):
        yield f"the remote {row.name} ({row.url}): erase it there, too, and do not pull before"


def _erasure(row: Any) -> Erasure:
    return Erasure(
        number=row.id,
        repository=row.repository,
        what=row.what,
        reason=row.reason,
        actor=row.actor,
        state=row.state,
        counts=row.counts,
        created_at=row.created_at,
        done_at=row.done_at,
    )
