"""Reading many objects at once: neighbours in a pack by one read, which is what a store far away needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from noria.base.digest import Digest
from noria.store import packs
from noria.store.errors import ObjectCorrupt, ObjectMissing
from noria.store.objects import ObjectStore, pack_name
from noria.store.packs import Located
from noria.store.records import Kind

_SPAN: Final = 8 << 20
"""Bytes of one read, unless an object is larger."""
_GAP: Final = 64 << 10
"""Bytes between two objects that are read along rather than asked for twice."""


def read_many(store: ObjectStore, wanted: Sequence[tuple[Kind, bytes]]) -> Iterator[tuple[Kind, bytes, bytes]]:
    """(kind, id, raw bytes) of each object, verified, in the order in which they lie.

    Raises:
        ObjectMissing: no pack holds one of them. What was found before it has been yielded.
    """
    by_pack: dict[str, list[Located]] = defaultdict(list)
    alone: list[tuple[Kind, bytes]] = []
    for kind, oid in wanted:
        places = [place for place in store.index.find(oid) if place[1].kind == kind]
        if places:
            by_pack[places[0][0]].append(places[0][1])
        else:
            alone.append((kind, oid))
    for pack, found in by_pack.items():
        for group in _groups(sorted(found, key=lambda one: one.offset)):
            yield from _read_group(store, pack, group)
    for kind, oid in alone:  # in a pack that is not known yet, or nowhere
        yield kind, oid, store.get(Digest(oid), kind)


def _groups(found: list[Located]) -> Iterator[list[Located]]:
    group: list[Located] = []
    for one in found:
        if group and (one.offset - _end(group[-1]) > _GAP or _end(one) - group[0].offset > _SPAN):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _end(found: Located) -> int:
    return found.offset + packs.RECORD.size + found.stored


def _read_group(store: ObjectStore, pack: str, group: list[Located]) -> Iterator[tuple[Kind, bytes, bytes]]:
    start = group[0].offset
    try:
        data = memoryview(store.source.read(pack_name(pack), start, _end(group[-1]) - start))
    except ObjectMissing:  # merged into another pack since
        data = memoryview(b"")
    for one in group:
        try:
            raw = packs.open_record(pack, one, data[one.offset - start : _end(one) - start])
        except ObjectCorrupt:  # another pack may hold a whole copy
            raw = store.get(Digest(one.id), one.kind)
        yield one.kind, one.id, bytes(raw)
