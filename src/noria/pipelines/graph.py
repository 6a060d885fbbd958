"""From a project's modules to its graph. The whole rule for parameters:

positional      the asset of that name; ``train``, ``valid`` and ``evaluation`` are reserved;
                ``inputs={"df": customers}`` renames or pins
keyword-only    a hyperparameter
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from noria.base.errors import Invalid
from noria.base.names import nearest
from noria.pipelines.declare.assets import RESERVED, Command, Declaration, Endpoint, Source, declaration_of
from noria.pipelines.declare.hooks import hook_of
from noria.pipelines.errors import AssetUnknown, CodeBroken, GraphInvalid, ParameterUnknown
from noria.pipelines.records import Edge

_ML = {"lightgbm", "optuna", "pandas", "sklearn", "skops"}
"""Modules that the extra ``noria[ml]`` brings."""
_BRACES = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One asset of the project.

    Attributes:
        kind: source, dataset, report, check, features, labels, model or command.
        thing: the function, ``Source`` or ``Command``.
        entry: ``module:name``, where the function is found again.
        params: hyperparameters with their defaults.
        options: what belongs to the kind; other assets are replaced by their names.
    """

    name: str
    kind: str
    thing: Any
    entry: str
    edges: tuple[Edge, ...]
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    declaration: Declaration | None = None
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def resources(self) -> dict[str, Any]:
        if self.declaration is not None:
            return self.declaration.resources
        if isinstance(self.thing, Command):
            return self.thing.resources
        return {"cpu": 1, "gpu": 0, "memory": None, "timeout": None, "retries": 0}


