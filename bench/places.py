"""Throw-away projects to measure in."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from noria import workspace
from noria.base.actor import Actor
from noria.workspace import Workspace

ME = Actor(name="user:bench")


@contextmanager
def folder() -> Generator[Path]:
    """An empty folder, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="noria-bench-") as path:
        yield Path(path)


@contextmanager
def project(modules: Mapping[str, str] | None = None) -> Generator[Workspace]:
    """A new workspace of a project with these modules (name -> source), whose steps run inline."""
    texts = dict(modules or {})
    known = set(sys.modules)
    with folder() as root:
        for name, text in texts.items():
            (root / f"{name}.py").write_text(text, encoding="utf-8")
        (root / "noria.toml").write_text(
            f'name = "bench"\nmodules = {sorted(texts)!r}\nexecutor = "inline"\n', encoding="utf-8"
        )
        ws = workspace.init(root)
        try:
            yield ws
        finally:
            ws.close()
            forget(root, known)


def forget(root: Path, known: set[str]) -> None:
    """Takes back what importing the project's modules has left in this process."""
    sys.path[:] = [path for path in sys.path if path != str(root)]
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(root)):
            del sys.modules[name]
