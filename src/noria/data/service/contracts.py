"""The verbs of contracts and of quarantine."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import polars as pl
from sqlalchemy import Connection, update

from noria.assets import Change
from noria.base import canonical
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import NotFound
from noria.base.ids import ProjectId
from noria.base.times import DAY
from noria.data import contract as contracts
from noria.data import contract_infer, files_contract, queries
from noria.data import tables as t
from noria.data.contract import Contract, Finding, WholeContract
from noria.data.contract_infer import Seen
from noria.data.errors import ContractBroken
from noria.data.files_contract import FilesContract
from noria.data.records import (
    MAIN,
    Commit,
    ContractRecord,
    Quarantined,
    QuarantineState,
    Repository,
    RepositoryKind,
)
from noria.data.rows import Layout, TableReader, TableWriter, load_layout
from noria.data.rows.redact import BATCH
from noria.data.service.base import Services
from noria.data.service.refs import RefVerbs
from noria.store import Kind, tree
from noria.store.errors import ObjectMissing

EVALUATOR = "noria.data.contract:1"


class ContractVerbs(RefVerbs):
    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self.reader = TableReader(services.sessions.store)
        self.writer = TableWriter(self.reader)
        self._contracts: dict[tuple[int, int], Contract] = {}
        self._kept_days: set[tuple[int, int, int]] = set()

    def layout(self, commit: Commit) -> Layout:
        """How a commit of a table lies on disk."""
        return load_layout(self._s.sessions.store, commit.layout)

    def _put_contract(
        self,
        change: Change,
        repository: Repository,
        made: Contract | FilesContract,
        told: dict[str, Any] | None = None,
    ) -> int:
        spec = msgspec.to_builtins(made)
        digest, conn = str(canonical.digest(spec)), change.tx.conn
        number = queries.last_contract(conn, repository.id)
        before = queries.contract(conn, repository.id, number)
        if before is None or before.digest != digest:
            number += 1
            row = {"repository_id": repository.id, "number": number, "digest": digest, "spec": spec}
            change.tx.insert(t.contracts, {**row, "actor": change.actor.name, "created_at": change.tx.now_ms})
        here = t.repositories.c.id == repository.id
        change.tx.execute(update(t.repositories).where(here).values(contract=number))
        change.event("contract.set", repository.name, {"contract": number, **(told or {})})
        return number

    def contract(self, repository: Repository) -> Contract | None:
        """The contract in force, of a table."""
        if repository.kind != RepositoryKind.TABLE:
            return None
        with self._db.read() as conn:
            found = queries.repository_by_id(conn, repository.id)
            if found is None or found.contract is None:
                return None
            return self._parsed(repository.id, found.contract)

    def contract_history(self, repository: Repository) -> list[ContractRecord]:
        """All contracts that the repository has had, newest first."""
        with self._db.read() as conn:
            found = queries.repository_by_id(conn, repository.id)
            in_force = None if found is None else found.contract
            rows = queries.contracts(conn, repository.id)
        return [
            ContractRecord(
                number=row.number,
                digest=row.digest,
                spec=row.spec,
                actor=row.actor,
                created_at=row.created_at,
                in_force=row.number == in_force,
            )
            for row in rows
        ]

    def contract_at(self, repository: Repository, number: int) -> Contract:
        """The contract with this number, in force or not."""
        return self._parsed(repository.id, number)

    def infer_contract(self, repository: Repository, ref: str = MAIN) -> Contract | FilesContract:
        """A contract that the data at ``ref`` keeps, as a start for editing; it asks for what the data supports."""
        return self.inferred(repository, ref)[0]

    def inferred(
        self, repository: Repository, ref: str = MAIN
    ) -> tuple[Contract | FilesContract, dict[str, list[Seen]]]:
        """``infer_contract``, with what was seen in each column and did not become a rule, for a person to decide."""
        if repository.kind == RepositoryKind.FILES:
            return files_contract.infer(tree.walk(self._s.sessions.store, self.resolve(repository, ref).layout)), {}
        layout = self.layout(self.resolve(repository, ref))
        found = contract_infer.infer(self.reader.read(layout), layout.schema)
        return found.contract, found.seen

    def _parsed(self, repository_id: int, number: int) -> Contract:
        cached = self._contracts.get((repository_id, number))
        if cached is None:
            with self._db.read() as conn:
                row = queries.contract(conn, repository_id, number)
            assert row is not None
            cached = self._contracts[repository_id, number] = contracts.parse(row.spec)
        return cached

    def _keep_contract(
        self,
        repository: Repository,
        branch: str,
        frame: pl.DataFrame,
        actor: Actor,
        source: str,
        event_ms: int,
        mode: str = "append",
    ) -> None:
        """Refuses a batch that does not keep the contract, and sets it aside with the findings."""
        if repository.contract is None:
            return
        contract = self._parsed(repository.id, repository.contract)
        findings = contracts.check(contract, frame, time=repository.time, event_ms=event_ms)
        if findings:
            self._refuse(repository, branch, frame, findings, actor, source, mode)

    def _keep_whole(
        self,
        repository: Repository,
        branch: str,
        frame: pl.DataFrame,
        head: Commit | None,
        layout: Layout,
        actor: Actor,
        source: str,
        event_ms: int,
        mode: str,
    ) -> None:
        """Refuses a batch after which the table would not keep the contract.

        Args:
            head: what the batch is written on.
            layout: the table as it would be.
        """
        if repository.contract is None:
            return
        contract = self._parsed(repository.id, repository.contract)
        if contract.whole == WholeContract():
            return
        findings = contracts.check_whole(contract, layout.rows, newest_ms(layout), event_ms)
        if contract.whole.unique and mode != "delete":
            findings += contracts.check_unique(contract, frame, self._stays(contract, frame, head, mode))
        if findings:
            self._refuse(repository, branch, frame, findings, actor, source, mode)

    def _stays(self, contract: Contract, frame: pl.DataFrame, head: Commit | None, mode: str) -> pl.DataFrame:
        """The columns that have to be unique, of the rows that stay beside a batch."""
        columns = sorted({column for columns in contract.whole.unique for column in columns})
        if head is None or mode == "overwrite":
            return frame.select(columns).clear()
        layout = self.layout(head)
        there = self.reader.read(layout, columns=sorted({*columns, *layout.key}))
        return there.join(frame.select(layout.key), on=layout.key, how="anti") if layout.key else there

    def _refuse(
        self,
        repository: Repository,
        branch: str,
        frame: pl.DataFrame,
        findings: list[Finding],
        actor: Actor,
        source: str,
        mode: str,
    ) -> None:
        assert repository.contract is not None
        number = self._set_aside(repository, branch, frame, findings, actor, source, mode, repository.contract)
        plain = [msgspec.to_builtins(f) for f in findings]
        raise ContractBroken(repository.name, repository.contract, plain, number)

    def _kept(self, change: Change, repository: Repository, rows: int) -> None:
        """Evidence of a contract that was kept: the first commit of each day of event time."""
        if repository.contract is None:
            return
        day = (repository.id, repository.contract, change.event_ms // DAY)
        if day in self._kept_days:
            return
        self._kept_days.add(day)
        self._s.evidence.record(
            change,
            "contract",
            repository.name,
            passed=True,
            evaluator=EVALUATOR,
            details={"contract": repository.contract, "rules": [], "rows": rows},
        )

    def set_aside(
        self,
        repository: Repository,
        branch: str,
        rows: pl.DataFrame,
        findings: list[Finding],
        actor: Actor,
        source: str,
        mode: str = "append",
        line: int | None = None,
    ) -> Quarantined:
        """Puts rows that do not have the types of the table into quarantine, as they came.

        The report says what is wrong with them. They are offered and dropped as batches that a contract refused. The
        same rows of the same place are one batch; equal ones of another file, or further down, are another.

        Args:
            line: number of the first of them in the source.
        """
        number = self._set_aside(repository, branch, rows, findings, actor, source, mode, 0, (source, line))
        return self.quarantined(number)[0]

    def _set_aside(
        self,
        repository: Repository,
        branch: str,
        frame: pl.DataFrame,
        findings: list[Finding],
        actor: Actor,
        source: str,
        mode: str,
        contract: int,
        place: tuple[str, int | None] | None = None,
    ) -> int:
        out = io.BytesIO()
        about = _about(branch, mode, place)
        frame.write_parquet(out, compression="zstd", statistics=False, metadata=about)
        report = [msgspec.to_builtins(f) for f in findings]
        with self._s.sessions.writer() as writer:
            oid = writer.put(Kind.FRAGMENT, out.getvalue())
            packs = writer.flush()
            with self._s.changes.begin("data.quarantine", repository.project_id, actor) as change:
                self._s.sessions.seal(change.tx, packs)
                row = {"repository_id": repository.id, "branch": branch, "contract": contract}
                batch = {"rows": len(frame), "report": report, "object": oid.hex, "source": source, "state": "open"}
                who = {"actor": actor.name, "created_at": change.tx.now_ms, "mode": mode}
                if change.tx.insert_new(t.quarantine, {**row, **batch, **who}):
                    # The same batch offered again is the same refusal: one record, one piece of evidence.
                    if contract:
                        how = {"passed": False, "evaluator": EVALUATOR}
                        rules = {"contract": contract, "rules": [f.rule for f in findings], "rows": len(frame)}
                        self._s.evidence.record(change, "contract", repository.name, **how, details=rules)
                    change.event("batch.refused", repository.name, {"rows": len(frame), "rules": len(findings)})
                change.note(repository.name, rows=len(frame), source=source)
                found = queries.quarantine_by_object(change.tx.conn, repository.id, oid.hex)
                if self._reopen(change.tx.conn, repository, branch, found):
                    change.event("batch.refused", repository.name, {"rows": len(frame), "rules": len(findings)})
        return found

    def _reopen(self, conn: Connection, repository: Repository, branch: str, number: int) -> bool:
        """Opens a batch anew that was accepted, where the branch does not hold what came of it (any more)."""
        batch = queries.quarantined(conn, number)
        if batch is None or batch.state != QuarantineState.ACCEPTED or batch.verdict is None:
            return False
        commit = queries.commit(conn, batch.verdict["commit"])
        _, head = queries.head(conn, repository.id, branch)
        if commit is not None and self.holds(conn, repository, branch, head)(commit.id, commit.generation):
            return False
        return queries.reopen_quarantined(conn, batch, branch)

    def quarantine(self, project_id: ProjectId, repository: Repository | None = None) -> list[Quarantined]:
        """Batches that were refused, newest first."""
        with self._db.read() as conn:
            return queries.quarantine_list(conn, project_id, None if repository is None else repository.id)

    def quarantined(self, quarantine_id: int) -> tuple[Quarantined, pl.DataFrame]:
        """A refused batch with its rows.

        Raises:
            NotFound: there is none; or it was accepted, and the rows as they were refused are collected since.
        """
        with self._db.read() as conn:
            found = queries.quarantined(conn, quarantine_id)
        if found is None:
            raise NotFound(f"There is no batch {quarantine_id} in quarantine.", hint="noria data quarantine list")
        try:
            raw = self._s.sessions.store.get(Digest(bytes.fromhex(found.object)), Kind.FRAGMENT)
        except ObjectMissing:
            if found.state != QuarantineState.ACCEPTED:
                raise
            raise NotFound(
                f"The rows of batch {quarantine_id} as they were refused are gone: it was accepted, and what came of "
                "it is in the table.",
                hint="noria data quarantine list --all   says by which commit.",
            ) from None
        return found, pl.read_parquet(io.BytesIO(raw))

    def contract_coverage(self, project_id: ProjectId) -> dict[str, tuple[int, int]]:
        """Repository -> (commits, commits that were checked against a contract)."""
        with self._db.read() as conn:
            return {name: (total, part) for name, total, part in queries.contract_verdicts(conn, project_id)}


def _about(branch: str, mode: str, place: tuple[str, int | None] | None) -> dict[str, str] | None:
    """Makes equal rows different batches where one verdict must not settle the others: it is kept in the file."""
    what: dict[str, Any] = {} if branch == MAIN else {"branch": branch}
    what |= {} if mode == "append" else {"mode": mode}
    what |= {} if place is None else {"source": place[0], "line": place[1]}
    return {BATCH: canonical.encode(what).decode()} if what else None


def newest_ms(layout: Layout) -> int | None:
    """The newest event time among the fragments of a table."""
    times = [f.last_time for f in layout.fragments if f.last_time is not None and f.live]
    return max(times) // 1000 if times else None
