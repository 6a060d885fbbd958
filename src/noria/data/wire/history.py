"""Wire shapes of history: change sets, open commits, merges, who touched what."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

import msgspec

from noria.base.errors import Invalid
from noria.base.times import to_text
from noria.data import edits as e
from noria.data.records import MAIN, Draft, MergePreview, Move, Names, Touched
from noria.data.wire import (
    CommitOut,
    NamedCommitOut,
    PathChangeOut,
    commit_out,
    named_commit_out,
    path_change_out,
)


class EditIn(msgspec.Struct, forbid_unknown_fields=True):
    """One edit of a change set. The bytes of put and append are ``text`` (UTF-8) or ``base64``.

    Copies and moves do not take the place of something else without ``overwrite``.
    """

    op: Literal["put", "append", "delete", "copy", "move", "link", "describe"]
    path: str
    text: str | None = None
    base64: str | None = None
    to: str | None = None
    ref: str | None = None
    target: str | None = None
    executable: bool | None = None
    meta: dict[str, Any] | None = None
    overwrite: bool = False


class ChangeBody(msgspec.Struct, forbid_unknown_fields=True):
    """Edits that land as one commit, in order."""

    edits: list[EditIn]
    branch: str = MAIN
    message: str = ""
    meta: dict[str, Any] = {}
    expected: str | None = None


class MergeBody(msgspec.Struct, forbid_unknown_fields=True):
    """``strategy`` is conflict, ours or theirs; ``resolve`` says ours or theirs for paths, folders or patterns."""

    source: str
    into: str = MAIN
    strategy: str = "conflict"
    resolve: dict[str, str] = {}
    message: str = ""
    fast_forward: bool = True


class ReplayBody(msgspec.Struct, forbid_unknown_fields=True):
    """A commit to take back, or to do again on another branch."""

    ref: str
    branch: str = MAIN
    strategy: str = "conflict"
    resolve: dict[str, str] = {}
    message: str = ""


class ResetBody(msgspec.Struct, forbid_unknown_fields=True):
    to: str
    branch: str = MAIN
    expected: str | None = None


class SquashBody(msgspec.Struct, forbid_unknown_fields=True):
    since: str
    branch: str = MAIN
    message: str = ""


class MoveOut(msgspec.Struct):
    """Where a branch went: null for a branch that was empty, or not there."""

    number: int
    branch: str
    before: str | None
    after: str | None
    verb: str
    author: str
    at: str


class MovePage(msgspec.Struct):
    items: list[MoveOut]
    next: str | None = None


class MovesQuery(msgspec.Struct, forbid_unknown_fields=True):
    branch: str | None = None
    limit: int = 50
    after: str | None = None


def move_out(move: Move) -> MoveOut:
    return MoveOut(
        number=move.number,
        branch=move.branch,
        before=move.before,
        after=move.after,
        verb=move.verb.removeprefix("data."),
        author=move.actor,
        at=to_text(move.at),
    )


class DropBody(msgspec.Struct, forbid_unknown_fields=True):
    branch: str = MAIN
    count: int = 1
    expected: str | None = None


class TagBody(msgspec.Struct, forbid_unknown_fields=True):
    tag: str
    at: str = MAIN


class TagOut(msgspec.Struct):
    tag: str
    commit: str


class TagPage(msgspec.Struct):
    items: list[TagOut]


class Deleted(msgspec.Struct):
    """What was removed, and where it stood."""

    name: str
    head: str | None = None


class PruneBody(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing to say."""


class Pruned(msgspec.Struct):
    """The ids of commits that were removed."""

    commits: list[str]


class StartBody(msgspec.Struct, forbid_unknown_fields=True):
    branch: str = MAIN
    message: str = ""
    meta: dict[str, Any] = {}


class DraftEditBody(msgspec.Struct, forbid_unknown_fields=True):
    """Edits of files, or rows of a table, for an open commit."""

    edits: list[EditIn] = []
    rows: list[dict[str, Any]] | None = None
    mode: str = "append"


