"""Folders and prefixes of buckets as they are, into repositories of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from noria.assets import StoreSessions
from noria.base.actor import Actor
from noria.base.clock import Clock
from noria.data.records import MAIN, Repository, RepositoryKind
from noria.data.service import Data
from noria.data.service.collecting.mirror import Mirror
from noria.data.service.collecting.runs import CollectionRuns
from noria.data.service.collecting.sources import Collected
from noria.data.service.landing import again
from noria.store import Entry, Writer, tree
from noria.store.buckets import is_bucket_url

_HAPPENED = {"added": "is new", "changed": "changed", "removed": "is gone"}


class FolderCollector:
    """One per workspace.

    Args:
        root: of the project; paths of folders begin there.
        downloads: where objects of buckets are kept until they are committed.
    """

    def __init__(
        self,
        data: Data,
        sessions: StoreSessions,
        runs: CollectionRuns,
        clock: Clock,
        root: Path,
        downloads: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._data = data
        self._sessions = sessions
        self._runs = runs
        self._clock = clock
        self._root = root
        self._downloads = downloads
        self._environment = environment

    def collect(
        self,
        repository: Repository,
        place: Path | str,
        *,
        actor: Actor,
        branch: str = MAIN,
        message: str = "",
        advance: Callable[..., None] | None = None,
    ) -> Collected:
        """Commits a folder, or a prefix of a bucket, as it is now; no commit where it is as it was.

        Args:
            place: a folder below the project's root, or ``s3://bucket/prefix/``, with a pattern where not all of it
                is wanted.

        Raises:
            SourceFailed: the bucket does not answer, or what it holds cannot be files of a repository.
        """
        if repository.kind != RepositoryKind.FILES:
            self._data.get(repository.project_id, repository.name, RepositoryKind.FILES)
        if isinstance(place, str) and is_bucket_url(place):
            return self._mirror(repository, place, actor, branch, message, advance)
        folder = self._root / place
        meta = {"source": {"kind": "folder", "path": str(folder)}}
        head = self._data.head(repository, branch)
        commit = self._data.commit(
            repository, folder, actor=actor, branch=branch, message=message, meta=meta, snapshot=True
        )
        return Collected(commits=[] if head is not None and head.id == commit.id else [commit])

    def pending(self, repository: Repository, place: Path | str) -> list[str]:
        """What of a folder, or of a prefix of a bucket, differs from what was committed, in words."""
        if isinstance(place, str) and is_bucket_url(place):
            mirror = Mirror(self._data, self._sessions, place, self._environment, self._downloads)
            found = mirror.compare(repository, MAIN)
            return [*(f"{p} is new or changed" for p in found.changed), *(f"{p} is gone" for p in found.gone)]
        return [f"{c.path} {_HAPPENED[c.kind]}" for c in self._data.status(repository, self._root / place).changes]

    def _mirror(
        self,
        repository: Repository,
        url: str,
        actor: Actor,
        branch: str,
        message: str,
        advance: Callable[..., None] | None,
    ) -> Collected:
        mirror = Mirror(self._data, self._sessions, url, self._environment, self._downloads)
        done = Collected()

        def attempt() -> None:
            found = mirror.compare(repository, branch)
            if not found.changed and not found.gone:
                return
            run_id = self._runs.begin(repository, actor, done)
            commit = mirror.commit(
                repository, branch, found, actor=actor, message=message, run_id=run_id, advance=advance
            )
            done.commits.append(commit)

        with self._runs.ending(done):
            again(self._clock, repository.name, branch, attempt)
        return done

    def commit_entries(
        self,
        repository: Repository,
        changes: Callable[[Writer], dict[str, Entry | None]],
        *,
        actor: Actor,
        branch: str,
        meta: dict[str, Any],
        message: str,
    ) -> Collected:
        """Commits some paths beside the others, under a run of a collection; none where nothing changes.

        Args:
            changes: path -> entry, or None for one that goes. It is called again where others committed meanwhile.

        Raises:
            HeadMoved: others committed faster, again and again.
        """
        done = Collected()

        def attempt() -> None:
            head = self._data.head(repository, branch)
            with self._sessions.writer() as writer:
                made = changes(writer)
                root = tree.apply(self._sessions.store, writer, head and head.layout, made)
                if (head is not None and root == head.layout) or not made:
                    done.met = head
                    return
                run_id = self._runs.begin(repository, actor, done)
                how: dict[str, Any] = {"message": message, "meta": {"source": meta}, "run_id": run_id, "expected": head}
                commit = self._data.commit_tree(writer, repository, root, actor=actor, branch=branch, **how)
                done.commits.append(commit)

        with self._runs.ending(done):
            again(self._clock, repository.name, branch, attempt)
        return done
