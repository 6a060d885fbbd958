"""What moves a branch without new data, and loses none: merge, revert, cherry-pick, reset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from noria.assets import Change
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.ids import CommitId
from noria.base.once import Once
from noria.data import ancestry, queries
from noria.data.errors import BranchNotFound, MergeConflict
from noria.data.moves import move_head
from noria.data.records import MAIN, Commit, Repository, RepositoryKind
from noria.data.service.landing import Ancestry, LostRaceError, Made, after
from noria.data.service.refs import RefVerbs
from noria.data.service.seen import Seen
from noria.store.merging import Sides

if TYPE_CHECKING:
    from noria.data.rows import RowsChange

STRATEGIES: Final = ("conflict", "ours", "theirs")


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
        resolve: Mapping[str, str] | None = None,
        message: str = "",
        fast_forward: bool = True,
        once: Once | None = None,
    ) -> Commit:
        """Brings what happened on ``source`` into a branch; returns the head, which it is already where nothing is new.

        Three-way: what changed since the youngest common commit. Paths, or rows by key, that both sides changed
        differently are conflicts.

        Args:
            strategy: ``conflict`` refuses, ``ours`` keeps the branch's side, ``theirs`` takes the source's.
            resolve: of files, for the conflicts that a pattern fits: pattern -> ``ours`` or ``theirs``. A pattern is a
                path, a folder, or has wildcards (``*`` crosses folders); the most exact one decides.
            fast_forward: where the branch has nothing of its own, move it; no merge commit is made.

        Raises:
            MergeConflict: both sides changed the same; the error names where.
        """
        sides = sides_of(repository, strategy, resolve)

        def attempt() -> Commit:
            theirs, head = self.resolve(repository, source), self.head(repository, into)
            base = None if head is None else self.merge_base(repository, head, theirs)
            if head is not None and base is not None and base.id == theirs.id:
                return head
            if head is None or (fast_forward and base is not None and base.id == head.id):
                told = {"message": message, "meta": {"merged": theirs.id}}
                return self._bring(repository, into, head, theirs, "data.merge", actor, once, source, **told)
            return self._apply(
                repository,
                into,
                head,
                None if base is None else base.layout,
                theirs.layout,
                brought=theirs,
                verb="data.merge",
                what=f"{repository.name}@{source}",
                actor=actor,
                sides=sides,
                message=message or f"merged {source}",
                meta={"merged": theirs.id},
                once=once,
                ancestry=after(head, theirs),
            )

        return self._once(repository, into, "data.merge", actor, once, attempt)

    def revert(
        self,
        repository: Repository,
        ref: str,
        *,
        branch: str = MAIN,
        actor: Actor,
        strategy: str = "conflict",
        resolve: Mapping[str, str] | None = None,
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
            sides=sides_of(repository, strategy, resolve),
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
        resolve: Mapping[str, str] | None = None,
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
            sides=sides_of(repository, strategy, resolve),
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

        Hooks are asked and told as of a merge. What the branch has not held before has to keep the contract.

        Args:
            expected: where the branch has to stand, as a commit id; default where it stands when this begins.

        Raises:
            HeadMoved: it stands elsewhere, or somebody committed in between.
            HookRefused: a hook refused it.
        """
        seen = Seen(repository, branch, expected)

        def attempt() -> Commit:
            target, head = self.resolve(repository, to), self.head(repository, branch)
            if seen.check(head) == target.id:
                return target
            told = {"message": f"reset to {target.id[:12]}", "meta": {"reset": target.id}}
            return self._bring(repository, branch, head, target, "data.reset", actor, once, to, **told)

        return self._once(repository, branch, "data.reset", actor, once, attempt)

    # ---- how

    def _once(
        self,
        repository: Repository,
        branch: str,
        verb: str,
        actor: Actor,
        once: Once | None,
        attempt: Callable[[], Commit],
        *,
        apart: bool = False,
    ) -> Commit:
        """Like ``_again``, for a verb that ends with a commit; a request that is repeated gets the first one's answer.

        It is looked up before each try: a repeated request must not be judged by what the first one has changed.
        """

        def answered_or_tried() -> Commit:
            earlier = self._s.changes.answered(verb, repository.project_id, once)
            return attempt() if earlier is None else self.commit_by_id(earlier["commit"])[1]

        done = self._again(repository, branch, answered_or_tried, apart=apart)
        if once is not None and self._s.changes.answered(verb, repository.project_id, once) is None:
            with self._s.changes.begin(verb, repository.project_id, actor, once=once) as change:
                change.note(f"{repository.name}@{branch}", commit=done.id, nothing=True)
                change.answer({"commit": done.id})
        return done

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
        verb: str,
        actor: Actor,
        once: Once | None,
        **how: Any,
    ) -> Commit:
        how = {**how, "verb": verb, "actor": actor, "once": once}
        return self._once(
            repository,
            branch,
            verb,
            actor,
            once,
            lambda: self._apply(repository, branch, self.head(repository, branch), base, theirs, **how),
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
        sides: Sides,
        message: str,
        meta: dict[str, Any],
        once: Once | None,
        ancestry: Ancestry | None = None,
        brought: Commit | None = None,
    ) -> Commit:
        """Does to a branch what happened from ``base`` to ``theirs``.

        Args:
            brought: the commit whose rows these are. They are checked again only where one of the commits that come
                with it was not checked against the contract in force.
        """
        with self._s.sessions.writer() as writer:
            seq = None if ancestry is None else ancestry.generation
            made = self._combine(writer, repository, base, head, theirs, sides, seq)
            if made.conflicts:
                raise MergeConflict(f"{repository.name}@{branch}", what, made.conflicts, hint_of(repository, sides))
            if head is not None and made.layout == head.layout and ancestry is None:
                return head

            def judge(now: Repository) -> bool:
                again = brought is None or not self._all_checked(now, head, brought)
                return self._judge(now, branch, head, made, actor, what, again=again)

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
                judge=judge,
            )

    def _all_checked(
        self, repository: Repository, head: Commit | None, theirs: Commit, sent: Mapping[CommitId, Commit] | None = None
    ) -> bool:
        """Whether all commits that a branch would get with ``theirs`` were checked against the contract in force.

        Args:
            sent: commits that are not written yet, as they will be here.
        """
        if repository.contract is None:
            return True
        with self._db.read() as conn:
            graph = queries.graph(conn, repository.id)
            unchecked = queries.unchecked(conn, repository.id, repository.contract)
        for commit in (sent or {}).values():
            graph[commit.id] = ancestry.Link(commit.generation, commit.parents, commit.at)
            if commit.contract != repository.contract:
                unchecked.add(commit.id)
        come = ancestry.ancestors(graph, [theirs.id]) - ancestry.ancestors(graph, [] if head is None else [head.id])
        return come.isdisjoint(unchecked)

    def admit(
        self,
        repository: Repository,
        branch: str,
        head: Commit | None,
        target: Commit,
        rows: RowsChange | None,
        actor: Actor,
        source: str,
        *,
        message: str,
        meta: dict[str, Any],
        sent: Mapping[CommitId, Commit] | None = None,
        aside: bool = True,
    ) -> None:
        """Asks contract and hooks of ``repository`` whether a branch may move to a commit that was made elsewhere.

        Commits that were checked against the contract in force where they were made are not checked again.

        Args:
            rows: of a table, how the rows of ``target`` differ from those of ``head``.
            sent: of a transfer, the commits that are not written yet, as they will be here.
            aside: refused rows go to quarantine.

        Raises:
            ContractBroken, FilesBroken: what comes does not keep the contract.
            HookRefused: a hook refused it.
        """
        if not self._all_checked(repository, head, target, sent):
            made = Made(layout=target.layout, change=rows)
            self._judge(repository, branch, head, made, actor, source, aside=aside)
        told = {"actor": actor, "message": message, "meta": meta, "stats": target.stats}
        self._s.hooks.before(repository, branch, head, target.layout, rows, merge=True, **told)

    def _bring(
        self,
        repository: Repository,
        branch: str,
        head: Commit | None,
        target: Commit,
        verb: str,
        actor: Actor,
        once: Once | None,
        source: str,
        *,
        message: str,
        meta: dict[str, Any],
    ) -> Commit:
        """Moves a branch to a commit that was made elsewhere, once the contract and the hooks allow it."""
        repository = self._fresh(repository)
        rows = self._difference(repository, head, target)
        place = f"{repository.name}@{source}"
        self.admit(repository, branch, head, target, rows, actor, place, message=message, meta=meta)
        return self._move(repository, branch, head, target, rows, verb, actor, once, brought=True)

    def _move(
        self,
        repository: Repository,
        branch: str,
        head: Commit | None,
        target: Commit,
        rows: RowsChange | None,
        verb: str,
        actor: Actor,
        once: Once | None,
        also: Callable[[Change], None] | None = None,
        *,
        brought: bool = False,
    ) -> Commit:
        """Points a branch at a commit that is there already; who follows the rows of ``main`` hears of the difference.

        Args:
            rows: of a table, how the rows of ``target`` differ from those of ``head``.
            brought: it was checked against the contract of ``repository``, and hooks are told of it.
        """
        stood = None if head is None else head.id
        with self._s.changes.begin(verb, repository.project_id, actor, once=once) as change:
            if change.earlier is not None:
                found = queries.commit(change.tx.conn, change.earlier["commit"])
                return target if found is None else found
            self._s.faults.at("data.head")
            if not move_head(change, repository.id, branch, stood, target.id):
                raise LostRaceError
            if brought:
                self._same_contract(change, repository)
            if branch == MAIN:
                self._s.assets.set_current(change.tx, repository.asset_id, target.version_id)
                self._tell(change, repository, rows, target)
            if brought:
                self._s.hooks.after(change, repository, branch, target, merge=True)
            if also is not None:
                also(change)
            change.event("branch.moved", repository.name, {"branch": branch, "commit": target.id, "before": stood})
            change.note(f"{repository.name}@{branch}", before=stood, after=target.id)
            change.answer({"commit": target.id})
        return target


