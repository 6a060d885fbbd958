"""Moving in from DVC: the history of tracked data in git becomes commits here.

Each commit of git that changed a tracked output becomes one of ours, with its author, message and place in the
history; ``meta["git"]`` says which it was. By that a second import, or one that was killed, finds what is there
already, and by what it says of the outputs whether the same is asked for again. Contents are read once, by their MD5,
and checked against it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final, cast

from noria.assets.records import RunState
from noria.base import canonical
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.ids import CommitId
from noria.base.names import check_branch, check_name
from noria.data import queries
from noria.data.collectors.dvc import PATTERNS, Blob, DvcRepository, Md5Reader, Out
from noria.data.collectors.git import Git, GitCommit
from noria.data.errors import ContentLost
from noria.data.records import MAIN, Commit, Imported, ImportedRepository, Lost, Moved, Repository, RepositoryKind
from noria.data.service.base import Ancestry, Landing, Made, Services
from noria.data.service.receiving import Side, land_tags, move_heads
from noria.data.service.refs import RefVerbs
from noria.data.service.sending import Naming
from noria.store import Entry, FileContent, Kind, Writer, files, tree
from noria.store.folders import INLINE

_LANDED_AT_ONCE: Final = 200
State = Mapping[str, Out]
"""Path -> output: what DVC tracks at one commit of git."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A commit of ours that stands for one of git's."""

    id: CommitId
    layout: Digest
    generation: int
    parents: tuple[CommitId, ...]
    state: State
    partial: bool = False
    """Some contents were missing, so the tree does not hold all that ``state`` names."""


@dataclass(slots=True, kw_only=True)
class _History:
    """What git has to say, read once."""

    commits: list[GitCommit]
    states: dict[str, State]
    branches: dict[str, str]
    tags: dict[str, str]


@dataclass(slots=True, kw_only=True)
class _Report:
    files: int = 0
    read: int = 0
    lost: dict[tuple[str, str], Lost] = field(default_factory=dict[tuple[str, str], Lost])
    left: dict[tuple[str, str], Lost] = field(default_factory=dict[tuple[str, str], Lost])

    def lose(self, path: str, commit: str, why: str) -> None:
        self.lost.setdefault((path, why), Lost(path=path, commit=commit, why=why))


