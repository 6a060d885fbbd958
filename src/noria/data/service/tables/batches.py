"""The verbs of a batch and its contract: try it without a commit, offer a refused one again, or drop it."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.assets import Change
from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.once import Once
from noria.data import contract as contracts
from noria.data import files_contract, queries, taken
from noria.data.contract import Contract, Finding
from noria.data.errors import ContractMissing, HeadBreaksContract, QuarantineDecided
from noria.data.files_contract import FilesContract
from noria.data.records import (
    MAIN,
    QUARANTINE_MOVES,
    Commit,
    ContractSet,
    Quarantined,
    QuarantineState,
    Repository,
    RepositoryKind,
)
from noria.data.service.landing import LostRaceError
from noria.data.service.tables.incoming import Rows
from noria.data.service.tables.rows import RowVerbs
from noria.store import tree


class BatchVerbs(RowVerbs):
    def set_contract(
        self, repository: Repository, value: Any, *, actor: Actor, strict: bool = False, once: Once | None = None
    ) -> ContractSet:
        """Puts a contract in force; the same one again is the same number.

        The head of ``main`` is checked against it. What it breaks is answered, and written down with the change: rows
        that are there stay, and those that come have to keep the contract. What ``[table]`` says of a batch is not
        asked of a whole table. The check reads the table once, as ``check_contract`` does.

        Args:
            strict: refuse the contract where the head breaks it.

        Raises:
            HeadBreaksContract: with ``strict``.
        """
        files = repository.kind == RepositoryKind.FILES
        made = files_contract.parse(value) if files else contracts.parse(value)
        earlier = self._s.changes.answered("data.contract", repository.project_id, once)
        if earlier is not None:
            return _as_set(earlier)

        def attempt() -> ContractSet:
            head = self.head(repository)
            rows, found = (0, list[Finding]()) if head is None else self._check_head(repository, made, head)
            findings = [msgspec.to_builtins(one) for one in found]
            if findings and strict:
                assert head is not None
                raise HeadBreaksContract(repository.name, head.id, findings)
            told = {"broken": {f.rule: f.count for f in found}} if found else {}
            with self._s.changes.begin("data.contract", repository.project_id, actor, once=once) as change:
                if change.earlier is not None:
                    return _as_set(change.earlier)
                now = queries.head(change.tx.conn, repository.id, MAIN)[1]
                if strict and (now and now.id) != (head and head.id):
                    raise LostRaceError  # what was checked is not what is there by now
                number = self._put_contract(change, repository, made, told)
                change.note(repository.name, contract=number, **told)
                done = ContractSet(number=number, commit=head and head.id, rows=rows, findings=findings)
                change.answer({"contract": number, "commit": done.commit, "rows": rows, "findings": findings})
            return done

        return self._again(repository, MAIN, attempt) if strict else attempt()

    def _check_head(
        self, repository: Repository, made: Contract | FilesContract, head: Commit
    ) -> tuple[int, list[Finding]]:
        if isinstance(made, FilesContract):
            return self._check_tree(made, head)
        return self._check_table(repository, made, head.id, self._s.event_clock.event_ms(repository.project_id))

    def check_contract(
        self, repository: Repository, rows: Rows | None = None, *, ref: str = MAIN, contract: Any = None
    ) -> tuple[int, list[Finding]]:
        """What rows would break; without rows, what the table at ``ref`` breaks. Nothing is written.

        Args:
            rows: a batch, judged as if it were appended to the head of the branch ``ref``.
            contract: another one than that in force, as a plain value.

        Returns:
            how many rows were looked at, and the findings.

        Raises:
            ContractMissing: none is in force, and none was given.
        """
        if repository.kind == RepositoryKind.FILES and rows is None:
            return self._check_files(repository, ref, contract)
        self.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        used = contracts.parse(contract) if contract is not None else self.contract(repository)
        if used is None:
            raise _missing(repository)
        event_ms = self._s.event_clock.event_ms(repository.project_id)
        if rows is None:
            return self._check_table(repository, used, ref, event_ms)
        head = self.head(repository, ref)
        frame = self._frame(repository, rows, "append", self._layout_of(head), contract=used)
        findings = contracts.check(used, frame, time=repository.time, event_ms=event_ms)
        if not findings and used.whole.unique:
            findings = contracts.check_unique(used, frame, self._stays(used, frame, head, "append"))
        return len(frame), findings

    def _check_files(self, repository: Repository, ref: str, contract: Any) -> tuple[int, list[Finding]]:
        spec = contract
        if spec is None:
            spec = next((one.spec for one in self.contract_history(repository) if one.in_force), None)
        if spec is None:
            raise _missing(repository)
        return self._check_tree(files_contract.parse(spec), self.resolve(repository, ref))

    def _check_tree(self, contract: FilesContract, commit: Commit) -> tuple[int, list[Finding]]:
        store, root = self._s.sessions.store, commit.layout
        found = files_contract.check(contract, store, None, root)
        return tree.totals(store, root)[0], [Finding(**one) for one in found]

    def _check_table(
        self, repository: Repository, contract: Contract, ref: str, event_ms: int
    ) -> tuple[int, list[Finding]]:
        frame = self.read(repository, ref)
        findings = contracts.check(contract, frame, batch=False)
        if any(f.rule.endswith((".present", ".type")) for f in findings):
            return len(frame), findings
        times = frame[repository.time].dt.epoch("ms").max() if repository.time is not None else None
        newest = times if isinstance(times, int) else None
        findings += contracts.check_whole(contract, len(frame), newest, event_ms)
        return len(frame), findings + contracts.check_unique(contract, frame, frame.clear())

    def offer(
        self,
        quarantine_id: int,
        rows: Rows | None = None,
        *,
        actor: Actor,
        message: str = "",
        key: str | None = None,
    ) -> Commit:
        """Commits a refused batch, as it was or mended, under the contract in force; the batch is then accepted.

        Args:
            rows: what is committed instead of the batch.
            key: idempotency key.

        Raises:
            ContractBroken: it is refused again.
            QuarantineDecided: it was accepted already.
        """
        batch, frame = self.quarantined(quarantine_id)
        repository = self._repository_of(batch)
        if key is None:  # with one, a repeated request gets its answer below, whatever has changed since
            _check_move(batch, QuarantineState.ACCEPTED)

        def accept(change: Change) -> None:
            _, head = queries.head(change.tx.conn, repository.id, batch.branch)
            assert head is not None
            self._accept(change, repository, batch, head)

        commit = self.append(
            repository,
            frame if rows is None else rows,
            actor=actor,
            branch=batch.branch,
            message=message or f"batch {quarantine_id} of the quarantine",
            mode=batch.mode,
            meta={"source": {"kind": "quarantine", "batch": quarantine_id, "from": batch.source}},
            source=batch.source,
            also=accept,
            key=key,
        )
        if self.quarantined(quarantine_id)[0].state != QuarantineState.ACCEPTED:  # its rows were there already
            with self._s.changes.begin("data.offer", repository.project_id, actor) as change:
                self._accept(change, repository, batch, commit)
                change.note(repository.name, batch=quarantine_id, commit=commit.id)
        return commit

    def drop_quarantined(
        self, quarantine_id: int, reason: str, *, actor: Actor, once: Once | None = None
    ) -> Quarantined:
        """Says that a refused batch is not wanted, and why. Its rows stay where they are, for those who ask.

        Raises:
            QuarantineDecided: it was decided already.
            Invalid: no reason is given.
        """
        if not reason.strip():
            raise Invalid("A batch is dropped for a reason.", hint="--reason 'a test of the scanner'")
        batch, _ = self.quarantined(quarantine_id)
        repository = self._repository_of(batch)
        with self._s.changes.begin("data.quarantine.drop", repository.project_id, actor, once=once) as change:
            if change.earlier is None:
                _check_move(batch, QuarantineState.DROPPED)
                self._decide(change, batch, QuarantineState.DROPPED, {"reason": reason})
                change.note(repository.name, batch=quarantine_id, reason=reason)
                change.answer({"batch": quarantine_id})
        return self.quarantined(quarantine_id)[0]

    def _repository_of(self, batch: Quarantined) -> Repository:
        with self._db.read() as conn:
            found = queries.repository_of_quarantined(conn, batch.id)
        assert found is not None
        return found

    def _accept(self, change: Change, repository: Repository, batch: Quarantined, commit: Commit) -> None:
        """The commit holds the rows of the batch, and so what was seen of the part of a source when it was refused."""
        self._decide(change, batch, QuarantineState.ACCEPTED, {"commit": commit.id})
        conn = change.tx.conn
        rows = taken.refusals_of_batch(conn, repository.id, batch.branch, batch.id)
        taken.keep_marks(change.tx, repository.id, commit, {row.source: row.mark for row in rows})
        taken.settle_refusals(conn, repository.id, batch.branch, [row.source for row in rows])

    def _decide(self, change: Change, batch: Quarantined, after: QuarantineState, what: dict[str, Any]) -> None:
        verdict = {**what, "actor": change.actor.name, "at": change.tx.now_ms}
        earlier = [*batch.earlier, *([batch.verdict] if batch.verdict is not None else [])]
        verdict |= {"earlier": earlier} if earlier else {}
        self._s.faults.at("data.quarantine")
        if not queries.move_quarantined(change.tx.conn, batch.id, batch.state, after, verdict):
            found = queries.quarantined(change.tx.conn, batch.id)
            assert found is not None
            raise QuarantineDecided(batch.id, found.state, after, found.verdict)
        change.event(f"batch.{after.value}", batch.repository, {"batch": batch.id, **what})


def _as_set(answer: dict[str, Any]) -> ContractSet:
    rest = {name: value for name, value in answer.items() if name != "contract"}
    return ContractSet(number=answer["contract"], **rest)


def _missing(repository: Repository) -> ContractMissing:
    hint = f"noria data contract infer {repository.name} -o FILE.toml"
    return ContractMissing(f"{repository.name} has no contract.", hint=hint)


def _check_move(batch: Quarantined, after: QuarantineState) -> None:
    if after not in QUARANTINE_MOVES[batch.state]:
        raise QuarantineDecided(batch.id, batch.state, after, batch.verdict)
