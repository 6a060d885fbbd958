"""What history verbs need to know of tables."""

from __future__ import annotations

from typing import cast

from noria.assets.records import Content
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.data.records import Commit, Repository, RepositoryKind
from noria.data.rows import RowsChange, load_layout
from noria.data.rows.diff import change_between
from noria.data.rows.merge import Strategy, merge_layouts
from noria.data.service.base import Facts, Made
from noria.data.service.contracts import ContractVerbs
from noria.data.values import plain
from noria.store import Writer


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
        strategy: str,
    ) -> Made:
        if repository.kind != RepositoryKind.TABLE:
            return super()._combine(writer, repository, base, ours, theirs, strategy)
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
            strategy=cast("Strategy", strategy),
            seq=ours.generation + 1,
            known_us=self._s.event_clock.event_ms(repository.project_id) * 1000,
        )
        shown = tuple(_key(conflict["key"]) for conflict in found.conflicts) if strategy == "conflict" else ()
        return Made(layout=found.layout_id, change=found.change, conflicts=shown)

    def _difference(self, repository: Repository, before: Commit | None, after: Commit) -> RowsChange | None:
        if repository.kind != RepositoryKind.TABLE:
            return None
        old = None if before is None else self.layout(before)
        return change_between(self.reader, old, self.layout(after), after.layout)

    def _check_merged(self, repository: Repository, branch: str, made: Made, actor: Actor, source: str) -> None:
        if repository.kind != RepositoryKind.TABLE or made.change is None or not len(made.change.new_rows):
            return
        rows = made.change.new_rows.select(made.change.layout.schema.names)
        event_ms = self._s.event_clock.event_ms(repository.project_id)
        self._keep_contract(repository, branch, rows, actor, source, event_ms)


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