def sides_of(repository: Repository, strategy: str, resolve: Mapping[str, str] | None) -> Sides:
    """Who wins what both sides changed.

    Raises:
        Invalid: there is no such strategy or side, or a table was to be decided by path.
    """
    if strategy not in STRATEGIES:
        raise Invalid(f"{strategy!r:.60} is not a strategy of merging.", hint=", ".join(STRATEGIES))
    if resolve and repository.kind == RepositoryKind.TABLE:
        raise Invalid(
            f"{repository.name} is a table: its rows merge by key, and it has no paths to decide by.",
            hint="--strategy ours or --strategy theirs decides all rows that both sides changed.",
        )
    for pattern, side in (resolve or {}).items():
        if side not in STRATEGIES[1:]:
            raise Invalid(f"{side!r:.60}, given for {pattern!r:.60}, is no side of a merge.", hint="ours or theirs")
    return Sides(strategy, dict(resolve or {}))


def hint_of(repository: Repository, sides: Sides | None = None) -> str:
    """What to do about a conflict; ``sides``, as they were asked, name the patterns that none of them fits."""
    if sides is not None and sides.unused:
        return f"No conflict fits {', '.join(repr(one) for one in sides.unused)}.\n{hint_of(repository)}"
    whole = "--strategy ours or --strategy theirs   decides all of them"
    if repository.kind == RepositoryKind.TABLE:
        return f"{whole}."
    return f"--ours PATH or --theirs PATH, with folders or patterns too, decides path by path;\n{whole}."
