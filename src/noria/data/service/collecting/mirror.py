"""A prefix of a bucket as a tree of files: only objects that changed are fetched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from noria.assets import StoreSessions
from noria.base.actor import Actor
from noria.base.ids import RunId
from noria.data.collectors.buckets import Listing, nothing_there, quick, tree_paths
from noria.data.collectors.downloads import Downloads
from noria.data.errors import SourceFailed
from noria.data.records import Commit, Repository
from noria.data.service.files import Files
from noria.store import Entry, EntryKind, Writer, files, tree
from noria.store.buckets import ObjectInfo
from noria.store.folders import INLINE

SOURCE: Final = "source"
"""In the metadata of an entry: size, ETag and version of the object that it was made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How a prefix differs from a commit.

    Attributes:
        changed: path -> object that is new or another one.
        gone: paths whose object is no longer there.
        entries: those of the commit, by their paths.
        objects: how many there are in all.
    """

    head: Commit | None
    changed: dict[str, ObjectInfo]
    gone: list[str]
    entries: dict[str, Entry]
    objects: int


class Mirror:
    def __init__(
        self, data: Files, sessions: StoreSessions, url: str, environment: Mapping[str, str], folder: Path
    ) -> None:
        self._data = data
        self._sessions = sessions
        self._url = url
        self._listing = Listing(url, environment)
        self._downloads = Downloads(self._listing.bucket, folder)

    def compare(self, repository: Repository, branch: str) -> Compared:
        """Lists the prefix, and looks which objects are not those that the branch's files were made from."""
        wanted = tree_paths(self._listing)
        head = self._data.head(repository, branch)
        entries = {} if head is None else {e.path: e for e in tree.walk(self._sessions.store, head.layout)}
        if not wanted:
            if not entries:
                raise nothing_there(self._url)
            raise SourceFailed(
                f"{self._url} holds no object any more; {repository.name} has {len(entries)} files of it. Nothing was "
                "changed.",
                hint="Check the bucket and the prefix. If they are really gone: commit an empty folder.",
            )
        changed = {
            path: info
            for path, info in wanted.items()
            if (entry := entries.get(path)) is None or entry.meta.get(SOURCE) != quick(info)
        }
        gone = [path for path in entries if path not in wanted]
        return Compared(head=head, changed=changed, gone=gone, entries=entries, objects=len(wanted))

    def commit(
        self,
        repository: Repository,
        branch: str,
        found: Compared,
        *,
        actor: Actor,
        message: str,
        run_id: RunId,
        advance: Callable[..., None] | None,
    ) -> Commit:
        """Fetches what changed and commits it, all at once.

        Objects that arrived are kept until then: interrupted and called again, it goes on with the rest.

        Raises:
            LostRaceError: others committed since ``found``: compare again.
        """
        total = sum(info.size for info in found.changed.values())
        if advance is not None:
            advance(0, total=total)
        told = _locked(advance)
        by_key = {info.key: path for path, info in found.changed.items()}
        with self._sessions.writer() as writer:
            changes: dict[str, Entry | None] = dict.fromkeys(found.gone)
            for info, place in self._downloads.fetch_all(found.changed.values(), told):
                path = by_key[info.key]
                changes[path] = _entry(writer, path, info, place, found.entries.get(path))
            root = tree.apply(self._sessions.store, writer, found.head and found.head.layout, changes)
            commit = self._data.commit_tree(
                writer,
                repository,
                root,
                actor=actor,
                branch=branch,
                message=message or f"collected {self._url}",
                meta={"source": self._meta(found, total)},
                run_id=run_id,
                expected=found.head,
            )
        for info in found.changed.values():
            self._downloads.drop(info)
        return commit

    def _meta(self, found: Compared, total: int) -> dict[str, Any]:
        kind = self._listing.url.scheme
        counts = {"objects": found.objects, "fetched": len(found.changed), "bytes": total, "removed": len(found.gone)}
        return {"kind": kind, "url": self._url, **counts}


def _entry(writer: Writer, path: str, info: ObjectInfo, place: Path, before: Entry | None) -> Entry:
    """The file as an entry; what else the user wrote at the path stays."""
    meta = {**(before.meta if before is not None else {}), SOURCE: quick(info)}
    executable = before is not None and before.kind == EntryKind.FILE and before.executable
    if info.size <= INLINE:
        return Entry(path=path, executable=executable, size=info.size, inline=place.read_bytes(), meta=meta)
    with place.open("rb", buffering=0) as file:
        content = files.put_stream(writer, file) if info.size >= files.SMALL else files.put_bytes(writer, file.read())
    return Entry(path=path, executable=executable, size=info.size, content=content, meta=meta)


def _locked(advance: Callable[..., None] | None) -> Callable[..., None] | None:
    """Progress that several threads may tell."""
    if advance is None:
        return None
    lock = threading.Lock()

    def told(done: float = 1) -> None:
        with lock:
            advance(done)

    return told
