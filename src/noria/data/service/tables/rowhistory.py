"""What history verbs need to know of tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from noria.assets.records import Content
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.data import contract as contracts
from noria.data.errors import ContractBroken
from noria.data.records import Commit, Repository, RepositoryKind
from noria.data.rows import Layout, RowsChange, load_layout
from noria.data.rows.diff import change_between
from noria.data.rows.merge import Strategy, merge_layouts
from noria.data.service.contracts import ContractVerbs, newest_ms
from noria.data.service.landing import Facts, Made
from noria.data.values import plain
from noria.store import Writer
from noria.store.merging import Sides

if TYPE_CHECKING:
    import polars as pl


class RowHistory(ContractVerbs):
    def _facts(self, writer: Writer, repository: Repository, head: Commit | None, made: Made) -> Facts:
        if repository.kind != RepositoryKind.TABLE:
            return super()._facts(writer, repository, head, made)
        layout = load_layout(self._s.sessions.store, made.layout)
        assert made.change is not None
        stats = stats_of(made.change)
        return Facts(digest=layout.digest, content=Content.TABLE, size=layout.size, rows=layout.rows, stats=stats)

    def _combine(
        self,
        writer: Writer,
        repository: Repository,
        base: Digest | None,
        ours: Commit | None,
        theirs: Digest | None,
        sides: Sides,
        seq: int | None = None,
    ) -> Made:
        if repository.kind != RepositoryKind.TABLE:
            return super()._combine(writer, repository, base, ours, theirs, sides, seq)
        if theirs is None:
            raise Invalid(f"{repository.name} would be left without columns.", hint="Overwrite it with rows.")
        store = self._s.sessions.store
        new = load_layout(store, theirs)
        if ours is None:
            return Made(layout=theirs, change=change_between(self.reader, None, new, theirs))
        found = merge_layouts(
            self.writer,
            writer,
            None if base is None else load_layout(store, base),
            self.layout(ours),
            new,
            strategy=cast("Strategy", sides.strategy),
            seq=ours.generation + 1 if seq is None else seq,
            known_us=self._s.event_clock.event_ms(repository.project_id) * 1000,
        )
        shown = tuple(_key(conflict["key"]) for conflict in found.conflicts) if sides.strategy == "conflict" else ()
        return Made(layout=found.layout_id, change=found.change, conflicts=shown)

    def _difference(self, repository: Repository, before: Commit | None, after: Commit) -> RowsChange | None:
        if repository.kind != RepositoryKind.TABLE:
            return None
        old = None if before is None else self.layout(before)
        return change_between(self.reader, old, self.layout(after), after.layout)

    def _judge(
        self,
        repository: Repository,
        branch: str,
        head: Commit | None,
        made: Made,
        actor: Actor,
        source: str,
        *,
        again: bool = True,
        batch: bool = True,
        aside: bool = True,
    ) -> bool:
        if repository.kind != RepositoryKind.TABLE:
            return super()._judge(repository, branch, head, made, actor, source, again=again, batch=batch)
        if repository.contract is None:
            return True
        assert made.change is not None
        contract = self._parsed(repository.id, repository.contract)
        layout = load_layout(self._s.sessions.store, made.layout)
        rows = made.change.new_rows.select(layout.schema.names)
        event_ms = self._s.event_clock.event_ms(repository.project_id)
        findings: list[contracts.Finding] = []
        if again and len(rows):
            findings = contracts.check(contract, rows, time=repository.time, event_ms=event_ms, batch=batch)
        elif again:
            findings = contracts.check_columns(contract, rows)
        if not findings:
            findings = self._whole_findings(contract, layout, rows, event_ms)
        if findings and len(rows) and aside:
            self._refuse(repository, branch, rows, findings, actor, source, "append")
        if findings:
            plain = [msgspec.to_builtins(finding) for finding in findings]
            raise ContractBroken(repository.name, repository.contract, plain, None)
        return True

    def _whole_findings(
        self, contract: contracts.Contract, layout: Layout, rows: pl.DataFrame, event_ms: int
    ) -> list[contracts.Finding]:
        """What the table breaks as it would be, with ``rows`` new in it."""
        findings = contracts.check_whole(contract, layout.rows, newest_ms(layout), event_ms)
        if not contract.whole.unique or not len(rows) or findings:
            return findings
        columns = sorted({column for some in contract.whole.unique for column in some})
        there = self.reader.read(layout, columns=sorted({*columns, *layout.key}))
        if not layout.key:  # which of them are new cannot be told
            return contracts.check_unique(contract, there, there.clear())
        return contracts.check_unique(contract, rows, there.join(rows.select(layout.key), on=layout.key, how="anti"))


def stats_of(change: RowsChange) -> dict[str, int]:
    stats = {
        "added": change.added,
        "updated": change.updated,
        "deleted": change.deleted,
        "unchanged": change.unchanged,
        "rows": change.layout.rows,
    }
    return {**stats, "folded": change.folded} if change.folded else stats


def _key(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={plain(part)}" for name, part in value.items())
    return str(plain(value))
