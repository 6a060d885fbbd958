"""Shapes of what keeps the store healthy."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.assets.gc import Collected
from noria.base.times import to_text
from noria.data.records import Deleted
from noria.data.service.care.checking import Checked, Damage, Repaired
from noria.data.service.care.purge import Erase, Erased, Erasure
from noria.data.service.care.storage import Needs


class GcBody(msgspec.Struct, forbid_unknown_fields=True):
    """``dry_run`` (the default) only says what would go; ``wait``: at most 60 seconds for writers that began before."""

    dry_run: bool = True
    wait: float = 0.0


class GcOut(msgspec.Struct):
    """Numbers of packs, and bytes."""

    dry_run: bool
    objects: int
    packs: int
    size: int
    dead: int
    dead_bytes: int
    stray: int
    rewritten: int
    rewritten_bytes: int
    copied_bytes: int
    adopted: int
    removed: int
    removed_bytes: int
    reprieved: int
    waiting: int
    frees: int
    faults: list[str]


def collected_out(done: Collected) -> GcOut:
    return GcOut(
        dry_run=done.dry_run,
        objects=done.objects,
        packs=done.packs,
        size=done.size,
        dead=done.dead,
        dead_bytes=done.dead_bytes,
        stray=done.stray,
        rewritten=done.rewritten,
        rewritten_bytes=done.rewritten_bytes,
        copied_bytes=done.copied_bytes,
        adopted=done.adopted,
        removed=done.removed,
        removed_bytes=done.removed_bytes,
        reprieved=done.reprieved,
        waiting=done.waiting,
        frees=done.freed,
        faults=done.faults,
    )


class DeleteQuery(msgspec.Struct):
    """``force`` deletes also what runs read."""

    force: bool = False


class DeletedOut(msgspec.Struct):
    """``versions``: whose content is gone now; ``kept``: that something else needs."""

    name: str
    commits: int
    versions: int
    kept: int


class NeedsOut(msgspec.Struct):
    """Bytes. ``name`` is a repository, or a commit."""

    name: str
    commits: int
    logical: int
    stored: int
    added: int
    exclusive: int


class StorageOut(msgspec.Struct):
    items: list[NeedsOut]


class CheckQuery(msgspec.Struct):
    """``full`` reads every byte; ``repository`` names only damage that its commits feel."""

    full: bool = False
    repository: str | None = None


class DamageOut(msgspec.Struct):
    """``users``: commits and versions that need the object, with paths; ``more``: how many are not named."""

    what: str
    pack: str
    offset: int | None
    object: str
    kind: str
    lost: bool
    users: list[str]
    more: int


class CheckedOut(msgspec.Struct):
    full: bool
    packs: int
    objects: int
    damage: list[DamageOut]


class RepairedOut(msgspec.Struct):
    """``quarantined``: packs that were set aside; ``lost``: what stays damaged."""

    healed: int
    quarantined: list[str]
    lost: list[DamageOut]


def deleted_out(done: Deleted) -> DeletedOut:
    return DeletedOut(done.name, done.commits, done.versions, done.kept)


def storage_out(found: list[Needs]) -> StorageOut:
    return StorageOut([NeedsOut(n.name, n.commits, n.logical, n.stored, n.added, n.exclusive) for n in found])


def damage_out(found: Damage) -> DamageOut:
    return DamageOut(
        what=found.what,
        pack=found.pack,
        offset=found.offset,
        object=found.object,
        kind=found.kind,
        lost=found.lost,
        users=found.users,
        more=found.more,
    )


def checked_out(found: Checked) -> CheckedOut:
    return CheckedOut(found.full, found.packs, found.objects, [damage_out(d) for d in found.damage])


def repaired_out(done: Repaired) -> RepairedOut:
    return RepairedOut(done.healed, done.quarantined, [damage_out(d) for d in done.lost])


class PurgeBody(msgspec.Struct, forbid_unknown_fields=True):
    """What to erase: ``path`` (a glob of files), ``rows`` (a condition in SQL) or ``key`` (column: value as text).

    ``dry_run`` (the default) only says what would go; ``wait``: at most 60 seconds for writers that began before.
    """

    reason: str = ""
    path: str | None = None
    rows: str | None = None
    key: dict[str, str] = {}
    dry_run: bool = True
    wait: float = 10.0


class ErasedOut(msgspec.Struct):
    """``done``: no copy is left that nothing else needs; else the same request again (a new key) finishes it.

    ``undecided``: rows of refused batches of which it cannot be told whether they are meant; they are erased too.
    """

    number: int
    repository: str
    dry_run: bool
    paths: int
    rows: int
    commits: int
    versions: int
    batches: int
    undecided: int
    objects: int
    shared: int
    freed: int
    unseen: int
    done: bool
    elsewhere: list[str]


class ErasureOut(msgspec.Struct):
    """``what``: a pattern of paths, or columns and a digest; never values."""

    number: int
    repository: str
    what: dict[str, Any]
    reason: str
    actor: str
    state: str
    counts: dict[str, Any]
    created_at: str
    done_at: str | None


class ErasureList(msgspec.Struct):
    items: list[ErasureOut]


def erase_of(body: PurgeBody) -> Erase:
    return Erase(path=body.path, rows=body.rows, key=body.key)


def erased_out(done: Erased) -> ErasedOut:
    return ErasedOut(
        number=done.number,
        repository=done.repository,
        dry_run=done.number == 0,
        paths=done.paths,
        rows=done.rows,
        commits=done.commits,
        versions=done.versions,
        batches=done.batches,
        undecided=done.undecided,
        objects=done.objects,
        shared=done.shared,
        freed=done.freed,
        unseen=done.unseen,
        done=done.done,
        elsewhere=done.elsewhere,
    )


def erasures_out(found: list[Erasure]) -> ErasureList:
    return ErasureList(
        [
            ErasureOut(
                number=e.number,
                repository=e.repository,
                what=e.what,
                reason=e.reason,
                actor=e.actor,
                state=e.state,
                counts=e.counts,
                created_at=to_text(e.created_at),
                done_at=None if e.done_at is None else to_text(e.done_at),
            )
            for e in found
        ]
    )
