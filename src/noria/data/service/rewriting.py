"""What takes commits away for good: squash, drop, prune."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from noria.assets import Change
from noria.assets.sessions import retire
from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.ids import CommitId
from noria.base.once import Once
from noria.data import ancestry, queries, taken
from noria.data.errors import CommitInUse
from noria.data.records import MAIN, Commit, Repository
from noria.data.roots import layout_kind_of
from noria.data.service.history import HistoryVerbs
from noria.data.service.landing import Ancestry, LostRaceError, Made
from noria.data.service.seen import Seen


class RewriteVerbs(HistoryVerbs):
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

        A commit that a tag or another branch needs stays there. Hooks are asked and told as of a commit, with all that
        came after ``since`` as its change.

        Raises:
            HeadMoved: somebody committed in between.
            HookRefused: a hook refused it.
            Invalid: ``since`` is not in the history of the branch, or there is nothing after it.
        """

        named, seen = repository, Seen(repository, branch)

        def attempt() -> Commit:
            repository = self._fresh(named)
            start, head = self.resolve(repository, since), self._standing(repository, branch)
            seen.check(head)
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

        return self._once(repository, branch, "data.squash", actor, once, attempt)

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
        Hooks are asked and told as of a merge, since the branch goes to another commit, as by a reset.

        Args:
            expected: where the branch has to stand, as a commit id; default where it stands when this begins.

        Raises:
            HeadMoved: it stands elsewhere, or somebody committed in between.
            HookRefused: a hook refused it.
            CommitInUse: a tag or another branch holds one of them.
            Invalid: nothing would be left.
        """

        if not 1 <= count <= 10_000:
            raise Invalid(f"{count} commits cannot be dropped.", hint="--count 1 and up")

        named, seen = repository, Seen(repository, branch, expected)

        def attempt() -> Commit:
            repository = self._fresh(named)
            head = self._standing(repository, branch)
            seen.check(head)
            with self._db.read() as conn:
                graph = queries.graph(conn, repository.id)
                line = list(islice(ancestry.first_parents(graph, head.id), count + 1))
                left = None if len(line) <= count else queries.commit(conn, line[count])
            if left is None:
                raise Invalid(
                    f"{repository.name}@{branch} has no commit before its newest {count}.",
                    hint=f"noria data delete {repository.name}   deletes the whole repository.",
                )
            dropped = ancestry.ancestors(graph, [head.id]) - ancestry.ancestors(graph, [left.id])

            def prune(change: Change) -> None:
                kept = dropped - set(self._prune(change, repository, dropped))
                if kept:
                    raise CommitInUse(
                        f"{min(kept)[:12]} of {repository.name} is held by a tag, another branch or an open commit.",
                        hint=f"noria data reset {repository.name} {left.id[:12]}   moves the branch and keeps it.",
                        details={"commits": sorted(kept)},
                    )

            rows = self._difference(repository, head, left)
            told = {"message": f"drop of {count}", "meta": {"dropped": head.id}}
            self.admit(repository, branch, head, left, rows, actor, f"{repository.name}@{branch}", **told)
            return self._move(repository, branch, head, left, rows, "data.drop", actor, once, also=prune, brought=True)

        return self._once(repository, branch, "data.drop", actor, once, attempt)

    def prune(self, repository: Repository, *, actor: Actor, once: Once | None = None) -> list[CommitId]:
        """Removes commits that no branch, tag or open commit leads to; returns their ids."""
        with self._s.changes.begin("data.prune", repository.project_id, actor, once=once) as change:
            if change.earlier is not None:
                return [CommitId(one) for one in change.earlier["commits"]]
            queries.hold_repository(change.tx.conn, repository.id)  # an import looks for gaps, then moves its heads
            gone = self._prune(change, repository, queries.graph(change.tx.conn, repository.id))
            change.note(repository.name, commits=len(gone))
            change.answer({"commits": gone})
        return gone

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
            meta = self._squashed(repository, since, head)
            told = {"actor": actor, "message": message, "meta": meta, "stats": facts.stats}
            self._s.hooks.before(repository, branch, since, head.layout, change_rows, merge=False, **told)
            landing = self._prepare(
                writer,
                repository,
                branch,
                head,
                head.layout,
                facts,
                actor=actor,
                message=message,
                meta=meta,
                event_ms=head.event_ms,
                change=self._difference(repository, head, head),
                ancestry=place,
                checked=self._all_checked(repository, since, head),
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
                taken.carry(change.tx, repository.id, between, commit)
                gone = self._prune(change, repository, between)
                change.note(f"{repository.name}@{branch}", commit=commit.id, squashed=len(gone))
                change.answer({"commit": commit.id})
        return commit

    def _squashed(self, repository: Repository, since: Commit, head: Commit) -> dict[str, Any]:
        """What one commit says that takes the place of all between two others."""
        with self._db.read() as conn:
            graph = queries.graph(conn, repository.id)
            between = ancestry.ancestors(graph, [head.id]) - ancestry.ancestors(graph, [since.id])
            collected = taken.all_collected(conn, between)
        return {"squashed": head.id, **({"collected": True} if collected else {})}

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
        taken.forget(conn, gone)
        queries.delete_commits(conn, gone)
        self._s.assets.forget_versions(change.tx, versions)
        return gone
