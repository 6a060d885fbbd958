"""The verb: reads a source page by page and writes with the verbs that clients' calls use.

What is whole here is marked with a digest of what the source said of it, so the next import passes over it; what was
begun when a process died has no mark, and is done again: nothing of it doubles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.ids import RunId
from noria.db import Tx
from noria.gateways.mlflow.moving import places
from noria.gateways.mlflow.moving.database import DatabaseSource
from noria.gateways.mlflow.moving.errors import SourceInvalid
from noria.gateways.mlflow.moving.files import files_to_take
from noria.gateways.mlflow.moving.folder import FolderSource
from noria.gateways.mlflow.moving.models import RUN, MoveModels
from noria.gateways.mlflow.moving.records import (
    Moved,
    Source,
    SourceExperiment,
    SourceFile,
    SourceRun,
    Unreachable,
)
from noria.gateways.mlflow.moving.server import ServerSource
from noria.gateways.mlflow.moving.traces import MoveTraces
from noria.tracking.blocks import Mark
from noria.tracking.errors import ExperimentNotFound
from noria.tracking.records import Experiment, Known, Owner, OwnerKind
from noria.workspace import Workspace

_POINTS: Final = 20_000
"""Points that are written in one transaction."""
_REMOTE: Final = ("s3", "gs", "abfs", "abfss", "wasb", "wasbs", "dbfs", "hdfs", "viewfs", "ftp", "sftp", "r2", "b2")


@contextmanager
def open_source(ws: Workspace, text: str, report: Moved, *, artifacts: Path | None = None) -> Iterator[Source]:
    """The source that a URI, a folder or a file names.

    Args:
        text: ``http(s)://...``, ``sqlite:///path``, a folder ``mlruns`` or the file of a database.
        artifacts: the folder that holds what ``mlflow-artifacts:`` names in a database, and a folder of this machine
            that files are taken from where the source names a place in there.

    Raises:
        SourceMissing, SourceInvalid: there is none, or it is none.
    """
    scheme = places.scheme_of(text)
    found: DatabaseSource | FolderSource | ServerSource
    if scheme in ("http", "https"):
        found = ServerSource(text, ws.environment, artifacts)
    elif scheme == "sqlite":
        path = Path(unquote(text.partition("://")[2].removeprefix("/").partition("?")[0]))
        found = DatabaseSource(path, artifacts)
    elif scheme not in ("", "file"):
        raise SourceInvalid(
            f"{places.named(text)} cannot be imported from.",
            hint="http(s)://HOST of a running server, sqlite:///PATH or the folder mlruns.",
        )
    else:
        path = places.local(text) or Path(text)
        found = DatabaseSource(path, artifacts) if path.is_file() else FolderSource(path, artifacts, report)
    try:
        yield found
    finally:
        found.close()


class MoveIn:
    """One import."""

    def __init__(
        self,
        ws: Workspace,
        source: Source,
        report: Moved,
        *,
        actor: Actor,
        only: Collection[str] = (),
        again: bool = False,
        advance: Callable[..., None] | None = None,
    ) -> None:
        """
        Args:
            only: names of experiments; default all, and the registered models.
            again: look also at what is marked as whole.
            advance: told of each run that is done.
        """
        self._ws = ws
        self._source = source
        self._report = report
        self._actor = actor
        self._only = frozenset(only)
        self._again = again
        self._advance = advance or _nothing
        self._tracking = ws.tracking
        self._project_id = ws.project.id
        self._models = MoveModels(ws, source, report, actor, again=again)
        self._traces = MoveTraces(ws, source, report, again=again)

    def run(self, *, dry_run: bool = False) -> Moved:
        """Does it; with ``dry_run`` it only counts.

        Raises:
            ExperimentNotFound: the source has no experiment of a name that was asked for.
        """
        report = self._report
        report.dry_run = dry_run
        report.others = self._source.others()
        wanted = [one for one in self._source.experiments() if not self._only or one.name in self._only]
        missing = self._only - {one.name for one in wanted}
        if missing:
            raise ExperimentNotFound(f"{self._source.name} has no experiment {min(missing)!r:.100}.", hint="--dry-run")
        counts = [self._source.count(one) for one in wanted]
        self._advance(0, total=sum(n for n in counts if n) or None)
        for experiment in wanted:
            self._advance(0, text=f"{experiment.name:.40}")
            self._experiment(experiment, dry_run)
        if not self._only:
            self._advance(0, text="models")
            self._models.registered(dry_run=dry_run)
        if report.changed and not dry_run:
            with self._ws.changes.begin("tracking.import", self._project_id, self._actor) as change:
                change.note(
                    report.source,
                    runs=report.runs_new,
                    updated=report.runs_updated,
                    points=report.points,
                    files=report.files,
                    traces=report.traces_new,
                    models=report.models_new,
                )
        return report

    # ---- experiments

    def _experiment(self, theirs: SourceExperiment, dry_run: bool) -> None:
        ours = self._find(theirs)
        binned = ours is not None and ours.deleted
        if ours is None:
            self._report.experiments_new += 1
        if dry_run:
            self._report.experiments.append((theirs.id, theirs.name, "new" if ours is None else _id(ours)))
            for page in self._source.runs(theirs):
                self._count(page)
            self._models.logged(theirs, ours, dry_run=True)
            self._traces.traces(theirs, ours, dry_run=True)
            return
        if ours is None:
            ours = self._make(theirs)
        elif not binned:
            self._retag(ours, theirs)
        self._report.experiments.append((theirs.id, theirs.name, _id(ours)))
        for page in self._source.runs(theirs):
            if binned:
                self._in_the_bin(page)
            else:
                self._runs(ours, page)
        if not binned:
            self._models.logged(theirs, ours, dry_run=False)
            self._traces.traces(theirs, ours, dry_run=False)
        if theirs.deleted and not binned:
            self._tracking.delete_experiment(self._project_id, ours.id, actor=self._actor)

    def _find(self, theirs: SourceExperiment) -> Experiment | None:
        if theirs.id == "0":
            return self._tracking.experiment_by_id(self._project_id, 0)
        try:
            return self._tracking.experiment(self._project_id, theirs.name)
        except ExperimentNotFound:
            return None

    def _make(self, theirs: SourceExperiment) -> Experiment:
        stays = places.scheme_of(theirs.place) in _REMOTE
        tags = {key: value[:20_000] for key, value in theirs.tags.items()}
        return self._tracking.create_experiment(
            self._project_id,
            theirs.name,
            actor=self._actor,
            tags=tags,
            location=theirs.place.rstrip("/") if stays else None,
            created_at=theirs.created_at,
        )

    def _retag(self, ours: Experiment, theirs: SourceExperiment) -> None:
        for key, value in theirs.tags.items():
            if ours.tags.get(key) != value:
                self._tracking.set_experiment_tag(self._project_id, ours.id, key, value, actor=self._actor)

    def _in_the_bin(self, page: Sequence[SourceRun]) -> None:
        known = self._tracking.known(self._project_id, RUN, [run.said.id for run in page])
        for run in page:
            ours, mark = known.get(run.said.id, _UNKNOWN)
            if mark:
                self._report.runs_same += 1
                if ours != run.said.id:
                    self._report.renamed[run.said.id] = ours
            else:
                self._report.leave(f"run {run.said.id}", "its experiment lies in the bin here")
            self._advance(1)

    # ---- runs

    def _count(self, page: Sequence[SourceRun]) -> None:
        known = self._tracking.known(self._project_id, RUN, [run.said.id for run in page])
        for run in page:
            files = self._files(run.place, RUN, run.said.id)
            if known.get(run.said.id, _UNKNOWN).mark == self._mark(run, files):
                self._report.runs_same += 1
            else:
                self._report.runs_updated += run.said.id in known
                self._report.runs_new += run.said.id not in known
                found = self._listed(run.place) if files is None else files
                self._report.files += len(found)
                self._report.size += sum(one.size for one in found)
                if run.extent.isdecimal():
                    self._report.points += int(run.extent)
            self._advance(1)

    def _runs(self, experiment: Experiment, page: list[SourceRun]) -> None:
        known = self._tracking.known(self._project_id, RUN, [run.said.id for run in page])
        todo: list[tuple[SourceRun, str, list[SourceFile] | None]] = []
        for run in page:
            files = self._files(run.place, RUN, run.said.id)
            mark = self._mark(run, files)
            if known.get(run.said.id, _UNKNOWN).mark == mark and not self._again:
                self._report.runs_same += 1
                self._advance(1)
            else:
                todo.append((run, mark, files))
        todo.sort(key=lambda one: one[0].said.id)  # locks are taken in one order
        if todo:
            _Page(self._ws, self._source, self._report, self._actor, experiment, known).write(todo)
            self._advance(len(todo))

    def _files(self, place: str, kind: str, id: str) -> list[SourceFile] | None:
        """The files at a place, where it costs little to look; None where it has to be asked later."""
        return self._listed(place) if self._source.near else None

    def _listed(self, place: str) -> list[SourceFile]:
        try:
            return list(self._source.files(place)) if place else []
        except Unreachable:
            return []

    @staticmethod
    def _mark(run: SourceRun, files: list[SourceFile] | None) -> str:
        said = run.said
        inputs = [[one.dataset.name, one.dataset.digest, sorted(one.tags.items())] for one in said.inputs]
        whole = [
            [said.name, said.user, said.state.value, said.started_at, said.ended_at, run.deleted, run.extent],
            [sorted(said.params.items()), sorted(said.tags.items()), inputs, run.read, run.made],
            sorted((key, *mark) for key, mark in run.latest.items()),
            None if files is None else [[one.path, one.size, one.changed_at] for one in files],
        ]
        return Digest.of(json.dumps(whole, ensure_ascii=True).encode()).hex


class _Page:
    """Some runs on their way: first what they say, then their files, then the marks that say that they are whole."""

    def __init__(
        self,
        ws: Workspace,
        source: Source,
        report: Moved,
        actor: Actor,
        experiment: Experiment,
        known: dict[str, Known],
    ) -> None:
        self._ws = ws
        self._tracking = ws.tracking
        self._project_id = ws.project.id
        self._source = source
        self._report = report
        self._actor = actor
        self._experiment = experiment
        self._known = known
        self._ids: dict[str, RunId] = {}
        self._changed: set[str] = set()
        self._binned: set[str] = set()

    def write(self, todo: Sequence[tuple[SourceRun, str, list[SourceFile] | None]]) -> None:
        runs = [run for run, _, _ in todo]
        self._say(runs)
        self._points(runs)
        self._put_files([(run, files) for run, _, files in todo])
        self._finish(todo)

    def _say(self, runs: Sequence[SourceRun]) -> None:
        fresh: dict[str, str] = {}
        codes = {run.said.id: self._tracking.code_version(self._project_id, run.said.tags) for run in runs}
        with self._ws.db.write() as tx:
            for run in runs:
                id = run.said.id
                done = self._tracking.bring_run(
                    tx,
                    self._project_id,
                    self._experiment.id,
                    run.said,
                    actor=self._actor,
                    id=self._known.get(id, _UNKNOWN).ours or None,
                    code=codes[id],
                )
                self._ids[id] = done.run_id
                if done.run_id != id:
                    self._report.renamed[id] = done.run_id
                if done.binned:
                    self._binned.add(id)
                    if not run.deleted:
                        self._report.leave(f"run {id}", "it lies in the bin here")
                    continue
                self._tracking.link_models(tx, done.run_id, [(model, None) for model in run.read], made=False)
                self._tracking.link_models(tx, done.run_id, run.made, made=True)
                if id not in self._known:
                    fresh[id] = done.run_id
                self._report.runs_new += done.new
                if done.changed:
                    self._changed.add(id)
                for what, why in done.left:
                    self._report.leave(f"run {id}: {what}", why)
            self._tracking.note_brought(tx, self._project_id, RUN, fresh, {})
        self._new = {id for id in self._ids if id in fresh}

    def _points(self, runs: Sequence[SourceRun]) -> None:
        waiting: dict[str, dict[str, list[Mark]]] = {}
        held = 0
        for run in runs:
            if run.said.id in self._binned:
                continue
            for key, piece in self._source.history(run):
                waiting.setdefault(run.said.id, {}).setdefault(key, []).extend(piece)
                held += len(piece)
                if held >= _POINTS:
                    self._log(waiting)
                    waiting, held = {}, 0
        self._log(waiting)

    def _log(self, waiting: dict[str, dict[str, list[Mark]]]) -> None:
        if not waiting:
            return
        with self._ws.db.write() as tx:
            added, left = self._tracking.bring_points(tx, {self._ids[id]: marks for id, marks in waiting.items()})
        self._report.points += sum(added.values())
        self._changed |= {id for id in waiting if self._ids[id] in added}
        for id, what, why in left:
            self._report.leave(f"run {id}: {what}", why)

    def _put_files(self, runs: Sequence[tuple[SourceRun, list[SourceFile] | None]]) -> None:
        owners: dict[Owner, str] = {}

        def given() -> Iterator[tuple[Owner, str, Any]]:
            for run, _ in runs:
                if run.said.id in self._binned or not run.place:
                    continue
                owner = Owner(OwnerKind.RUN, self._ids[run.said.id])
                owners[owner] = run.said.id
                yield from files_to_take(self._tracking, self._source, self._report, owner, run.place)

        done = self._tracking.bring_files(self._project_id, given())
        self._report.files += done.files
        self._report.size += done.size
        for owner, path, why in done.left:
            self._report.leave(f"file {path!r:.200} of {owners[owner]}", why)
        self._changed |= {owners[owner] for owner in done.owners}

    def _finish(self, todo: Sequence[tuple[SourceRun, str, list[SourceFile] | None]]) -> None:
        with self._ws.db.write() as tx:
            whole = [(run, mark) for run, mark, _ in todo if run.deleted or run.said.id not in self._binned]
            ids = {run.said.id: str(self._ids[run.said.id]) for run, _ in whole}
            marks = {run.said.id: mark for run, mark in whole}
            self._delete(tx, [run for run, _, _ in todo if run.deleted])
            self._tracking.note_brought(tx, self._project_id, RUN, ids, marks)
        for id in ids:
            if id not in self._new:
                if id in self._changed:
                    self._report.runs_updated += 1
                else:
                    self._report.runs_same += 1

    def _delete(self, tx: Tx, runs: Sequence[SourceRun]) -> None:
        for run in runs:
            if run.said.id not in self._binned:
                self._tracking.delete_run(self._ids[run.said.id], actor=self._actor, tx=tx)
                self._changed.add(run.said.id)


def _id(experiment: Experiment) -> str:
    return "0" if experiment.is_default else str(experiment.id)


def _nothing(done: float = 1, text: str | None = None, total: float | None = None) -> None:
    return


_UNKNOWN: Final = Known("", "")
