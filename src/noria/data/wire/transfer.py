from __future__ import annotations

import msgspec

from noria.data.records import Remote, Transferred
from noria.data.values import shown_place


class RemoteOut(msgspec.Struct):
    name: str
    url: str
    repository: str
    project: str
    partial: bool
    heads: dict[str, str]


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
