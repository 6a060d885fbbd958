"""Follows a function to everything first-party that it reaches (reference pipelines.md, section 4.3).

Only what is reached counts, so an unrelated function in the same file re-runs nothing. Values are read when the
identity is asked for. What cannot be followed is a note, never a failure.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from noria.base import canonical
from noria.pipelines.identity import libs
from noria.pipelines.identity.manifest import Manifest
from noria.pipelines.identity.sources import Definition, define
from noria.pipelines.identity.values import OpaqueError, describe

_INSTALLED: Final = tuple(
    Path(p).resolve()
    for p in {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
)


class Identifier:
    """Finds the identity of functions of one project.

    Args:
        root: the project's folder: what lies below it (and outside of site-packages) is first-party.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def code(self, function: Callable[..., Any], deps: Iterable[Any] = ()) -> Manifest:
        """The parts of a function: code, values, libraries, Python.

        Args:
            deps: further functions, classes, modules or paths (below the root) that the function depends on.
        """
        walk = _Walk(self._root)
        walk.follow(inspect.unwrap(function), main=True)
        for dep in deps:
            walk.declared(dep)
        parts = {**walk.parts, "env:python": libs.python_version()}
        return Manifest(dict(sorted(parts.items())), tuple(dict.fromkeys(walk.notes)), walk.places)


