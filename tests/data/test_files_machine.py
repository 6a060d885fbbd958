"""Every verb of files, in any order, against a model of dictionaries."""

from __future__ import annotations

import shutil
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from noria import workspace as ws
from noria.data.edits import Append, Copy, Delete, Move, Put
from noria.data.errors import CommitInUse, MergeConflict, PathExists
from noria.data.records import RepositoryKind
from noria.testing import ManualClock

Content = dict[str, bytes]

NAMES = ("a", "b", "c/x", "c/y", "d/e/f")
paths = st.sampled_from(NAMES)
branches = st.sampled_from(("main", "x"))
blobs = st.sampled_from((b"", b"1", b"two" * 30, b"big" * 30_000))


def merged(base: Content, ours: Content, theirs: Content) -> tuple[Content, set[str]]:
    """What a three-way merge has to give, path by path."""
    result, conflicts = dict(ours), set[str]()
    for path in base.keys() | ours.keys() | theirs.keys():
        b, o, t = base.get(path), ours.get(path), theirs.get(path)
        if t in (b, o):
            continue
        if o != b:
            conflicts.add(path)
        elif t is None:
            result.pop(path, None)
        else:
            result[path] = t
    return result, conflicts


PATTERNS = ("a", "b", "c", "c/", "c/x", "c/*", "*", "*/x", "d*", "d/e/f")
resolves = st.dictionaries(st.sampled_from(PATTERNS), st.sampled_from(("ours", "theirs")), max_size=3)


def side(path: str, strategy: str, resolve: dict[str, str]) -> str:
    """Who wins a path: the most exact pattern, nobody where the most exact ones disagree, else the strategy."""
    fits = {
        p: (p == path, len(p.rstrip("/").replace("*", "")))
        for p in resolve
        if fnmatchcase(path, p) or f"{path}/".startswith(f"{p.rstrip('/')}/")
    }
    said = {resolve[p] for p, exact in fits.items() if exact == max(fits.values())}
    return strategy if not said else said.pop() if len(said) == 1 else "conflict"


