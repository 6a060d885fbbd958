"""The code of clients' runs in the asset graph: a commit that tags name is a version, with an edge to the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from noria.assets.errors import AssetKindTaken
from noria.assets.records import AssetKind, Content, Direction
from noria.base import canonical
from noria.base.digest import Digest
from noria.base.ids import ProjectId, RunId, VersionId
from noria.db import Tx
from noria.store import Kind
from noria.tracking import queries, told
from noria.tracking.codes import CODE_TAGS, COMMIT, SLOT, Code, code_of
from noria.tracking.service.base import Base

_MOST_KNOWN: Final = 4_096


class Coding(Base):
    def names_code(self, tags: Mapping[str, str]) -> bool:
        """Whether tags that a run sets say something of its code's version."""
        return not CODE_TAGS.isdisjoint(tags)

    def known_code(self, project_id: ProjectId, tags: Mapping[str, str]) -> VersionId | None:
        """``code_version`` from memory: of what was asked for before."""
        code = code_of(tags)
        return None if code is None else self._codes.get((project_id, _digest(code)))

    def code_version(
        self, project_id: ProjectId, tags: Mapping[str, str], *, run_id: RunId | None = None
    ) -> VersionId | None:
        """The version that stands for the commit which tags name, made if it is new; None where they name none.

        Its content is the name alone, a small document: the files stay in the client's repository. Called before the
        transaction that links it, since it stores an object.

        Args:
            run_id: the run that the tags are added to; what it said before counts too.
        """
        if run_id is not None:
            with self._db.read() as conn:
                found = queries.tracked(conn, run_id)
                if found is None or found.project_id != project_id:
                    return None  # who writes the tags will say so
                tags = {**told.run_data(conn, [run_id])[run_id].tags, **tags}
        code = code_of(tags)
        if code is None:
            return None
        digest = _digest(code)
        known = self._codes.get((project_id, digest))
        if known is None:
            known = self._store_code(project_id, code, digest)
            if known is not None:
                if len(self._codes) >= _MOST_KNOWN:
                    self._codes.clear()
                self._codes[project_id, digest] = known
        return known

    def _store_code(self, project_id: ProjectId, code: Code, digest: Digest) -> VersionId | None:
        raw = canonical.encode(code.identity())
        with self._sessions.writer() as writer:
            blob = writer.put(Kind.BLOB, raw)
            packs = writer.flush()
            with self._db.write() as tx:
                try:
                    asset_id = self._assets.asset_id(tx, project_id, code.asset, AssetKind.CODE)
                except AssetKindTaken:  # somebody's dataset has this name: a client's run does not fail for that
                    return None
                self._sessions.seal(tx, packs)
                made = self._assets.add_version(
                    tx,
                    asset_id,
                    digest=digest,
                    content=Content.JSON,
                    layout=blob,
                    size=len(raw),
                    meta={**code.identity(), "named": True},
                )
                self._assets.set_current(tx, asset_id, made.id)
        return made.id

    def _link_code(self, tx: Tx, run_id: RunId, version_id: VersionId) -> None:
        """Says which code a run ran, instead of what it said before."""
        self._assets.unlink(tx, run_id, Direction.CODE, SLOT, besides=version_id)
        self._assets.link(tx, run_id, version_id, Direction.CODE, SLOT)

    def _tag_gone(self, tx: Tx, run_id: RunId, key: str) -> None:
        if key == COMMIT:
            self._assets.unlink(tx, run_id, Direction.CODE, SLOT)


def _digest(code: Code) -> Digest:
    return canonical.digest(code.identity())
