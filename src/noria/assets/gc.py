"""Garbage collection beside writers (decision 9): whole packs go, and nothing that a commit can name.

    mark       every object that rows name, and all that these need
    condemn    packs with nothing live, and packs under half live once their live records lie in a new pack; in the
               transaction that raises the epoch. Writers that begin later store again what such a pack holds.
    sweep      when no writer is left that began before: a second mark. A pack of which something was made live again,
               and that no other pack holds, is reprieved; the others are doomed, and their files deleted.

A file without a row belongs to a writer that has not named it yet, or that died: it is condemned like any other pack,
so that its writer, which began before, can still name it; a file without a row that holds something live is named.

Every step may be interrupted, repeated, and done by several processes at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from sqlalchemy import func, select

from noria.assets import condemned
from noria.assets import tables as t
from noria.assets.errors import StoreDamaged
from noria.assets.reach import INDEX, Live, Marked, Reach, ids_of, read_index
from noria.assets.sessions import StoreSessions, break_expired
from noria.base.clock import Clock
from noria.base.errors import NoriaError
from noria.base.faults import Faults
from noria.db import Database, Tx
from noria.store.errors import PackCorrupt
from noria.store.objects import PACK_TARGET, pack_name
from noria.store.packs import RECORD

LEAST_LIVE: Final = 0.5
"""Below this share of live bytes a pack is rewritten."""
_POLL: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection did, or would do.

    Attributes:
        objects: live ones. packs, size: of the whole store before, its bytes.
        dead: packs with nothing live; dead_bytes: their bytes.
        rewritten: packs under half live; rewritten_bytes: their bytes; copied_bytes: of those, live ones.
        stray: of the dead packs, files that no row names.
        adopted: files that no row named and that hold something live; they are named now.
        removed: packs whose files were deleted; removed_bytes: their bytes.
        reprieved: condemned packs that are needed again.
        waiting: condemned packs that stay until writers of before have ended.
        faults: what is damaged. Nothing is removed while there is any.
    """

    dry_run: bool
    objects: int = 0
    packs: int = 0
    size: int = 0
    dead: int = 0
    dead_bytes: int = 0
    stray: int = 0
    rewritten: int = 0
    rewritten_bytes: int = 0
    copied_bytes: int = 0
    adopted: int = 0
    removed: int = 0
    removed_bytes: int = 0
    reprieved: int = 0
    waiting: int = 0
    faults: list[str] = field(default_factory=list[str])

    @property
    def freed(self) -> int:
        """Bytes that this frees, when all waiting is over."""
        return self.dead_bytes + self.rewritten_bytes - self.copied_bytes


@dataclass(slots=True)
class _Pack:
    id: str
    size: int
    named: bool
    count: int = 0
    live: int = 0
    """Bytes of live records."""
    total: int = 0
    ids: list[bytes] = field(default_factory=list[bytes])
    """Live objects of a pack that is to be rewritten, or that no row names."""
    erased: bool = False


@dataclass(slots=True)
class _Judged:
    dead: list[_Pack] = field(default_factory=list[_Pack])
    thin: list[_Pack] = field(default_factory=list[_Pack])
    adopt: list[_Pack] = field(default_factory=list[_Pack])