class FinishBody(msgspec.Struct, forbid_unknown_fields=True):
    message: str = ""
    strategy: str = "conflict"
    resolve: dict[str, str] = {}


class DraftOut(msgspec.Struct):
    id: str
    branch: str
    base: str | None
    number: int
    state: str
    commit: str | None
    author: str
    message: str
    at: str


class DraftPage(msgspec.Struct):
    items: list[DraftOut]


class TouchedOut(msgspec.Struct):
    commit: NamedCommitOut
    changes: list[PathChangeOut]


class TouchedPage(msgspec.Struct):
    items: list[TouchedOut]
    next: str | None = None


class TouchedQuery(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    ref: str = MAIN
    limit: int = 50
    after: str | None = None


class MergePreviewOut(msgspec.Struct):
    """What a merge would do. ``how`` is nothing, fast-forward or merge; ``commits`` are the newest of ``count``."""

    how: str
    head: str | None
    source: str
    base: str | None
    commits: list[CommitOut]
    count: int
    changes: list[PathChangeOut]
    changed: int
    stats: dict[str, int]
    conflicts: list[str]


class CommitDetail(msgspec.Struct):
    """A commit, and the first files that it changed against its first parent."""

    commit: CommitOut
    changes: list[PathChangeOut]
    changed: int


def edit_of(number: int, given: EditIn) -> e.Edit:
    """The edit that a caller asked for.

    Raises:
        Invalid: a field is missing; the error names the number of the edit.
    """
    path = given.path
    if given.op == "put":
        return e.Put(path, _bytes(number, given), given.executable, given.meta)
    if given.op == "append":
        return e.Append(path, _bytes(number, given))
    if given.op == "delete":
        return e.Delete(path)
    if given.op == "link":
        return e.Link(path, _needed(number, given, "target", given.target))
    if given.op == "describe":
        return e.Describe(path, given.meta or {})
    to = _needed(number, given, "to", given.to)
    if given.op == "copy":
        return e.Copy(path, to, given.ref, given.overwrite)
    return e.Move(path, to, given.overwrite)


def edits_of(given: list[EditIn]) -> list[e.Edit]:
    return [edit_of(number, one) for number, one in enumerate(given)]


def _needed(number: int, given: EditIn, name: str, value: str | None) -> str:
    if value is None:
        raise Invalid(f"Edit {number} ({given.op} {given.path!r:.80}) says no {name!r}.", hint=f'"{name}": "..."')
    return value


def _bytes(number: int, given: EditIn) -> bytes:
    if (given.text is None) == (given.base64 is None):
        raise Invalid(
            f"Edit {number} ({given.op} {given.path!r:.80}) needs either text or base64.", hint='"text": "hello"'
        )
    if given.text is not None:
        return given.text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(given.base64 or "", validate=True)
    except binascii.Error as error:
        raise Invalid(f"The base64 of edit {number} ({given.path!r:.80}) is broken: {error}.") from None


def draft_out(draft: Draft) -> DraftOut:
    return DraftOut(
        id=draft.id,
        branch=draft.branch,
        base=draft.base,
        number=draft.number,
        state=draft.state,
        commit=draft.commit_id,
        author=draft.actor,
        message=draft.message,
        at=to_text(draft.created_at),
    )


def touched_out(found: Touched, names: Names | None) -> TouchedOut:
    return TouchedOut(named_commit_out(found.commit, names), [path_change_out(c) for c in found.changes])


def preview_out(found: MergePreview, limit: int | None = None) -> MergePreviewOut:
    return MergePreviewOut(
        how=found.how,
        head=found.head,
        source=found.source,
        base=found.base,
        commits=[commit_out(c) for c in found.commits],
        count=found.count,
        changes=[path_change_out(c) for c in found.changes[:limit]],
        changed=len(found.changes),
        stats=found.stats,
        conflicts=found.conflicts[:limit],
    )
