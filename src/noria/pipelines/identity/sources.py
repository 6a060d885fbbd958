"""Syntax trees of functions and classes, and the names that they use."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Container
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Definition:
    """What is known of a function or class from its source.

    Attributes:
        tree: dump of the syntax tree without docstrings, positions, annotations and noria's decorators.
        names: global names that it uses, each with the attribute chains that are read from it: ``np`` -> {"log"};
            an empty chain means that the object itself is used.
        imports: what it imports inside: (module, name or None).
        notes: constructs whose effect cannot be followed.
    """

    tree: str
    names: dict[str, frozenset[tuple[str, ...]]]
    imports: tuple[tuple[str, str | None], ...] = ()
    notes: tuple[str, ...] = ()
    decorators: tuple[str, ...] = field(default=())


class _Module:
    """One source file, parsed once for each of its states."""

    def __init__(self, text: str) -> None:
        self.tree = ast.parse(text)
        self.nodes: dict[tuple[str, int], ast.AST] = {}
        self.definitions: dict[tuple[int, tuple[bool, ...], bool], Definition] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
                name_ = getattr(node, "name", "<lambda>")
                self.nodes[name_, _first_line(node)] = node
                self.nodes.setdefault((name_, node.lineno), node)


def _first_line(node: Any) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


@lru_cache(maxsize=512)
def _parsed(path: str, mtime_ns: int, size: int) -> _Module:
    return _Module(Path(path).read_text(encoding="utf-8"))


@lru_cache(maxsize=512)
def _parsed_text(text: str) -> _Module:
    return _Module(text)


def define(thing: Any, skip_decorators: Container[str], *, step: bool = False) -> Definition | None:
    """The definition of a function or class, or None where its source cannot be had.

    Args:
        skip_decorators: decorators (first name of the chain) that are not part of what the function does.
        step: leave out the defaults of keyword-only parameters: a step's hyperparameters are parts of their own.
    """
    try:
        path = inspect.getsourcefile(thing)
    except TypeError:
        return None
    if path is None:
        return None
    line = thing.__code__.co_firstlineno if inspect.isfunction(thing) else _class_line(thing)
    name = thing.__name__ if thing.__name__ != "<lambda>" else "<lambda>"
    try:
        if Path(path).is_file():
            found = Path(path).stat()
            module = _parsed(path, found.st_mtime_ns, found.st_size)
        else:  # a notebook's cell: its text is kept by linecache
            module = _parsed_text("".join(linecache.getlines(path)))
        node = module.nodes.get((name, line))
        if node is None:
            module = _parsed_text(textwrap.dedent(inspect.getsource(thing)))
            node = next((n for (other, _), n in module.nodes.items() if other == name), None)
    except (OSError, SyntaxError, ValueError):
        return None
    if node is None:
        return None
    kept = tuple(_root(d) not in skip_decorators for d in getattr(node, "decorator_list", []))
    key = (id(node), kept, step)  # the module keeps the node alive
    if key not in module.definitions:
        module.definitions[key] = _definition(node, kept, step)
    return module.definitions[key]


def _class_line(thing: Any) -> int:
    try:
        return inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):
        return -1


def _definition(node: Any, kept: tuple[bool, ...], step: bool) -> Definition:
    decorators = [d for d, keep in zip(getattr(node, "decorator_list", []), kept, strict=True) if keep]
    cleaned = _Cleaner().visit(ast.parse(ast.unparse(_without(node, decorators))).body[0])
    names: dict[str, set[tuple[str, ...]]] = {}
    if step and isinstance(cleaned, ast.FunctionDef | ast.AsyncFunctionDef):
        cleaned.args.kw_defaults = [None] * len(cleaned.args.kwonlyargs)
    chains = _Chains()
    for part in _outside(node, decorators):
        chains.visit(part)
    chains.scope(node)
    for root, chain in chains.found:
        names.setdefault(root, set()).add(chain)
    return Definition(
        tree=ast.dump(cleaned, annotate_fields=False, include_attributes=False),
        names={name: frozenset(chain) for name, chain in names.items()},
        imports=tuple(chains.imports),
        notes=tuple(chains.notes),
    )


def _without(node: Any, decorators: list[ast.expr]) -> Any:
    if isinstance(node, ast.Lambda):
        return node
    fields = {name: getattr(node, name) for name in node._fields}
    return type(node)(**{**fields, "decorator_list": decorators}, lineno=1, col_offset=0)


def _outside(node: Any, decorators: list[ast.expr]) -> list[ast.AST]:
    """The parts of a definition that are evaluated where it stands: decorators, bases, defaults."""
    if isinstance(node, ast.ClassDef):
        return [*decorators, *node.bases, *(k.value for k in node.keywords)]
    return [*decorators, *(d for d in [*node.args.defaults, *node.args.kw_defaults] if d is not None)]


def _root(expression: ast.expr) -> str:
    while isinstance(expression, ast.Call | ast.Attribute):
        expression = expression.func if isinstance(expression, ast.Call) else expression.value
    return expression.id if isinstance(expression, ast.Name) else ""


def _locals_of(node: Any) -> set[str]:
    """The names that are bound in a function's own scope. A class has none that its methods could see."""
    if isinstance(node, ast.ClassDef):
        return set()
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    names = {a.arg for a in every if a is not None}
    declared: set[str] = set()
    pending: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
    while pending:
        part = pending.pop()
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(part.name)
            continue
        if isinstance(part, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            continue
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
            names.add(part.id)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).partition(".")[0] for alias in part.names)
        elif isinstance(part, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and part.name:
            names.add(part.name)
        elif isinstance(part, ast.Global):
            declared.update(part.names)
        pending.extend(ast.iter_child_nodes(part))
    return names - declared


class _Cleaner(ast.NodeTransformer):
    """Removes what does not change what code does: docstrings, annotations, type comments."""

    def _body(self, node: Any) -> Any:
        body = node.body
        first = body[0] if body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = body[1:] or [ast.Pass()]
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.returns = None
        node.type_comment = None
        return self._body(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        node.returns = None
        return self._body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        return self._body(node)

    def visit_arg(self, node: ast.arg) -> Any:
        node.annotation = None
        node.type_comment = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        self.generic_visit(node)
        if node.value is None:
            return ast.Expr(ast.Constant(node.target.id)) if isinstance(node.target, ast.Name) else None
        return ast.Assign(targets=[node.target], value=node.value, lineno=1)


class _Chains(ast.NodeVisitor):
    """Collects global names with the attributes read from them."""

    def __init__(self) -> None:
        self._local: list[set[str]] = []
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.imports: list[tuple[str, str | None]] = []
        self.notes: list[str] = []

    def _is_local(self, name: str) -> bool:
        return any(name in scope for scope in self._local)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and not self._is_local(node.id):
            self.found.append((node.id, ()))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            chain.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load) and not self._is_local(inner.id):
            self.found.append((inner.id, tuple(reversed(chain))))
        else:
            self.visit(inner)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        return

    def scope(self, node: Any) -> None:
        """Visits the body of a function or class with its local names in force."""
        self._local.append(_locals_of(node))
        for part in [node.body] if isinstance(node, ast.Lambda) else node.body:
            self.visit(part)
        self._local.pop()

    def visit_FunctionDef(self, node: Any) -> None:
        for part in _outside(node, node.decorator_list):
            self.visit(part)
        self.scope(node)

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_ClassDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for part in _outside(node, []):
            self.visit(part)
        self.scope(node)

    def _comprehension(self, node: Any) -> None:
        names = {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
        self._local.append(names)
        self.generic_visit(node)
        self._local.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Import(self, node: ast.Import) -> None:
        self.imports += [(alias.name, None) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and not node.level:
            self.imports += [(node.module, alias.name) for alias in node.names]

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        if name in ("exec", "eval", "importlib.import_module", "__import__"):
            self.notes.append(f"{name}(...) is not followed")
        elif name == "getattr" and len(node.args) > 1 and not isinstance(node.args[1], ast.Constant):
            self.notes.append("getattr with a computed name is not followed")
        elif name == "open" and node.args and isinstance(node.args[0], ast.Constant):
            self.notes.append(f"the file {node.args[0].value!r} is read but is no input")
        self.generic_visit(node)