class DvcImport(RefVerbs):
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
        self._advance = advance
        self._report = _Report()
        self._contents: dict[str, FileContent | bytes | None] = {}
        self._listings: dict[Out, dict[str, Blob]] = {}
        self._unlisted: set[Out] = set()

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
        """
        with Git(self._dvc.folder) as git:
            history = self._read(git, targets, refs, everything)
        groups = self._groups(history, name, single)
        for repository_name, paths in groups.items():
            self._refuse_other_outputs(history, repository_name, paths, single)
        if not self._skip_missing:
            self._look_for_all(history, groups)
        done = list[ImportedRepository]()
        with self._s.sessions.writer() as writer:
            naming = Naming(self._s.sessions, self._s.db, writer, self._s.faults)
            for repository_name, paths in groups.items():
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

    # ---- what there is

    def _read(self, git: Git, targets: Sequence[str], refs: Sequence[str], everything: bool) -> _History:
        branches, tags = self._refs(git, refs, everything)
        tips = sorted({*branches.values(), *tags.values()})
        touching = git.touching(tips, PATTERNS)
        made = _History(commits=list(git.commits(tips)), states={}, branches=branches, tags=tags)
        wanted = [target.rstrip("/").removesuffix(".dvc") for target in targets]
        for commit in made.commits:
            before = made.states.get(commit.parents[0]) if len(commit.parents) == 1 else None
            if before is not None and commit.id not in touching:
                made.states[commit.id] = before
                continue
            outs, left = self._dvc.outs(git, git.files(commit.id))
            for path, why in left:
                self._report.left.setdefault((path, why), Lost(path=path, commit=commit.id, why=why))
            made.states[commit.id] = {p: o for p, o in outs.items() if not wanted or _below_any(p, wanted)}
        return made

    def _refs(self, git: Git, refs: Sequence[str], everything: bool) -> tuple[dict[str, str], dict[str, str]]:
        """(our branch -> commit of git, tag -> commit of git). The branch that is checked out becomes main."""
        current, head = git.head()
        branches, tags = git.refs() if everything or refs else ({}, {})
        unknown = [ref for ref in refs if ref not in branches]
        if unknown:
            raise Invalid(f"git has no branch {unknown[0]!r}.", hint=f"Branches: {', '.join(branches)}.")
        chosen = {ref: branches[ref] for ref in refs} if refs else branches
        if not refs or current in chosen:
            chosen = {name: commit for name, commit in chosen.items() if name != current}
            chosen[current if MAIN in chosen else MAIN] = head
        return self._allowed(chosen), self._allowed(tags if everything else {})

    def _allowed(self, refs: dict[str, str]) -> dict[str, str]:
        """Those whose names may be names here."""
        allowed: dict[str, str] = {}
        for name, commit in refs.items():
            try:
                allowed[check_branch(name)] = commit
            except Invalid as error:
                self._report.left[name, error.message] = Lost(path=name, commit=commit, why=error.message)
        return allowed

    def _groups(self, history: _History, name: str | None, single: bool) -> dict[str, list[str]]:
        """Our repository -> paths of the outputs that it takes."""
        paths = sorted({path for state in history.states.values() for path in state})
        if not paths:
            raise Invalid(
                f"No output that DVC tracks was found in {self._dvc.folder}.",
                hint="Only what a .dvc file or dvc.lock in git names is imported; see --target.",
            )
        if single:
            return {check_name(name or _valid(self._dvc.folder.name), "a repository"): paths}
        if len(paths) == 1 and name is not None:
            return {check_name(name, "a repository"): paths}
        groups: dict[str, list[str]] = {}
        for path in paths:
            made = _valid(path) if name is None else check_name(f"{name}.{_valid(path)}", "a repository")
            if made in groups:
                raise Invalid(
                    f"{path} and {groups[made][0]} would both become the repository {made!r}.",
                    hint="Import them one by one, with --target PATH and a name; or all in one, with --single.",
                )
            groups[made] = [path]
        return groups

    def _look_for_all(self, history: _History, groups: Mapping[str, list[str]]) -> None:
        """Says everything that is missing before anything is imported."""
        seen = set[Out]()
        found = dict[str, bool]()
        wanted = {path for paths in groups.values() for path in paths}
        for commit in history.commits:
            for path, out in history.states[commit.id].items():
                if path not in wanted or out in seen:
                    continue
                seen.add(out)
                for below, blob in self._listing(out, commit.id).items():
                    if blob.md5 not in found:
                        found[blob.md5] = bool(self._dvc.paths(blob.md5))
                    if not found[blob.md5]:
                        place = f"{path}/{below}" if out.is_folder else path
                        self._report.lose(place, commit.id, f"is missing (MD5 {blob.md5})")
        if self._report.lost:
            raise self._lost()

    def _lost(self) -> ContentLost:
        lost = [{"path": one.path, "commit": one.commit, "why": one.why} for one in self._report.lost.values()]
        hint = "dvc fetch --all-commits   brings contents from a remote; --skip-missing imports without them."
        return ContentLost(lost, hint)

    def _listing(self, out: Out, commit: str) -> dict[str, Blob]:
        if out not in self._listings:
            found = self._dvc.listing(out)
            if found is None:
                self._unlisted.add(out)
                self._report.lose(out.path, commit, f"is missing: its list of files ({out.md5})")
                return {}
            while len(self._listings) >= 8:
                self._listings.pop(next(iter(self._listings)))
            self._listings[out] = found
        return self._listings[out]

    # ---- one repository

    def _import(
        self, writer: Writer, naming: Naming, history: _History, name: str, paths: list[str], single: bool
    ) -> ImportedRepository:
        project = self._side.project_id
        repository = self.ensure(project, name, RepositoryKind.FILES, actor=self._actor)
        known = self._known(repository)
        line = _Line(paths)
        waiting = list[Landing]()
        count = 0
        for commit in history.commits:
            state = {path: out for path, out in history.states[commit.id].items() if path in line.paths}
            if commit.id in known:
                line.put(commit.id, _node(known[commit.id], state))
                continue
            parents = line.heads(commit)
            if not parents and not state:
                continue
            if len(parents) == 1 and parents[0].state == state:
                line.put(commit.id, parents[0])
                continue
            landing = self._commit(writer, naming, repository, commit, parents, state, single)
            line.put(commit.id, _landed(landing, state))
            waiting.append(landing)
            count += 1
            if len(waiting) >= _LANDED_AT_ONCE:
                self._land_waiting(naming, repository, waiting)
        old, completed = {c.id for c in known.values()}, dict[CommitId, _Node]()
        for commit in (c for c in history.commits if c.id in history.branches.values()):
            node = line.of(commit.id)
            if node is None or node.id not in old or not self._more_by_now(node, single, commit):
                continue
            if node.id not in completed:
                landing = self._commit(writer, naming, repository, commit, [node], node.state, single)
                completed[node.id] = _landed(landing, node.state)
                waiting.append(landing)
                count += 1
            line.put(commit.id, completed[node.id])
        self._land_waiting(naming, repository, waiting)
        return self._finish(repository, history, line, paths[0] if len(paths) == 1 else ".", count)

    def _known(self, repository: Repository) -> dict[str, Commit]:
        """Commit of git -> ours; where contents that were missing came later, the one that has them."""
        found: dict[str, Commit] = {}
        with self._db.read() as conn:
            for commit in queries.all_commits(conn, repository.id):
                about = commit.meta.get("git")
                git = about.get("commit") if isinstance(about, dict) else None  # "git" may be the user's own
                if isinstance(git, str) and (git not in found or found[git].generation < commit.generation):
                    found[git] = commit
        return found

    def _refuse_other_outputs(self, history: _History, name: str, paths: Sequence[str], single: bool) -> None:
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

    def _more_by_now(self, node: _Node, single: bool, commit: GitCommit) -> bool:
        """Whether contents that were missing when a commit was imported are there by now."""
        if not node.partial:
            return False
        held = self._held(node, single, commit)
        return any(
            path not in held and self._dvc.paths(blob.md5)
            for path, blob in self._paths(node.state, single, commit).items()
        )

    def _held(self, node: _Node, single: bool, commit: GitCommit) -> dict[str, Blob]:
        """Path -> content of what the tree of a commit holds."""
        named = self._paths(node.state, single, commit)
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
        parents: list[_Node],
        state: State,
        single: bool,
    ) -> Landing:
        """Stores the tree and the commit object of one commit of git."""
        base = parents[0] if parents else None
        before = {} if base is None else self._held(base, single, commit)
        after = self._paths(state, single, commit)
        unlisted = sum(out in self._unlisted for out in state.values())
        changed = {path: blob for path, blob in after.items() if before.get(path) != blob}
        self._store_all(writer, naming, changed, commit)
        changes: dict[str, Entry | None] = dict.fromkeys(before.keys() - after.keys())
        for path, blob in changed.items():
            changes[path] = _entry(path, blob, self._contents[blob.md5])
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
        missing = unlisted + sum(self._contents[blob.md5] is None for blob in changed.values())
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

    def _paths(self, state: State, single: bool, commit: GitCommit) -> dict[str, Blob]:
        """Every path of a tree -> its content."""
        found: dict[str, Blob] = {}
        for path, out in state.items():
            listing = self._listing(out, commit.id)
            if not single:
                found.update(listing)
            elif out.is_folder:
                found.update({f"{path}/{below}": blob for below, blob in listing.items()})
            else:
                (found[path],) = listing.values()
        return found

    # ---- contents

    def _store_all(self, writer: Writer, naming: Naming, wanted: Mapping[str, Blob], commit: GitCommit) -> None:
        """Reads every content that was not read yet; small ones are stored together."""
        small = list[tuple[str, bytes]]()
        for path, blob in wanted.items():
            if blob.md5 in self._contents:
                continue
            self._contents[blob.md5] = None
            read = self._read_blob(writer, blob)
            if isinstance(read, bytes) and len(read) > INLINE:
                small.append((blob.md5, read))
                if len(small) >= 256:
                    self._store_small(writer, small)
            elif read is not None:
                self._contents[blob.md5] = read
            else:
                self._report.lose(path, commit.id, f"is missing or damaged (MD5 {blob.md5})")
                if not self._skip_missing:
                    raise self._lost()
            naming.step()
        self._store_small(writer, small)

    def _store_small(self, writer: Writer, small: list[tuple[str, bytes]]) -> None:
        oids = writer.put_all(Kind.CHUNK, [data for _, data in small])
        for oid, (md5, data) in zip(oids, small, strict=True):
            self._contents[md5] = FileContent(kind=Kind.CHUNK, id=oid, size=len(data))
        small.clear()

    def _read_blob(self, writer: Writer, blob: Blob) -> FileContent | bytes | None:
        """A small content itself, a large one stored; None where no place holds it whole."""
        for path in self._dvc.paths(blob.md5):
            with path.open("rb", buffering=0) as file:
                reader = Md5Reader(file, legacy=blob.legacy)
                size = path.stat().st_size
                content = reader.read() if size < files.SMALL else files.put_stream(writer, cast("BinaryIO", reader))
            if reader.fits(blob.md5):
                self._report.files += 1
                self._report.read += size
                if self._advance is not None:
                    self._advance(size)
                return content
        return None

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
        self, repository: Repository, history: _History, line: _Line, path: str, count: int
    ) -> ImportedRepository:
        """Moves the branches, and makes the tags."""
        moves, kept = list[Moved](), list[str]()
        heads = dict[str, CommitId]()
        with self._db.read() as conn:
            here = {branch.name: branch.head for branch in queries.branches(conn, repository.id)}
            tags = queries.tags(conn, repository.id)
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
        if moves or new:
            with self._s.changes.begin("data.import", repository.project_id, self._actor) as change:
                self._s.faults.at("import.heads")
                land_tags(change, repository, new)
                if not move_heads(change, self._side, repository, moves):
                    raise Invalid(f"A branch of {repository.name} moved during the import.", hint="Repeat it.")
                change.note(repository.name, branches=sorted(heads), tags=sorted(new))
        return ImportedRepository(
            name=repository.name, path=path, commits=count, branches=heads, tags=tuple(new), kept=tuple(kept)
        )


class _Line:
    """Which commit of ours stands for each commit of git, in one repository."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = frozenset(paths)
        self._of: dict[str, _Node] = {}
        self._nodes: dict[CommitId, _Node] = {}

    def put(self, git: str, node: _Node) -> None:
        self._of[git] = node
        self._nodes[node.id] = node

    def of(self, git: str) -> _Node | None:
        return self._of.get(git)

    def heads(self, commit: GitCommit) -> list[_Node]:
        """What stands for its parents, without what another of them stands on already."""
        found = list({node.id: node for p in commit.parents if (node := self._of.get(p)) is not None}.values())
        return [one for one in found if not any(self._reaches(other, one) for other in found if other is not one)]

    def _reaches(self, tip: _Node, wanted: _Node) -> bool:
        pending, seen = [tip], {tip.id}
        while pending:
            node = pending.pop()
            if node.id == wanted.id:
                return True
            for parent in node.parents:
                known = self._nodes.get(parent)
                if known is not None and parent not in seen and known.generation >= wanted.generation:
                    seen.add(parent)
                    pending.append(known)
        return False


def _node(commit: Commit, state: State) -> _Node:
    partial = bool(commit.meta["git"].get("missing"))
    return _Node(commit.id, commit.layout, commit.generation, commit.parents, state, partial)


def _landed(landing: Landing, state: State) -> _Node:
    partial = bool(landing.meta["git"]["missing"])
    return _Node(landing.id, landing.layout, landing.ancestry.generation, landing.ancestry.parents, state, partial)


def _outputs(paths: Iterable[str], single: bool) -> str:
    """Which outputs a commit was made of, and how, in few bytes."""
    return canonical.digest({"outputs": sorted(paths), "single": single}).hex[:16]


def _entry(path: str, blob: Blob, content: FileContent | bytes | None) -> Entry | None:
    if content is None:
        return None
    if isinstance(content, bytes):
        return Entry(path=path, executable=blob.executable, size=len(content), inline=content)
    return Entry(path=path, executable=blob.executable, size=content.size, content=content)


def _below_any(path: str, targets: Iterable[str]) -> bool:
    return any(path == target or path.startswith(f"{target}/") for target in targets)


def _valid(path: str) -> str:
    """A path as the name of a repository: data/images becomes data.images."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", path.replace("/", "."))
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"
