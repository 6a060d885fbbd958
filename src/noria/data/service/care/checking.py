"""Does every row have its bytes, and where not, who is affected; and what can be healed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from sqlalchemy import Connection, select

from noria.assets import condemned
from noria.assets import tables as at
from noria.assets.reach import Object, Reach
from noria.assets.records import Content
from noria.assets.roots import layout_kind
from noria.assets.sessions import StoreSessions
from noria.base.digest import Digest
from noria.base.errors import NoriaError
from noria.base.faults import Faults
from noria.data import tables as t
from noria.data.records import RepositoryKind
from noria.data.roots import layout_kind_of
from noria.db import Database
from noria.store import Kind, ObjectStore, Writer, packs, tree
from noria.store.errors import ObjectCorrupt, ObjectMissing, PackCorrupt
from noria.store.objects import pack_name
from noria.store.packs import RECORD

MOST: Final = 20
"""Users of one damaged object that are named."""
_BELOW: Final = {Kind.CHUNK, Kind.RECIPE, Kind.FRAGMENT}
"""What a partial clone leaves where it came from."""


@dataclass(slots=True, kw_only=True)
class Damage:
    """Something that does not hold.

    Attributes:
        what: in words. pack, offset: where, as far as it is known.
        object: the id, 64 hex digits; empty for a whole pack.
        lost: no whole copy of the object is in the store.
        users: commits and versions that need it, with paths of files; ``more`` says how many are not named.
    """

    what: str
    pack: str = ""
    offset: int | None = None
    object: str = ""
    kind: str = ""
    lost: bool = False
    users: list[str] = field(default_factory=list[str])
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check looked at and found."""

    full: bool
    packs: int
    objects: int
    damage: list[Damage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What a repair did.

    Attributes:
        healed: objects that are whole again, from another pack, a remote or a pack that lies in the store again.
        quarantined: damaged packs that were set aside, in ``damaged/`` of the store.
        lost: what stays damaged.
    """

    healed: int
    quarantined: list[str]
    lost: list[Damage]


class Fetcher(Protocol):
    """Where else objects may lie. A room that knows such a place appends one to ``ws.care.fetchers``.

    Called with the objects that are lost here; yields the raw bytes of those that it has, in any order. The bytes are
    believed only if they have the digest that was asked for.
    """

    def __call__(self, wanted: list[Object]) -> Iterable[tuple[Kind, bytes, bytes]]: ...


class Checking:
    """Checks and repairs. The check changes nothing but what the index knows of damaged copies."""

    def __init__(self, db: Database, sessions: StoreSessions, reach: Reach, faults: Faults) -> None:
        self._db = db
        self._sessions = sessions
        self._store: ObjectStore = sessions.store
        self._reach = reach
        self._faults = faults
        self.fetchers: list[Fetcher] = []

    # ---- check

    def check(self, full: bool, only: int | None, step: Callable[..., None]) -> Checked:
        """Every named pack, and everything that rows name; with ``only``, the users of one repository.

        Args:
            full: read and hash every byte of every pack.
        """
        with contextlib.suppress(PackCorrupt):  # it is named below
            self._store.refresh()
        with self._db.read() as conn:
            c = at.packs.c
            packs_here = select(c.id, c.size, c.condemned_epoch).where(c.doomed_at.is_(None))
            named = conn.execute(packs_here.order_by(c.created_at)).all()
            partial = conn.execute(select(t.remotes.c.name).where(t.remotes.c.partial).limit(1)).first() is not None
        found: dict[bytes, Damage] = {}
        whole: list[Damage] = []
        for row in named:
            step()
            for damage in self._check_pack(row.id, row.size, full):
                if row.condemned_epoch is not None and not damage.lost:
                    continue  # nobody counts on it
                if damage.object:
                    found.setdefault(bytes.fromhex(damage.object), damage)
                else:
                    whole.append(damage)
        objects = self._check_reach(found, partial, step)
        if found:
            self._name_users(found, only, step)
        damage = [d for d in found.values() if only is None or d.users]
        return Checked(
            full=full,
            packs=sum(row.condemned_epoch is None for row in named),
            objects=objects,
            damage=[*whole, *damage],
        )

    def _check_pack(self, pack: str, size: int, full: bool) -> Iterator[Damage]:
        try:
            here = self._store.source.size(pack_name(pack))
            if here != size:
                yield Damage(what=f"The pack {pack} has {here} bytes instead of {size}.", pack=pack)
                return
            if not full:
                for _ in self._store.pack_entries(pack):
                    pass
                return
            for error in self._store.check_pack(pack):
                yield self._damage(error)
        except ObjectMissing:
            yield Damage(what=f"The pack {pack} is missing.", pack=pack)
        except NoriaError as error:
            yield Damage(what=error.message, pack=pack)

    def _damage(self, error: ObjectCorrupt) -> Damage:
        pack, offset, oid, kind = error.details["pack"], error.details["offset"], "", ""
        for entry in self._store.pack_entries(pack):
            if entry.offset == offset:
                oid, kind = entry.id.hex(), Kind(entry.kind).name.lower()
        lost = bool(oid) and bool(self._store.index.missing([bytes.fromhex(oid)]))
        return Damage(what=error.message, pack=pack, offset=offset, object=oid, kind=kind, lost=lost)

    def _check_reach(self, found: dict[bytes, Damage], partial: bool, step: Callable[..., None]) -> int:
        """Looks for everything that rows need; returns how many objects that is."""
        seen, asked, count = set[bytes](), list[Object](), 0
        for root in self._reach.roots():
            pending = [root]
            while pending:
                kind, oid = pending.pop()
                if oid in seen:
                    continue
                seen.add(oid)
                count += 1
                follow = self._reach.children.get(kind)
                if follow is None:
                    asked.append((kind, oid))
                    if len(asked) >= 2000:
                        self._ask(asked, found, partial)
                        asked = []
                    continue
                step()
                try:
                    pending += follow(self._store, Digest(oid))
                except ObjectCorrupt as error:
                    found.setdefault(oid, self._damage(error))
                except (ObjectMissing, PackCorrupt):
                    self._ask([(kind, oid)], found, partial)
        self._ask(asked, found, partial)
        return count

    def _ask(self, asked: list[Object], found: dict[bytes, Damage], partial: bool) -> None:
        kinds = {oid: kind for kind, oid in asked}
        for oid in self._store.index.missing(list(kinds)):
            kind = kinds[oid]
            places = self._store.index.find(oid)
            if self._store.has(Digest(oid)) or (partial and kind in _BELOW and not places):
                continue
            pack, offset = (places[0][0], places[0][1].offset) if places else ("", None)
            name = f"The {kind.name.lower()} {oid.hex()[:16]}"
            what = f"{name} in pack {pack} at byte {offset} is damaged." if places else f"{name} is in no pack."
            known = Damage(what=what, pack=pack, offset=offset, object=oid.hex(), kind=kind.name.lower(), lost=True)
            found.setdefault(oid, known)

    # ---- who is affected

    def _name_users(self, found: dict[bytes, Damage], only: int | None, step: Callable[..., None]) -> None:
        memo: dict[bytes, dict[bytes, list[str]]] = {}
        with self._db.read() as conn:
            users = list(_users(conn, only))
        for name, kind, root in users:
            step()
            for oid, paths in self._below(kind, root, found, memo).items():
                damage = found[oid]
                for text in [f"{path} in {name}" for path in paths] or [name]:
                    if len(damage.users) < MOST:
                        damage.users.append(text)
                    else:
                        damage.more += 1

    def _below(
        self, kind: Kind, oid: bytes, found: dict[bytes, Damage], memo: dict[bytes, dict[bytes, list[str]]]
    ) -> dict[bytes, list[str]]:
        """Damaged object -> paths that need it, of everything below an object; each object is looked at once."""
        known = memo.get(oid)
        if known is not None:
            return known
        made: dict[bytes, list[str]] = {oid: []} if oid in found else {}
        memo[oid] = made
        try:
            if kind == Kind.RANGE:
                below = tree.named_contents(self._store, Digest(oid))
            else:
                follow = self._reach.children.get(kind)
                below = [("", child) for child in (follow(self._store, Digest(oid)) if follow is not None else ())]
        except NoriaError:
            return made
        for path, (child_kind, child) in below:
            for damaged, paths in self._below(child_kind, child, found, memo).items():
                mine = made.setdefault(damaged, [])
                mine += [path] if path else [p for p in paths if len(mine) < MOST]
        return made

    # ---- repair

    def repair(self, step: Callable[..., None]) -> Repaired:
        """Heals what can be healed, sets damaged packs aside, and never makes anything up.

        The index is built anew from the packs. A damaged or missing object is taken from another pack, or from a
        fetcher. What is whole in a damaged pack is copied into a new one, and the pack is condemned; a copy of its
        file stays in ``damaged/``. A pack without a file has nothing to set aside.

        Raises:
            Unavailable: the store did not answer for a damaged pack; nothing is changed.
        """
        for pack in self._store.index.packs():
            self._store.index.remove(pack)
        before = self.check(True, None, step)
        wanted = {bytes.fromhex(d.object): Kind[d.kind.upper()] for d in before.damage if d.object and d.kind}
        live = select(at.packs.c.id).where(at.packs.c.condemned_epoch.is_(None))
        with self._db.read() as conn:
            named = {pack for (pack,) in conn.execute(live)}
        damaged = sorted({d.pack for d in before.damage if d.pack} & named)
        with self._sessions.writer(ignoring=damaged) as writer:
            healed = self._fetch(writer, {o: k for o, k in wanted.items() if self._store.index.missing([o])})
            moved = [pack for pack in damaged if self._rescue(writer, pack)]
            made = writer.flush()
            self._faults.at("repair.name")
            with self._db.write() as tx:
                self._sessions.seal(tx, made)
                if damaged:
                    condemned.condemn(tx, damaged, merged=True)  # all of it that is whole lies elsewhere now
        self._sessions.renew()
        after = self.check(False, None, step)
        mended = sum(not self._store.index.missing([oid]) for oid in wanted)
        return Repaired(healed=max(healed, mended), quarantined=moved, lost=[d for d in after.damage if d.lost])

    def _fetch(self, writer: Writer, lost: dict[bytes, Kind]) -> int:
        healed = 0
        for fetcher in self.fetchers:
            if not lost:
                break
            for kind, oid, raw in fetcher([(kind, oid) for oid, kind in lost.items()]):
                if lost.get(oid) == kind and packs.object_id(kind, raw).raw == oid:
                    writer.put(kind, raw)
                    del lost[oid]
                    healed += 1
        return healed

    def _rescue(self, writer: Writer, pack: str) -> bool:
        """Takes over what is whole of a damaged pack, and keeps a copy of its file; False where it has no file.

        Raises:
            Unavailable: the store did not answer. What the pack holds is not known, so it must stay.
        """
        name = pack_name(pack)
        try:
            whole = self._store.source.read(name, 0, self._store.source.size(name))
        except ObjectMissing:
            return False
        try:
            entries = list(self._store.pack_entries(pack))
        except NoriaError:
            entries = list(packs.scan_records(whole))
        for entry in entries:
            try:
                raw = packs.open_record(pack, entry, whole[entry.offset : entry.offset + RECORD.size + entry.stored])
            except NoriaError:
                continue
            writer.put(entry.kind, bytes(raw))
        copy = self._store.temporary / f"damaged-{pack}"
        copy.write_bytes(whole)
        self._store.source.put(f"damaged/{pack[:2]}/{pack}.pack", copy)
        return True


def _users(conn: Connection, only: int | None) -> Iterator[tuple[str, Kind, bytes]]:
    """(name for people, kind, root) of every commit, open commit and version."""
    r, c = t.repositories.c, t.commits.c
    name = at.assets.c.name.label("name")
    commits = select(name, r.id.label("repository"), r.kind, c.id, c.layout).join(
        at.assets, at.assets.c.id == r.asset_id
    )
    for row in conn.execute(commits.join(t.commits, c.repository_id == r.id).order_by(c.generation.desc())):
        if only is None or row.repository == only:
            root = Digest.parse(row.layout).raw
            yield f"{row.name}@{row.id[:12]}", layout_kind_of(RepositoryKind(row.kind)), root
    if only is not None:
        return
    v = at.versions.c
    versions = select(name, v.digest, v.content, v.layout).join(at.assets, at.assets.c.id == v.asset_id)
    versions = versions.outerjoin(t.repositories, r.asset_id == v.asset_id).where(r.id.is_(None), v.gone_at.is_(None))
    for row in conn.execute(versions):
        text = f"{row.name} {Digest.parse(row.digest).short}"
        yield text, layout_kind(Content(row.content)), Digest.parse(row.layout).raw
