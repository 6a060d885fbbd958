"""Which installed distribution a module belongs to, and its version."""

from __future__ import annotations

import importlib.metadata as metadata
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import blake3


@cache
def _modules() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


@cache
def library(module: str) -> tuple[str, str] | None:
    """(distribution, version) of a top-level module; None for the standard library."""
    if module in sys.stdlib_module_names or module in sys.builtin_module_names:
        return None
    try:
        found = metadata.distribution(module)
    except metadata.PackageNotFoundError:
        names = _modules().get(module)
        if not names:
            return module, _files(module)
        found = metadata.distribution(sorted(names)[0])
    name = found.metadata["Name"].lower().replace("_", "-")
    if found.read_text("direct_url.json") and "editable" in (found.read_text("direct_url.json") or ""):
        return name, f"{found.version}+{_files(module)}"
    return name, found.version


def _files(module: str) -> str:
    """A digest of the files of a module that is not installed as a released version."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    origin = getattr(spec, "origin", None)
    if not origin or not Path(origin).is_file():
        return "unknown"
    root = Path(origin).parent if Path(origin).name == "__init__.py" else None
    files = sorted(root.rglob("*.py")) if root is not None else [Path(origin)]
    hasher = blake3.blake3()
    for path in files:
        hasher.update(path.read_bytes())
    return hasher.hexdigest()[:12]


def python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def installed() -> dict[str, str]:
    """Every installed distribution with its version: the environment record of a run."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name.lower().replace("_", "-")] = distribution.version
    return dict(sorted(found.items()))
