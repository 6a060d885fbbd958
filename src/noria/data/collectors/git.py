"""The history of a git repository, read with plain ``git``. Nothing of it is run: no hooks, no filters, no fetches."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from noria.base.errors import Unavailable
from noria.data.errors import SourceFailed

_SAFE: Final = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false")
_ENVIRONMENT: Final = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
_FIELD, _END = "\x1f", "\x1e"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitCommit:
    """One commit of git.

    Attributes:
        time: seconds since 1970, of the author. date: the same as git writes it, with its zone.
        author: ``Name <mail>``.
    """

    id: str
    parents: tuple[str, ...]
    author: str
    time: int
    date: str
    message: str


class Git:
    """One repository, seen from a folder in it. A context manager; not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reader: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Git:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._reader is not None:
            assert self._reader.stdin is not None
            assert self._reader.stdout is not None
            self._reader.stdin.close()
            self._reader.stdout.close()
            self._reader.wait()
            self._reader = None

    def commits(self, tips: Sequence[str]) -> Iterator[GitCommit]:
        """What the tips stand on, parents first."""
        shape = _FIELD.join(("%H", "%P", "%an <%ae>", "%at", "%aI", "%B")) + _END
        text = self._run("log", "--topo-order", "--reverse", f"--format={shape}", *tips, "--", errors="replace")
        for record in text.split(_END):
            fields = record.strip("\n").split(_FIELD)
            if len(fields) == 6:
                oid, parents, author, time, date, message = fields
                where = tuple(parents.split())
                known = {"author": author, "time": int(time), "date": date, "message": message.strip()}
                yield GitCommit(id=oid, parents=where, **known)

    def touching(self, tips: Sequence[str], patterns: Sequence[str]) -> set[str]:
        """The commits that change a file of these patterns, merges that differ from a parent included."""
        paths = [f":(glob){pattern}" for pattern in patterns]
        return set(self._run("log", "--full-history", "--format=%H", *tips, "--", *paths).split())

    def files(self, commit: str) -> dict[str, str]:
        """Files of a commit below the folder: path -> id of its blob. Links and submodules are left out."""
        found: dict[str, str] = {}
        for line in self._run("ls-tree", "-r", "-z", commit).split("\0"):
            about, _, path = line.partition("\t")
            if about.startswith(("100644 blob ", "100755 blob ", "100664 blob ")):
                found[path] = about.split(" ")[2]
        return found

    def blob(self, oid: str) -> bytes:
        if self._reader is None:
            self._reader = self._start("cat-file", "--batch")
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        self._reader.stdin.write(oid.encode() + b"\n")
        self._reader.stdin.flush()
        head = self._reader.stdout.readline().split()
        if len(head) != 3 or head[1] != b"blob":
            raise SourceFailed(f"git has no blob {oid} in {self.folder}.", hint="git fsck   tells what is damaged.")
        data = self._reader.stdout.read(int(head[2]) + 1)
        return data[:-1]

    def head(self) -> tuple[str, str]:
        """(the branch that is checked out, or "HEAD" where none is; its commit)."""
        commit = self._run("rev-parse", "--verify", "HEAD^{commit}").strip()
        return self._run("rev-parse", "--abbrev-ref", "HEAD").strip(), commit

    def refs(self) -> tuple[dict[str, str], dict[str, str]]:
        """(branches, tags): name -> commit."""
        branches, tags = dict[str, str](), dict[str, str]()
        shape = "--format=%(refname)%00%(objecttype)%00%(objectname)%00%(*objecttype)%00%(*objectname)"
        for line in self._run("for-each-ref", shape, "refs/heads", "refs/tags").splitlines():
            name, kind, oid, inner_kind, inner = line.split("\0")
            commit = oid if kind == "commit" else inner if inner_kind == "commit" else ""
            if commit:
                into = branches if name.startswith("refs/heads/") else tags
                into[name.split("/", 2)[2]] = commit
        return branches, tags

    def _command(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        return ["git", *_SAFE, "-C", str(self.folder), *arguments], {**os.environ, **_ENVIRONMENT}

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command, environment = self._command(arguments)
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except FileNotFoundError:
            raise _no_git() from None

    def _run(self, *arguments: str, errors: str = "surrogateescape") -> str:
        command, environment = self._command(arguments)
        try:
            done = subprocess.run(command, capture_output=True, check=False, env=environment)
        except FileNotFoundError:
            raise _no_git() from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise SourceFailed(
                f"git {arguments[0]} failed in {self.folder}: {said[-1] if said else done.returncode!s:.300}",
                hint="The folder has to lie in a git repository with at least one commit.",
            )
        return done.stdout.decode("utf-8", errors)


def _no_git() -> Unavailable:
    return Unavailable("The command git is not there.", hint="Install git, then repeat the command.")
