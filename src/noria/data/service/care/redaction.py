"""One pass over everything that a repository names: what was asked for is left out of what replaces it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update

from noria.assets import tables as at
from noria.assets.reach import Object, Reach
from noria.assets.sessions import StoreSessions, retire
from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.faults import Faults
from noria.data import tables as t
from noria.data.erased import fits
from noria.data.records import Repository, RepositoryKind
from noria.data.roots import layout_kind_of
from noria.db import Database, Tx
from noria.store import Entry, Kind, PackInfo, Writer, tree

if TYPE_CHECKING:
    import polars as pl

    from noria.data.rows import TableReader
    from noria.data.rows.redact import Redaction, Selection


@dataclass(slots=True)
class Pass:
    """What one pass found.

    Attributes:
        replaced: layout -> the one without what was asked for.
        objects: that hold something of it: contents, and what names them.
        found: distinct paths, or stored rows. batches: refused batches that were changed. unseen: tables without the
            columns.
        undecided: rows of refused batches of which it cannot be told whether they are meant.
    """

    replaced: dict[Digest, Digest] = field(default_factory=dict[Digest, Digest])
    objects: set[bytes] = field(default_factory=set[bytes])
    paths: set[str] = field(default_factory=set[str])
    rows: int = 0
    batches: int = 0
    undecided: int = 0
    unseen: int = 0
    commits: int = 0
    versions: list[int] = field(default_factory=list[int])

    @property
    def nothing(self) -> bool:
        return not self.replaced and not self.batches


class Redacting:
    """Replaces layouts. Commits and versions keep their ids; their layouts leave out what was erased."""

    def __init__(
        self, db: Database, sessions: StoreSessions, reach: Reach, faults: Faults, reader: Callable[[], TableReader]
    ) -> None:
        self._db = db
        self._sessions = sessions
        self._store = sessions.store
        self._reach = reach
        self._faults = faults
        self._reader = reader

    def try_out(self, repository: Repository, what: Pattern) -> None:
        """Whether the condition can be evaluated at all.

        Raises:
            Invalid: it can not, or no version of the table has the columns that it names.
        """
        if what.rows is None:
            return
        import polars as pl

        shapes = self._shapes(repository)
        forms = [shape for shape in shapes if set(what.rows.columns) <= shape.keys()]
        for form in forms:
            what.rows.mask(pl.DataFrame(schema=form))
        if shapes and not forms:
            known = sorted({name for shape in shapes for name in shape})
            raise Invalid(
                f"No version of {repository.name} has the columns {', '.join(what.rows.columns)}.",
                hint=f"Columns: {', '.join(known)}.",
            )

    def _shapes(self, repository: Repository) -> list[dict[str, pl.DataType]]:
        """The columns and types that the table has had; where there is no version, of contracts or refused batches."""
        import polars as pl

        from noria.data import contract as contracts
        from noria.data.rows.layout import load_layout

        found = [load_layout(self._store, layout).schema.polars() for layout in self._named(repository)]
        if not found:
            with self._db.read() as conn:
                specs = conn.execute(
                    select(t.contracts.c.spec).where(t.contracts.c.repository_id == repository.id)
                ).all()
            found = [contracts.parse(row.spec).types for row in specs]
        if not found:
            raws = (self._refused(row) for row in self._quarantined(repository))
            found = [dict(pl.read_parquet_schema(io.BytesIO(raw))) for raw in raws if raw is not None]
        return list({repr(sorted(shape.items(), key=str)): shape for shape in found}.values())

    def look(self, repository: Repository, what: Pattern, step: Callable[..., None]) -> Pass:
        """What a pass would take out; changes nothing."""
        done = Pass()
        self._layouts(repository, what, None, done, lambda: None, step)
        for batch in self._batches(repository, what, done):
            _note_batch(done, batch)
        with self._db.read() as conn:
            self._count(conn, repository, done)
        return done

    def redact(self, repository: Repository, what: Pattern, erasure: int, step: Callable[..., None]) -> Pass:
        """One pass: new objects first, then one transaction that puts all of them in place."""
        done, made = Pass(), list[PackInfo]()
        with self._sessions.writer() as writer:
            self._layouts(repository, what, writer, done, lambda: made.extend(writer.flush()), step)
            batches = list(self._batches(repository, what, done))
            fresh = {b.id: None if b.left is None else writer.put(Kind.FRAGMENT, b.left).hex for b in batches}
            made.extend(writer.flush())
            self._faults.at("purge.layouts")
            with self._db.write() as tx:
                self._sessions.seal(tx, made)
                self._count(tx.conn, repository, done)
                self._replace(tx, repository, done, erasure)
                for batch in batches:
                    self._replace_batch(tx, batch.id, fresh[batch.id], batch.gone)
                    _note_batch(done, batch)
                self._faults.at("purge.replaced")
        return done

    # ---- what is named

    def _layouts(
        self,
        repository: Repository,
        what: Pattern,
        writer: Writer | None,
        done: Pass,
        flush: Callable[[], None],
        step: Callable[..., None],
    ) -> None:
        named = self._named(repository)
        if repository.kind == RepositoryKind.FILES:
            assert what.path is not None
            found = _Paths(self._store, what.path)
            for layout in named:
                step()
                matches = found.below(Kind.NODE, layout.raw)
                if matches:
                    done.paths.update(matches)
                    done.replaced[layout] = self._without(writer, layout, matches)
            done.objects |= found.holders
            done.objects |= self._contents(found.contents)
            return
        from noria.data.rows.layout import load_layout
        from noria.data.rows.redact import Redaction, redact, search

        assert what.rows is not None
        taken = Redaction()
        for layout in named:
            step()
            search(self._reader(), load_layout(self._store, layout), what.rows, taken)
        for layout in named if taken.masks else ():
            step()
            made = redact(self._reader(), writer, layout, load_layout(self._store, layout), taken, flush)
            if made is not None:
                done.replaced[layout] = made
        self._note(done, taken)

    @staticmethod
    def _note(done: Pass, taken: Redaction) -> None:
        done.rows, done.unseen = taken.rows, taken.unseen
        done.objects |= taken.objects

    def _named(self, repository: Repository) -> list[Digest]:
        """Every layout of commits, versions and open commits, each once."""
        v, c, d = at.versions.c, t.commits.c, t.drafts.c
        with self._db.read() as conn:
            commits = select(c.layout).where(c.repository_id == repository.id).order_by(c.generation)
            drafts = select(d.layout).where(
                d.repository_id == repository.id, d.state == "open", d.layout.is_not(None)
            )  # the others keep nothing alive: their objects may be gone
            versions = select(v.layout).where(v.asset_id == repository.asset_id, v.gone_at.is_(None))
            found = [row for query in (commits, drafts, versions) for (row,) in conn.execute(query)]
        return [Digest.parse(text) for text in dict.fromkeys(found)]

    def _without(self, writer: Writer | None, root: Digest, paths: list[str]) -> Digest:
        if writer is None:
            return root
        changes: dict[str, Entry | None] = dict.fromkeys(paths)
        return tree.apply(self._store, writer, root, changes)

    def _contents(self, roots: Iterable[Object]) -> set[bytes]:
        """The chunks and recipes of files."""
        found: set[bytes] = set()
        for root in roots:
            for _ in self._reach.walk(root, found):
                continue
        return found

    # ---- refused batches

    def _batches(self, repository: Repository, what: Pattern, done: Pass) -> Iterable[_Refused]:
        """Refused batches of which rows are taken out.

        A row stays in quarantine only where the condition can be evaluated on it, and is not met: what is no row, has
        values that do not fit the table, or lacks the columns is taken out too; of lines that were set aside also what
        has a text of the condition in another column. Of a batch whose rows were collected
        nobody can tell which they were; no rows are taken out of it, and only its report is stripped.
        """
        if what.rows is None:
            return
        from noria.data.collectors.sift import REST
        from noria.data.rows.redact import redact_refused

        rows = self._quarantined(repository)
        shapes = self._shapes(repository) if rows else []
        forms = [
            {name: shape[name] for name in what.rows.columns}
            for shape in shapes
            if set(what.rows.columns) <= shape.keys()
        ]
        for row in rows:
            raw = self._refused(row)
            if raw is None:
                if _plain(row.report) != row.report:
                    yield _Refused(row.id, None, 0, 0)
                continue  # accepted or dropped, and collected since
            left, meant, undecided = redact_refused(raw, what.rows, forms, REST, torn=row.contract == 0)
            if meant or undecided:
                done.objects.add(bytes.fromhex(row.object))
                yield _Refused(row.id, left, meant, undecided)

    def _quarantined(self, repository: Repository) -> list[Any]:
        q = t.quarantine.c
        with self._db.read() as conn:
            return list(
                conn.execute(select(q.id, q.object, q.report, q.contract).where(q.repository_id == repository.id)).all()
            )

    def _refused(self, row: Any) -> bytes | None:
        """The rows of a batch, as they are stored; None where they were collected."""
        oid = Digest(bytes.fromhex(row.object))
        return self._store.get(oid, Kind.FRAGMENT) if self._store.has(oid) else None

    @staticmethod
    def _replace_batch(tx: Tx, number: int, name: str | None, count: int) -> None:
        q = t.quarantine.c
        row = tx.execute(select(t.quarantine).where(q.id == number)).one_or_none()
        if row is None:
            return
        report = _plain(row.report)
        if count == 0:
            tx.execute(update(t.quarantine).where(q.id == number).values(report=report))
            return
        same = select(q.id).where(q.repository_id == row.repository_id, q.contract == row.contract, q.object == name)
        if name is None or tx.execute(same.where(q.id != number)).first() is not None:
            tx.execute(delete(t.quarantine).where(q.id == number))
            return
        tx.execute(update(t.quarantine).where(q.id == number).values(object=name, rows=row.rows - count, report=report))

    # ---- in place

    def _count(self, conn: Any, repository: Repository, done: Pass) -> None:
        names = {str(layout) for layout in done.replaced}
        c, v = t.commits.c, at.versions.c
        commits = conn.execute(select(c.version_id, c.layout).where(c.repository_id == repository.id)).all()
        versions = conn.execute(select(v.id, v.layout).where(v.asset_id == repository.asset_id)).all()
        touched = [row.version_id for row in commits if row.layout in names]
        done.commits = len(touched)
        done.versions = sorted({*touched, *(row.id for row in versions if row.layout in names)})

    def _replace(self, tx: Tx, repository: Repository, done: Pass, erasure: int) -> None:
        kind, c, v, d = layout_kind_of(repository.kind), t.commits.c, at.versions.c, t.drafts.c
        for before, after in done.replaced.items():
            was, now = str(before), str(after)
            of_commits = (c.repository_id == repository.id, c.layout == was)
            tx.execute(update(t.commits).where(*of_commits).values(layout=now))
            tx.execute(update(at.versions).where(v.asset_id == repository.asset_id, v.layout == was).values(layout=now))
            of_drafts = (d.repository_id == repository.id, d.state == "open", d.layout == was)
            tx.execute(update(t.drafts).where(*of_drafts).values(layout=now, number=d.number + 1))
        for start in range(0, len(done.versions), 500):
            some = done.versions[start : start + 500]
            for row in tx.execute(select(v.id, v.meta).where(v.id.in_(some))).all():
                erased = sorted({*row.meta.get("erased", []), erasure})
                tx.execute(update(at.versions).where(v.id == row.id).values(meta={**row.meta, "erased": erased}))
        retire(tx, [(kind, layout) for layout in done.replaced])


@dataclass(frozen=True, slots=True)
class _Refused:
    """A refused batch: what is left of it, how many rows are meant, and of how many that cannot be told."""

    id: int
    left: bytes | None
    meant: int
    undecided: int

    @property
    def gone(self) -> int:
        return self.meant + self.undecided


def _note_batch(done: Pass, batch: _Refused) -> None:
    done.rows += batch.meant
    done.undecided += batch.undecided
    done.batches += 1


def _plain(report: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings without the rows and values that they show."""
    return [{**finding, "rows": [], "message": f"{finding['count']} rows"} for finding in report]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What is to be erased: paths that fit a glob, or rows."""

    path: str | None = None
    rows: Selection | None = None


class _Paths:
    """The paths of trees that fit a glob; each node and range is looked at once."""

    def __init__(self, store: Any, pattern: str) -> None:
        self._store = store
        self._pattern = pattern
        self._known: dict[bytes, list[str]] = {}
        self.holders: set[bytes] = set()
        """Nodes and ranges that name such a path; small files lie in them."""
        self.contents: set[Object] = set()

    def below(self, kind: Kind, oid: bytes) -> list[str]:
        known = self._known.get(oid)
        if known is None:
            if kind == Kind.NODE:
                known = [p for k, child in tree.children(self._store, Digest(oid)) for p in self.below(k, child)]
            else:
                known = []
                for path, content in tree.paths(self._store, Digest(oid)):
                    if fits(path, self._pattern):
                        known.append(path)
                        if content is not None:
                            self.contents.add(content)
            self._known[oid] = known
            if known:
                self.holders.add(oid)
        return known