@dataclass(slots=True, kw_only=True)
class Graph:
    """The assets of a project, in an order in which every input comes before its users."""

    nodes: dict[str, Node]
    endpoints: dict[str, Endpoint] = field(default_factory=dict[str, Endpoint])
    hooks: dict[str, Callable[..., Any]] = field(default_factory=dict[str, Callable[..., Any]])

    def node(self, name: str) -> Node:
        if name not in self.nodes:
            hint = nearest(name, self.nodes) or f"Assets: {', '.join(self.nodes) or 'none'}."
            raise AssetUnknown(f"The project has no asset {name!r}.", hint=hint, details={"asset": name})
        return self.nodes[name]

    def upstream(self, targets: Iterable[str]) -> list[str]:
        """The targets and everything that they need, in order."""
        wanted: set[str] = set()
        pending = list(targets)
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                pending += [e.asset for e in self.node(name).edges]
        return [name for name in self.nodes if name in wanted]

    def checks_of(self, names: Iterable[str]) -> list[str]:
        """Checks that are about one of these assets."""
        about = set(names)
        return [n.name for n in self.nodes.values() if n.kind == "check" and n.options["about"] in about]

    def name_of(self, thing: Any) -> str:
        """The asset that a function, source or name stands for."""
        if isinstance(thing, str):
            return self.node(thing).name
        for node in self.nodes.values():
            if node.thing is thing or (isinstance(thing, Source) and node.name == thing.name):
                return node.name
        raise AssetUnknown(
            f"{getattr(thing, '__name__', thing)!r} is not an asset of this project.",
            hint="Is its module listed in noria.toml?",
        )

    def params(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """The hyperparameters of a step with the given values put in."""
        node = self.node(name)
        for key in given:
            if key not in node.params:
                hint = nearest(key, node.params) or f"Its hyperparameters: {', '.join(node.params) or 'none'}."
                raise ParameterUnknown(f"{name!r} has no hyperparameter {key!r}.", hint=hint)
        return {**node.params, **given}


def import_modules(root: Path, names: Iterable[str]) -> list[ModuleType]:
    """Imports a project's modules from its folder.

    Raises:
        CodeBroken: with the line that failed.
    """
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    made: list[ModuleType] = []
    for name in names:
        try:
            made.append(importlib.import_module(name))
        except ModuleNotFoundError as error:
            hint = "Check `modules` in noria.toml." if error.name == name else _to_install(error.name or "")
            raise CodeBroken(f"The module {name!r} cannot be imported: no module {error.name!r}.", hint=hint) from error
        except Invalid:
            raise
        except Exception as error:
            raise CodeBroken(
                f"The module {name!r} cannot be imported: {type(error).__name__}: {error}",
                hint=where(error, root),
                details={"module": name},
            ) from error
    return made


def _to_install(module: str) -> str:
    top = module.partition(".")[0]
    return 'pip install "noria[ml]"' if top in _ML else f"pip install {top} ?"


def where(error: BaseException, root: Path) -> str:
    """The innermost line of the project's own code in a traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve().is_relative_to(root)]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}: {(error.text or '').strip()}"
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""


def collect(spaces: Iterable[dict[str, Any]]) -> list[Any]:
    """Every declared thing in these namespaces, once, in the order of their definition."""
    found: dict[int, Any] = {}
    for space in spaces:
        for value in list(space.values()):
            declared = declaration_of(value) is not None or hook_of(value) is not None
            if declared or isinstance(value, Source | Command | Endpoint):
                found.setdefault(id(value), value)
    return list(found.values())


def build(things: Iterable[Any]) -> Graph:
    """The graph of declared things.

    Raises:
        GraphInvalid: two assets of one name, an unknown parameter, a cycle; with the place.
    """
    named: dict[str, Any] = {}
    endpoints: dict[str, Endpoint] = {}
    hooks: dict[str, Callable[..., Any]] = {}
    for thing in things:
        if hook_of(thing) is not None:
            _add_hook(hooks, thing)
            continue
        if isinstance(thing, Endpoint):
            endpoints[thing.name] = thing
            continue
        name = _name(thing)
        if name in RESERVED:
            raise GraphInvalid(f"No asset may be named {name!r}: it is a reserved parameter.", hint="Rename it.")
        if name in named and named[name] is not thing:
            raise GraphInvalid(
                f"Two assets are named {name!r}: {_place(named[name])} and {_place(thing)}.",
                hint="Rename one of them: a name is one asset.",
                details={"asset": name},
            )
        named[name] = thing
    names = {id(thing): name for name, thing in named.items()}
    nodes = {name: _node(name, thing, named, names) for name, thing in named.items()}
    return Graph(nodes=_ordered(nodes), endpoints=endpoints, hooks=hooks)


def _add_hook(hooks: dict[str, Callable[..., Any]], function: Any) -> None:
    declared = hook_of(function)
    assert declared is not None
    name = declared.name or function.__name__
    if name in hooks:
        raise GraphInvalid(
            f"Two hooks are named {name!r}: {_place(hooks[name])} and {_place(function)}.", hint="Rename one of them."
        )
    if declaration_of(function) is not None:
        raise GraphInvalid(f"{name!r} is a hook and an asset.", hint=_place(function))
    hooks[name] = function


def _name(thing: Any) -> str:
    declaration = declaration_of(thing)
    return thing.name if declaration is None else declaration.name or thing.__name__


def _place(thing: Any) -> str:
    code = getattr(thing, "__code__", None)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code else f"nr.{type(thing).__name__.lower()}(...)"


def _node(name: str, thing: Any, named: dict[str, Any], names: dict[int, str]) -> Node:
    if isinstance(thing, Source):
        return Node(name=name, kind="source", thing=thing, entry="", edges=())
    if isinstance(thing, Command):
        slots = [slot for slot in dict.fromkeys(_BRACES.findall(thing.text)) if slot != "out"]
        edges = tuple(Edge(slot=slot, asset=_known(slot, name, named)) for slot in slots)
        options = {"text": thing.text, "out": thing.out}
        return Node(name=name, kind="command", thing=thing, entry="", edges=edges, options=options)
    declaration = declaration_of(thing)
    assert declaration is not None
    options = _options(declaration, name, named, names)
    edges, params = _parameters(name, thing, declaration, options, named, names)
    return Node(
        name=name,
        kind=declaration.kind,
        thing=thing,
        entry=f"{thing.__module__}:{thing.__qualname__}",
        edges=edges,
        params=params,
        declaration=declaration,
        options=options,
    )


def _options(declaration: Declaration, name: str, named: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    """Options with assets replaced by their names."""
    made = dict(declaration.options)
    for role in ("of", "about", "features", "target"):
        if made.get(role) is not None:
            made[role] = _reference(made[role], f"{role}= of {name!r}", named, names).asset
    return made


def _reference(value: Any, what: str, named: dict[str, Any], names: dict[int, str]) -> Edge:
    pinned = value.pinned if isinstance(value, Source) else None
    if isinstance(value, str):
        found = value
    elif isinstance(value, Source):
        found = value.name
    else:
        found = names.get(id(value), "")
    if found not in named:
        shown = getattr(value, "__name__", value)
        hint = nearest(str(shown), named) or f"Assets: {', '.join(named)}."
        raise GraphInvalid(f"{what} is {shown!r}, which is not an asset of this project.", hint=hint)
    return Edge(slot="", asset=found, pinned=pinned)


def _parameters(
    name: str,
    function: Callable[..., Any],
    declaration: Declaration,
    options: dict[str, Any],
    named: dict[str, Any],
    names: dict[int, str],
) -> tuple[tuple[Edge, ...], dict[str, Any]]:
    edges: list[Edge] = []
    params: dict[str, Any] = {}
    allowed = _reserved_of(declaration)
    for slot, parameter in inspect.signature(function).parameters.items():
        if parameter.kind == parameter.KEYWORD_ONLY:
            params[slot] = None if parameter.default is parameter.empty else parameter.default
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise GraphInvalid(f"{name!r} takes *{slot}; a step names each of its inputs.", hint=_place(function))
        elif slot in declaration.inputs:
            found = _reference(declaration.inputs[slot], f"inputs[{slot!r}] of {name!r}", named, names)
            edges.append(Edge(slot=slot, asset=found.asset, pinned=found.pinned))
        elif slot in RESERVED:
            if slot not in allowed:
                raise GraphInvalid(
                    f"{name!r} takes {slot!r}, which only {'a model' if slot != 'evaluation' else 'a check'} may.",
                    hint=_place(function),
                )
        else:
            edges.append(Edge(slot=slot, asset=_known(slot, name, named)))
    for role, slot in (("features", "features"), ("target", "target"), ("about", "about"), ("of", "of")):
        if options.get(role) is not None and not any(e.asset == options[role] for e in edges):
            edges.append(Edge(slot=slot, asset=options[role]))
    return tuple(edges), params


def _reserved_of(declaration: Declaration) -> frozenset[str]:
    if declaration.kind == "model" and declaration.options["features"] is not None:
        return frozenset({"train", "valid"})
    return frozenset({"evaluation"}) if declaration.kind == "check" else frozenset()


def _known(slot: str, name: str, named: dict[str, Any]) -> str:
    if slot not in named:
        hint = nearest(slot, [*named, *RESERVED]) or f"Assets: {', '.join(named)}."
        raise GraphInvalid(
            f"{name!r} takes {slot!r}, and there is no asset of that name.",
            hint=f"{hint} Hyperparameters come after a *.",
            details={"asset": name, "parameter": slot},
        )
    return slot


def _ordered(nodes: dict[str, Node]) -> dict[str, Node]:
    """Inputs first. A cycle is reported as a path."""
    done: dict[str, Node] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in path:
            circle = [*path[path.index(name) :], name]
            raise GraphInvalid(
                f"The graph has a cycle: {' -> '.join(circle)}.", hint="One of them must not need the other."
            )
        path.append(name)
        for edge in nodes[name].edges:
            visit(edge.asset)
        path.pop()
        done[name] = nodes[name]

    for name in nodes:
        visit(name)
    return done
