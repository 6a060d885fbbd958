from __future__ import annotations

import msgspec

from noria.data.records import Imported, Lost, Remote, Transferred
from noria.data.values import shown_place


class RemoteOut(msgspec.Struct):
    name: str
    url: str
    repository: str
    project: str
    partial: bool
    heads: dict[str, str]


class RemotePage(msgspec.Struct):
    items: list[RemoteOut]


class FetchBody(msgspec.Struct, forbid_unknown_fields=True):
    remote: str = "origin"
    branches: list[str] = []


class PullBody(msgspec.Struct, forbid_unknown_fields=True):
    remote: str = "origin"
    branches: list[str] = []
    merge: bool = False
    strategy: str = "conflict"


class PushBody(msgspec.Struct, forbid_unknown_fields=True):
    remote: str = "origin"
    branches: list[str] = []
    force_with_lease: bool = False


class MovedOut(msgspec.Struct):
    branch: str
    before: str | None
    after: str


class TransferredOut(msgspec.Struct):
    repository: str
    remote: str
    commits: int
    objects: int
    written: int
    reused: int
    moved: list[MovedOut]
    tags: list[str]
    tags_kept: list[str]
    run: str | None


def remote_out(remote: Remote) -> RemoteOut:
    """The place is shown without user and query."""
    return RemoteOut(
        name=remote.name,
        url=shown_place(remote.url),
        repository=remote.repository,
        project=remote.project,
        partial=remote.partial,
        heads=remote.heads,
    )


def transferred_out(done: Transferred) -> TransferredOut:
    return TransferredOut(
        repository=done.repository,
        remote=done.remote,
        commits=done.commits,
        objects=done.objects,
        written=done.written,
        reused=done.reused,
        moved=[MovedOut(branch=m.branch, before=m.before, after=m.after) for m in done.moved],
        tags=list(done.tags),
        tags_kept=list(done.tags_kept),
        run=done.run,
    )


class LostOut(msgspec.Struct):
    path: str
    commit: str
    why: str


class ImportedRepositoryOut(msgspec.Struct):
    name: str
    path: str
    commits: int
    branches: dict[str, str]
    tags: list[str]
    kept: list[str]


class ImportedOut(msgspec.Struct):
    repositories: list[ImportedRepositoryOut]
    seen: int
    files: int
    read: int
    written: int
    lost: list[LostOut]
    left: list[LostOut]


def imported_out(done: Imported) -> ImportedOut:
    def lost(ones: tuple[Lost, ...]) -> list[LostOut]:
        return [LostOut(path=one.path, commit=one.commit, why=one.why) for one in ones]

    return ImportedOut(
        repositories=[
            ImportedRepositoryOut(
                name=r.name,
                path=r.path,
                commits=r.commits,
                branches={branch: str(head) for branch, head in r.branches.items()},
                tags=list(r.tags),
                kept=list(r.kept),
            )
            for r in done.repositories
        ],
        seen=done.seen,
        files=done.files,
        read=done.read,
        written=done.written,
        lost=lost(done.lost),
        left=lost(done.left),
    )
