"""Wire shapes of tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from noria.base.times import to_text
from noria.data.records import MAIN
from noria.data.values import plain

if TYPE_CHECKING:
    from noria.data.rows import RowsDiff
    from noria.data.service.tables.onerow import RowEvent


class NewColumnBody(msgspec.Struct, forbid_unknown_fields=True):
    """``default``: the value, as text, of the rows that are there."""

    name: str
    type: str
    default: str | None = None


class AlterBody(msgspec.Struct, forbid_unknown_fields=True):
    """Changes to the columns of a table, by their names before the change.

    ``rename``: old name -> new name; ``widen``: column -> wider type; ``key``: the columns of the new key;
    ``contract``: one to put in force with the change.
    """

    add: list[NewColumnBody] = []
    drop: list[str] = []
    rename: dict[str, str] = {}
    widen: dict[str, str] = {}
    key: list[str] | None = None
    branch: str = MAIN
    message: str = ""
    expected: str | None = None
    contract: dict[str, Any] | None = None


class CompactBody(msgspec.Struct, forbid_unknown_fields=True):
    branch: str = MAIN


class CompactedOut(msgspec.Struct):
    """Files and bytes of a table, before and after."""

    commit: str
    files_before: int
    files_after: int
    size_before: int
    size_after: int


class RowHistoryQuery(msgspec.Struct):
    """``key``: the key of the row as a JSON object, like ``{"id": 7}``."""

    key: str
    ref: str = MAIN


class RowEventOut(msgspec.Struct):
    """What a commit did to a row: ``kind`` is added, changed or removed."""

    commit: str
    at: str
    author: str
    message: str
    kind: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class RowHistoryOut(msgspec.Struct):
    """The history of one row, newest first, and the commits (oldest first) that hold it as it is at ``ref``."""

    events: list[RowEventOut]
    commits: list[str]


SHOWN = 5
"""Rows of each kind that an answer shows."""


class RetypedOut(msgspec.Struct):
    column: str
    before: str
    after: str


class RenamedOut(msgspec.Struct):
    before: str
    after: str


class SchemaDiffOut(msgspec.Struct):
    """Changed columns; ``added`` and ``removed`` are names with their types, ``key`` is [before, after] or empty."""

    added: dict[str, str] = {}
    removed: dict[str, str] = {}
    retyped: list[RetypedOut] = []
    renamed: list[RenamedOut] = []
    key: list[list[str]] = []


class ChangedRowOut(msgspec.Struct):
    """A row that both commits have: its key, and for each column that differs [before, after]."""

    key: dict[str, Any]
    columns: dict[str, list[Any]]


class RowsDiffOut(msgspec.Struct, kw_only=True):
    added: int = 0
    removed: int = 0
    changed: int = 0
    samples: dict[str, list[dict[str, Any]]] = {}
    changes: list[ChangedRowOut] = []
    schema: SchemaDiffOut | None = None


def shown_rows(frame: Any, count: int = SHOWN) -> list[dict[str, Any]]:
    """The first rows without hidden columns."""
    names = [name for name in frame.columns if not name.startswith("__")]
    return [{k: plain(v) for k, v in row.items()} for row in frame.select(names).head(count).to_dicts()]


def changed_rows(found: RowsDiff) -> list[ChangedRowOut]:
    key = found.columns.after.key
    before = found.columns.fit(found.before.head(SHOWN)).to_dicts()
    made: list[ChangedRowOut] = []
    for old, new in zip(before, found.after.head(SHOWN).to_dicts(), strict=True):
        differs = {
            name: [plain(old[name]), plain(value)]
            for name, value in new.items()
            if not name.startswith("__") and old[name] != value
        }
        made.append(ChangedRowOut({name: plain(new[name]) for name in key}, differs))
    return made


def schema_diff_out(found: RowsDiff) -> SchemaDiffOut:
    schema = found.schema
    return SchemaDiffOut(
        added={c.name: c.type for c in schema.added},
        removed={c.name: c.type for c in schema.removed},
        retyped=[RetypedOut(*one) for one in schema.retyped],
        renamed=[RenamedOut(*one) for one in schema.renamed],
        key=[] if schema.key is None else [list(side) for side in schema.key],
    )


def rows_diff_out(found: RowsDiff) -> RowsDiffOut:
    frames = {"added": found.added, "removed": found.removed, "changed": found.after}
    return RowsDiffOut(
        added=len(found.added),
        removed=len(found.removed),
        changed=len(found.after),
        samples={name: shown_rows(frame) for name, frame in frames.items()},
        changes=changed_rows(found),
        schema=schema_diff_out(found),
    )


def row_event_out(event: RowEvent) -> RowEventOut:
    return RowEventOut(
        commit=event.commit.id,
        at=to_text(event.commit.at),
        author=event.commit.author,
        message=event.commit.message,
        kind=event.kind,
        before=_row(event.before),
        after=_row(event.after),
    )


def _row(row: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {name: plain(value) for name, value in row.items()}
