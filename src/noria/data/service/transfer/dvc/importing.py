"""Moving in from DVC: the history of tracked data in git becomes commits here.

Each commit of git that changed a tracked output becomes one of ours, with its author, message and place in the
history; ``meta["git"]`` says which it was. By that a second import, or one that was killed, finds what is there
already, and by what it says of the outputs whether the same is asked for again. Contents are read once, by their MD5,
and checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from noria.assets.records import RunState
from noria.base import canonical
from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.ids import CommitId
from noria.data import ancestry, queries
from noria.data.collectors.dvc import Blob, DvcRepository
from noria.data.collectors.git import Git, GitCommit
from noria.data.errors import CommitInUse, FilesBroken, MoveBreaksContract
from noria.data.records import MAIN, Commit, Imported, ImportedRepository, Moved, Repository, RepositoryKind
from noria.data.service.base import Services
from noria.data.service.history import HistoryVerbs
from noria.data.service.landing import Ancestry, Landing, LostRaceError, Made
from noria.data.service.transfer.dvc.contents import Contents
from noria.data.service.transfer.dvc.history import History, State, groups, read
from noria.data.service.transfer.dvc.line import Line, Node, known_node, landed_node
from noria.data.service.transfer.dvc.report import Report
from noria.data.service.transfer.receiving import Side, land_tags, move_heads
from noria.data.service.transfer.sending import Naming
from noria.store import Entry, FileContent, Writer, tree

if TYPE_CHECKING:
    from sqlalchemy import Connection

_LANDED_AT_ONCE: Final = 200
_TRIES: Final = 5


class _PrunedError(Exception):
    """Commits of this import were removed before a branch led to them."""


class DvcImport(HistoryVerbs):
    """One import. Used once, by one thread.

    Args:
        skip_missing: go on without contents that are missing or damaged.
    """

    def __init__(
        self,
        services: Services,
        side: Side,
        folder: Path,
        *,
        actor: Actor,
        skip_missing: bool = False,
        advance: Callable[..., None] | None = None,
    ) -> None:
        super().__init__(services)
        self._side = side
        self._dvc = DvcRepository(folder)
        self._actor = actor
        self._skip_missing = skip_missing
        self._report = Report()
        self._contents = Contents(self._dvc, self._report, skip_missing=skip_missing, advance=advance)

    def run(
        self,
        name: str | None = None,
        *,
        targets: Sequence[str] = (),
        single: bool = False,
        refs: Sequence[str] = (),
        everything: bool = False,
    ) -> Imported:
        """Imports the history of tracked outputs.

        Args:
            name: of the repository; where there are several, the beginning of their names.
            targets: only outputs at or below these paths. single: one repository for all, with their paths.
            refs: branches to import; default the one that is checked out. everything: all branches and tags.

        Raises:
            ContentLost: contents are missing there, and nothing was said of ``skip_missing``. Nothing was imported.
            MoveBreaksContract: what comes to a branch that is there already does not keep the contract; it stays where
                it was. Repositories before this one are imported.
            HookRefused: a hook refused it; the same holds.
        """
        with Git(self._dvc.folder) as git:
            history = read(self._dvc, git, self._report, targets, refs, everything)
        found = groups(history, self._dvc.folder, name, single)
        for repository_name, paths in found.items():
            self._refuse_other_outputs(history, repository_name, paths, single)
        if not self._skip_missing:
            self._contents.look_for_all(history, found)
        done = list[ImportedRepository]()
        with self._s.sessions.writer() as writer:
            naming = Naming(self._s.sessions, self._s.db, writer, self._s.faults)
            for repository_name, paths in found.items():
                done.append(self._import(writer, naming, history, repository_name, paths, single))
            written = writer.written
        report = self._report
        return Imported(
            repositories=tuple(done),
            seen=len(history.commits),
            files=report.files,
            read=report.read,
            written=written,
            lost=tuple(report.lost.values()),
            left=tuple(report.left.values()),
        )

    # ---- one repository

    def _import(
        self, writer: Writer, naming: Naming, history: History, name: str, paths: list[str], single: bool
    ) -> ImportedRepository:
        """Commits land some at a time, and nothing leads to them yet. What was pruned meanwhile is landed once more:
        the contents were read, and a session keeps them."""
        for _ in range(_TRIES):
            try:
                return self._try_to_import(writer, naming, history, name, paths, single)
            except _PrunedError:
                continue
        raise CommitInUse(
            f"Commits of {name} were pruned again and again while they were imported. No branch was moved.",
            hint="Import again when nobody prunes.",
        )

    def _try_to_import(
        self, writer: Writer, naming: Naming, history: History, name: str, paths: list[str], single: bool
    ) -> ImportedRepository:
        project = self._side.project_id
        repository = self.ensure(project, name, RepositoryKind.FILES, actor=self._actor)
        known = self._known(repository)
        line = Line(paths)
        waiting = list[Landing]()
        count = 0
        for commit in history.commits:
            state = {path: out for path, out in history.states[commit.id].items() if path in line.paths}
            if commit.id in known:
                line.put(commit.id, known_node(known[commit.id], state))
                continue
            parents = line.heads(commit)
            if not parents and not state:
                continue
            if len(parents) == 1 and parents[0].state == state:
                line.put(commit.id, parents[0])
                continue
            landing = self._commit(writer, naming, repository, commit, parents, state, single)
            line.put(commit.id, landed_node(landing, state))
            waiting.append(landing)
            count += 1
            if len(waiting) >= _LANDED_AT_ONCE:
                self._land_waiting(naming, repository, waiting)
        old, completed = {c.id for c in known.values()}, dict[CommitId, Node]()
        for commit in (c for c in history.commits if c.id in history.branches.values()):
            node = line.of(commit.id)
            if node is None or node.id not in old or not self._more_by_now(node, single, commit):
                continue
            if node.id not in completed:
                landing = self._commit(writer, naming, repository, commit, [node], node.state, single)
                completed[node.id] = landed_node(landing, node.state)
                waiting.append(landing)
                count += 1
            line.put(commit.id, completed[node.id])
        self._land_waiting(naming, repository, waiting)
        return self._finish(repository, history, line, paths[0] if len(paths) == 1 else ".", count)

    def _known(self, repository: Repository) -> dict[str, Commit]:
        """Commit of git -> ours; where contents that were missing came later, the one that has them."""
        found: dict[str, Commit] = {}
        with self._db.read() as conn:
            whole = ancestry.whole(queries.graph(conn, repository.id))
            for commit in queries.all_commits(conn, repository.id):
                about = commit.meta.get("git")
                git = about.get("commit") if isinstance(about, dict) else None  # "git" may be the user's own
                if commit.id not in whole:
                    continue  # others were pruned before a branch led to them: it is landed anew
                if isinstance(git, str) and (git not in found or found[git].generation < commit.generation):
                    found[git] = commit
        return found

    def _refuse_other_outputs(self, history: History, name: str, paths: Sequence[str], single: bool) -> None:
        """Refuses to go on with other outputs than before: its commits would lack their files."""
        repository = self.find(self._side.project_id, name)
        known = {} if repository is None else self._known(repository)
        for commit in history.commits:
            about = {} if commit.id not in known else known[commit.id].meta["git"]
            state = [path for path in history.states[commit.id] if path in paths]
            if about.get("outputs", outputs := _outputs(state, single)) != outputs:
                raise Invalid(
                    f"{name} was imported with other outputs of this DVC repository than those that are asked for now: "
                    f"its commit {known[commit.id].id[:12]} holds others. Nothing was imported.",
                    hint="Import with the same --target and --single as the first time, or under another NAME.",
                    details={"repository": name, "commit": known[commit.id].id, "git": commit.id},
                )

    def _more_by_now(self, node: Node, single: bool, commit: GitCommit) -> bool:
        """Whether contents that were missing when a commit was imported are there by now."""
        if not node.partial:
            return False
        held = self._held(node, single, commit)
        return any(
            path not in held and self._dvc.paths(blob.md5)
            for path, blob in self._contents.paths(node.state, single, commit).items()
        )

    def _held(self, node: Node, single: bool, commit: GitCommit) -> dict[str, Blob]:
        """Path -> content of what the tree of a commit holds."""
        named = self._contents.paths(node.state, single, commit)
        if not node.partial:
            return named
        there = {entry.path for entry in tree.walk(self._s.sessions.store, node.layout)}
        return {path: blob for path, blob in named.items() if path in there}

    def _commit(
        self,
        writer: Writer,
        naming: Naming,
        repository: Repository,
        commit: GitCommit,
        parents: list[Node],
        state: State,
        single: bool,
    ) -> Landing:
        """Stores the tree and the commit object of one commit of git."""
        base = parents[0] if parents else None
        before = {} if base is None else self._held(base, single, commit)
        after = self._contents.paths(state, single, commit)
        unlisted = sum(out in self._contents.unlisted for out in state.values())
        changed = {path: blob for path, blob in after.items() if before.get(path) != blob}
        self._contents.store_all(writer, naming, changed, commit)
        changes: dict[str, Entry | None] = dict.fromkeys(before.keys() - after.keys())
        for path, blob in changed.items():
            changes[path] = _entry(path, blob, self._contents.of(blob))
        layout = tree.apply(self._s.sessions.store, writer, base and base.layout, changes)
        naming.flush()  # nodes must be readable for the facts, and for the next commit
        facts = self._facts(writer, repository, None, Made(layout=layout))
        counts = {
            "added": len(changed.keys() - before.keys()),
            "updated": len(changed.keys() & before.keys()),
            "deleted": len(before.keys() - after.keys()),
            "stored": 0,
        }
        where = Ancestry(
            parents=tuple(node.id for node in parents),
            generation=1 + max((node.generation for node in parents), default=0),
        )
        missing = unlisted + sum(self._contents.of(blob) is None for blob in changed.values())
        about = {"commit": commit.id, "author": commit.author, "date": commit.date}
        about |= {"outputs": _outputs(state, single), "missing": missing}
        return self._prepare(
            writer,
            repository,
            MAIN,
            None,
            layout,
            replace(facts, stats={**facts.stats, **counts}),
            actor=Actor(name=commit.author),
            message=commit.message,
            meta={"git": about, "source": {"kind": "dvc", "path": str(self._dvc.folder)}},
            event_ms=commit.time * 1000,
            ancestry=where,
            checked=False,
        )

    # ---- rows

    def _land_waiting(self, naming: Naming, repository: Repository, waiting: list[Landing]) -> None:
        """Writes the rows of commits. No branch shows them before all are there."""
        if not waiting:
            return
        packs = naming.flush()
        self._s.faults.at("import.land")
        assets = self._s.assets
        with self._s.changes.begin("data.import", repository.project_id, self._actor) as change:
            self._s.sessions.seal(change.tx, packs)
            how = {"kind": "collection", "name": f"import {repository.name}", "actor": self._actor}
            trigger = f"dvc {self._dvc.folder}"
            run = assets.start_run(change.tx, repository.project_id, leased=False, trigger=trigger, **how)
            for landing in waiting:
                self._record(change, landing, run.id)
            assets.end_run(change.tx, run.id, RunState.DONE)
            change.note(repository.name, source=str(self._dvc.folder), commits=len(waiting))
        naming.named()
        waiting.clear()

    def _finish(
        self, repository: Repository, history: History, line: Line, path: str, count: int
    ) -> ImportedRepository:
        """Moves the branches, and makes the tags, once contract and hooks allow it."""
        return self._again(
            repository, MAIN, lambda: self._try_to_finish(self._fresh(repository), history, line, path, count)
        )

    def _try_to_finish(
        self, repository: Repository, history: History, line: Line, path: str, count: int
    ) -> ImportedRepository:
        moves, kept = list[Moved](), list[str]()
        heads = dict[str, CommitId]()
        with self._db.read() as conn:
            here = {branch.name: branch.head for branch in queries.branches(conn, repository.id)}
            tags = queries.tags(conn, repository.id)
            self._refuse_gaps(conn, repository, history, line)
            for name, tip in history.branches.items():
                node = line.of(tip)
                if node is None:
                    continue
                before = here.get(name)
                if before is None or (before != node.id and queries.reaches(conn, repository.id, node.id, before)):
                    moves.append(Moved(branch=name, before=before, after=node.id))
                elif before != node.id:
                    kept.append(name)
                    continue
                heads[name] = node.id
        new = {name: node.id for name, tip in history.tags.items() if name not in tags and (node := line.of(tip))}
        for move in moves:
            self._ask(repository, move)
        if moves or new:
            with self._s.changes.begin("data.import", repository.project_id, self._actor) as change:
                self._same_contract(change, repository)
                self._refuse_gaps(change.tx.conn, repository, history, line)
                self._s.faults.at("import.heads")
                land_tags(change, repository, new)
                if not move_heads(change, self._side, repository, moves):
                    raise LostRaceError
                change.note(repository.name, branches=sorted(heads), tags=sorted(new))
        return ImportedRepository(
            name=repository.name, path=path, commits=count, branches=heads, tags=tuple(new), kept=tuple(kept)
        )

    @staticmethod
    def _refuse_gaps(conn: Connection, repository: Repository, history: History, line: Line) -> None:
        """Raises where something that a branch or tag will lead to is not there any more."""
        tips = [line.of(tip) for tip in (*history.branches.values(), *history.tags.values())]
        if not ancestry.whole(queries.graph(conn, repository.id)).issuperset(node.id for node in tips if node):
            raise _PrunedError

    def _ask(self, repository: Repository, move: Moved) -> None:
        """Contract and hooks are asked as before a merge; of a branch that is new, other than ``main``, only hooks."""
        with self._db.read() as conn:
            before = None if move.before is None else queries.commit(conn, move.before)
            after = queries.commit(conn, move.after)
        assert after is not None
        asked = replace(repository, contract=None) if before is None and move.branch != MAIN else repository
        told = {"message": after.message, "meta": after.meta}
        source = f"dvc {self._dvc.folder}"
        try:
            self.admit(asked, move.branch, before, after, None, self._actor, source, **told)
        except FilesBroken as broken:
            name, details = repository.name, broken.details
            raise MoveBreaksContract(name, move.branch, after.id, "", "data.import", details) from broken


def _outputs(paths: Iterable[str], single: bool) -> str:
    """Which outputs a commit was made of, and how, in few bytes."""
    return canonical.digest({"outputs": sorted(paths), "single": single}).hex[:16]


def _entry(path: str, blob: Blob, content: FileContent | bytes | None) -> Entry | None:
    if content is None:
        return None
    if isinstance(content, bytes):
        return Entry(path=path, executable=blob.executable, size=len(content), inline=content)
    return Entry(path=path, executable=blob.executable, size=content.size, content=content)
