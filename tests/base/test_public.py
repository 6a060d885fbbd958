"""The public names, pinned: what projects import may only grow, and a change of it is looked at (style of golden files).

After a wanted change: pytest tests/base/test_public.py --rewrite-golden.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import noria
from noria.pipelines import declare


def names_of(space: ModuleType) -> list[str]:
    """What a namespace offers: what it defines itself, without an underscore."""
    made = vars(space).items()
    return sorted(n for n, v in made if not n.startswith("_") and getattr(v, "__module__", "") == space.__name__)


def public(name: str) -> Any:
    """The thing of this name; ``features`` and ``labels`` may be the room, which can be called like the decorator."""
    found = getattr(noria, name)
    return getattr(declare, name) if inspect.ismodule(found) and callable(found) else found


def described(thing: Any) -> Any:
    """The signature of a function, the public parts of a class, the names of a namespace with theirs."""
    if inspect.ismodule(thing):
        return {name: described(getattr(thing, name)) for name in names_of(thing)}
    if inspect.isclass(thing):
        parts = {n: v for n, v in vars(thing).items() if not n.startswith("_")}
        return {n: str(inspect.signature(v)) if inspect.isfunction(v) else "value" for n, v in sorted(parts.items())}
    return str(inspect.signature(thing))


def test_the_public_names_and_their_signatures_are_those_that_are_kept(golden: Callable[[str, bytes], None]) -> None:
    made = {name: described(public(name)) for name in noria.__all__}
    golden("public.json", (json.dumps(made, indent=1, sort_keys=True) + "\n").encode())


def test_every_public_name_is_listed_and_can_be_had() -> None:
    assert sorted(noria.__all__) == list(noria.__all__) == dir(noria)
    for name in noria.__all__:
        assert getattr(noria, name) is not None
    for name in ("features", "labels"):
        __import__(f"noria.{name}")  # the room of the same name takes its place, and can be called
        assert callable(getattr(noria, name))
