"""Wire shapes of experiments, and of what people do with runs."""

from __future__ import annotations

import msgspec

from noria.base.times import to_text
from noria.tracking.records import Experiment, Purged
from noria.tracking.service import NOTE
from noria.tracking.wire.runs import Limit


class ExperimentOut(msgspec.Struct):
    id: int
    name: str
    folder: str
    default: bool
    created_at: str
    updated_at: str
    deleted: bool
    location: str | None
    tags: dict[str, str]
    note: str | None


class ExperimentPage(msgspec.Struct):
    items: list[ExperimentOut]
    next: str | None = None


class ExperimentsQuery(msgspec.Struct):
    """``under``: only what lies in this folder; ``deleted``: only what is in the bin."""

    filter: str | None = None
    order: str | None = None
    under: str | None = None
    deleted: bool = False
    limit: Limit = 100
    after: str | None = None


class ExperimentBody(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    tags: dict[str, str] = {}
    note: str | None = None


class RenameBody(msgspec.Struct, forbid_unknown_fields=True):
    experiment: str
    name: str


class NamedBody(msgspec.Struct, forbid_unknown_fields=True):
    experiment: str


class TagsBody(msgspec.Struct, forbid_unknown_fields=True):
    """``set``: key -> value; ``remove``: keys."""

    set: dict[str, str] = {}
    remove: list[str] = []


class ExperimentTagsBody(msgspec.Struct, forbid_unknown_fields=True):
    experiment: str
    set: dict[str, str] = {}
    remove: list[str] = []


class NoteBody(msgspec.Struct, forbid_unknown_fields=True):
    """An empty ``text`` takes the note away."""

    text: str


class ExperimentNoteBody(msgspec.Struct, forbid_unknown_fields=True):
    experiment: str
    text: str


class RunsBody(msgspec.Struct, forbid_unknown_fields=True):
    """``runs``: ids or their beginnings, up to 1,000."""

    runs: list[str]


class MoveBody(msgspec.Struct, forbid_unknown_fields=True):
    runs: list[str]
    experiment: str


class PurgeBody(msgspec.Struct, forbid_unknown_fields=True):
    """Without anything the whole bin. ``older_than``: a duration such as ``30d``; ``now``: also what is not in the bin;
    ``dry_run``: only counts."""

    runs: list[str] | None = None
    experiment: str | None = None
    filter: str = ""
    older_than: str | None = None
    now: bool = False
    dry_run: bool = True


class PurgedOut(msgspec.Struct):
    """``kept``: runs whose row stays, since something names it; ``unended``: runs that noria still executes, which are
    left alone; ``bytes``: of content, as far as it is counted."""

    dry_run: bool
    runs: int
    kept: int
    unended: int
    experiments: int
    rows: dict[str, int]
    bytes: int


class Changed(msgspec.Struct):
    """The runs that were changed."""

    runs: list[str]


class Tags(msgspec.Struct):
    tags: dict[str, str]


def purged_out(done: Purged) -> PurgedOut:
    return PurgedOut(done.dry_run, done.runs, done.kept, done.unended, done.experiments, done.rows, done.size)


def experiment_out(one: Experiment) -> ExperimentOut:
    return ExperimentOut(
        id=one.id,
        name=one.name,
        folder=one.name.rpartition("/")[0],
        default=one.is_default,
        created_at=to_text(one.created_at),
        updated_at=to_text(one.updated_at),
        deleted=one.deleted,
        location=one.location,
        tags={key: value for key, value in one.tags.items() if key != NOTE},
        note=one.tags.get(NOTE),
    )
