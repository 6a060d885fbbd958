"""What a source holds, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Final, NamedTuple, Protocol

from noria.base.ids import RunId
from noria.gateways.mlflow.moving.filed import ATTACHED, FILE, file_of_spans
from noria.registry.records import ForeignModel
from noria.tracking.blocks import Mark
from noria.tracking.records import ForeignRun
from noria.tracking.traces.records import Span, Trace

MODEL_STATES: Final = {1: "PENDING", 2: "READY", 3: "FAILED"}
"""How files and databases write the state of a logged model."""
MOST_LEFT: Final = 1_000
"""Things left out that a report names one by one; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceExperiment:
    """An experiment. Times are milliseconds.

    Attributes:
        place: where the artifacts of its runs lie, a URI or a path.
    """

    id: str
    name: str
    place: str
    deleted: bool
    created_at: int | None
    tags: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRun:
    """A run.

    Attributes:
        latest: of each metric the point that its source calls the newest.
        extent: tells whether the histories may have grown, as far as the source knows without reading them.
        place: where its artifacts lie.
        read, made: logged models; those that it made with the step.
        where: by what the source finds it again.
    """

    said: ForeignRun
    deleted: bool
    latest: dict[str, Mark]
    extent: str
    place: str
    read: list[str] = field(default_factory=list[str])
    made: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePoint:
    """What a run measured of a logged model."""

    run: str
    key: str
    mark: Mark
    dataset: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLogged:
    """A logged model."""

    id: str
    name: str
    kind: str
    status: str
    run: str
    place: str
    created_at: int
    updated_at: int
    deleted: bool
    params: dict[str, str]
    tags: dict[str, str]
    points: list[SourcePoint]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTrace:
    """A trace.

    Attributes:
        said: all but its spans; its experiment is not said.
        place: where its files lie; empty where that is not known.
        extent: tells whether spans may have come, as far as the source knows without reading them.
        spans: reads them; raises Unreachable, ValueError or OSError where they cannot be read.
        linked: runs that it was linked with later.
    """

    said: Trace
    place: str
    extent: str
    spans: Callable[[], list[Span]]
    linked: list[RunId] = field(default_factory=list[RunId])

    def attached(self, spans: list[Span]) -> bool:
        """Whether it may have files beside its spans."""
        if not self.place:
            return False
        return any(ATTACHED in value for span in spans for value in _texts(span.attributes))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


class SourceFile(NamedTuple):
    """A file below a place.

    Attributes:
        size: bytes.
        changed_at: milliseconds; None where the source does not say.
    """

    path: str
    size: int
    changed_at: int | None
    opens: Callable[[], BinaryIO]


class Source(Protocol):
    """What can be moved in. Everything comes in pages or one by one; nothing holds all of it.

    Attributes:
        name: as people call it; without passwords.
        near: its files lie on this machine, so that looking at all of them is cheap.
    """

    name: str
    near: bool

    def count(self, experiment: SourceExperiment) -> int | None:
        """Runs of an experiment, for a progress bar; None where that is not known."""
        ...

    def experiments(self) -> Iterator[SourceExperiment]: ...

    def runs(self, experiment: SourceExperiment) -> Iterator[list[SourceRun]]: ...

    def history(self, run: SourceRun) -> Iterator[tuple[str, list[Mark]]]:
        """All points of all metrics of a run, piece by piece."""
        ...

    def files(self, place: str) -> Iterator[SourceFile]:
        """All files below a place.

        Raises:
            Unreachable: this machine, or this program, cannot read there.
        """
        ...

    def others(self) -> dict[str, int]:
        """How many there are of what is not taken, as far as that is known."""
        ...

    def logged(self, experiment: SourceExperiment) -> Iterator[SourceLogged]: ...

    def models(self) -> Iterator[ForeignModel]: ...

    def traces(self, experiment: SourceExperiment) -> Iterator[list[SourceTrace]]: ...


class Unreachable(Exception):
    """A place cannot be read from here; the reason is its text."""


class Files(Protocol):
    def files(self, place: str) -> Iterator[SourceFile]: ...


def spans_in_file(source: Files, place: str) -> list[Span]:
    """The spans in the file of a trace; none where it has no such file.

    Raises:
        Unreachable, ValueError, OSError: they cannot be read.
    """
    for one in source.files(place) if place else ():
        if one.path == FILE:
            with one.opens() as file:
                return file_of_spans(file.read())
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Something that was left out, or taken otherwise than it was."""

    what: str
    why: str


@dataclass(slots=True, kw_only=True)
class Moved:
    """The report.

    Attributes:
        experiments: their id, name, and id here.
        renamed: runs that could not keep their id: theirs and ours.
        others: what there is besides, and is not taken; how many of each kind.
        places: places of artifacts that were left where they are, with the number of runs and models.
        stays: why the files of such a place were left there.
        reasons: why something was left out, with how often.
    """

    source: str
    dry_run: bool = False
    experiments: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    experiments_new: int = 0
    runs_new: int = 0
    runs_updated: int = 0
    runs_same: int = 0
    points: int = 0
    files: int = 0
    size: int = 0
    logged_new: int = 0
    logged_updated: int = 0
    logged_same: int = 0
    traces_new: int = 0
    traces_updated: int = 0
    traces_same: int = 0
    spans: int = 0
    models_new: int = 0
    versions_new: int = 0
    models_changed: int = 0
    renamed: dict[str, str] = field(default_factory=dict[str, str])
    others: dict[str, int] = field(default_factory=dict[str, int])
    places: Counter[str] = field(default_factory=Counter[str])
    stays: dict[str, str] = field(default_factory=dict[str, str])
    left: list[Left] = field(default_factory=list[Left])
    reasons: Counter[str] = field(default_factory=Counter[str])

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(
            self.experiments_new
            or self.runs_new
            or self.runs_updated
            or self.points
            or self.files
            or self.logged_new
            or self.logged_updated
            or self.traces_new
            or self.traces_updated
            or self.models_new
            or self.versions_new
            or self.models_changed
        )

    def stay(self, place: str, why: str) -> None:
        """Files that were left at a place."""
        self.places[place] += 1
        self.stays.setdefault(place, why)
        self.reasons[why] += 1

    def leave(self, what: str, why: str) -> None:
        self.reasons[why] += 1
        if len(self.left) < MOST_LEFT:
            self.left.append(Left(what=what, why=why))


Advance = Callable[..., None]
Opened = AbstractContextManager[Source]
