"""What the gateway's routes are made of: a path in MLflow's words, a handler, the shape of the message."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin

import msgspec

from noria.base.actor import Actor

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

MOST_BODY: Final = 32 << 20
"""Bytes of a message: the profile of a dataset may have 16 MB."""


@dataclass(slots=True)
class Asked:
    """One request at the door.

    Attributes:
        message: the body, or the query of a GET, as the route's shape; None where the route has none.
        path: the values of the path's placeholders, decoded once.
        query: every parameter of the query, in order.
        headers: names in lower case.
    """

    actor: Actor
    scope: Scope
    receive: Receive
    headers: dict[str, str]
    path: dict[str, str]
    query: dict[str, list[str]]
    message: Any = None


@dataclass(frozen=True, kw_only=True)
class Route:
    """A path that is served.

    Attributes:
        method: GET, POST, PATCH, PUT or DELETE.
        path: what stands behind ``/api/`` and behind ``/ajax-api/``, for instance ``2.0/mlflow/runs/get``; with a
            ``/`` in front, the whole path. ``{name}`` is one segment, ``{name:path}`` all that follow.
        handler: takes an ``Asked``; a plain function runs in a thread, a coroutine in the event loop. It returns a
            value for JSON, None for an empty object, or a response that sends itself.
        message: the shape of the body, or of the query for GET and DELETE without a body.
        raw: the handler reads the body by itself.
    """

    method: str
    path: str
    handler: Callable[[Asked], Any]
    message: type[msgspec.Struct] | None = None
    raw: bool = False
    most: int = MOST_BODY

    @cached_property
    def decode(self) -> Callable[[bytes], Any]:
        # Numbers may come as texts: int64 often does.
        return msgspec.json.Decoder(self.message, strict=False).decode if self.message else msgspec.json.decode

    @cached_property
    def lists(self) -> frozenset[str]:
        """The fields that may be repeated in a query."""
        if self.message is None:
            return frozenset()
        fields = msgspec.structs.fields(self.message)
        return frozenset(f.encode_name for f in fields if _repeated(f.type))

    def from_query(self, query: dict[str, list[str]]) -> Any:
        given = {name: values if name in self.lists else values[-1] for name, values in query.items()}
        return msgspec.convert(given, self.message, strict=False)


@dataclass
class Table:
    """Finds the route of a path. Paths without placeholders are one look-up."""

    routes: Iterable[Route]
    _plain: dict[str, dict[str, Route]] = field(default_factory=dict[str, dict[str, Route]])
    _shaped: list[tuple[list[str], dict[str, Route]]] = field(default_factory=list[tuple[list[str], dict[str, Route]]])

    def __post_init__(self) -> None:
        shaped: dict[str, dict[str, Route]] = {}
        for route in self.routes:
            target = shaped if "{" in route.path else self._plain
            methods = target.setdefault(route.path, {})
            assert route.method not in methods, f"{route.method} {route.path} is declared twice"
            methods[route.method] = route
        self._shaped = [(path.split("/"), methods) for path, methods in shaped.items()]

    def find(self, path: str) -> tuple[dict[str, Route], dict[str, str]] | None:
        """The routes of a path by method, and the values of its placeholders."""
        methods = self._plain.get(path)
        if methods is not None:
            return methods, {}
        parts = path.split("/")
        for shape, methods in self._shaped:
            values = _match(shape, parts)
            if values is not None:
                return methods, values
        return None


def _repeated(kind: Any) -> bool:
    """Whether a field's type is a list, or one among others."""
    origin = get_origin(kind)
    return kind is list or origin is list or (origin in (Union, UnionType) and any(map(_repeated, get_args(kind))))


def _match(shape: list[str], parts: list[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for n, wanted in enumerate(shape):
        if wanted.endswith(":path}"):
            values[wanted[1:-6]] = "/".join(parts[n:])
            return values if n < len(parts) else None
        if n >= len(parts):
            return None
        if wanted.startswith("{"):
            if not parts[n]:
                return None
            values[wanted[1:-1]] = parts[n]
        elif wanted != parts[n]:
            return None
    return values if len(shape) == len(parts) else None
