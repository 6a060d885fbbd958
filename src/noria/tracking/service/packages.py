"""Packages in the asset graph: the files of a logged model become a version of an asset, with its run as the maker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final

from sqlalchemy import update

from noria.assets import versions
from noria.assets.errors import RunNotFound, VersionNotFound
from noria.assets.records import AssetKind, Content, Direction, Version
from noria.base import canonical
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.ids import ProjectId, RunId, VersionId
from noria.base.names import check_path
from noria.base.pages import Page, check_limit, position, token
from noria.db import Tx
from noria.store import Entry, EntryKind, FileContent, Kind, Writer, tree
from noria.store.listing import Listing as TreeListing
from noria.tracking import queries, shelves, told
from noria.tracking import tables as t
from noria.tracking.codes import COMMIT
from noria.tracking.errors import ArtifactIsFolder, ArtifactNotFound, ArtifactsFixed, LoggedModelNotFound
from noria.tracking.mlmodel import DESCRIPTION, facts_of
from noria.tracking.records import Artifact, ArtifactEntry, LoggedState, Owner, OwnerKind
from noria.tracking.service.artifacts import Artifacts, in_row

_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_MOST_FILES: Final = 100_000
_MOST_DESCRIPTION: Final = 4 << 20


class Packages(Artifacts):
    def finish_logged_model(self, project_id: ProjectId, id: str, state: LoggedState, *, actor: Actor) -> None:
        """Says how far a model is. The files of one that is ready become a version of the asset graph.

        Raises:
            LoggedModelNotFound: there is no such model.
        """
        found = self.logged_model(project_id, id, full=False)
        made: Version | None = None
        if state is LoggedState.READY:
            made = self.package(
                project_id,
                Owner(OwnerKind.MODEL, id),
                "",
                name=found.name,
                run=found.source_run,
                facts={"logged_model": id},
                actor=actor,
            )
        with self._changes.begin("tracking.finish_model", project_id, actor) as change:
            tx = change.tx
            found = self.logged_model(project_id, id, tx, full=False)
            values: dict[str, Any] = {"state": state.value, "updated_at": tx.now_ms}
            if made is not None:
                values["version_id"] = made.id
            tx.execute(update(t.logged_models).where(t.logged_models.c.no == found.no).values(**values))
            change.note(id, state=state.value, version=None if made is None else made.id)
            change.event("model.logged", id, {"state": state.value, "version": None if made is None else made.id})

    def package(
        self,
        project_id: ProjectId,
        owner: Owner,
        folder: str,
        *,
        name: str,
        run: str,
        facts: dict[str, Any],
        actor: Actor,
    ) -> Version | None:
        """The version of the graph that holds a folder of files, made if it is new; None where it is no package.

        Contents are not stored again: the version names the same objects.

        Args:
            folder: empty for all files of the owner.
            run: the run that made it, where it is here.
            facts: kept with the version.
        """
        with self._sessions.writer() as writer:  # before anything is looked at: what it names stays
            entries = self._entries(writer, owner, folder)
            description = next((entry for entry in entries if entry.path == DESCRIPTION), None)
            if description is None:
                return None
            root = tree.build(writer, entries)
            packs = writer.flush()
            known = RunId(run) if run and self._known(project_id, run) else None
            meta = {**facts, **self._said(description), **self._origin_of(known), "files": len(entries)}
            with self._changes.begin("tracking.package", project_id, actor) as change:
                tx = change.tx
                self._sessions.seal(tx, packs)
                asset_id = self._assets.asset_id(tx, project_id, _asset_name(name), AssetKind.MODEL)
                made = self._assets.add_version(
                    tx,
                    asset_id,
                    name=_asset_name(name),
                    digest=canonical.digest({"tree": root.hex}),
                    content=Content.MODEL,
                    layout=root,
                    size=sum(entry.size for entry in entries),
                    meta=meta,
                )
                self._assets.set_current(tx, asset_id, made.id)
                if known is not None:
                    self._assets.link(tx, known, made.id, Direction.OUT, name)
                change.note(made.asset, version=made.id, run=known)
        return made

    def _known(self, project_id: ProjectId, run: str) -> bool:
        try:
            return self._assets.run(RunId(run)).project_id == project_id
        except RunNotFound:
            return False

    def _entries(self, writer: Writer, owner: Owner, folder: str) -> list[Entry]:
        with self._db.read() as conn:
            found = shelves.below(conn, owner, folder, _MOST_FILES)
        cut = len(folder) + 1 if folder else 0
        made: list[Entry] = []
        for one in found:
            path = one.path[cut:]
            try:
                check_path(path)
            except Invalid:  # files are kept for clients, but no folder can be made of such a name
                return []
            if one.size <= shelves.INLINE and not one.content_kind:
                made.append(Entry(path=path, size=one.size, inline=one.data))
                continue
            if not one.content_kind:  # it still waits in its row
                writer.put(Kind.CHUNK, one.data)
            kind = Kind(one.content_kind or Kind.CHUNK)
            content = FileContent(kind=kind, id=Digest(bytes.fromhex(one.content)), size=one.size)
            made.append(Entry(path=path, size=one.size, content=content))
        return sorted(made, key=lambda entry: tree.key_of(entry.path))

    def _said(self, description: Entry) -> dict[str, Any]:
        """What the package says of itself: flavors, signature, input example."""
        if description.size > _MOST_DESCRIPTION:
            return {}
        with self.open_artifact(_artifact(description)) as file:
            return facts_of(file.read())

    def _origin_of(self, run: RunId | None) -> dict[str, Any]:
        """Facts about what a client's run was made from, as far as it is not in the graph."""
        if run is None:
            return {}
        with self._db.read() as conn:
            inputs, said = queries.inputs(conn, [run]).get(run, []), told.run_data(conn, [run])[run]
        foreign = [
            {"name": one.dataset.name, "digest": one.dataset.digest, "source": one.dataset.source[:1_000]}
            for one in inputs
            if self.origin(self._assets.run(run).project_id, one.dataset) is None
        ]
        git = said.tags.get(COMMIT)
        return {**({"datasets": foreign} if foreign else {}), **({"git": git} if git else {})}

    # ---- the files of a version

    def check_owner(self, tx: Tx, owner: Owner, project_id: ProjectId) -> None:
        if owner.kind is OwnerKind.VERSION:
            raise ArtifactsFixed(owner.id)
        super().check_owner(tx, owner, project_id)

    def packaged(self, project_id: ProjectId, id: str) -> Version:
        """A version of this project that holds files.

        Raises:
            VersionNotFound, VersionGone: there is none; its files were removed.
        """
        if id.isascii() and id.isdecimal() and len(id) < 19:
            found = self._assets.version(VersionId(int(id)))
            asset = self._assets.find(project_id, found.asset)
            if asset is not None and asset.id == found.asset_id and found.content in (Content.TREE, Content.MODEL):
                versions.layout_of(found)
                return found
        raise VersionNotFound(f"There is no version {id!r:.60} that holds files.")

    def artifact(self, owner: Owner, path: str) -> Artifact:
        if owner.kind is not OwnerKind.VERSION:
            return super().artifact(owner, path)
        shelves.check_artifact_path(path)
        root = self._root(owner)
        entry = tree.find(self._sessions.store, root, path)
        if entry is None and TreeListing(self._sessions.store, root).is_folder(path):
            raise ArtifactIsFolder(path)
        if entry is None or entry.kind is not EntryKind.FILE:
            raise ArtifactNotFound(owner.kind, owner.id, path)
        return _artifact(entry)

    def list_artifacts(
        self, owner: Owner, folder: str = "", *, limit: int = 1_000, after: str | None = None
    ) -> Page[ArtifactEntry]:
        if owner.kind is not OwnerKind.VERSION:
            return super().list_artifacts(owner, folder, limit=limit, after=after)
        if folder:
            shelves.check_artifact_path(folder)
        check_limit(limit)
        last = position(after)
        found = sorted(self._children(owner, folder), key=lambda entry: entry.path)
        if last is not None:
            found = [entry for entry in found if entry.path > str(last)]
        return Page(items=found[:limit], next=token(found[limit - 1].path) if len(found) > limit else None)

    def _children(self, owner: Owner, folder: str) -> Iterator[ArtifactEntry]:
        for found in TreeListing(self._sessions.store, self._root(owner)).folder(folder):
            if isinstance(found, str):
                yield ArtifactEntry(path=found, is_folder=True, size=0)
            elif found.kind is EntryKind.FILE:
                yield ArtifactEntry(path=found.path, is_folder=False, size=found.size)

    def _root(self, owner: Owner) -> Digest:
        return versions.layout_of(self._assets.version(VersionId(int(owner.id))))

    def logged_of(self, project_id: ProjectId, id: str) -> VersionId | None:
        """The version of the graph that holds a logged model's files; None where it has none, or is not here."""
        try:
            return self.logged_model(project_id, id, full=False).version_id
        except LoggedModelNotFound:
            return None


def _artifact(entry: Entry) -> Artifact:
    if entry.content is None:
        return in_row(entry.path, entry.inline or b"")
    content = entry.content
    return Artifact(path=entry.path, size=entry.size, content_kind=int(content.kind), content=content.id.hex)


def _asset_name(name: str) -> str:
    """The asset of models that clients log under a name. Apart from those of pipelines, which own their names."""
    return f"logged.{_NAME.sub('-', PurePosixPath(name).name)}"[:128]
