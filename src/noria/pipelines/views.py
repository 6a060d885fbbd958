"""Code of a snapshot, imported in a view of its own: two snapshots of one module live side by side (decision 13).

A module of a view is not in ``sys.modules``; its import statements look into the view first. So champion and
challenger may both have a ``flights.py`` in one process, each with its own.
"""

from __future__ import annotations

import builtins
import importlib.util
import sys
import threading
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from noria.pipelines.errors import CodeBroken


class CodeView:
    """The first-party modules below one folder. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: dict[str, ModuleType] = {}
        self._lock = threading.RLock()
        self._builtins = {**builtins.__dict__, "__import__": self._import}

    def get(self, entry: str) -> Any:
        """The thing at ``module:qualified.name``.

        Raises:
            CodeBroken: the module or the name is not there.
        """
        module_name, _, path = entry.partition(":")
        try:
            found: Any = self.load(module_name)
            for part in path.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise CodeBroken(f"{entry!r} cannot be loaded from the code snapshot: {error}.") from error
        return found

    def load(self, name: str) -> ModuleType:
        with self._lock:
            found = self._modules.get(name)
            if found is not None:
                return found
            parent, _, child = name.rpartition(".")
            if parent:
                self.load(parent)
            module = self._make(name)
            if parent:
                setattr(self._modules[parent], child, module)
            return module

    def _make(self, name: str) -> ModuleType:
        base = self.root.joinpath(*name.split("."))
        file = base.with_suffix(".py")
        package = base / "__init__.py"
        module = ModuleType(name)
        module.__dict__["__builtins__"] = self._builtins
        if package.is_file():
            file = package
        elif not file.is_file():
            if not base.is_dir():
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            module.__path__ = [str(base)]  # a folder without __init__.py
            module.__package__ = name
            self._modules[name] = module
            return module
        module.__file__ = str(file)
        module.__package__ = name if file == package else name.rpartition(".")[0]
        if file == package:
            module.__path__ = [str(base)]
        self._modules[name] = module
        try:
            exec(self._compiled(file), module.__dict__)  # noqa: S102 - this is what importing a module is
        except BaseException:
            del self._modules[name]
            raise
        return module

    @staticmethod
    def _compiled(file: Path) -> CodeType:
        return compile(file.read_bytes(), str(file), "exec", dont_inherit=True)

    def _mine(self, name: str) -> bool:
        top = name.partition(".")[0]
        return (self.root / f"{top}.py").is_file() or (self.root / top).is_dir()

    def _import(
        self,
        name: str,
        globals: Any = None,
        locals: Any = None,
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        if level:
            package = (globals or {}).get("__package__") or ""
            name = importlib.util.resolve_name("." * level + name, package)
        if not level and (name.partition(".")[0] in sys.stdlib_module_names or not self._mine(name)):
            return builtins.__import__(name, globals, locals, fromlist, 0)
        module = self.load(name)
        if not fromlist:
            return self._modules[name.partition(".")[0]]
        for item in fromlist:
            if item != "*" and not hasattr(module, item) and hasattr(module, "__path__"):
                self.load(f"{name}.{item}")
        return module
