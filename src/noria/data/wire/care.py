"""Shapes of what keeps the store healthy."""

from __future__ import annotations

import msgspec

from noria.assets.gc import Collected


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