class FilesMachine(RuleBasedStateMachine):
    """The model: commit id -> content and first parent; branch -> commit id; folder -> content and where it came from."""

    commits = Bundle("commits")
    drafts = Bundle("drafts")

    @initialize(target=commits)
    def begin(self) -> Any:
        self.root = Path(tempfile.mkdtemp())
        self.ws = ws.init(self.root, clock=ManualClock(), environment={})
        self.actor = self.ws.actor
        self.repo = self.ws.files.create(self.ws.project.id, "f", RepositoryKind.FILES, actor=self.actor)
        self.content: dict[str, Content] = {}
        self.parents: dict[str, tuple[str, ...]] = {}
        self.heads: dict[str, str] = {}
        self.edited: dict[str, tuple[str, str, Content]] = {}
        self.folder = self.root / "folder"
        self.folder_from: str | None = None
        self.folders = 0
        first = self.ws.files.change(self.repo, [Put("a", "start")], actor=self.actor)
        self._note(first, "main", {"a": b"start"})
        self.ws.files.create_branch(self.repo, "x", actor=self.actor)
        self.heads["x"] = first.id
        return first.id

    def teardown(self) -> None:
        if hasattr(self, "ws"):
            assert self.ws.verify(data=True) == []
            self.ws.close()
            shutil.rmtree(self.root)

    def _note(self, commit: Any, branch: str, content: Content) -> str:
        self.content[commit.id] = dict(content)
        self.parents[commit.id] = commit.parents
        self.heads[branch] = commit.id
        return commit.id

    def _head(self, branch: str) -> Content:
        return dict(self.content[self.heads[branch]])

    def _before(self, commit: str) -> Content:
        parents = self.parents[commit]
        return self.content[parents[0]] if parents else {}

    def _ancestors(self, commit: str) -> set[str]:
        found, todo = set[str](), [commit]
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += self.parents[one]
        return found

    def _reachable(self) -> set[str]:
        return set().union(*(self._ancestors(h) for h in self.heads.values()))

    # ---- change sets

    @rule(target=commits, branch=branches, path=paths, data=blobs)
    def put(self, branch: str, path: str, data: bytes) -> Any:
        done = self.ws.files.change(self.repo, [Put(path, data)], actor=self.actor, branch=branch)
        return self._note(done, branch, {**self._head(branch), path: data})

    @rule(target=commits, branch=branches, path=paths, data=blobs)
    def append(self, branch: str, path: str, data: bytes) -> Any:
        done = self.ws.files.change(self.repo, [Append(path, data)], actor=self.actor, branch=branch)
        before = self._head(branch)
        return self._note(done, branch, {**before, path: before.get(path, b"") + data})

    @rule(target=commits, branch=branches, data=st.data())
    def delete(self, branch: str, data: Any) -> Any:
        before = self._head(branch)
        if not before:
            return multiple()
        path = data.draw(st.sampled_from(sorted(before)))
        done = self.ws.files.change(self.repo, [Delete(path)], actor=self.actor, branch=branch)
        return self._note(done, branch, {k: v for k, v in before.items() if k != path})

    @rule(target=commits, branch=branches, to=paths, move=st.booleans(), force=st.booleans(), data=st.data())
    def copy_or_move(self, branch: str, to: str, move: bool, force: bool, data: Any) -> Any:
        before = self._head(branch)
        others = sorted(before.keys() - {to})
        if not others:
            return multiple()
        path = data.draw(st.sampled_from(others))
        edit = Move(path, to, force) if move else Copy(path, to, overwrite=force)
        try:
            done = self.ws.files.change(self.repo, [edit], actor=self.actor, branch=branch)
        except PathExists as error:
            lost = error.details["paths"]
            assert (lost, force) == ([to], False)
            assert move or before[to] != before[path]
            return multiple()
        assert force or to not in before or (not move and before[to] == before[path])
        after = {**before, to: before[path]}
        if move:
            del after[path]
        return self._note(done, branch, after)

    # ---- folders

    @rule(branch=branches)
    def checkout(self, branch: str) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folders += 1
        self.folder = self.root / f"folder-{self.folders}"
        self.ws.files.checkout(self.repo, self.folder, branch)
        self.folder_from = self.heads[branch]
        assert on_disk(self.folder) == self._head(branch)

    @rule(target=commits, branch=branches, path=paths, data=blobs)
    def commit_folder(self, branch: str, path: str, data: bytes) -> Any:
        """A folder in which one file was written; others may have committed since it was checked out."""
        if self.folder_from is None or self.folder_from not in self._ancestors(self.heads[branch]):
            return multiple()
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        mine, base = on_disk(self.folder), self.content[self.folder_from]
        expected, conflicts = merged(base, self._head(branch), mine)
        try:
            done = self.ws.files.commit(self.repo, self.folder, actor=self.actor, branch=branch)
        except MergeConflict as error:
            self._named(error, conflicts)
            self.folder_from = None
            return multiple()
        assert not conflicts
        if (
            len(done.parents) > 1 and done.id not in self.content
        ):  # merged: the folder's own commit is the second parent
            beside = self.ws.files.commit_by_id(done.parents[1])[1]
            self.content[beside.id], self.parents[beside.id] = mine, beside.parents
            self.folder_from = beside.id
        else:
            self.folder_from = done.id if on_disk(self.folder) == expected else self.folder_from
        return self._note(done, branch, expected)

    # ---- history

    def _settle(
        self, expected: Content, conflicts: set[str], theirs: Content, strategy: str, resolve: dict[str, str]
    ) -> set[str]:
        """Gives conflicts to whom they go; those that stay."""
        for path in conflicts:
            if side(path, strategy, resolve) == "theirs":
                expected.pop(path, None)
                expected.update({path: theirs[path]} if path in theirs else {})
        return {path for path in conflicts if side(path, strategy, resolve) == "conflict"}

    @rule(
        target=commits,
        source=branches,
        strategy=st.sampled_from(("conflict", "ours", "theirs")),
        resolve=resolves,
        forward=st.booleans(),
    )
    def merge(self, source: str, strategy: str, resolve: dict[str, str], forward: bool) -> Any:
        into = "x" if source == "main" else "main"
        ours, theirs = self.heads[into], self.heads[source]
        common = self._ancestors(ours) & self._ancestors(theirs)
        tops = [c for c in common if not any(c != d and c in self._ancestors(d) for d in common)]
        if len(tops) != 1:
            return multiple()  # criss-cross: which of them is the base is not for this model to say
        base = tops[0]
        expected, conflicts = merged(self.content[base], self.content[ours], self.content[theirs])
        conflicts = self._settle(expected, conflicts, self.content[theirs], strategy, resolve)
        how: dict[str, Any] = {"into": into, "strategy": strategy, "resolve": resolve, "fast_forward": forward}
        seen = self.ws.files.preview_merge(self.repo, source, **how)
        assert (seen.head, seen.source, set(seen.conflicts)) == (ours, theirs, conflicts)
        assert seen.count == len(self._ancestors(theirs) - self._ancestors(ours))
        try:
            done = self.ws.files.merge(self.repo, source, actor=self.actor, **how)
        except MergeConflict as error:
            self._named(error, conflicts)
            return multiple()
        assert not conflicts
        before = self.content[ours]
        assert {c.path for c in seen.changes} == {p for p in {**before, **expected} if before.get(p) != expected.get(p)}
        assert seen.how == ("nothing" if done.id == ours else "fast-forward" if done.id == theirs else "merge")
        return self._note(done, into, expected)

    @rule(target=commits, ref=commits, branch=branches, back=st.booleans(), resolve=resolves)
    def revert_or_pick(self, ref: str, branch: str, back: bool, resolve: dict[str, str]) -> Any:
        if ref not in self._reachable():
            return multiple()
        base, theirs = self.content[ref], self._before(ref)
        if not back:
            base, theirs = theirs, base
        expected, conflicts = merged(base, self._head(branch), theirs)
        conflicts = self._settle(expected, conflicts, theirs, "conflict", resolve)
        verb = self.ws.files.revert if back else self.ws.files.cherry_pick
        try:
            done = verb(self.repo, ref, branch=branch, actor=self.actor, resolve=resolve)
        except MergeConflict as error:
            self._named(error, conflicts)
            return multiple()
        assert not conflicts
        return self._note(done, branch, expected)

    @rule(ref=commits, branch=branches)
    def reset(self, ref: str, branch: str) -> None:
        if ref in self._reachable():
            self.ws.files.reset(self.repo, ref, branch=branch, actor=self.actor)
            self.heads[branch] = ref

    @rule(target=commits, branch=branches, steps=st.integers(1, 3))
    def squash(self, branch: str, steps: int) -> Any:
        line, at = [], self.heads[branch]
        while len(line) < steps and self.parents[at]:
            line.append(at)
            at = self.parents[at][0]
        if not line:
            return multiple()
        before = self._head(branch)
        done = self.ws.files.squash(self.repo, at, branch=branch, actor=self.actor)
        self._note(done, branch, before)
        self._forget()
        return done.id

    @rule(branch=branches)
    def drop(self, branch: str) -> None:
        head = self.heads[branch]
        if not self.parents[head]:
            return
        left = self.parents[head][0]
        other = "x" if branch == "main" else "main"
        gone = self._ancestors(head) - self._ancestors(left)
        held = gone & self._ancestors(self.heads[other])
        for _, base, _ in self.edited.values():  # an open commit needs the one it began at
            held |= gone & self._ancestors(base)
        try:
            self.ws.files.drop(self.repo, branch=branch, actor=self.actor)
        except CommitInUse:
            assert held
            return
        assert not held
        self.heads[branch] = left
        self._forget()

    def _forget(self) -> None:
        """What nothing leads to may be gone."""
        if self.folder_from is not None and self.folder_from not in self._reachable():
            self.folder_from = None

    # ---- open commits

    @rule(target=drafts, branch=branches)
    def start(self, branch: str) -> str:
        draft = self.ws.files.start(self.repo, actor=self.actor, branch=branch)
        self.edited[draft.id] = (branch, self.heads[branch], self._head(branch))
        return draft.id

    @rule(draft=drafts, path=paths, data=blobs)
    def edit(self, draft: str, path: str, data: bytes) -> None:
        self.ws.files.edit(self.repo, draft, [Put(path, data)], actor=self.actor)
        self.edited[draft][2][path] = data

    @rule(target=commits, draft=consumes(drafts))
    def finish(self, draft: str) -> Any:
        branch, base, mine = self.edited.pop(draft)
        expected, conflicts = merged(self.content[base], self._head(branch), mine)
        try:
            done = self.ws.files.finish(self.repo, draft, actor=self.actor)
        except MergeConflict as error:
            self._named(error, conflicts)
            self.ws.files.drop_draft(self.repo, draft, actor=self.actor)
            return multiple()
        assert not conflicts
        return self._note(done, branch, expected)

    @staticmethod
    def _named(error: MergeConflict, conflicts: set[str]) -> None:
        assert set(error.details["conflicts"]) == conflicts

    # ---- what always holds

    @invariant()
    def heads_hold_what_the_model_holds(self) -> None:
        for branch, head in getattr(self, "heads", {}).items():
            stood = self.ws.files.head(self.repo, branch)
            assert stood.id == head
            assert self._held(branch) == self.content[head]

    @rule(ref=commits)
    def every_commit_of_the_history_is_there(self, ref: str) -> None:
        if ref in self._reachable():
            assert self._held(ref) == self.content[ref]

    def _held(self, ref: str) -> Content:
        files = self.ws.files
        return {e.path: files.read_file(self.repo, e.path, ref) for e in files.files(self.repo, ref)}

    @rule(gone=st.just(None))
    def prune(self, gone: None) -> None:
        self.ws.files.prune(self.repo, actor=self.actor)
        self._forget()

    @rule()
    def collect_garbage(self) -> None:
        self.ws.gc.run()


def on_disk(folder: Path) -> Content:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


TestFiles = FilesMachine.TestCase
TestFiles.settings = settings(
    max_examples=6, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
