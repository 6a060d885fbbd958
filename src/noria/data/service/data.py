from __future__ import annotations

from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.once import Once
from noria.data.records import Draft, Repository, RepositoryKind
from noria.data.rows import load_layout
from noria.data.service.deletion import DeletionVerbs
from noria.data.service.files import Files
from noria.data.service.tables.altering import AlterVerbs
from noria.data.service.tables.batches import BatchVerbs
from noria.data.service.tables.produce import ProduceVerbs
from noria.data.service.tables.rows import Rows, check_mode
from noria.data.service.tables.rows_file import RowsFileVerbs
from noria.store import Writer


class Data(ProduceVerbs, DeletionVerbs, AlterVerbs, BatchVerbs, RowsFileVerbs, Files):
    """Versioned data, files and tables. One per workspace; thread-safe."""

    def edit_rows(
        self,
        repository: Repository,
        draft_id: str,
        rows: Rows,
        *,
        actor: Actor,
        mode: str = "append",
        source: str = "",
        once: Once | None = None,
    ) -> Draft:
        """Writes rows to an open commit of a table; each batch keeps the contract by itself.

        Raises:
            ContractBroken: as of ``append``.
        """
        check_mode(mode)
        self.get(repository.project_id, repository.name, RepositoryKind.TABLE)

        def make(writer: Writer, draft: Draft) -> Digest:
            base = None if draft.base is None else self.commit_by_id(draft.base)[1]
            layout = None if draft.layout is None else load_layout(self._s.sessions.store, draft.layout)
            frame = self._frame(repository, rows, mode, layout)
            event_ms = self._s.event_clock.event_ms(repository.project_id)
            if mode != "delete":
                self._keep_contract(repository, draft.branch, frame, actor, source, event_ms, mode)
            seq = 1 if base is None else base.generation + 1
            return self._written(writer, repository, layout, frame, mode, seq, event_ms).layout_id

        return self._edit(repository, draft_id, make, actor, once)
