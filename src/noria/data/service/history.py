"""What moves a branch without new data: merge, revert, cherry-pick, reset, squash, drop; and who touched what."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Final, TypeVar

from noria.assets import Change
from noria.assets.sessions import retire
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.ids import CommitId
from noria.base.once import Once
from noria.base.pages import Page, check_limit, token
from noria.data import ancestry, queries
from noria.data.errors import BranchNotFound, CommitInUse, HeadMoved, MergeConflict
from noria.data.records import MAIN, Commit, PathChange, Repository, RepositoryKind, Touched
from noria.data.roots import layout_kind_of
from noria.data.service.base import TRIES, Ancestry, LostRaceError, Made, after
from noria.data.service.refs import RefVerbs, beyond
from noria.store import tree

STRATEGIES: Final = ("conflict", "ours", "theirs")
T = TypeVar("T")


class HistoryVerbs(RefVerbs):
    def merge_base(self, repository: Repository, one: Commit, other: Commit) -> Commit | None:
        """The youngest commit that both come from; None where they have nothing in common."""
        with self._db.read() as conn:
            found = ancestry.merge_base(queries.graph(conn, repository.id), one.id, other.id)
            return None if found is None else queries.commit(conn, found)

    def merge(
        self,
        repository: Repository,
        source: str,
        *,
        into: str = MAIN,
        actor: Actor,
        strategy: str = "conflict",
        message: str = "",
        fast_forward: bool = True,
        once: Once | None = None,
    ) -> Commit:
        """Brings what happened on ``source`` into a branch; returns the head, which it is already where nothing is new.

        Three-way: what changed since the youngest common commit. Paths, or rows by key, that both sides changed
        differently are conflicts.

        Args:
            strategy: ``conflict`` refuses, ``ours`` keeps the branch's side, ``theirs`` takes the source's.
            fast_forward: where the branch has nothing of its own, move it; no merge commit is made.

        Raises:
            MergeConflict: both sides changed the same; the error names where.
        """
        _check_strategy(strategy)

        def attempt() -> Commit:
            theirs, head = self.resolve(repository, source), self.head(repository, into)
            base = None if head is None else self.merge_base(repository, head, theirs)
            if head is not None and base is not None and base.id == theirs.id:
                return head
            if head is None or (fast_forward and base is not None and base.id == head.id):
                rows = self._difference(repository, head, theirs)
                told = {"actor": actor, "message": message, "meta": {"merged": theirs.id}, "stats": theirs.stats}
                self._s.hooks.before(repository, into, head, theirs.layout, rows, merge=True, **told)
                return self._move(repository, into, head, theirs, "data.merge", actor, once)
            return self._apply(
                repository,
                into,
                head,
                None if base is None else base.layout,
                theirs.layout,
                recheck=repository.contract not in (None, theirs.contract),
                verb="data.merge",
                what=f"{repository.name}@{source}",
                actor=actor,
                strategy=strategy,
                message=message or f"merged {source}",
                meta={"merged": theirs.id},
                once=once,
                ancestry=after(head, theirs),
            )

        return self._again(repository, into, attempt)

    def revert(
        self,
        repository: Repository,
        ref: str,
        *,
        branch: str = MAIN,
        actor: Actor,
        strategy: str = "conflict",
        message: str = "",
        once: Once | None = None,
    ) -> Commit:
        """A new commit that takes back what ``ref`` did; later changes stay.

        Raises:
            MergeConflict: something that ``ref`` changed was changed again since.
        """
        commit, before = self._with_parent(repository, ref)
        if before is None and repository.kind == RepositoryKind.TABLE:
            raise Invalid(
                f"{commit.id[:12]} is the first commit of {repository.name}; without it the table "
                "would have no columns.",
                hint=f"noria data append {repository.name} FILE --mode overwrite",
            )
        return self._replay(
            repository,
            branch,
            commit.layout,
            None if before is None else before.layout,
            verb="data.revert",
            what=f"Taking back {commit.id[:12]}",
            actor=actor,
            strategy=strategy,
            message=message or f"took back {commit.id[:12]}: {commit.message}".rstrip(": "),
            meta={"reverted": commit.id},
            once=once,
        )

    def cherry_pick(
        self,
        repository: Repository,
        ref: str,
        *,
        branch: str = MAIN,
        actor: Actor,
        strategy: str = "conflict",
        message: str = "",
        once: Once | None = None,
    ) -> Commit:
        """A new commit that does on a branch what ``ref`` did where it was made.

        Raises:
            MergeConflict: the branch has other things where ``ref`` changed some.
        """
        commit, before = self._with_parent(repository, ref)
        return self._replay(
            repository,
            branch,
            None if before is None else before.layout,
            commit.layout,
            verb="data.cherry_pick",
            what=f"{commit.id[:12]}",
            actor=actor,
            strategy=strategy,
            message=message or commit.message,
            meta={"picked": commit.id},
            once=once,
        )

    def reset(
        self,
        repository: Repository,
        to: str,
        *,
        branch: str = MAIN,
        actor: Actor,
        expected: str | None = None,
        once: Once | None = None,
    ) -> Commit:
        """Moves a branch to another commit. What it held before is found by its id until it is pruned.

        Args:
            expected: where the branch has to stand, as a commit id.

        Raises:
            HeadMoved: it stands elsewhere.
        """

        def attempt() -> Commit:
            target, head = self.resolve(repository, to), self.head(repository, branch)
            found = None if head is None else head.id
            if expected is not None and expected != found:
                raise HeadMoved(repository.name, branch, expected, found)
            return target if found == target.id else self._move(
                repository, branch, head, target, "data.reset", actor, once
            )  # fmt: skip

        return self._again(repository, branch, attempt)

    def squash(
        self,
        repository: Repository,
        since: str,
        *,
        branch: str = MAIN,
        actor: Actor,
        message: str = "",
        once: Once | None = None,
    ) -> Commit:
        """Makes one commit of all that came after ``since``. The content stays; the commits between are gone for good.

        A commit that a tag or another branch needs stays there.

        Raises:
            Invalid: ``since`` is not in the history of the branch, or there is nothing after it.
        """

        def attempt() -> Commit:
            start, head = self.resolve(repository, since), self._standing(repository, branch)
            with self._db.read() as conn:
                graph = queries.graph(conn, repository.id)
            if start.id not in set(ancestry.first_parents(graph, head.id)) or start.id == head.id:
                raise Invalid(
                    f"{since} is not a commit before {repository.name}@{branch}.",
                    hint=f"noria data log {repository.name}   shows the history.",
                )
            return self._rewrite(
                repository,
                branch,
                head,
                message or head.message,
                Ancestry(parents=(start.id,), generation=head.generation),
                actor,
                once,
                start,
            )

        return self._again(repository, branch, attempt)

    def drop(
        self,
        repository: Repository,
        *,
        branch: str = MAIN,
        count: int = 1,
        actor: Actor,
        expected: str | None = None,
        once: Once | None = None,
    ) -> Commit:
        """Takes the newest commits of a branch away for good; returns what it stands at then.

        Their content goes with the next garbage collection, unless something else has it or a run was made with it.

        Raises:
            CommitInUse: a tag or another branch holds one of them.
            Invalid: nothing would be left.
        """

        def attempt() -> Commit:
            head = self._standing(repository, branch)
            if expected is not None and expected != head.id:
                raise HeadMoved(repository.name, branch, expected, head.id)
            with self._db.read() as conn:
                graph = queries.graph(conn, repository.id)
                line = list(islice(ancestry.first_parents(graph, head.id), count + 1))
                left = None if len(line) <= count else queries.commit(conn, line[count])
            if count < 1 or left is None:
                raise Invalid(
                    f"{repository.name}@{branch} has no commit before its newest {count}.",
                    hint=f"noria data delete {repository.name}   deletes the whole repository.",
                )
            dropped = ancestry.ancestors(graph, [head.id]) - ancestry.ancestors(graph, [left.id])

            def prune(change: Change) -> None:
                kept = dropped - set(self._prune(change, repository, dropped))
                if kept:
                    raise CommitInUse(
                        f"{min(kept)[:12]} of {repository.name} is held by a tag or another branch.",
                        hint=f"noria data reset {repository.name} {left.id[:12]}   moves the branch and keeps it.",
                        details={"commits": sorted(kept)},
                    )

            return self._move(repository, branch, head, left, "data.drop", actor, once, also=prune)

        return self._again(repository, branch, attempt)

    def prune(self, repository: Repository, *, actor: Actor, older_than: int = 0) -> list[CommitId]:
        """Removes commits that no branch, tag or open commit leads to; returns their ids.

        Args:
            older_than: only those committed before this moment (wall time, milliseconds); 0: all.
        """
        with self._s.changes.begin("data.prune", repository.project_id, actor) as change:
            graph = queries.graph(change.tx.conn, repository.id)
            some = {commit for commit, link in graph.items() if older_than == 0 or link.at < older_than}
            gone = self._prune(change, repository, some)
            change.note(repository.name, commits=len(gone))
        return gone

    # ---- who touched what

    def touched(
        self,
        repository: Repository,
        pattern: str,
        ref: str = MAIN,
        *,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Touched]:
        """The commits that changed a path, or paths that fit a pattern; newest first, with these changes.

        A plain path costs two look-ups a commit, a pattern a tree diff: both follow what changed.
        """
        check_limit(limit)
        if repository.kind != RepositoryKind.FILES:
            self.get(repository.project_id, repository.name, RepositoryKind.FILES)
        start = self.resolve(repository, ref)
        found: list[Touched] = []
        with self._db.read() as conn:
            graph = queries.graph(conn, repository.id)
            for one in beyond(ancestry.newest_first(graph, start.id), after):
                commit = queries.commit(conn, one)
                assert commit is not None
                before = queries.commit(conn, commit.parents[0]) if commit.parents else None
                changes = self._changes_of(before, commit, pattern)
                if changes:
                    found.append(Touched(commit=commit, changes=changes))
                if len(found) > limit:
                    break
        more = len(found) > limit
        return Page(items=found[:limit], next=token(found[limit - 1].commit.id) if more else None)

    def _changes_of(self, before: Commit | None, commit: Commit, pattern: str) -> list[PathChange]:
        store = self._s.sessions.store
        if not any(mark in pattern for mark in "*?["):
            old = None if before is None else tree.find(store, before.layout, pattern)
            new = tree.find(store, commit.layout, pattern)
            return [] if old == new else [path_change(tree.Change(pattern, old, new))]
        if before is None:
            entries = tree.walk(store, commit.layout)
            return [path_change(tree.Change(e.path, None, e)) for e in entries if fnmatchcase(e.path, pattern)]
        found = tree.diff(store, before.layout, commit.layout)
        return [path_change(c) for c in found if fnmatchcase(c.path, pattern)]

    def changes_of(self, repository: Repository, commit: Commit) -> list[PathChange]:
        """The files that a commit changed, against its first parent."""
        with self._db.read() as conn:
            before = queries.commit(conn, commit.parents[0]) if commit.parents else None
        return self._changes_of(before, commit, "*")

    # ---- how

    def _again(self, repository: Repository, branch: str, attempt: Callable[[], T]) -> T:
        """Repeats what lost a race, with jitter; bounded."""
        for number in range(TRIES):
            try:
                with self._locks[repository.id]:
                    return attempt()
            except LostRaceError:
                self._s.clock.sleep(random.uniform(0.001, 0.01) * (number + 1))  # noqa: S311 - jitter, not a secret
        raise HeadMoved(repository.name, branch, None, None)

    def _standing(self, repository: Repository, branch: str) -> Commit:
        head = self.head(repository, branch)
        if head is None:
            raise BranchNotFound(
                f"{repository.name}@{branch} has no commit yet.", hint=f"noria data commit {repository.name} ..."
            )
        return head

    def _with_parent(self, repository: Repository, ref: str) -> tuple[Commit, Commit | None]:
        commit = self.resolve(repository, ref)
        with self._db.read() as conn:
            return commit, queries.commit(conn, commit.parents[0]) if commit.parents else None

    def _replay(
        self,
        repository: Repository,
        branch: str,
        base: Digest | None,
        theirs: Digest | None,
        *,
        strategy: str,
        **how: Any,
    ) -> Commit:
        _check_strategy(strategy)
        return self._again(
            repository,
            branch,
            lambda: self._apply(
                repository, branch, self.head(repository, branch), base, theirs, strategy=strategy, **how
            ),
        )

    def _apply(
        self,
        repository: Repository,
        branch: str,
        head: Commit | None,
        base: Digest | None,
        theirs: Digest | None,
        *,
        verb: str,
        what: str,
        actor: Actor,
        strategy: str,
        message: str,
        meta: dict[str, Any],
        once: Once | None,
        ancestry: Ancestry | None = None,
        recheck: bool = True,
    ) -> Commit:
        """Does to a branch what happened from ``base`` to ``theirs``.

        Args:
            recheck: the rows were not all checked against the contract in force when they landed where they come from.
        """
        with self._s.sessions.writer() as writer:
            made = self._combine(writer, repository, base, head, theirs, strategy)
            if made.conflicts:
                raise MergeConflict(f"{repository.name}@{branch}", what, made.conflicts)
            if head is not None and made.layout == head.layout and ancestry is None:
                return head
            if recheck:
                self._check_merged(repository, branch, made, actor, what)
            return self._commit_made(
                writer,
                repository,
                branch,
                head,
                made,
                verb=verb,
                actor=actor,
                message=message,
                meta=meta,
                once=once,
                ancestry=ancestry,
            )

    def _move(
        self,
        repository: Repository,
        branch: str,
        head: Commit | None,
        target: Commit,
        verb: str,
        actor: Actor,
        once: Once | None,
        also: Callable[[Change], None] | None = None,
    ) -> Commit:
        """Points a branch at a commit that is there already; who follows rows hears of the difference."""
        rows = self._difference(repository, head, target) if branch == MAIN else None
        stood = None if head is None else head.id
        with self._s.changes.begin(verb, repository.project_id, actor, once=once) as change:
            if change.earlier is not None:
                found = queries.commit(change.tx.conn, change.earlier["commit"])
                return target if found is None else found
            self._s.faults.at("data.head")
            now = change.tx.now_ms
            if not queries.move_branch(change.tx.conn, repository.id, branch, stood, target.id, now):
                raise LostRaceError
            if branch == MAIN:
                self._s.assets.set_current(change.tx, repository.asset_id, target.version_id)
                self._tell(change, repository, rows, target)
            if verb == "data.merge":
                self._s.hooks.after(change, repository, branch, target, merge=True)
            if also is not None:
                also(change)
            change.event("branch.moved", repository.name, {"branch": branch, "commit": target.id, "before": stood})
            change.note(f"{repository.name}@{branch}", before=stood, after=target.id)
            change.answer({"commit": target.id})
        return target

    def _rewrite(
        self,
        repository: Repository,
        branch: str,
        head: Commit,
        message: str,
        place: Ancestry,
        actor: Actor,
        once: Once | None,
        since: Commit,
    ) -> Commit:
        """Replaces the commits after ``since`` by one with the content of the head."""
        with self._s.sessions.writer() as writer:
            change_rows = self._difference(repository, since, head)
            facts = self._facts(writer, repository, since, Made(layout=head.layout, change=change_rows))
            landing = self._prepare(
                writer,
                repository,
                branch,
                head,
                digest=facts.digest,
                content=facts.content,
                layout=head.layout,
                size=facts.size,
                rows=facts.rows,
                actor=actor,
                message=message,
                stats=facts.stats,
                meta={"squashed": head.id},
                event_ms=head.event_ms,
                change=self._difference(repository, head, head),
                ancestry=place,
            )
            packs = writer.flush()
            squash = self._s.changes.begin("data.squash", repository.project_id, actor, once=once)
            with self._naming(packs), squash as change:
                if change.earlier is not None:
                    return self.commit_by_id(change.earlier["commit"])[1]
                self._s.sessions.seal(change.tx, packs)
                commit = self._land(change, landing, None)
                if commit is None:
                    raise LostRaceError
                graph = queries.graph(change.tx.conn, repository.id)
                between = ancestry.ancestors(graph, [head.id]) - ancestry.ancestors(graph, [since.id])
                gone = self._prune(change, repository, between)
                change.note(f"{repository.name}@{branch}", commit=commit.id, squashed=len(gone))
                change.answer({"commit": commit.id})
        return commit

    def _prune(self, change: Change, repository: Repository, some: Iterable[CommitId]) -> list[CommitId]:
        """Of these commits, removes those that nothing leads to."""
        conn = change.tx.conn
        heads = [b.head for b in queries.branches(conn, repository.id) if b.head is not None]
        heads += queries.tags(conn, repository.id).values()
        heads += [d.base for d in queries.drafts(conn, repository.id) if d.base is not None]
        graph = queries.graph(conn, repository.id)
        gone = sorted(set(some) - ancestry.ancestors(graph, heads))
        commits = queries.commits_in_order(conn, gone)
        versions = {c.version_id for c in commits}
        retire(change.tx, [(layout_kind_of(repository.kind), c.layout) for c in commits])
        self._s.faults.at("data.prune")
        queries.delete_commits(conn, gone)
        self._s.assets.forget_versions(change.tx, versions)
        return gone


def _check_strategy(strategy: str) -> None:
    if strategy not in STRATEGIES:
        raise Invalid(f"{strategy!r} is not a strategy of merging.", hint=", ".join(STRATEGIES))


def path_change(change: tree.Change) -> PathChange:
    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    before = 0 if change.before is None else change.before.size
    after_ = 0 if change.after is None else change.after.size
    return PathChange(path=change.path, kind=kind, size_before=before, size_after=after_)
