"""The verbs of tables: append, overwrite, delete, read, row diff."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import blake3
import msgspec
import polars as pl

from noria.assets import Change
from noria.assets.records import Content
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.ids import ProjectId, RunId
from noria.base.names import nearest
from noria.base.once import Once
from noria.data import queries
from noria.data.errors import HeadMoved, WrongRepositoryKind
from noria.data.records import MAIN, Commit, Repository, RepositoryKind
from noria.data.rows import Layout, RowsChange, RowsDiff, TableSchema, diff_layouts
from noria.data.rows import schema as schemas
from noria.data.rows.encoding import hash_rows, sum_hashes
from noria.data.rows.schema import KNOWN, SEQ
from noria.data.service.base import TRIES, Landing, LostRaceError
from noria.data.service.rowhistory import RowHistory, stats_of
from noria.store import Writer

if TYPE_CHECKING:
    from sqlalchemy import Connection

VERB = "data.append"
Rows: TypeAlias = "pl.DataFrame | Sequence[Mapping[str, Any]] | Any"
"""A Polars, pandas or Arrow table, or a list of dictionaries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One call of ``append_many``."""

    project_id: ProjectId
    batches: Mapping[str, tuple[Repository, Rows]]
    actor: Actor
    branch: str
    message: str
    mode: str
    expected: str | None
    meta: dict[str, Any]
    run_id: RunId | None
    source: str
    also: Callable[[Change], None] | None
    once: Once | None


class RowVerbs(RowHistory):
    def append(
        self,
        repository: Repository,
        rows: Rows,
        *,
        actor: Actor,
        branch: str = MAIN,
        message: str = "",
        mode: str = "append",
        expected: str | None = None,
        meta: dict[str, Any] | None = None,
        key: str | None = None,
        run_id: RunId | None = None,
        source: str = "",
        also: Callable[[Change], None] | None = None,
    ) -> Commit:
        """Commits rows; one commit for all of them, or none. Returns the head where nothing changed.

        Args:
            mode: ``append`` (rows with a known key replace the old ones), ``insert`` (they are dropped),
                ``overwrite`` or ``delete`` (by key).
            expected: the commit at which the branch has to be; without it a lost race is tried again.
            key: idempotency key.
            source: where the rows came from, for the report of a refused batch.
            also: runs inside the transaction of the commit, for what must land with it.

        Raises:
            ContractBroken: the rows do not keep the repository's contract; they lie in quarantine.
            HeadMoved: ``expected`` was given and the branch stands elsewhere.
        """
        batches = {repository.name: (repository, rows)}
        done = self.append_many(
            repository.project_id,
            batches,
            actor=actor,
            branch=branch,
            message=message,
            mode=mode,
            expected=expected,
            meta=meta,
            key=key,
            run_id=run_id,
            source=source,
            also=also,
        )
        return done[repository.name]

    def append_many(
        self,
        project_id: ProjectId,
        batches: Mapping[str, tuple[Repository, Rows]],
        *,
        actor: Actor,
        branch: str = MAIN,
        message: str = "",
        mode: str = "append",
        expected: str | None = None,
        meta: dict[str, Any] | None = None,
        key: str | None = None,
        run_id: RunId | None = None,
        source: str = "",
        also: Callable[[Change], None] | None = None,
    ) -> dict[str, Commit]:
        """Commits rows to several repositories in one transaction: all of them or none."""
        check_mode(mode)
        work = _Work(
            project_id=project_id,
            batches=batches,
            actor=actor,
            branch=branch,
            message=message,
            mode=mode,
            expected=expected,
            meta=meta or {},
            run_id=run_id,
            source=source,
            also=also,
            once=None if key is None else Once(key, _request(batches, mode, branch)),
        )
        for repository, _ in batches.values():
            if repository.kind != RepositoryKind.TABLE:
                raise WrongRepositoryKind(repository.name, repository.kind.value, RepositoryKind.TABLE.value)
        for attempt in range(TRIES):
            try:
                with self._alone(work):
                    return self._try(work)
            except LostRaceError:
                self._s.clock.sleep(random.uniform(0.001, 0.01) * (attempt + 1))  # noqa: S311 - jitter, not a secret
        raise HeadMoved(next(iter(batches)), branch, expected, None)

    @contextmanager
    def _alone(self, work: _Work) -> Generator[None]:
        """One writer of this process at a time in each repository; other processes are met by compare-and-swap."""
        with ExitStack() as stack:
            for repository_id in sorted(repository.id for repository, _ in work.batches.values()):
                stack.enter_context(self._locks[repository_id])
            yield

    def _try(self, work: _Work) -> dict[str, Commit]:
        earlier = self._s.changes.answered(VERB, work.project_id, work.once)
        if earlier is not None:  # before anything is checked: a retry gets its answer, whatever has changed since
            with self._db.read() as conn:
                return _answered(conn, earlier)
        landings: dict[str, Landing] = {}
        same: dict[str, Commit] = {}
        heads = self._heads(work)
        event_ms = self._s.event_clock.event_ms(work.project_id)
        frames = {name: self._frame(repository, rows, work.mode, self._layout_of(heads[name]))
                  for name, (repository, rows) in work.batches.items()}  # fmt: skip
        with self._s.sessions.writer() as writer:
            for name, (repository, _) in work.batches.items():
                head, frame = heads[name], frames[name]
                if work.mode != "delete":
                    self._keep_contract(repository, work.branch, frame, work.actor, work.source, event_ms, work.mode)
                change = self._change(writer, repository, head, frame, work.mode, event_ms)
                if not change.nothing:
                    how = (work.actor, work.source, event_ms, work.mode)
                    self._keep_whole(repository, work.branch, frame, head, change.layout, *how)
                digest = change.layout.digest
                if head is not None and (change.nothing or digest == head.digest):
                    same[name] = head
                else:
                    landings[name] = self._landing(writer, work, repository, head, change, digest, event_ms)
            if not landings and work.once is None:
                return same
            packs = writer.flush()
            landing = self._s.changes.begin(VERB, work.project_id, work.actor, once=work.once)
            with self._naming(packs), landing as change:
                if change.earlier is not None:
                    return _answered(change.tx.conn, change.earlier)
                self._s.sessions.seal(change.tx, packs)
                done = self._land_all(change, landings, same, work.run_id)
                if landings and work.also is not None:
                    work.also(change)
                return done

    def _heads(self, work: _Work) -> dict[str, Commit | None]:
        """The heads of all tables, of one moment.

        Raises:
            HeadMoved: a branch is not where the caller expects it.
        """
        with self._db.read() as conn:
            found = {name: queries.head(conn, repository.id, work.branch)
                     for name, (repository, _) in work.batches.items()}  # fmt: skip
        for name, (there, head) in found.items():
            if not there:
                self.head(work.batches[name][0], work.branch)  # says which branches there are
            if work.expected is not None and work.expected != (None if head is None else head.id):
                raise HeadMoved(name, work.branch, work.expected, None if head is None else head.id)
        return {name: head for name, (_, head) in found.items()}

    def _landing(
        self,
        writer: Writer,
        work: _Work,
        repository: Repository,
        head: Commit | None,
        change: RowsChange,
        digest: Digest,
        event_ms: int,
    ) -> Landing:
        told = {"actor": work.actor, "message": work.message, "meta": work.meta, "stats": stats_of(change)}
        self._s.hooks.before(repository, work.branch, head, change.layout_id, change, merge=False, **told)
        return self._prepare(
            writer,
            repository,
            work.branch,
            head,
            digest=digest,
            content=Content.TABLE,
            layout=change.layout_id,
            size=change.layout.size,
            rows=change.layout.rows,
            actor=work.actor,
            message=work.message,
            stats=stats_of(change),
            meta=work.meta,
            event_ms=event_ms,
            change=change,
        )

    def _land_all(
        self, change: Change, landings: dict[str, Landing], same: dict[str, Commit], run_id: RunId | None
    ) -> dict[str, Commit]:
        done = dict(same)
        for name, landing in landings.items():
            commit = self._land(change, landing, run_id)
            if commit is None:
                raise LostRaceError
            done[name] = commit
            self._kept(change, landing.repository, landing.change.added if landing.change is not None else 0)
        change.note(", ".join(landings or same), rows={name: landing.stats for name, landing in landings.items()})
        change.answer({"commits": {name: commit.id for name, commit in done.items()}})
        return done

    def _change(
        self,
        writer: Writer,
        repository: Repository,
        head: Commit | None,
        frame: pl.DataFrame,
        mode: str,
        event_ms: int,
    ) -> RowsChange:
        seq = 1 if head is None else head.generation + 1
        return self._written(writer, repository, self._layout_of(head), frame, mode, seq, event_ms)

    def _layout_of(self, head: Commit | None) -> Layout | None:
        return None if head is None else self.layout(head)

    def _written(
        self,
        writer: Writer,
        repository: Repository,
        base: Layout | None,
        frame: pl.DataFrame,
        mode: str,
        seq: int,
        event_ms: int,
    ) -> RowsChange:
        known_us = event_ms * 1000
        if base is None or mode == "overwrite":
            schema = self._schema(repository, frame)
            return self.writer.replace(writer, schema, frame, seq=seq, known_us=known_us, base=base)
        if mode == "delete":
            return self.writer.delete(writer, base, frame)
        return self.writer.append(writer, base, frame, seq=seq, known_us=known_us, keep=mode == "insert")

    # ---- reading

    def schema(self, repository: Repository, ref: str = MAIN) -> TableSchema | None:
        """The schema of a table, None while it has no commit."""
        head = self.head(repository, ref) if ref == MAIN else self.resolve(repository, ref)
        return None if head is None else self.layout(head).schema

    def read(
        self,
        repository: Repository,
        ref: str = MAIN,
        *,
        columns: Sequence[str] | None = None,
        hidden: bool = False,
        after_seq: int | None = None,
        times: tuple[int | None, int | None] = (None, None),
    ) -> pl.DataFrame:
        """The rows of a table at a commit."""
        if repository.kind != RepositoryKind.TABLE:
            self.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        layout = self.layout(self.resolve(repository, ref))
        for name in columns or ():
            if name not in layout.schema.names:
                hint = nearest(name, layout.schema.names) or f"Columns: {', '.join(layout.schema.names)}."
                raise Invalid(f"{repository.name} has no column {name!r}.", hint=hint)
        return self.reader.read(layout, columns=columns, hidden=hidden, after_seq=after_seq, times=times)

    def rows_with_keys(self, repository: Repository, ref: str, keys: pl.DataFrame) -> pl.DataFrame:
        """The rows of a table with these keys at a commit, hidden columns included, in no order that means anything."""
        return self.writer.rows_with_keys(self.layout(self.resolve(repository, ref)), keys)

    def diff_rows(
        self, repository: Repository, before: str, after: str
    ) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """(added, removed, changed) rows between two commits of a table; changed ones as they are after."""
        found = self.compare_rows(repository, before, after)
        hidden = [KNOWN, SEQ]
        return (
            found.added.drop(hidden, strict=False),
            found.removed.drop(hidden, strict=False),
            found.after.drop(hidden, strict=False),
        )

    def compare_rows(self, repository: Repository, before: str, after: str) -> RowsDiff:
        """How the columns and rows of a table differ between two commits; hidden columns included.

        Its cost follows the difference, not the table.
        """
        if repository.kind != RepositoryKind.TABLE:
            self.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        old, new = self.resolve(repository, before), self.resolve(repository, after)
        return diff_layouts(self.reader, self.layout(old), self.layout(new))

    # ---- what comes in

    def _schema(self, repository: Repository, frame: pl.DataFrame) -> TableSchema:
        return schemas.infer(frame, key=repository.key, time=repository.time, known=repository.known)

    def _frame(self, repository: Repository, rows: Rows, mode: str, base: Layout | None) -> pl.DataFrame:
        if isinstance(rows, list | tuple):
            return self._from_dicts(repository, rows, mode, base)
        return self._with_zones(repository, to_frame(rows))

    @staticmethod
    def _with_zones(repository: Repository, frame: pl.DataFrame) -> pl.DataFrame:
        """Event and known-since times are UTC microseconds; times without a zone are taken as UTC."""
        casts: list[pl.Expr] = []
        for name in (repository.time, repository.known):
            dtype = frame.schema.get(name or "")
            if name is not None and isinstance(dtype, pl.Datetime) and dtype != pl.Datetime("us", "UTC"):
                column = pl.col(name) if dtype.time_zone else pl.col(name).dt.replace_time_zone("UTC")
                casts.append(column.cast(pl.Datetime("us", "UTC")))
        return frame.with_columns(casts) if casts else frame

    def _from_dicts(self, repository: Repository, rows: Sequence[Any], mode: str, base: Layout | None) -> pl.DataFrame:
        """Rows of JSON. Texts become times where the table has times; every row names every column."""
        schema = None if base is None else base.schema
        if schema is None:
            contract = self.contract(repository)
            if contract is None:
                return self._with_zones(repository, to_frame(list(rows)))
            types = {name: schemas.polars_type(column.type) for name, column in contract.columns.items()}
        else:
            types = schema.polars()
        if mode == "delete":
            types = {name: types[name] for name in repository.key}
        names = types.keys()
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise Invalid(f"Row {number} is a {type(row).__name__}, not an object with columns.")
            if row.keys() != names:
                raise _wrong_columns(number, row, list(names))
        _check_exact(rows, types)
        reading = {
            n: pl.String() if d.is_temporal() and not isinstance(d, pl.Duration) else d for n, d in types.items()
        }
        try:
            frame = pl.DataFrame(rows, schema=reading, orient="row", strict=True)
        except (TypeError, pl.exceptions.PolarsError, OverflowError) as error:
            raise Invalid(
                f"A value does not fit its column's type: {str(error).splitlines()[0]:.300}",
                hint="Times are text like 2013-04-01T05:15:00Z; numbers are numbers.",
            ) from None
        columns = tuple(schemas.Column(name=n, type=schemas.type_name(d, n)) for n, d in types.items())
        return schemas.conform(frame, TableSchema(columns=columns))


def check_mode(mode: str) -> None:
    if mode not in ("append", "insert", "overwrite", "delete"):
        raise Invalid(f"{mode!r} is not a way to write rows.", hint="append, insert, overwrite or delete")


def _sum(rows: Rows) -> str:
    """What an idempotency key remembers of rows. Rows of JSON as they came; a frame by its canonical row hashes."""
    if isinstance(rows, list | tuple):
        return blake3.blake3(msgspec.json.encode(rows, enc_hook=str)).hexdigest()
    return hex(sum_hashes(hash_rows(to_frame(rows))))


def _request(batches: Mapping[str, tuple[Repository, Rows]], mode: str, branch: str) -> dict[str, Any]:
    return {"rows": {name: _sum(rows) for name, (_, rows) in batches.items()}, "mode": mode, "branch": branch}


def _answered(conn: Connection, earlier: Any) -> dict[str, Commit]:
    """The commits that a repeated request made the first time."""
    ids = earlier["commits"]
    found = {c.id: c for c in queries.commits_by_ids(conn, list(ids.values()))}
    return {name: found[commit_id] for name, commit_id in ids.items()}


def to_frame(rows: Any) -> pl.DataFrame:
    """A Polars frame from Polars, pandas, Arrow or a list of dictionaries."""
    if isinstance(rows, pl.LazyFrame):
        frame = rows.collect()
    elif isinstance(rows, pl.DataFrame):
        frame = rows
    else:
        module = type(rows).__module__.partition(".")[0]
        try:
            if module == "pandas":
                frame = pl.from_pandas(rows)
            elif hasattr(rows, "__arrow_c_stream__"):
                made = pl.from_arrow(rows)
                frame = made if isinstance(made, pl.DataFrame) else made.to_frame()
            else:
                frame = pl.DataFrame(rows, infer_schema_length=None)
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise Invalid(
                f"A {type(rows).__name__} is not a table: {str(error).splitlines()[0]:.200}",
                hint="Pass a Polars, pandas or Arrow table, or a list of dictionaries.",
            ) from None
    assert isinstance(frame, pl.DataFrame)
    texts = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Categorical | pl.Enum)]
    return frame.with_columns(pl.col(texts).cast(pl.String)) if texts else frame


def _check_exact(rows: Sequence[Mapping[str, Any]], types: Mapping[str, pl.DataType]) -> None:
    """Refuses 1.5 for a whole number and 7 for a truth value: Polars would make 1 and true of them, silently."""
    for name, dtype in types.items():
        if not (dtype.is_integer() or dtype == pl.Boolean):
            continue
        for number, row in enumerate(rows):
            value = row[name]
            whole = not isinstance(value, float) or value.is_integer()
            if value is not None and not (isinstance(value, bool) if dtype == pl.Boolean else whole):
                raise Invalid(
                    f"A value does not fit its column's type: {name} of row {number} is {value!r}, and {name} holds "
                    f"{'true or false' if dtype == pl.Boolean else 'whole numbers'}.",
                    hint=f"noria data show NAME   tells the types. Send {name} as such, or null.",
                    details={"row": number, "column": name},
                )


def _wrong_columns(number: int, row: Mapping[str, Any], names: list[str]) -> Invalid:
    missing = [n for n in names if n not in row]
    unknown = [n for n in row if n not in names]
    parts = ([f"missing {', '.join(missing)}"] if missing else []) + (
        [f"unknown {', '.join(unknown)}"] if unknown else []
    )
    return Invalid(
        f"Row {number} does not have the table's columns: {'; '.join(parts)}.",
        hint=nearest(unknown[0], missing or names) if unknown else f"Columns: {', '.join(names)}.",
        details={"row": number, "missing": missing, "unknown": unknown},
    )
