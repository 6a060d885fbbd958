"""``nr.hook``: functions of the project that are asked before a commit or merge, or told after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from noria.base.errors import Invalid
from noria.data.hooks import check_event, names_of

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__noria_hook__"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookDeclaration:
    """What ``hook`` says of a function; see there."""

    event: str
    on: tuple[str, ...]
    branch: str
    reads: str
    name: str | None


def hook(event: str, *, on: Any, branch: str = "*", reads: str = "*", name: str | None = None) -> Callable[[F], F]:
    """A function that is asked before a change lands, or told after it. ``noria apply`` puts it in force.

    It takes one argument, a ``HookChange``: repository, branch, author, message; before the change also its rows, or
    its paths with a reader. It refuses by raising, best with ``nr.refuse("why")``; then nothing is committed. It runs
    in a process of its own, whoever commits: a command, a notebook, the server.

    Args:
        event: ``before-commit``, ``after-commit``, ``before-merge`` or ``after-merge``.
        on: a repository by name or as a source, or several; names may hold wildcards.
        branch: only changes of this branch; may hold wildcards.
        reads: of files, those whose bytes it opens; a pattern, "" for none. What it does not read is not copied for it.
    """
    made = HookDeclaration(event=check_event(event), on=names_of(on), branch=branch, reads=reads, name=name)

    def decorate(function: F) -> F:
        if not callable(function) or not hasattr(function, "__name__"):
            raise Invalid("@nr.hook decorates a function.", hint='@nr.hook("before-commit", on="flights")')
        setattr(function, _MARK, made)
        return function

    return decorate


def hook_of(thing: Any) -> HookDeclaration | None:
    """What ``hook`` said of a function, or None."""
    found = getattr(thing, _MARK, None)
    return found if isinstance(found, HookDeclaration) else None
