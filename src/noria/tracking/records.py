from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from noria.assets.records import Run, RunState
from noria.base.ids import ProjectId, RunId, VersionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A set of runs to compare.

    Attributes:
        name: unique in its project; what stands before its last ``/`` is its folder.
        is_default: runs go here when nothing else is said.
        location: where clients keep the artifacts of its runs; None: here. Never opened.
    """

    id: int
    project_id: ProjectId
    name: str
    deleted: bool
    created_at: int
    updated_at: int
    is_default: bool = False
    location: str | None = None
    tags: dict[str, str] = field(default_factory=dict[str, str])


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a metric's history.

    Attributes:
        at: the client's time, int64 milliseconds.
        step: int64, may be negative and may repeat.
        value: any double; NaN and the infinities are kept.
    """

    key: str
    value: float
    at: int
    step: int = 0


class OwnerKind(enum.StrEnum):
    """What files belong to."""

    RUN = "run"
    MODEL = "model"
    """A model as a client logged it."""
    TRACE = "trace"
    VERSION = "version"
    """A version of the asset graph that holds files; they never change."""


class Owner(NamedTuple):
    """What a file belongs to: a kind, and the id of the one."""

    kind: OwnerKind
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file of a run, a model or a trace.

    Attributes:
        path: with ``/`` between its parts.
        size: bytes.
        content_kind: the kind of the object that ``content`` names; 0: ``data`` is the bytes, and the object is what
            they will be once they lie in a pack.
        at: milliseconds, when it was written.
    """

    path: str
    size: int
    content_kind: int
    content: str
    at: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactEntry:
    """A line of a folder's list.

    Attributes:
        path: from the top.
        size: bytes; 0 for folders.
    """

    path: str
    is_folder: bool
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Data that a client says its run read.

    Attributes:
        source, schema, profile: as the client wrote them; never opened.
    """

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInput:
    """A dataset as one run read it; the tag ``mlflow.data.context`` says what for."""

    dataset: Dataset
    tags: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """Everything that a run said, newest point of each metric.

    Attributes:
        location: where its artifacts lie ("": here), if its experiment has another place; None: as the experiment says.
    """

    run_id: RunId
    experiment_id: int | None
    user: str
    params: dict[str, str]
    metrics: dict[str, Point]
    tags: dict[str, str]
    location: str | None = None


class Told(NamedTuple):
    """A run with everything that it said, read and made.

    Attributes:
        started_at, ended_at, deleted_at: milliseconds since 1970 UTC.
        read, made: ids of logged models; of those that it made, with the step.
    """

    id: RunId
    project_id: ProjectId
    name: str
    state: RunState
    started_at: int
    ended_at: int | None
    deleted_at: int | None
    data: RunData
    inputs: list[DatasetInput]
    read: list[str]
    made: list[tuple[str, int | None]]


class Tracked(NamedTuple):
    """A run as this room knows it.

    Attributes:
        no: names the run in this room's tables.
    """

    no: int
    run_id: RunId
    project_id: ProjectId
    experiment_id: int
    deleted: bool


class Said(NamedTuple):
    """Points that a client logs: metric -> (time, step, value)."""

    run_id: RunId
    project_id: ProjectId | None
    marks: dict[str, list[tuple[int, int, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One key of a comparison.

    Attributes:
        part: ``params``, ``metrics`` or ``tags``.
        values: for each run, in their order; None where it has none.
        best: the places of the best values of a metric, where its name says which way is better.
    """

    part: str
    key: str
    values: tuple[str | float | None, ...]
    best: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A metric of a run, in as many points as were asked for.

    Attributes:
        total: points of the whole history.
    """

    run_id: RunId
    key: str
    total: int
    points: list[Point]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A run in a list: what it is, what it said, and the name of its experiment."""

    run: Run
    data: RunData
    experiment: str | None


class LoggedState(enum.StrEnum):
    """How far a logged model is."""

    PENDING = "pending"
    """Its files are on their way."""
    READY = "ready"
    FAILED = "upload_failed"
    UNKNOWN = "unspecified"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedPoint:
    """A metric of a logged model: what a run measured of it, maybe on a dataset."""

    key: str
    value: float
    at: int
    step: int
    run_id: RunId
    dataset: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModel:
    """A model as a client logged it: files, what it was made with, and what was measured of it.

    Attributes:
        no: names it in this room's tables.
        source_run: the run that a client named as its maker; it need not be there.
        version_id: the version of the asset graph that holds its files, once it is ready.
    """

    no: int
    id: str
    project_id: ProjectId
    experiment_id: int
    name: str
    kind: str
    state: LoggedState
    status_message: str
    source_run: str
    version_id: VersionId | None
    created_at: int
    updated_at: int
    deleted: bool
    params: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    metrics: list[LoggedPoint] = field(default_factory=list[LoggedPoint])


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRun:
    """A run as another server has it, without its points and files.

    Attributes:
        started_at, ended_at: milliseconds; None where it does not say.
    """

    id: str
    name: str
    user: str
    state: RunState
    started_at: int | None
    ended_at: int | None
    params: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    inputs: list[DatasetInput] = field(default_factory=list[DatasetInput])


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What became of a foreign run.

    Attributes:
        new: there was none with this id.
        binned: it lies in the bin here; nothing was written.
        changed: how many parts of it (its state, a parameter, a tag, an input) are other than before.
        left: what could not be taken, and why.
    """

    run_id: RunId
    new: bool = False
    binned: bool = False
    changed: int = 0
    left: tuple[tuple[str, str], ...] = ()


class Known(NamedTuple):
    """What is known of a foreign thing since it was brought.

    Attributes:
        ours: its id here.
        mark: what it said when all of it was here.
    """

    ours: str
    mark: str


@dataclass(slots=True, kw_only=True)
class FilesBrought:
    """What became of foreign files.

    Attributes:
        files, size, owners: of those that are new or other than before; bytes.
        same: files that were here.
    """

    files: int = 0
    size: int = 0
    same: int = 0
    owners: set[Owner] = field(default_factory=set[Owner])
    left: list[tuple[Owner, str, str]] = field(default_factory=list[tuple[Owner, str, str]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What a deletion for good did, or would do.

    Attributes:
        runs: whose content goes; kept: of those, whose row stays, since something names it.
        unended: runs that noria still executes; they are left alone.
        experiments: that go as a whole.
        rows: kind of content -> how much of it. size: bytes of it, as far as they are counted; a file that others hold
            too frees none.
    """

    dry_run: bool
    runs: int = 0
    kept: int = 0
    unended: int = 0
    experiments: int = 0
    rows: dict[str, int] = field(default_factory=dict[str, int])
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """Says that the content of a run was deleted for good. ``done``: all of it is."""

    at: int
    actor: str
    done: bool
