"""Logged and registered models on their way in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import NoriaError
from noria.base.ids import RunId, VersionId
from noria.gateways.mlflow import sources
from noria.gateways.mlflow.moving import places
from noria.gateways.mlflow.moving.files import files_to_take
from noria.gateways.mlflow.moving.records import Moved, Source, SourceExperiment, SourceLogged, Unreachable
from noria.gateways.mlflow.sources import SourceInvalid
from noria.registry.errors import ModelNameInvalid
from noria.registry.records import ForeignModel, ForeignVersion
from noria.tracking.errors import LoggedModelNotFound, ParamChanged
from noria.tracking.records import Experiment, Known, LoggedModel, LoggedPoint, LoggedState, Owner, OwnerKind
from noria.workspace import Workspace

RUN: Final = "run"
LOGGED: Final = "logged"
MODEL: Final = "model"
_UNKNOWN: Final = Known("", "")
_STATES: Final = {
    "PENDING": LoggedState.PENDING,
    "READY": LoggedState.READY,
    "FAILED": LoggedState.FAILED,
}
_OF_LOGGED: Final = re.compile(r"(?:^|/)models/(m-[\w\-]+)/artifacts(?:/|$)")
_OF_RUN: Final = re.compile(r"(?:^|/)([0-9a-f]{32})/artifacts(?:/(.*))?$")
_PART: Final = 100


class MoveModels:
    def __init__(self, ws: Workspace, source: Source, report: Moved, actor: Actor, *, again: bool) -> None:
        self._ws = ws
        self._tracking = ws.tracking
        self._project_id = ws.project.id
        self._source = source
        self._report = report
        self._actor = actor
        self._again = again

    # ---- logged models

    def logged(self, theirs: SourceExperiment, ours: Experiment | None, *, dry_run: bool) -> None:
        """The logged models of an experiment; without ``ours``, or with ``dry_run``, they are counted."""
        for part in _parts(self._source.logged(theirs)):
            known = self._tracking.known(self._project_id, LOGGED, [one.id for one in part])
            for one in part:
                mark = self._mark(one)
                before = known.get(one.id, _UNKNOWN)
                if before.mark == mark and not self._again:
                    self._report.logged_same += 1
                elif dry_run or ours is None:
                    self._report.logged_new += not before.mark
                    self._report.logged_updated += bool(before.mark)
                else:
                    self._logged(one, ours, mark)

    def _mark(self, one: SourceLogged) -> str:
        files = [[f.path, f.size, f.changed_at] for f in self._listed(one.place)] if self._source.near else None
        whole = {**asdict(one), "points": len(one.points), "last": repr(one.points[-1:]), "files": files}
        return Digest.of(json.dumps(whole, sort_keys=True).encode()).hex

    def _listed(self, place: str) -> list[Any]:
        try:
            return list(self._source.files(place)) if place else []
        except Unreachable:
            return []

    def _logged(self, one: SourceLogged, ours: Experiment, mark: str) -> None:
        try:
            made, new, changed = self._model(one, ours)
        except NoriaError as error:
            self._report.leave(f"logged model {one.id}", error.message)
            return
        if made.deleted:
            if not one.deleted:
                self._report.leave(f"logged model {one.id}", "it lies in the bin here")
            else:
                self._report.logged_same += 1
            return
        changed += self._measured(one, made)
        owner = Owner(OwnerKind.MODEL, one.id)
        done = self._tracking.bring_files(
            self._project_id, files_to_take(self._tracking, self._source, self._report, owner, one.place)
        )
        self._report.files += done.files
        self._report.size += done.size
        for _, path, why in done.left:
            self._report.leave(f"file {path!r:.200} of {one.id}", why)
        state = _STATES.get(one.status, LoggedState.UNKNOWN)
        if made.state is not state or (done.files and state is LoggedState.READY):  # files that came later belong to it
            self._tracking.finish_logged_model(self._project_id, one.id, state, actor=self._actor)
            changed += made.state is not state
        if one.deleted:
            self._tracking.delete_logged_model(self._project_id, one.id, actor=self._actor)
        with self._ws.db.write() as tx:
            self._tracking.note_brought(tx, self._project_id, LOGGED, {one.id: one.id}, {one.id: mark})
        if new:
            self._report.logged_new += 1
        elif changed or done.files:
            self._report.logged_updated += 1
        else:
            self._report.logged_same += 1

    def _model(self, one: SourceLogged, ours: Experiment) -> tuple[LoggedModel, bool, int]:
        """The model here, whether it is new, and how many parts of it changed."""
        try:
            found = self._tracking.logged_model(self._project_id, one.id, deleted=True)
        except LoggedModelNotFound:
            run = self._tracking.known(self._project_id, RUN, [one.run]).get(one.run, _UNKNOWN).ours if one.run else ""
            made = self._tracking.create_logged_model(
                self._project_id,
                ours.id,
                name=one.name,
                actor=self._actor,
                kind=one.kind,
                source_run=run or one.run,
                params=one.params,
                tags=one.tags,
                id=one.id,
                created_at=one.created_at,
            )
            return made, True, 0
        if found.deleted:
            return found, False, 0
        tags = {key: value for key, value in one.tags.items() if found.tags.get(key) != value}
        params = {key: value for key, value in one.params.items() if key not in found.params}
        if tags:
            self._tracking.tag_logged_model(self._project_id, one.id, tags)
        if params:
            try:
                self._tracking.log_model_params(self._project_id, one.id, params)
            except ParamChanged as error:
                self._report.leave(f"logged model {one.id}", error.message)
        return found, False, len(tags) + len(params)

    def _measured(self, one: SourceLogged, made: LoggedModel) -> int:
        if not one.points:
            return 0
        known = self._tracking.known(self._project_id, RUN, sorted({point.run for point in one.points}))
        have = {(p.key, p.at, p.step, p.run_id, p.dataset, p.digest) for p in made.metrics}
        by_run: dict[str, list[tuple[str, LoggedPoint]]] = {}
        for point in one.points:
            run = RunId(known.get(point.run, _UNKNOWN).ours or point.run)
            at, step, value = point.mark
            here = LoggedPoint(
                key=point.key, value=value, at=at, step=step, run_id=run, dataset=point.dataset, digest=point.digest
            )
            if (point.key, at, step, run, point.dataset, point.digest) not in have:
                by_run.setdefault(run, []).append((one.id, here))
        for run, points in by_run.items():
            tracked = self._tracking.tracked(RunId(run))
            if tracked is None or tracked.project_id != self._project_id:
                self._report.leave(f"logged model {one.id}: {len(points)} metrics", "their run is not here")
                continue
            with self._ws.db.write() as tx:
                self._tracking.measure(tx, tracked, points)
        return len(by_run)

    # ---- registered models

    def registered(self, *, dry_run: bool) -> None:
        for part in _parts(self._source.models()):
            known = self._tracking.known(self._project_id, MODEL, [one.name for one in part])
            for one in part:
                mark = Digest.of(json.dumps(asdict(one), sort_keys=True, default=str).encode()).hex
                if known.get(one.name, _UNKNOWN).mark == mark and not self._again:
                    continue
                if dry_run:
                    self._report.models_new += one.name not in known
                    self._report.models_changed += one.name in known
                    self._report.versions_new += len(one.versions) if one.name not in known else 0
                else:
                    self._registered(one, mark)

    def _registered(self, one: ForeignModel, mark: str) -> None:
        runs = sorted({version.run for version in one.versions if version.run})
        known = self._tracking.known(self._project_id, RUN, runs)
        ids = {run: known.get(run, _UNKNOWN).ours or run for run in runs}
        found = self._ws.assets.runs_by_ids([RunId(id) for id in ids.values()])
        here = {str(id) for id, run in found.items() if run.project_id == self._project_id}
        versions = [self._version_here(v, one.name, ids) for v in one.versions]
        try:
            done = self._ws.registry.bring(
                self._project_id, replace(one, versions=versions), actor=self._actor, runs=here
            )
        except ModelNameInvalid as error:
            self._report.leave(f"registered model {one.name!r:.300}", error.message)
            return
        self._report.models_new += done.new
        self._report.versions_new += done.versions
        self._report.models_changed += bool(not done.new and (done.changed or done.versions))
        for what, why in done.left:
            self._report.leave(f"registered model {one.name!r:.200}: {what}", why)
        with self._ws.db.write() as tx:
            self._tracking.note_brought(tx, self._project_id, MODEL, {one.name: one.name}, {one.name: mark})

    def _version_here(self, version: ForeignVersion, name: str, runs: dict[str, str]) -> ForeignVersion:
        """A version as it is here: with the files that came along, so that it can be served like any other."""
        source = self._source_here(version, name)
        made = replace(version, run=runs.get(version.run, ""), source=source)
        try:
            return replace(made, version_id=self._package_of(sources.parse(source), runs))
        except (SourceInvalid, LoggedModelNotFound):
            return made

    def _package_of(self, source: sources.Source, runs: dict[str, str]) -> VersionId | None:
        if source.kind == "logged":
            return self._tracking.logged_of(self._project_id, source.name)
        if source.kind == "run":
            run, folder = runs.get(source.name, source.name), source.path
        elif source.kind == "proxied" and (match := _OF_RUN.search(source.path)) is not None:
            run, folder = match[1], match[2] or ""
        else:
            return None
        if self._tracking.tracked(RunId(run)) is None:
            return None
        made = self._tracking.package(
            self._project_id,
            Owner(OwnerKind.RUN, run),
            folder,
            name=folder or "model",
            run=run,
            facts={},
            actor=self._actor,
        )
        return None if made is None else made.id

    def _source_here(self, version: ForeignVersion, name: str) -> str:
        """Where the files of a version lie here, if a place of the source names them."""
        text = version.source
        if places.scheme_of(text) not in ("", "file", "mlflow-artifacts", "http", "https"):
            return text
        logged = _OF_LOGGED.search(text)
        if logged is not None:
            return f"models:/{logged[1]}"
        run = _OF_RUN.search(text)
        if run is not None:
            ours = self._tracking.known(self._project_id, RUN, [run[1]]).get(run[1], _UNKNOWN).ours or run[1]
            data = self._tracking.data(RunId(ours))
            if data.experiment_id is not None:
                rest = f"/{run[2]}" if run[2] else ""
                return f"mlflow-artifacts:/{data.experiment_id}/{ours}/artifacts{rest}"
        if text and places.scheme_of(text) in ("", "file"):
            self._report.leave(f"{name}/{version.number}", f"its files stay at {text}")
        return text


def _parts(given: Iterator[Any]) -> Iterator[Sequence[Any]]:
    part: list[Any] = []
    for one in given:
        part.append(one)
        if len(part) == _PART:
            yield part
            part = []
    if part:
        yield part