class GarbageCollector:
    """One per workspace."""

    def __init__(
        self,
        db: Database,
        sessions: StoreSessions,
        reach: Reach,
        clock: Clock,
        faults: Faults,
    ) -> None:
        self._db = db
        self._sessions = sessions
        self._store = sessions.store
        self._reach = reach
        self._clock = clock
        self._faults = faults

    def run(
        self,
        *,
        dry_run: bool = False,
        erase: Collection[bytes] = (),
        thorough: bool = False,
        wait: float = 0.0,
        advance: Callable[..., None] | None = None,
    ) -> Collected:
        """Removes what nothing needs.

        Args:
            dry_run: only says what would go; changes nothing.
            erase: dead objects of which no copy may stay: packs that hold one are rewritten however much of them
                lives.
            thorough: rewrite every pack that holds anything dead.
            wait: seconds to wait for writers that began before.

        Raises:
            StoreDamaged: something that is needed cannot be read, so that what it needs is not known.
        """
        step = advance or _silent
        listed = self._listed()  # before the mark: a pack that is written during it would look dead
        if dry_run:
            marked = self._reach.mark(step)
            plan = self._plan(listed, self._judge(listed, marked.live, erase, thorough, step), marked)
            return replace(plan, waiting=self._condemned())
        removed = self._finish()
        due, _ = self._due()
        marked = self._mark(step)
        reprieved = self._sweep(due, marked.live)
        judged = self._judge(listed, marked.live, erase, thorough, step)
        done = replace(self._plan(listed, judged, marked), dry_run=False)
        self._condemn(judged)
        removed = _sum(removed, self._finish())
        due = self._await(wait, step)
        if due:
            reprieved += self._sweep(due, self._mark(step).live)
            removed = _sum(removed, self._finish())
        _, waiting = self._due()
        self._forget_spilled()
        return replace(done, removed=removed[0], removed_bytes=removed[1], reprieved=reprieved, waiting=waiting)

    def epoch(self) -> int:
        """The epoch that writers begin in now."""
        with self._db.read() as conn:
            return conn.execute(select(t.workspace.c.gc_epoch)).scalar_one()

    def quiet(self, epoch: int, wait: float) -> bool:
        """Whether no writer is left that began before an epoch; waits for those that are."""
        until, s = self._clock.now_ms() + wait * 1000, t.store_sessions.c
        while True:
            self._sessions.renew()
            with self._db.write() as tx:
                oldest = break_expired(tx)
                left = tx.execute(select(func.count()).where(s.epoch < epoch)).scalar_one()
            if oldest is None or not left:
                return True
            if self._clock.now_ms() >= until:
                return False
            self._clock.sleep(_POLL)

    def living(self, ids: Collection[bytes], advance: Callable[..., None] | None = None) -> set[bytes]:
        """Which of these objects something needs."""
        found = list(ids)
        mask = self._mark(advance or _silent).live.holds(_keys(found))
        return {oid for oid, lives in zip(found, mask.tolist(), strict=True) if lives}

    # ---- mark

    def _mark(self, step: Callable[..., None]) -> Marked:
        marked = self._reach.mark(step, lately=True)
        if marked.faults:
            raise StoreDamaged(marked.faults)
        return marked

    # ---- judge

    def _listed(self) -> list[_Pack]:
        """Packs that are not condemned, named or not, as they are before the mark begins."""
        c = t.packs.c
        with self._db.read() as conn:
            rows = conn.execute(select(c.id, c.size, c.condemned_epoch)).all()
        known = {row.id for row in rows}
        found = [_Pack(row.id, row.size, named=True) for row in rows if row.condemned_epoch is None]
        for name in self._store.source.list("packs/"):
            pack = name.rsplit("/", 1)[1].removesuffix(".pack")
            if pack not in known:
                found.append(_Pack(pack, 0, named=False))
        return found

    def _judge(
        self, listed: Sequence[_Pack], live: Live, erase: Collection[bytes], thorough: bool, step: Callable[..., None]
    ) -> _Judged:
        found, wanted = _Judged(), _keys(erase)
        wanted = wanted[~live.holds(wanted)]
        for pack in listed:
            step()
            try:
                rows = read_index(self._store, pack.id)
                if not pack.named:
                    pack.size = self._store.source.size(pack_name(pack.id))
            except NoriaError:
                continue  # damaged, or just going: left for noria data check
            sizes = rows["stored"].astype(np.int64) + RECORD.size
            mask = live.holds(rows["key"].astype(np.uint64))
            pack.count, pack.total, pack.live = len(rows), int(sizes.sum()), int(sizes[mask].sum())
            pack.erased = thorough or (bool(len(wanted)) and bool(np.isin(rows["key"], wanted).any()))
            if not mask.any():
                found.dead.append(pack)
            elif pack.live < LEAST_LIVE * pack.total or (pack.erased and not mask.all()):
                pack.ids = ids_of(rows[mask])
                found.thin.append(pack)
            elif not pack.named:
                pack.ids = ids_of(rows[mask])
                found.adopt.append(pack)
        return found

    def _plan(self, listed: Sequence[_Pack], judged: _Judged, marked: Marked) -> Collected:
        return Collected(
            dry_run=True,
            objects=len(marked.live),
            packs=len(listed),
            size=sum(p.size for p in listed),
            dead=len(judged.dead),
            dead_bytes=sum(p.size for p in judged.dead),
            stray=sum(not p.named for p in judged.dead),
            rewritten=len(judged.thin),
            rewritten_bytes=sum(p.size for p in judged.thin),
            copied_bytes=sum(p.live for p in judged.thin),
            adopted=len(judged.adopt),
            faults=marked.faults,
        )

    # ---- condemn

    def _condemn(self, judged: _Judged) -> None:
        self._learn()
        keep = self._kept()
        gone = {p.id for p in (*judged.dead, *judged.thin)}
        for pack in judged.adopt:
            if self._absent(pack.ids, keep - gone):
                self._adopt(pack)
                keep.add(pack.id)
            else:
                judged.dead.append(pack)  # a copy of what named packs hold
        if judged.dead:
            self._faults.at("gc.dead")
            with self._db.write() as tx:
                self._condemn_in(tx, judged.dead)
        for batch in _batches(judged.thin):
            self._rewrite(batch, keep - gone)

    def _rewrite(self, batch: list[_Pack], keep: set[str]) -> None:
        """Copies what lives of some packs into a new one, and condemns them in the transaction that names it."""
        done: list[_Pack] = []
        with self._sessions.writer() as writer:
            for pack in batch:
                needed = self._absent(pack.ids, keep)
                if not needed or writer.copy(pack.id, needed):
                    done.append(pack)
            made = writer.flush()
            self._faults.at("gc.name")
            with self._db.write() as tx:
                self._sessions.seal(tx, made)
                self._condemn_in(tx, [pack for pack in done if pack.id not in {m.id for m in made}])
                self._faults.at("gc.condemn")
        keep.update(m.id for m in made)

    @staticmethod
    def _condemn_in(tx: Tx, packs: Iterable[_Pack]) -> None:
        found = list(packs)
        for pack in found:
            if not pack.named:
                row = {"id": pack.id, "size": pack.size, "count": pack.count, "created_at": tx.now_ms}
                tx.insert_new(t.packs, row)
        condemned.condemn(tx, [pack.id for pack in found], merged=False)

    def _adopt(self, pack: _Pack) -> None:
        self._faults.at("gc.adopt")
        with self._db.write() as tx:
            row = {"id": pack.id, "size": pack.size, "count": pack.count, "created_at": tx.now_ms}
            tx.insert_new(t.packs, row)

    # ---- sweep

    def _due(self) -> tuple[dict[str, bool], int]:
        """(packs that are due -> whether all that they held was copied when they were condemned, how many wait)."""
        self._sessions.renew()
        with self._db.write() as tx:
            rows, waiting = condemned.due(tx)
            condemned.forget_retired(tx)
        return {row.id: row.merged for row in rows}, waiting

    def _await(self, wait: float, step: Callable[..., None]) -> dict[str, bool]:
        """Condemned packs that are due; waits for writers of before, but not for ever."""
        until = self._clock.now_ms() + wait * 1000
        while True:
            due, waiting = self._due()
            if not waiting or self._clock.now_ms() >= until:
                return due
            step()
            self._clock.sleep(_POLL)

    def _sweep(self, due: dict[str, bool], live: Live) -> int:
        """Decides on packs that are due, by a mark that began after they were; returns how many are needed again."""
        if not due:
            return 0
        needed: dict[str, list[bytes]] = {}
        for pack, merged in due.items():
            try:
                rows = np.empty(0, INDEX) if merged else read_index(self._store, pack)
            except NoriaError:
                rows = np.empty(0, INDEX)  # nothing can be read from it anyway
            needed[pack] = ids_of(rows[live.holds(rows["key"].astype(np.uint64))])
        while True:
            self._learn()
            keep = self._kept()
            counted, saved = frozenset(keep), list[str]()
            for pack in due:
                if needed[pack] and self._absent(needed[pack], keep):
                    saved.append(pack)
                    keep.add(pack)
            self._faults.at("gc.doom")
            with self._db.write() as tx:
                now = {row.id for row in condemned.due(tx)[0]}
                if now.issuperset(due) and counted <= self._kept(tx):
                    condemned.reprieve(tx, saved)
                    condemned.doom(tx, now.intersection(due).difference(saved))
                    return len(saved)
            due = {pack: merged for pack, merged in due.items() if pack in now}  # another collector decided in between

    def _learn(self) -> None:
        try:
            self._store.refresh()
        except PackCorrupt as error:
            raise StoreDamaged([error.message]) from None

    def _forget_spilled(self) -> None:
        """Removes what killed writers of this machine left of packs that they never finished."""
        now = time.time()
        with self._db.write() as tx:
            if break_expired(tx) is not None:
                return  # a writer may be at one of them
        for path in self._store.temporary.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < now:
                    path.unlink()

    def _finish(self) -> tuple[int, int]:
        return condemned.delete_doomed(self._db, self._store, self._faults, "gc")

    # ---- which packs count

    def _kept(self, tx: Tx | None = None) -> set[str]:
        """Packs that are named and not condemned."""
        with self._db.read(tx) as conn:
            live = select(t.packs.c.id).where(t.packs.c.condemned_epoch.is_(None))
            return {pack for (pack,) in conn.execute(live)}

    def _condemned(self) -> int:
        c = t.packs.c
        with self._db.read() as conn:
            waiting = select(func.count()).where(c.condemned_epoch.is_not(None), c.doomed_at.is_(None))
            return conn.execute(waiting).scalar_one()

    def _absent(self, ids: Sequence[bytes], keep: Collection[str]) -> set[bytes]:
        """Which of the objects no whole copy lies of in the packs to keep."""
        index = self._store.index
        return index.missing(ids, frozenset(index.packs().difference(keep)))


def _keys(ids: Collection[bytes]) -> Any:
    return np.frombuffer(b"".join(oid[:8] for oid in ids), "<u8").astype(np.uint64)


def _batches(packs: Iterable[_Pack]) -> Iterable[list[_Pack]]:
    """Groups of packs whose live records make about one new pack."""
    batch: list[_Pack] = []
    for pack in packs:
        if batch and sum(p.live for p in batch) + pack.live > PACK_TARGET:
            yield batch
            batch = []
        batch.append(pack)
    if batch:
        yield batch


def _sum(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]


def _silent(done: float = 1) -> None:
    return
