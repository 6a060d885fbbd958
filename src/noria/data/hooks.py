"""Hooks: functions of the user's own that see a change before it lands and may refuse it, or hear of it afterwards.

A hook before a commit or merge gets a ``HookChange``; it refuses by raising, best with ``nr.refuse("why")``. It may be
called more than once for one change: a commit that lost a race is built anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn

from noria.base.errors import Invalid
from noria.base.names import nearest
from noria.data.errors import Refusal
from noria.data.records import PathChange

if TYPE_CHECKING:
    import polars as pl

BEFORE_COMMIT, AFTER_COMMIT, BEFORE_MERGE, AFTER_MERGE = "before-commit", "after-commit", "before-merge", "after-merge"
EVENTS: Final = (BEFORE_COMMIT, AFTER_COMMIT, BEFORE_MERGE, AFTER_MERGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedHook:
    """A hook of the project, as it was applied.

    Attributes:
        event: one of ``EVENTS``.
        on: names of repositories; may hold wildcards.
        branch: the same for branches.
        reads: the files whose bytes the hook gets; a pattern.
        entry, code: where the function is found: ``module:name`` in a code snapshot.
    """

    name: str
    event: str
    on: tuple[str, ...]
    branch: str
    reads: str
    entry: str
    code: str

    def fits(self, event: str, repository: str, branch: str) -> bool:
        return self.event == event and fits(self.on, self.branch, repository, branch)


class HookChange:
    """What a hook is told of a change.

    Attributes:
        event: ``before-commit``, ``after-commit``, ``before-merge`` or ``after-merge``.
        repository, kind, branch: where; ``kind`` is files or table.
        author, message, meta: as the commit says them.
        commit: the id, after it landed; None before.
        stats: rows or files added, updated, deleted.
    """

    def __init__(
        self,
        value: dict[str, Any],
        *,
        rows: Callable[[], pl.DataFrame] | None = None,
        old_rows: Callable[[], pl.DataFrame] | None = None,
        paths: Callable[[], list[PathChange]] | None = None,
        read: Callable[[str], BinaryIO] | None = None,
    ) -> None:
        self.value = value
        self.event: str = value["event"]
        self.repository: str = value["repository"]
        self.kind: str = value["kind"]
        self.branch: str = value["branch"]
        self.author: str = value["author"]
        self.message: str = value["message"]
        self.meta: dict[str, Any] = value["meta"]
        self.stats: dict[str, int] = value["stats"]
        self.commit: str | None = value["commit"]
        self._rows, self._old_rows, self._paths, self._read = rows, old_rows, paths, read

    @property
    def rows(self) -> pl.DataFrame | None:
        """The rows of a table that are new or changed, as they would be; None for files and after the commit."""
        return None if self._rows is None else self._rows()

    @property
    def old_rows(self) -> pl.DataFrame | None:
        """The rows that would be changed or deleted, as they are."""
        return None if self._old_rows is None else self._old_rows()

    @property
    def paths(self) -> list[PathChange]:
        """The files that are added, changed or removed, with their sizes; empty for tables and after the commit."""
        return [] if self._paths is None else self._paths()

    def open(self, path: str) -> BinaryIO:
        """A file as it would be.

        Raises:
            Invalid: the change holds no such file, or the hook does not read it (``reads=``).
        """
        if self._read is None:
            raise Invalid(f"{self.event} of {self.repository!r} has no file {path!r:.200} to open.")
        return self._read(path)

    def __repr__(self) -> str:
        return f"HookChange({self.event} {self.repository}@{self.branch} by {self.author})"


def refuse(why: str) -> NoReturn:
    """Refuses the change from within a hook: nothing is committed, and the caller is told why."""
    raise Refusal(why)


def check_event(event: str) -> str:
    if event not in EVENTS:
        raise Invalid(f"{event!r} is no moment for a hook.", hint=nearest(event, EVENTS) or ", ".join(EVENTS))
    return event


def names_of(on: Any) -> tuple[str, ...]:
    """The repositories that ``on=`` names: a name, a source, or several of them."""
    found = (on,) if isinstance(on, str) or not isinstance(on, Sequence) else tuple(on)
    names = tuple(one if isinstance(one, str) else str(getattr(one, "name", "")) for one in found)
    if not names or not all(names):
        raise Invalid("A hook is on a repository.", hint='on="flights", a source, or a list of them; "*" for all')
    return names


def fits(on: tuple[str, ...], branches: str, repository: str, branch: str) -> bool:
    return fnmatchcase(branch, branches) and any(fnmatchcase(repository, one) for one in on)
