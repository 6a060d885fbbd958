"""What one store has and another one lacks: found by walking what differs, and copied in packs.

Trees, tables and recipes that the other side's commits stand on are passed over with all that they hold. What cannot
be passed over is asked for in the other store's index, thousands at once. So a push costs what changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from noria.assets import StoreSessions
from noria.base.digest import Digest
from noria.base.faults import Faults
from noria.base.names import check_path
from noria.data.errors import TransferRefused
from noria.data.records import Commit, RepositoryKind
from noria.db import Database
from noria.store import Entry, FileContent, Kind, ObjectStore, PackInfo, Writer, files, tree
from noria.store.bulk import read_many
from noria.store.errors import ObjectMissing
from noria.store.objects import PACK_TARGET

_ASK: Final = 2048
"""Objects that are asked for, and read, at once."""
_PUT_BYTES: Final = 4 << 20
_COMMIT_HEAD: Final = 5
"""Bytes before the JSON of a commit object."""
BELOW: Final = frozenset({Kind.CHUNK, Kind.RECIPE, Kind.FRAGMENT})
"""What a partial clone leaves where it is: the contents of files and the rows of tables."""


class Naming:
    """Names full packs as they come: a transfer that is killed goes on where it stopped, and its session lives on."""

    def __init__(self, sessions: StoreSessions, db: Database, writer: Writer, faults: Faults) -> None:
        self._sessions = sessions
        self._db = db
        self._writer = writer
        self._faults = faults
        self._packs: list[PackInfo] = []
        self._named_at = 0

    def step(self) -> None:
        if self._writer.written - self._named_at >= PACK_TARGET // 2:
            self.flush()
            self._faults.at("transfer.pack")
            with self._db.write() as tx:
                self._sessions.seal(tx, self._packs)
            self.named()

    def flush(self) -> list[PackInfo]:
        """Makes everything durable; returns the packs that are not named yet."""
        self._packs += self._writer.flush()
        return self._packs

    def named(self) -> None:
        """The packs were named."""
        self._packs = []
        self._named_at = self._writer.written


class Sending:
    """One transfer into one store. Used once, by one thread.

    Args:
        light: leave out what a partial clone leaves out. absent: pass over what the source does not have.

    Attributes:
        objects: how many were copied. reused: bytes that were there.
    """

    def __init__(
        self,
        source: ObjectStore,
        sessions: StoreSessions,
        db: Database,
        writer: Writer,
        faults: Faults,
        *,
        light: bool = False,
        absent: bool = False,
        advance: Callable[..., None] | None = None,
    ) -> None:
        self._source = source
        self._writer = writer
        self._naming = Naming(sessions, db, writer, faults)
        self._light = light
        self._absent = absent
        self._advance = advance
        self._known: set[bytes] = set()
        self._asked: dict[bytes, tuple[Kind, int]] = {}
        self.objects = 0
        self.reused = 0

    # ---- what to send

    def stand_on(self, kind: RepositoryKind, layout: Digest) -> None:
        """The other side holds all of this tree."""
        if kind == RepositoryKind.FILES:
            for _ in tree.skeleton(self._source, layout, self._known):
                pass

    def commit(self, kind: RepositoryKind, commit: Commit, base: Digest | None, *, erased: bool = False) -> None:
        """Sends a commit and what its tree or table needs, but for what the layout ``base`` needs too.

        Args:
            erased: something was erased from it; its object names the layout of before.

        Raises:
            TransferRefused: the row of the commit is not what its object says.
        """
        if kind == RepositoryKind.FILES:
            self.tree(commit.layout, base)
        else:
            self.table(commit.layout)
        oid = Digest(bytes.fromhex(commit.id))
        moved = erased or kind == RepositoryKind.TABLE
        _check_commit(commit, self._source.get(oid, Kind.COMMIT), moved=moved)
        self._ask(Kind.COMMIT, oid.raw, 0)

    def tree(self, root: Digest, base: Digest | None = None) -> None:
        if root.raw in self._known:
            return
        if base is None:
            entries: Iterable[Entry] = tree.walk(self._source, root)
        else:
            entries = (c.after for c in tree.diff(self._source, base, root) if c.after is not None)
        for entry in entries:
            check_path(entry.path)  # nothing of a hostile workspace comes in under a path that leaves the tree
            tree.check_row(tree.row_of(entry))
            self.entry(entry)
        for kind, oid in tree.skeleton(self._source, root, self._known):
            self._ask(kind, oid, 0)

    def entry(self, entry: Entry) -> None:
        """Sends the bytes of one file, unless the transfer is a light one."""
        if entry.content is not None and not self._light:
            self.content(entry.content)

    def content(self, content: FileContent) -> None:
        """Sends the bytes of one file."""
        if content.id.raw in self._known:
            return
        if content.kind != Kind.RECIPE:
            self._ask(content.kind, content.id.raw, content.size)
            return
        try:
            below = list(files.recipe_objects(self._source, content.id))
        except ObjectMissing:
            if self._absent:
                return
            raise
        self._known.add(content.id.raw)
        for kind, oid, length in below:
            self._ask(kind, oid, length)
        self._ask(Kind.RECIPE, content.id.raw, 0)

    def table(self, layout: Digest) -> None:
        from noria.data.rows import load_layout  # Polars: only where there is a table
        from noria.data.rows.read import objects_of

        loaded = load_layout(self._source, layout)
        sizes = {fragment.id: fragment.size for fragment in loaded.fragments}
        for kind, oid in objects_of(layout, loaded):
            if not (self._light and kind in BELOW):
                self._ask(kind, oid, sizes.get(oid, 0))

    # ---- sending it

    def _ask(self, kind: Kind, oid: bytes, size: int) -> None:
        self._asked[oid] = (kind, size)
        if len(self._asked) >= _ASK:
            self.send()

    def send(self) -> None:
        """Copies what was asked for and is missing."""
        asked, self._asked = self._asked, {}
        missing = self._writer.missing(list(asked))
        there = sum(size for oid, (_, size) in asked.items() if oid not in missing)
        self.reused += there
        if self._advance is not None:
            self._advance(there)
        if self._absent:
            missing -= self._source.index.missing(list(missing))
        wanted = [(kind, oid) for oid, (kind, _) in asked.items() if oid in missing]
        for kind, oids, raws in _together(read_many(self._source, wanted)):
            stored = self._writer.put_all(kind, raws)
            if [one.raw for one in stored] != oids:
                raise TransferRefused(f"An object of kind {kind.name.lower()} is not what its id says.")
            self.objects += len(raws)
            if self._advance is not None:
                self._advance(sum(map(len, raws)))
            self._naming.step()

    def flush(self) -> list[PackInfo]:
        """The packs that are not named yet."""
        return self._naming.flush()


def _together(found: Iterator[tuple[Kind, bytes, bytes]]) -> Iterator[tuple[Kind, list[bytes], list[bytes]]]:
    """Objects of one kind that follow each other, as (kind, ids, bytes)."""
    kind, oids, raws, size = Kind.CHUNK, list[bytes](), list[bytes](), 0
    for next_kind, oid, raw in found:
        if oids and (next_kind != kind or size >= _PUT_BYTES):
            yield kind, oids, raws
            oids, raws, size = [], [], 0
        kind = next_kind
        oids.append(oid)
        raws.append(raw)
        size += len(raw)
    if oids:
        yield kind, oids, raws


def _check_commit(commit: Commit, raw: bytes, *, moved: bool) -> None:
    value: Mapping[str, Any] = json.loads(raw[_COMMIT_HEAD:])
    if moved:  # how it lies on disk may be another since it was compacted, or redacted; its version is not
        value = {**value, "layout": str(commit.layout)}
    said = (value["version"], value["layout"], list(value["parents"]), value["generation"], value["message"])
    row = (str(commit.digest), str(commit.layout), list(commit.parents), commit.generation, commit.message)
    if said != row or (value["author"], value["at"], value["event_ms"]) != (commit.author, commit.at, commit.event_ms):
        raise TransferRefused(
            f"The commit {commit.id[:12]} of the other workspace does not say what its object says.",
            hint="noria admin verify   in the other workspace tells what is damaged there.",
            details={"commit": commit.id},
        )
