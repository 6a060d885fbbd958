"""Change sets of single paths, and open commits: many writers, one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.ids import IdMaker, RunId
from noria.base.names import check_branch
from noria.base.once import Once
from noria.data import queries
from noria.data import tables as t
from noria.data.edits import Edit
from noria.data.errors import DraftClosed, DraftNotFound, HeadMoved, MergeConflict
from noria.data.records import MAIN, Commit, Draft, Repository, RepositoryKind
from noria.data.service.history import hint_of, sides_of
from noria.data.service.landing import LostRaceError, Made
from noria.data.service.rewriting import RewriteVerbs
from noria.data.treeedit import TreeEdit
from noria.store import Writer, tree


class DraftVerbs(RewriteVerbs):
    _ids = IdMaker()

    def change(
        self,
        repository: Repository,
        edits: Iterable[Edit],
        *,
        actor: Actor,
        branch: str = MAIN,
        message: str = "",
        meta: dict[str, Any] | None = None,
        expected: str | None = None,
        once: Once | None = None,
        run_id: RunId | None = None,
    ) -> Commit:
        """Commits a change set: put, append, delete, copy, move of single paths, all of them or none.

        Costs what the edits touch, whatever the size of the repository. Where another writer was faster, the edits are
        done to its commit; appends to one file follow one another.

        Args:
            expected: the commit at which the branch has to be; without it a lost race is tried again.

        Raises:
            Invalid: an edit does not fit; the error names the path.
            MergeConflict: another writer changed one of the paths in between.
            HeadMoved: ``expected`` was given and the branch stands elsewhere.
        """
        self._only_files(repository)
        work = TreeEdit(self._s.sessions.store, edits, lambda ref: self.resolve(repository, ref).layout)
        seen: list[Commit | None] = []

        def attempt() -> Commit:
            head = self.head(repository, branch)
            found = None if head is None else head.id
            if expected is not None and expected != found:
                raise HeadMoved(repository.name, branch, expected, found)
            seen.append(head)
            root = self._edited(writer, repository, branch, work, head, seen[0])
            if head is not None and root == head.layout:
                return head
            made = Made(layout=root)
            how = {"actor": actor, "message": message, "meta": meta, "once": once, "run_id": run_id}
            return self._commit_made(writer, repository, branch, head, made, verb="data.change", **how)

        with self._s.sessions.writer() as writer:  # one for all attempts: nobody collects what it has stored
            return self._once(repository, branch, "data.change", actor, once, attempt, apart=True)

    def _edited(
        self,
        writer: Writer,
        repository: Repository,
        branch: str,
        work: TreeEdit,
        head: Commit | None,
        first: Commit | None,
    ) -> Digest:
        store = self._s.sessions.store
        changes = work.apply(writer, None if head is None else head.layout)
        if head is not None and head != first:
            before = {path: None if first is None else tree.find(store, first.layout, path) for path in work.blind}
            now = {path: tree.find(store, head.layout, path) for path in work.blind}
            lost = [p for p in sorted(work.blind) if before[p] != now[p] and now[p] != changes.get(p)]
            if lost:
                raise MergeConflict(f"{repository.name}@{branch}", "The change", lost, "Look at it, and try again.")
        return tree.apply(store, writer, None if head is None else head.layout, changes)

    # ---- open commits

    def start(
        self,
        repository: Repository,
        *,
        actor: Actor,
        branch: str = MAIN,
        message: str = "",
        meta: dict[str, Any] | None = None,
        once: Once | None = None,
    ) -> Draft:
        """Opens a commit. Many writers change it; nobody else sees it before it is finished."""
        check_branch(branch)
        head = self.head(repository, branch)
        with self._s.changes.begin("data.start", repository.project_id, actor, once=once) as change:
            if change.earlier is not None:
                return self.draft(repository, change.earlier["draft"])
            now = change.tx.now_ms
            place = {"repository_id": repository.id, "branch": branch, "base": None if head is None else head.id}
            content = {"layout": None if head is None else str(head.layout), "number": 0, "state": "open"}
            about = {"actor": actor.name, "message": message, "meta": meta or {}, "commit_id": None}
            row = {"id": self._ids.next(now), **place, **content, **about, "created_at": now, "updated_at": now}
            change.tx.insert(t.drafts, row)
            change.note(f"{repository.name}@{branch}", draft=row["id"])
            change.answer({"draft": row["id"]})
        return self.draft(repository, row["id"])

    def draft(self, repository: Repository, draft_id: str) -> Draft:
        """An open commit by its id, or the beginning of it.

        Raises:
            DraftNotFound: the repository has none of this id.
        """
        with self._db.read() as conn:
            found = queries.draft(conn, draft_id)
            if found is None and len(draft_id) >= 4:
                like = [d for d in queries.drafts(conn, repository.id) if d.id.startswith(draft_id)]
                found = like[0] if len(like) == 1 else None
        if found is None or found.repository_id != repository.id:
            raise DraftNotFound(
                f"{repository.name} has no open commit {draft_id!r:.60}.", hint=f"noria data drafts {repository.name}"
            )
        return found

    def drafts(self, repository: Repository) -> list[Draft]:
        """The commits that are open, oldest first."""
        with self._db.read() as conn:
            return queries.drafts(conn, repository.id)

    def edit(
        self, repository: Repository, draft_id: str, edits: Iterable[Edit], *, actor: Actor, once: Once | None = None
    ) -> Draft:
        """Does a change set to an open commit. Edits of several writers are done one after another."""
        self._only_files(repository)
        store = self._s.sessions.store
        work = TreeEdit(store, edits, lambda ref: self.resolve(repository, ref).layout)

        def make(writer: Writer, draft: Draft) -> Digest:
            return tree.apply(store, writer, draft.layout, work.apply(writer, draft.layout))

        return self._edit(repository, draft_id, make, actor, once)

    def _edit(
        self,
        repository: Repository,
        draft_id: str,
        make: Callable[[Writer, Draft], Digest],
        actor: Actor,
        once: Once | None,
    ) -> Draft:
        def attempt() -> Draft:
            if self._s.changes.answered("data.edit", repository.project_id, once) is not None:
                return self.draft(repository, draft_id)
            draft = self._open(repository, draft_id)
            layout = make(writer, draft)
            packs = writer.flush()
            edit = self._s.changes.begin("data.edit", repository.project_id, actor, once=once)
            with self._locks[repository.id, draft_id], self._naming(packs), edit as change:
                if change.earlier is not None:
                    return draft
                self._s.sessions.seal(change.tx, packs)
                values = {"layout": str(layout), "updated_at": change.tx.now_ms}
                self._s.faults.at("data.draft")
                if not queries.edit_draft(change.tx.conn, draft, values):
                    raise LostRaceError
                change.note(f"{repository.name}@{draft.branch}", draft=draft.id, number=draft.number + 1)
            return self.draft(repository, draft.id)

        with self._s.sessions.writer() as writer:  # one for all attempts: nobody collects what it has stored
            return self._again(repository, draft_id, attempt, apart=True)

    def finish(
        self,
        repository: Repository,
        draft_id: str,
        *,
        actor: Actor,
        message: str = "",
        strategy: str = "conflict",
        resolve: Mapping[str, str] | None = None,
        once: Once | None = None,
    ) -> Commit:
        """Lands an open commit. Where the branch went on since it was opened, the two are merged.

        A draft that was finished before gives its commit again. ``strategy`` and ``resolve`` are those of ``merge``.

        Raises:
            MergeConflict: the branch changed the same paths or rows in between.
            DraftClosed: it was dropped.
        """
        sides = sides_of(repository, strategy, resolve)

        def attempt() -> Commit:
            draft = self.draft(repository, draft_id)
            if draft.state == "finished" and draft.commit_id is not None:
                return self.commit_by_id(draft.commit_id)[1]
            draft = self._open(repository, draft_id)
            if draft.layout is None:
                raise Invalid("The open commit is empty.", hint="Write something to it, or drop it.")
            head, base = self.head(repository, draft.branch), self._base_of(draft)
            with self._s.sessions.writer() as writer:
                theirs = None if base is None else base.layout
                made = self._combine(writer, repository, theirs, head, draft.layout, sides)
                if made.conflicts:
                    raise MergeConflict(
                        f"{repository.name}@{draft.branch}",
                        "The open commit",
                        made.conflicts,
                        hint_of(repository, sides),
                    )
                if head is not None and made.layout == head.layout:
                    self._close(repository, draft, "finished", head, actor)
                    return head
                return self._commit_made(
                    writer,
                    repository,
                    draft.branch,
                    head,
                    made,
                    verb="data.finish",
                    actor=actor,
                    message=message or draft.message,
                    meta=draft.meta,
                    once=once,
                    also=lambda change, commit: _closed(change.tx.conn, draft, "finished", commit),
                    judge=lambda now: self._judge(now, draft.branch, head, made, actor, "open commit", batch=False),
                )

        return self._once(repository, self.draft(repository, draft_id).branch, "data.finish", actor, once, attempt)

    def drop_draft(self, repository: Repository, draft_id: str, *, actor: Actor, once: Once | None = None) -> None:
        """Gives an open commit up; what was written to it goes with the next garbage collection."""
        if self._s.changes.answered("data.close", repository.project_id, once) is None:
            self._again(
                repository,
                draft_id,
                lambda: self._close(repository, self._open(repository, draft_id), "dropped", None, actor, once),
            )

    def _close(
        self,
        repository: Repository,
        draft: Draft,
        state: str,
        commit: Commit | None,
        actor: Actor,
        once: Once | None = None,
    ) -> None:
        with self._s.changes.begin("data.close", repository.project_id, actor, once=once) as change:
            if change.earlier is not None:
                return
            _closed(change.tx.conn, draft, state, commit)
            change.note(f"{repository.name}@{draft.branch}", draft=draft.id, state=state)

    def _open(self, repository: Repository, draft_id: str) -> Draft:
        draft = self.draft(repository, draft_id)
        if draft.state != "open":
            raise DraftClosed(
                f"The commit {draft.id[:12]} is {draft.state}; nothing is written to it any more.",
                hint=f"noria data start {repository.name}   opens another one.",
                details={"draft": draft.id, "state": draft.state, "commit": draft.commit_id},
            )
        return draft

    def _base_of(self, draft: Draft) -> Commit | None:
        with self._db.read() as conn:
            return None if draft.base is None else queries.commit(conn, draft.base)

    def _only_files(self, repository: Repository) -> Repository:
        if repository.kind != RepositoryKind.FILES:
            self.get(repository.project_id, repository.name, RepositoryKind.FILES)
        return repository


def _closed(conn: Any, draft: Draft, state: str, commit: Commit | None) -> None:
    # A closed one keeps no objects alive, so it must not name any.
    values = {"state": state, "commit_id": None if commit is None else commit.id, "layout": None}
    if not queries.edit_draft(conn, draft, values):
        raise LostRaceError
