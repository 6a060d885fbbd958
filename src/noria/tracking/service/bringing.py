"""Verbs that take over what another server holds. Each may be repeated: what is there already is seen, not doubled."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import BinaryIO, Final

from sqlalchemy import select

from noria.assets.errors import RunNotFound
from noria.assets.records import Run
from noria.base.actor import Actor
from noria.base.ids import ProjectId, RunId, VersionId
from noria.db import Tx
from noria.store import Writer, files
from noria.tracking import queries, series, shelves, told
from noria.tracking import tables as t
from noria.tracking.blocks import Mark
from noria.tracking.errors import ArtifactInTheWay, ArtifactPathInvalid, KeyInvalid
from noria.tracking.records import Artifact, ArtifactEntry, Brought, FilesBrought, ForeignRun, Known, Owner
from noria.tracking.service.artifacts import Artifacts, in_row, lock_of_files
from noria.tracking.service.base import MOST_PARAM, MOST_TAG, check_key, lock_of
from noria.tracking.service.saying import Saying

_ID: Final = re.compile(r"[0-9a-f]{32}")
_PART: Final = 400
_FILES: Final = 256
"""Files that are named in one transaction, or the bytes below."""
_BYTES: Final = 256 << 20
Opens = Callable[[], BinaryIO]


class Bringing(Saying, Artifacts):
    # ---- what came before

    def known(self, project_id: ProjectId, kind: str, theirs: Sequence[str]) -> dict[str, Known]:
        """What is known of foreign things that were brought before, by their foreign ids."""
        c = t.brought.c
        found: dict[str, Known] = {}
        with self._db.read() as conn:
            for start in range(0, len(theirs), _PART):
                part = list(theirs[start : start + _PART])
                rows = select(c.theirs, c.ours, c.mark).where(
                    c.project_id == project_id, c.kind == kind, c.theirs.in_(part)
                )
                found.update((their, Known(ours, mark)) for their, ours, mark in conn.execute(rows))
        return found

    def note_brought(
        self, tx: Tx, project_id: ProjectId, kind: str, ids: Mapping[str, str], marks: Mapping[str, str]
    ) -> None:
        """Says which id a foreign thing has here, and what it said once all of it was here.

        Args:
            ids, marks: by foreign id; without a mark it will be looked at again.
        """
        rows = [(int(project_id), kind, their, ours, marks.get(their, "")) for their, ours in ids.items()]
        key = ("project_id", "kind", "theirs")
        tx.write_rows(t.brought, (*key, "ours", "mark"), rows, key=key)

    # ---- runs

    def bring_run(
        self,
        tx: Tx,
        project_id: ProjectId,
        experiment_id: int,
        run: ForeignRun,
        *,
        actor: Actor,
        id: str | None = None,
        code: VersionId | None = None,
    ) -> Brought:
        """Makes a run of another server, or brings it up to date. It keeps its id where that is free.

        A parameter that is here with another value stays as it is; a tag takes the foreign value.

        Args:
            experiment_id: of this project; a run that is here already stays in the experiment where it is.
            id: the id that it got here, where it is known.
            code: what ``code_version`` gave for its tags.
        """
        tx.lock(lock_of(RunId(run.id)))
        wanted = RunId(id or run.id)
        found = self._run_here(tx, wanted)
        if found is not None and found.project_id != project_id:
            found, wanted = None, RunId("")
        if found is None and not _ID.fullmatch(wanted):
            wanted = RunId("")
        left: list[tuple[str, str]] = []
        params = _kept(run.params, MOST_PARAM, "parameter", left)
        tags = _kept(run.tags, MOST_TAG, "tag", left)
        if found is not None and found.deleted_at is not None:
            return Brought(run_id=found.id, binned=True)
        if found is None:
            done = self._bring_new(tx, project_id, experiment_id, run, wanted, params, tags, left, actor)
        else:
            done = self._bring_more(tx, found, run, params, tags, left)
        if code is not None:
            self._link_code(tx, done.run_id, code)
        return done

    def _run_here(self, tx: Tx, id: RunId) -> Run | None:
        try:
            return self._assets.run(id, tx)
        except RunNotFound:
            return None

    def _bring_new(
        self,
        tx: Tx,
        project_id: ProjectId,
        experiment_id: int,
        run: ForeignRun,
        wanted: RunId,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        left: list[tuple[str, str]],
        actor: Actor,
    ) -> Brought:
        made = self._assets.start_run(
            tx,
            project_id,
            kind="mlflow",
            name=run.name,
            actor=actor,
            leased=False,
            run_id=wanted or None,
            started_at=run.started_at,
        )
        self._assets.amend_run(tx, made.id, state=run.state, ended_at=run.ended_at)
        no = self._number(tx, made.id, experiment_id, run.user, made.started_at)
        ids = self._keys.ids(tx, params)
        tx.write_rows(t.params, ("run_no", "key_id", "value"), [(no, ids[k], v) for k, v in params.items()])
        self._set_tags(tx, no, tags)
        self._bring_inputs(tx, no, experiment_id, run)
        return Brought(run_id=made.id, new=True, left=tuple(left))

    def _bring_more(
        self,
        tx: Tx,
        found: Run,
        run: ForeignRun,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        left: list[tuple[str, str]],
    ) -> Brought:
        here = self._tracked(tx, found.id)
        changed = 0
        if (found.state, found.ended_at, found.name) != (run.state, run.ended_at, run.name):
            self._assets.amend_run(tx, found.id, state=run.state, ended_at=run.ended_at, name=run.name)
            changed += 1
        stored = told.run_data(tx.conn, [found.id])[found.id]
        fresh = {key: value for key, value in params.items() if key not in stored.params}
        for key, value in params.items():
            if stored.params.get(key, value) != value:
                left.append((f"parameter {key!r}", "it has another value here, and parameters do not change"))
        if fresh:
            ids = self._keys.ids(tx, fresh)
            tx.write_rows(t.params, ("run_no", "key_id", "value"), [(here.no, ids[k], v) for k, v in fresh.items()])
        other = {key: value for key, value in tags.items() if stored.tags.get(key) != value}
        self._set_tags(tx, here.no, other)
        changed += len(fresh) + len(other) + self._bring_inputs(tx, here.no, here.experiment_id, run)
        return Brought(run_id=found.id, changed=changed, left=tuple(left))

    def _bring_inputs(self, tx: Tx, run_no: int, experiment_id: int, run: ForeignRun) -> int:
        return sum(self._add_input(tx, run_no, experiment_id, one) for one in run.inputs)

    def bring_points(
        self, tx: Tx, given: Mapping[RunId, Mapping[str, list[Mark]]]
    ) -> tuple[dict[RunId, int], list[tuple[RunId, str, str]]]:
        """Adds points of foreign runs. Returns how many are new by run, and which metrics could not be taken."""
        numbers: dict[int, RunId] = {}
        left: list[tuple[RunId, str, str]] = []
        fit: dict[tuple[int, str], list[Mark]] = {}
        for run_id in sorted(given):
            tx.lock(lock_of(run_id))
            here = self._tracked(tx, run_id)
            numbers[here.no] = run_id
            for key, found in given[run_id].items():
                try:
                    self._check({}, {key: found}, {})
                except KeyInvalid as error:
                    left.append((run_id, f"metric {key!r:.300}", error.message))
                else:
                    fit[here.no, key] = found
        ids = self._keys.ids(tx, {key for _, key in fit})
        before = queries.point_counts(tx.conn, list(numbers))
        series.add(tx, {(no, ids[key]): found for (no, key), found in fit.items()})
        after = queries.point_counts(tx.conn, list(numbers))
        added = {run_id: after.get(no, 0) - before.get(no, 0) for no, run_id in numbers.items()}
        return {run_id: count for run_id, count in added.items() if count}, left

    # ---- files

    def bring_files(self, project_id: ProjectId, given: Iterable[tuple[Owner, str, Opens]]) -> FilesBrought:
        """Takes over files. A file that is here with the same bytes is left alone; another one is replaced.

        Args:
            given: owner, path, and what opens the file; opened one after the other.
        """
        done = FilesBrought()
        waiting: list[tuple[Owner, Artifact]] = []
        size = 0
        with self._sessions.writer() as writer:
            for owner, path, opens in given:
                try:
                    shelves.check_artifact_path(path)
                    with opens() as file:
                        made = _stored(writer, path, file)
                except (ArtifactPathInvalid, OSError) as error:
                    done.left.append((owner, path, getattr(error, "message", "") or f"it cannot be read: {error}"))
                    continue
                waiting.append((owner, made))
                size += made.size
                if len(waiting) >= _FILES or size >= _BYTES:
                    self._name_files(project_id, writer, waiting, done)
                    waiting, size = [], 0
            self._name_files(project_id, writer, waiting, done)
        return done

    def _name_files(
        self, project_id: ProjectId, writer: Writer, waiting: list[tuple[Owner, Artifact]], done: FilesBrought
    ) -> None:
        if not waiting:
            return
        packs = writer.flush()
        with self._db.write() as tx:
            self._sessions.seal(tx, packs)
            for owner in sorted({owner for owner, _ in waiting}):
                tx.lock(lock_of_files(owner))
                self.check_owner(tx, owner, project_id)
            for owner, made in waiting:
                try:
                    before = shelves.find(tx.conn, owner, made.path)
                    if isinstance(before, Artifact):
                        if before.content == made.content:
                            done.same += 1
                            continue
                    elif isinstance(before, ArtifactEntry):
                        raise ArtifactInTheWay(made.path, is_folder=True)
                    shelves.put(tx, owner, made)
                except ArtifactInTheWay as error:
                    done.left.append((owner, made.path, error.message))
                    continue
                done.files += 1
                done.size += made.size
                done.owners.add(owner)

    def sizes_of(self, owner: Owner) -> dict[str, tuple[int, int]]:
        """Path -> size and the time when it was written, of all files of an owner."""
        found: dict[str, tuple[int, int]] = {}
        after = None
        while True:
            page = self.all_artifacts(owner, after=after)
            found.update((one.path, (one.size, one.at)) for one in page.items)
            after = page.next
            if after is None:
                return found


def _stored(writer: Writer, path: str, file: BinaryIO) -> Artifact:
    head = file.read(files.SMALL)
    if len(head) <= shelves.INLINE:
        return in_row(path, head)
    whole = len(head) < files.SMALL
    stored = files.put_bytes(writer, head) if whole else files.put_rest(writer, head, file)
    return Artifact(path=path, size=stored.size, content_kind=int(stored.kind), content=stored.id.hex)


def _kept(given: Mapping[str, str], most: int, what: str, left: list[tuple[str, str]]) -> dict[str, str]:
    """What may be stored; values that are too long are cut, and said."""
    kept: dict[str, str] = {}
    for key, value in given.items():
        try:
            check_key(key)
        except KeyInvalid as error:
            left.append((f"{what} {key!r:.300}", error.message))
            continue
        if len(value) > most:
            left.append((f"{what} {key!r}", f"cut from {len(value)} to {most} characters"))
        kept[key] = value[:most]
    return kept
