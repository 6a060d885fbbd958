"""A folder ``mlruns`` as a source: MLflow's file store, read without MLflow.

<experiment>/meta.yaml, tags/<key>
<experiment>/<run>/meta.yaml, params/<key>, tags/<key>, metrics/<key>: lines of "time value step"
<experiment>/<run>/inputs/<id>/meta.yaml, outputs/<model>/meta.yaml; <experiment>/datasets/<id>/meta.yaml
<experiment>/traces/: see folder_traces.py
<experiment>/models/<model>/meta.yaml, params/, tags/, metrics/: lines of "time value step run [dataset digest]"
models/<name>/meta.yaml, tags/, aliases/<alias>, version-<n>/meta.yaml, version-<n>/tags/
.trash/: experiments that were deleted
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from noria.base.errors import MissingExtra
from noria.gateways.mlflow.door import NUMBERED, STATES
from noria.gateways.mlflow.moving import places
from noria.gateways.mlflow.moving.errors import SourceInvalid, SourceMissing
from noria.gateways.mlflow.moving.folder_traces import Reads, traces_in
from noria.gateways.mlflow.moving.records import (
    MODEL_STATES,
    Moved,
    SourceExperiment,
    SourceFile,
    SourceLogged,
    SourcePoint,
    SourceRun,
    SourceTrace,
)
from noria.gateways.mlflow.moving.words import stage_of
from noria.registry.records import ForeignModel, ForeignVersion
from noria.tracking.blocks import Mark
from noria.tracking.records import Dataset, DatasetInput, ForeignRun

_PAGE: Final = 100
_PIECE: Final = 10_000
_TAIL: Final = 3
"""Names at the end of a place that MLflow chose: experiment, run and ``artifacts``."""
_META: Final = "meta.yaml"
_TRASH: Final = ".trash"
_BESIDE: Final = ("tags", "datasets", "traces", "models")
"""Folders of an experiment that are no runs."""
_GONE: Final = "Deleted_Internal"


class FolderSource:
    near = True

    def __init__(self, root: Path, artifacts: Path | None, report: Moved) -> None:
        self._root = root
        self._roots = [root] if artifacts is None else [root, artifacts]
        self._report = report
        self._yaml = _loader()
        self.name = str(root.resolve())
        if not root.is_dir():
            raise SourceMissing(f"There is no folder {root}.", hint="Name the folder mlruns.")
        if next(self._folders(), None) is None and not (root / "models").is_dir():
            raise SourceInvalid(
                f"{root} holds no experiment of MLflow.", hint="Name the folder that holds 0/meta.yaml, often mlruns."
            )

    def close(self) -> None:
        pass

    # ---- experiments and runs

    def _folders(self) -> Iterator[Path]:
        for parent in (self._root, self._root / _TRASH):
            if parent.is_dir():
                for folder in sorted(parent.iterdir()):
                    if folder.name not in (_TRASH, "models") and (folder / _META).is_file():
                        yield folder

    def experiments(self) -> Iterator[SourceExperiment]:
        for folder in self._folders():
            meta = self._meta(folder)
            if meta is None:
                continue
            yield SourceExperiment(
                id=str(meta.get("experiment_id", folder.name)),
                name=str(meta.get("name") or folder.name),
                place=_text(meta.get("artifact_location")),
                deleted=meta.get("lifecycle_stage") == "deleted" or folder.parent.name == _TRASH,
                created_at=_number(meta.get("creation_time")),
                tags=_texts(folder / "tags"),
            )

    def _folder_of(self, experiment: SourceExperiment) -> Path:
        name = Path(experiment.id).name
        found = self._root / _TRASH / name
        return found if experiment.deleted and found.is_dir() else self._root / name

    def _run_folders(self, experiment: SourceExperiment) -> list[Path]:
        folder = self._folder_of(experiment)
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and entry.name not in _BESIDE)
        return [folder / name for name in names]

    def count(self, experiment: SourceExperiment) -> int | None:
        return len(self._run_folders(experiment))

    def runs(self, experiment: SourceExperiment) -> Iterator[list[SourceRun]]:
        page: list[SourceRun] = []
        for folder in self._run_folders(experiment):
            meta = self._meta(folder)
            if meta is None:
                continue
            page.append(self._run(folder, meta))
            if len(page) == _PAGE:
                yield page
                page = []
        if page:
            yield page

    def _run(self, folder: Path, meta: dict[str, Any]) -> SourceRun:
        tags = _texts(folder / "tags")
        status = meta.get("status")
        name = NUMBERED.get(status, "FAILED") if isinstance(status, int) else str(status)
        sizes = [(key, path.stat().st_size) for key, path in _keyed(folder / "metrics")]
        id = str(meta.get("run_id") or meta.get("run_uuid") or folder.name)
        return SourceRun(
            said=ForeignRun(
                id=id,
                name=_text(meta.get("run_name")) or _text(meta.get("name")) or tags.get("mlflow.runName", ""),
                user=_text(meta.get("user_id")),
                state=STATES.get(name, STATES["FAILED"]),
                started_at=_number(meta.get("start_time")),
                ended_at=_number(meta.get("end_time")),
                params=_texts(folder / "params"),
                tags=tags,
                inputs=self._inputs(folder),
            ),
            deleted=meta.get("lifecycle_stage") == "deleted" or folder.parent.parent.name == _TRASH,
            latest={},
            extent=repr(sizes),
            place=self._place(_text(meta.get("artifact_uri")), folder),
            where=str(folder),
            read=[model for model, _ in self._models(folder / "inputs", "MODEL_INPUT")],
            made=self._models(folder / "outputs", "MODEL_OUTPUT"),
        )

    def _inputs(self, folder: Path) -> list[DatasetInput]:
        found: list[DatasetInput] = []
        for meta in self._metas(folder / "inputs"):
            if meta.get("source_type") != "DATASET":
                continue
            data = self._meta(folder.parent / "datasets" / Path(str(meta.get("source_id"))).name)
            if data is None:
                continue
            dataset = Dataset(
                name=_text(data.get("name")),
                digest=_text(data.get("digest")),
                source_type=_text(data.get("source_type")),
                source=_text(data.get("source")),
                schema=data.get("schema"),
                profile=data.get("profile"),
            )
            tags = {str(key): str(value) for key, value in (meta.get("tags") or {}).items()}
            found.append(DatasetInput(dataset=dataset, tags=tags))
        return found

    def _models(self, folder: Path, what: str) -> list[tuple[str, int]]:
        return [
            (str(meta.get("destination_id")), _number(meta.get("step")) or 0)
            for meta in self._metas(folder)
            if meta.get("destination_type") == what
        ]

    def history(self, run: SourceRun) -> Iterator[tuple[str, list[Mark]]]:
        for key, path in _keyed(Path(run.where) / "metrics"):
            piece: list[Mark] = []
            with path.open(encoding="utf-8", errors="replace") as lines:
                for n, line in enumerate(lines, 1):
                    mark = _mark(line.split())
                    if mark is None:
                        if line.strip():
                            self._report.leave(f"line {n} of {path}", "it is no point of a metric")
                        continue
                    piece.append(mark)
                    if len(piece) == _PIECE:
                        yield key, piece
                        piece = []
            if piece:
                yield key, piece

    # ---- files

    def _place(self, said: str, folder: Path) -> str:
        """Where artifacts lie; the whole folder may have been moved or copied since it was written."""
        own, found = folder / "artifacts", places.local(said)
        if not said:
            return str(own)
        if found is None:
            return said
        if places.inside(found, self._roots) is not None:
            return said if found.is_dir() else str(own)
        moved = found.parts[-_TAIL:] == own.resolve().parts[-_TAIL:]
        return str(own) if moved or _holds(own) or not found.is_dir() else said

    def files(self, place: str) -> Iterator[SourceFile]:
        return places.files_in(place, self._roots, places.OUTSIDE)

    def others(self) -> dict[str, int]:
        return {}

    def traces(self, experiment: SourceExperiment) -> Iterator[list[SourceTrace]]:
        return traces_in(
            self._folder_of(experiment) / "traces", Reads(self, self._yaml, _texts, self._place), self._report
        )

    # ---- models

    def logged(self, experiment: SourceExperiment) -> Iterator[SourceLogged]:
        for meta, folder in self._with_folders(self._folder_of(experiment) / "models"):
            status = meta.get("status")
            yield SourceLogged(
                id=str(meta.get("model_id") or folder.name),
                name=_text(meta.get("name")),
                kind=_text(meta.get("model_type")),
                status=MODEL_STATES.get(status, "UNSPECIFIED") if isinstance(status, int) else _text(status),
                run=_text(meta.get("source_run_id")),
                place=self._place(_text(meta.get("artifact_location")), folder),
                created_at=_number(meta.get("creation_timestamp")) or 0,
                updated_at=_number(meta.get("last_updated_timestamp")) or 0,
                deleted=meta.get("lifecycle_stage") == "deleted",
                params=_texts(folder / "params"),
                tags=_texts(folder / "tags"),
                points=self._points(folder / "metrics"),
            )

    def _points(self, folder: Path) -> list[SourcePoint]:
        found: list[SourcePoint] = []
        for key, path in _keyed(folder):
            for n, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
                parts = line.split(maxsplit=5)
                mark = _mark(parts)
                if mark is None or len(parts) < 4:
                    self._report.leave(f"line {n} of {path}", "it is no point of a metric")
                    continue
                data, digest = (parts[4], parts[5]) if len(parts) == 6 else ("", "")
                found.append(SourcePoint(run=parts[3], key=key, mark=mark, dataset=data, digest=digest))
        return found

    def models(self) -> Iterator[ForeignModel]:
        for meta, folder in self._with_folders(self._root / "models"):
            created = _number(meta.get("creation_timestamp")) or 0
            versions = [
                self._version(one, at)
                for one, at in self._with_folders(folder)
                if at.name.startswith("version-") and one.get("current_stage") != _GONE
            ]
            aliases = {key: int(text) for key, text in _texts(folder / "aliases").items() if text.strip().isdecimal()}
            yield ForeignModel(
                name=str(meta.get("name") or folder.name),
                description=_text(meta.get("description")),
                created_at=created,
                updated_at=_number(meta.get("last_updated_timestamp")) or created,
                tags=_texts(folder / "tags"),
                aliases=aliases,
                versions=sorted(versions, key=lambda version: version.number),
            )

    @staticmethod
    def _version(meta: dict[str, Any], folder: Path) -> ForeignVersion:
        created = _number(meta.get("creation_timestamp")) or 0
        return ForeignVersion(
            number=_number(meta.get("version")) or int(folder.name.removeprefix("version-")),
            source=_text(meta.get("source")),
            run=_text(meta.get("run_id")),
            description=_text(meta.get("description")),
            stage=stage_of(meta.get("current_stage")),
            link=_text(meta.get("run_link")),
            created_at=created,
            updated_at=_number(meta.get("last_updated_timestamp")) or created,
            logged_model=_text(meta.get("model_id")),
            tags=_texts(folder / "tags"),
        )

    # ---- meta.yaml

    def _with_folders(self, parent: Path) -> Iterator[tuple[dict[str, Any], Path]]:
        if not parent.is_dir():
            return
        for folder in sorted(parent.iterdir()):
            if folder.is_dir() and (folder / _META).is_file():
                meta = self._meta(folder)
                if meta is not None:
                    yield meta, folder

    def _metas(self, parent: Path) -> Iterator[dict[str, Any]]:
        return (meta for meta, _ in self._with_folders(parent))

    def _meta(self, folder: Path) -> dict[str, Any] | None:
        """What ``meta.yaml`` of a folder says; None, and a line in the report, where it cannot be read."""
        path = folder / _META
        try:
            found = self._yaml(path.read_bytes())
        except (OSError, ValueError) as error:
            self._report.leave(str(path), f"it cannot be read: {type(error).__name__}")
            return None
        if not isinstance(found, dict):
            self._report.leave(str(path), "it says nothing")
            return None
        return found


def _loader() -> Callable[[bytes], Any]:
    try:
        import yaml
    except ImportError:
        raise MissingExtra("pyyaml", "mlflow", "Reading a folder of MLflow") from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def load(data: bytes) -> Any:
        try:
            return yaml.load(data, Loader=loader)  # noqa: S506 - the safe loader
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from None

    return load


def _keyed(folder: Path) -> Iterator[tuple[str, Path]]:
    """Key and file of all files below a folder; a key may hold slashes."""
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(base) / name
            yield path.relative_to(folder).as_posix(), path


def _texts(folder: Path) -> dict[str, str]:
    return {key: path.read_bytes().decode("utf-8", "replace") for key, path in _keyed(folder)}


def _mark(parts: list[str]) -> Mark | None:
    try:
        return int(parts[0]), int(parts[2]) if len(parts) > 2 else 0, float(parts[1])
    except (ValueError, IndexError):
        return None


def _holds(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _number(value: Any) -> int | None:
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.strip().lstrip("-").isdecimal() else None
