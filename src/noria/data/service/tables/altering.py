"""The verbs that change how a table is kept: its columns, its key, its files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from noria.assets import Change
from noria.base.actor import Actor
from noria.base.errors import Conflict, Invalid
from noria.base.ids import RunId
from noria.base.once import Once
from noria.data import contract as contracts
from noria.data import queries
from noria.data.contract import Contract
from noria.data.errors import HeadMoved
from noria.data.records import MAIN, Commit, Repository, RepositoryKind
from noria.data.rows import Layout, RowsChange
from noria.data.rows.alter import Alterations, alter
from noria.data.rows.schema import polars_type
from noria.data.service.landing import Made
from noria.data.service.tables.onerow import OneRowVerbs


class ContractInTheWay(Conflict):
    """The contract in force does not fit the new columns."""

    code = "contract_in_the_way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What a compaction did to the files of a table; sizes in bytes."""

    commit: str
    files_before: int
    files_after: int
    size_before: int
    size_after: int


class AlterVerbs(OneRowVerbs):
    def alter(
        self,
        repository: Repository,
        changes: Alterations,
        *,
        actor: Actor,
        branch: str = MAIN,
        message: str = "",
        expected: str | None = None,
        contract: Any = None,
        once: Once | None = None,
        run_id: RunId | None = None,
    ) -> Commit:
        """Commits other columns for a table; no row is written anew. Older commits show the columns that they had.

        Renaming the key or a time of ``main`` renames it in the repository, too.

        Args:
            contract: a contract to put in force with the change, where the one in force does not fit it.

        Raises:
            CannotAlter: with the column and the reason.
            KeyRepeated, KeyMissing: a new key does not name each row.
            ContractInTheWay: the contract in force is for other columns.
            HeadMoved: ``expected`` was given and the branch stands elsewhere.
        """
        if repository.kind != RepositoryKind.TABLE:
            self.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        if changes.nothing:
            raise Invalid("There is nothing to change.", hint="--add, --drop, --rename, --widen or --key")
        made = None if contract is None else contracts.parse(contract)
        return self._again(
            repository,
            branch,
            lambda: self._alter(repository, changes, actor, branch, message, expected, made, once, run_id),
        )

    def _alter(
        self,
        repository: Repository,
        changes: Alterations,
        actor: Actor,
        branch: str,
        message: str,
        expected: str | None,
        contract: Contract | None,
        once: Once | None,
        run_id: RunId | None,
    ) -> Commit:
        earlier = self._s.changes.answered("data.alter", repository.project_id, once)
        if earlier is not None:
            return self.commit_by_id(earlier["commit"])[1]
        head = self.head(repository, branch)
        if expected is not None and expected != (None if head is None else head.id):
            raise HeadMoved(repository.name, branch, expected, None if head is None else head.id)
        if head is None:
            raise Invalid(
                f"{repository.name}@{branch} has no rows yet; its columns are those of the first rows.",
                hint=f"noria data append {repository.name} FILE",
            )
        with self._s.sessions.writer() as writer:
            change = alter(self.reader, writer, self.layout(head), changes, seq=head.generation + 1)

            def judge(now: Repository) -> bool:
                if branch == MAIN or contract is not None:
                    self._check_contract(now, change.layout, contract)
                return branch == MAIN and contract is None

            def also(landed: Change, _: Commit) -> None:
                if contract is not None:
                    self._put_contract(landed, repository, contract)

            return self._commit_made(
                writer,
                repository,
                branch,
                head,
                Made(layout=change.layout_id, change=change),
                verb="data.alter",
                actor=actor,
                message=message or _words(changes),
                once=once,
                run_id=run_id,
                also=also,
                judge=judge,
            )

    def compact(
        self, repository: Repository, *, actor: Actor, branch: str = MAIN, once: Once | None = None
    ) -> Compacted:
        """Writes the rows of a table anew, in files of full size and without deleted rows.

        The version stays: only how it lies on disk is another. The files before are kept while another version needs
        them; then the garbage collection takes them. Safe beside writers: a commit in between keeps its own files.
        """
        if repository.kind != RepositoryKind.TABLE:
            self.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        earlier = self._s.changes.answered("data.compact", repository.project_id, once)
        if earlier is not None:
            return Compacted(**earlier)
        head = self.resolve(repository, branch)
        before = self.layout(head)
        with self._s.sessions.writer() as writer:
            after, layout_id = self.writer.compact(writer, before)
            done = Compacted(
                commit=head.id,
                files_before=len(before.fragments),
                files_after=len(after.fragments),
                size_before=before.size,
                size_after=after.size,
            )
            packs = writer.flush()
            with self._s.changes.begin("data.compact", repository.project_id, actor, once=once) as change:
                if change.earlier is not None:
                    return Compacted(**change.earlier)
                self._s.sessions.seal(change.tx, packs)
                self._s.faults.at("data.compact")
                if layout_id != head.layout and not self._s.assets.replace_layout(
                    change.tx, head.version_id, head.layout, layout_id
                ):
                    raise Conflict(
                        f"{repository.name}@{branch} was compacted by somebody else in between.", hint="Look again."
                    )
                queries.set_layout(change.tx.conn, head.version_id, head.layout, layout_id)
                change.note(f"{repository.name}@{branch}", commit=head.id, files=done.files_after)
                change.answer(asdict(done))
        return done

    def _check_contract(self, repository: Repository, layout: Layout, given: Contract | None) -> None:
        """Refuses columns for which every batch would break the contract."""
        contract = given or self.contract(repository)
        if contract is None:
            return
        columns = dict(layout.columns)
        wrong = [f"{name!r} is not in the table" for name in contract.columns if name not in columns]
        wrong += [f"{name!r} is not in the contract" for name in columns if name not in contract.columns]
        wrong += [
            f"{name!r} is {columns[name]} in the table and {column.type} in the contract"
            for name, column in contract.columns.items()
            if name in columns and polars_type(column.type) != polars_type(columns[name])
        ]
        if wrong:
            which = "The contract given" if given is not None else "The contract in force"
            raise ContractInTheWay(
                f"{which} for {repository.name} is for other columns: {'; '.join(wrong)}. Nothing was changed.",
                hint="Put the contract for the new columns in force with the change: --contract FILE",
                details={"wrong": wrong},
            )

    def _tell(self, change: Change, repository: Repository, rows: RowsChange | None, commit: Commit) -> None:
        """The key and the times of a repository are those of ``main``."""
        if rows is not None:
            repository = self._follow(change, repository, rows.layout)
        super()._tell(change, repository, rows, commit)

    @staticmethod
    def _follow(change: Change, repository: Repository, layout: Layout) -> Repository:
        roles = {"key": tuple(layout.key), "time": layout.time, "known": layout.known}
        if roles == {"key": repository.key, "time": repository.time, "known": repository.known}:
            return repository
        queries.declare(change.tx.conn, repository.id, **roles)
        return replace(repository, **roles)

    def _declare_again(
        self, repository: Repository, key: tuple[str, ...], time: str | None, known: str | None, actor: Actor
    ) -> bool:
        """A table with rows and without a key may get one, where each row has its own."""
        if super()._declare_again(repository, key, time, known, actor):
            return True
        if repository.key or not key or (time, known) != (repository.time, repository.known):
            return False
        self.alter(repository, Alterations(key=key), actor=actor)
        return True


def _words(changes: Alterations) -> str:
    """What was done, where nobody says why."""
    parts = [f"add {column.name}" for column in changes.add]
    parts += [f"drop {name}" for name in changes.drop]
    parts += [f"rename {old} to {new}" for old, new in changes.rename.items()]
    parts += [f"widen {name} to {kind}" for name, kind in changes.widen.items()]
    parts += [f"key {', '.join(changes.key)}"] if changes.key else []
    return "; ".join(parts)