class _Walk:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: set[int] = set()
        self._alive: list[Any] = []
        self.parts: dict[str, str] = {}
        self.places: dict[str, str] = {}
        self.notes: list[str] = []

    # ---- where something belongs

    def _first_party(self, module_name: str | None, path: str | None) -> bool:
        if module_name == "__main__" or (path is not None and path.startswith("<")):
            return True
        if path is None:
            return False
        return _below(path, self._root)

    def _library(self, module_name: str | None) -> None:
        if not module_name:
            return
        found = libs.library(module_name.partition(".")[0])
        if found is not None and found[0] != "noria":
            self.parts[f"lib:{found[0]}"] = found[1]

    # ---- things

    def follow(self, thing: Any, *, main: bool = False) -> None:
        """Adds a function, class, method, partial or module that is reached."""
        if id(thing) in self._seen:
            return
        self._seen.add(id(thing))
        self._alive.append(thing)  # an id is good only as long as its object lives
        if isinstance(thing, functools.partial):
            self.follow(thing.func)
            self._value(
                f"value:partial.{getattr(thing.func, '__name__', 'function')}", [list(thing.args), thing.keywords]
            )
        elif isinstance(thing, types.MethodType):
            self.follow(thing.__func__)
        elif isinstance(thing, types.FunctionType):
            self._function(thing, main=main)
        elif isinstance(thing, type):
            self._class(thing)
        elif isinstance(thing, types.ModuleType):
            self._module(thing)
        else:
            self._library(getattr(thing, "__module__", None))

    def _function(self, function: types.FunctionType, *, main: bool = False) -> None:
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None:
            self.follow(wrapped)
        path = function.__code__.co_filename
        if not self._first_party(function.__module__, path):
            self._library(function.__module__)
            return
        name = f"{function.__module__}.{function.__qualname__}"
        definition = define(function, _NoriaNames(function.__globals__), step=main)
        if definition is None:
            self.notes.append(f"the source of {name} is not to be had")
            code = function.__code__
            self.parts[f"code:{name}"] = canonical.digest([code.co_code, list(code.co_names), repr(code.co_consts)]).hex
            return
        self._definition(f"code:{name}", definition, path, function.__code__.co_firstlineno)
        self._names(definition, function.__globals__, function.__module__, _cells(function))
        for number, default in enumerate(function.__defaults__ or ()):
            self._default(f"{name}.{number}", default, main=main)
        for key, default in (function.__kwdefaults__ or {}).items():
            if not main:  # a step's own keyword-only parameters are hyperparameters: parts of their own
                self._default(f"{name}.{key}", default, main=False)

    def _default(self, name: str, value: Any, *, main: bool) -> None:
        if isinstance(value, types.FunctionType | type):
            self.follow(value)
        elif not main or value is not None:
            self._value(f"default:{name}", value)

    def _class(self, thing: type) -> None:
        if not self._first_party(thing.__module__, getattr(sys.modules.get(thing.__module__), "__file__", None)):
            self._library(thing.__module__)
            return
        name = f"{thing.__module__}.{thing.__qualname__}"
        globals_ = getattr(sys.modules.get(thing.__module__), "__dict__", {})
        definition = define(thing, frozenset())
        if definition is None:
            self.notes.append(f"the source of class {name} is not to be had")
            self.parts[f"opaque:{name}"] = "class"
        else:
            line = definition_line(thing)
            self._definition(f"code:{name}", definition, inspect.getsourcefile(thing) or "", line)
            self._names(definition, globals_, thing.__module__, {})
        for base in thing.__bases__:
            if base is not object:
                self.follow(base)

    def _module(self, module: types.ModuleType) -> None:
        """A module that is used as a whole: all of its source counts."""
        path = getattr(module, "__file__", None)
        if not self._first_party(module.__name__, path):
            self._library(module.__name__)
            return
        if path is not None:
            self.parts[f"code:{module.__name__}"] = str(canonical.digest(Path(path).read_text(encoding="utf-8")))

    def declared(self, dep: Any) -> None:
        """What the user named with ``deps=``."""
        if isinstance(dep, str | Path):
            path = self._root / dep
            data = path.read_bytes() if path.is_file() else b""
            self.parts[f"declared:{dep}"] = str(canonical.digest(data)) if data else "missing"
        else:
            self.follow(dep)

    # ---- names and values

    def _definition(self, part: str, definition: Definition, path: str, line: int) -> None:
        self.parts[part] = str(canonical.digest(definition.tree))
        place = Path(path)
        shown = place.relative_to(self._root).as_posix() if place.is_relative_to(self._root) else place.name
        self.places[part] = f"{shown}:{line}"
        self.notes += [f"{note} ({shown}:{line})" for note in definition.notes]

    def _names(self, definition: Definition, globals_: dict[str, Any], module: str, cells: dict[str, Any]) -> None:
        for name, chains in sorted(definition.names.items()):
            if name in cells:
                self._reached(f"closure:{module}.{name}", cells[name], chains)
            elif name in globals_:
                self._reached(f"value:{module}.{name}", globals_[name], chains)
            elif not hasattr(builtins, name):
                self.notes.append(f"the name {name!r} in {module} is not bound")
        for module_name, attribute in definition.imports:
            self._import(module_name, attribute)

    def _import(self, module_name: str, attribute: str | None) -> None:
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            self.notes.append(f"import {module_name} inside a function does not work")
            return
        chain = (attribute,) if attribute is not None else ()
        self._reached(f"value:{module_name}", module, frozenset({chain}))

    def _reached(self, part: str, thing: Any, chains: frozenset[tuple[str, ...]]) -> None:
        if isinstance(thing, types.ModuleType):
            for chain in chains:
                self._through_module(thing, chain)
            return
        if getattr(type(thing), "__noria_inert__", False):
            return  # a declaration: it is an edge of the graph, not a value
        if isinstance(
            thing, types.FunctionType | type | types.MethodType | functools.partial | types.BuiltinFunctionType
        ):
            self.follow(thing)
            return
        self._value(part, thing)

    def _through_module(self, module: types.ModuleType, chain: tuple[str, ...]) -> None:
        """``helpers.scale`` follows ``scale`` only; a bare ``helpers`` takes the whole module."""
        place = module
        for position, name in enumerate(chain):
            try:
                found = getattr(place, name)
            except AttributeError:
                self.notes.append(f"{module.__name__} has no {'.'.join(chain)}")
                return
            if isinstance(found, types.ModuleType):
                place = found
                continue
            if self._first_party(place.__name__, getattr(place, "__file__", None)):
                rest = chain[position + 1 :]
                self._reached(f"value:{place.__name__}.{name}", found, frozenset({rest} if rest else {()}))
            else:
                self._library(place.__name__)
            return
        self.follow(place)

    def _value(self, part: str, value: Any) -> None:
        kind = type(value)
        try:
            self.parts[part] = describe(value)
        except OpaqueError as error:
            self.parts[part.replace("value:", "opaque:", 1)] = str(error)
            self.notes.append(f"{part.partition(':')[2]} is a {error}: only its type counts")
        if kind.__module__ not in ("builtins", "__main__"):
            self.follow(kind)


def definition_line(thing: type) -> int:
    try:
        return inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):
        return 0


def _cells(function: types.FunctionType) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # not bound yet
    return found


@functools.lru_cache(maxsize=4096)
def _below(path: str, root: Path) -> bool:
    """Whether a file is the project's own."""
    place = Path(path).resolve()
    return place.is_relative_to(root) and not any(place.is_relative_to(base) for base in _INSTALLED)


class _NoriaNames:
    """Names in a module that stand for noria or a decorator of it: policies are no part of what a step does.

    Asked by name, since a module may have very many.
    """

    def __init__(self, globals_: dict[str, Any]) -> None:
        self._globals = globals_

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or name not in self._globals:
            return False
        value = self._globals[name]
        return (
            value is sys.modules.get("noria")
            or str(getattr(value, "__module__", "")).startswith("noria.pipelines.declare")
            or (isinstance(value, types.ModuleType) and value.__name__.startswith("noria."))
        )
