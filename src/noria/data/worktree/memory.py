"""What is remembered of a folder, outside of it."""

from __future__ import annotations

import secrets
from pathlib import Path

from noria.base.digest import Digest
from noria.data.records import MAIN
from noria.data.statcache import StatCache
from noria.data.worktree.view import View
from noria.store import ObjectStore, tree
from noria.store.errors import ObjectCorrupt, ObjectMissing
from noria.store.packs import object_id
from noria.store.records import Kind


class Memory:
    """The cache of one folder for one repository.

    Args:
        trust: believe it. Without, it is as if there were none.

    Attributes:
        part: the folder holds only a part of its tree. It says so even where the cache is lost.
    """

    def __init__(self, home: Path, repository_id: int, folder: Path, *, trust: bool) -> None:
        name = object_id(Kind.BLOB, f"{repository_id}:{folder}".encode()).hex[:24]
        self._path = home / "cache" / "stat" / name
        self._mark = home / "parts" / name
        self._follows = home / "follows" / name
        self._trust = trust
        self._loaded: StatCache | None = None
        self.part = self._mark.exists()

    @property
    def cache(self) -> StatCache:
        if self._loaded is None:
            self._loaded = StatCache.load(self._path) if self._trust else StatCache()
        return self._loaded

    @property
    def root(self) -> Digest | None:
        """The tree that the folder was last made equal to, or committed as."""
        root = StatCache.root_of(self._path) if self._loaded is None and self._trust else self.cache.root
        return Digest(bytes.fromhex(root)) if root else None

    def base(self, store: ObjectStore) -> Digest | None:
        """``root``, as long as the store can read it; otherwise everything is forgotten."""
        if not self.cache.root:
            return None
        root = Digest(bytes.fromhex(self.cache.root))
        try:
            tree.totals(store, root)
        except (ObjectMissing, ObjectCorrupt):
            self.forget()
            return None
        return root

    def forget(self) -> None:
        self._loaded = StatCache()

    @property
    def branch(self) -> str:
        """The branch that the folder was last equal to, empty for a commit or tag; the cache may be lost, this not."""
        try:
            return self._follows.read_text("utf-8")
        except FileNotFoundError:
            return MAIN

    @branch.setter
    def branch(self, name: str) -> None:
        if name == MAIN:
            self._follows.unlink(missing_ok=True)
        elif name != self.branch:
            self._follows.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._follows.with_name(f".{secrets.token_hex(6)}")
            temporary.write_text(name, "utf-8")
            temporary.replace(self._follows)

    def keep(self, root: str, view: View, *, looked_ns: int, state: str = "", part: bool) -> None:
        """Replaces what is remembered. A lost cache costs time only."""
        if part:
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.touch()
        elif self.part:
            self._mark.unlink(missing_ok=True)
        StatCache(root=root, looked_ns=looked_ns, state=state, places=view.places).save(self._path)
