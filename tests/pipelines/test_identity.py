"""The twenty kinds of edit of the reference, and more: the identity changes when it must, and only then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from noria.pipelines.identity import Manifest, compare

FILES = {
    "steps.py": '''\
import enum
import re

import noria as nr
import numpy as np
import polars as pl

import helpers
from helpers import scale
from deep.outer import outer

K = 3
TABLE = {"a": 1, "b": [1, 2]}
CUT = pl.col("x") > 2
PATTERN = re.compile("a+")


class Mode(enum.Enum):
    FAST = 1


MODE = Mode.FAST


class Cleaner:
    """Cleans."""

    limit = 10

    def clean(self, x):
        return min(x, self.limit)


def beside(x):
    return x + 1


def unrelated(x):
    return x


def make(factor):
    def inner(x):
        return x * factor
    return inner


times = make(2)


@nr.dataset(cpu=1)
def step(raw: pl.DataFrame, *, C: float = 1.0) -> pl.DataFrame:
    """Makes something."""
    total = scale(K) + helpers.shift(1) + outer(2) + beside(3)
    part = Cleaner().clean(total) + TABLE["a"]
    if MODE is Mode.FAST and PATTERN.match("a"):
        total = np.log(times(part))
    return raw.filter(CUT).with_columns(y=total * C)
''',
    "helpers.py": """\
FACTOR = 5


def scale(x):
    return x * FACTOR


def shift(x, by=1):
    return x + by


def unused(x):
    return x
""",
    "deep/__init__.py": "",
    "deep/outer.py": "from deep.inner import inner\n\n\ndef outer(x):\n    return inner(x)\n",
    "deep/inner.py": "def inner(x):\n    return x - 1\n",
}

PROBE = """
import sys, json
sys.path.insert(0, sys.argv[1])
import noria.pipelines.identity.libs as libs
if len(sys.argv) > 2:
    real = libs.library
    libs.library = lambda m: ("numpy", "99.0") if m == "numpy" else real(m)
from pathlib import Path
from noria.pipelines.identity import Identifier
import steps
m = Identifier(Path(sys.argv[1])).code(steps.step)
print(json.dumps({"parts": m.parts, "notes": m.notes, "places": m.places}))
"""


def write(root: Path, edits: dict[str, tuple[str, str]] | None = None) -> None:
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, (before, after) in (edits or {}).items():
            if file.partition("#")[0] == name:
                assert before in text, (file, before)
                text = text.replace(before, after)
        path.write_text(text)


def identity(root: Path, seed: int, library: bool = False) -> Manifest:
    env = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", PROBE, str(root), *(["x"] if library else [])]
    found = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert found.returncode == 0, found.stderr
    value = json.loads(found.stdout)
    return Manifest(value["parts"], tuple(value["notes"]), value["places"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("project")
    write(root)
    return identity(root, 1)


SAME = {
    "another hash seed": {},
    "a comment": {"steps.py": ("    total = scale", "    # a comment\n    total = scale")},
    "a docstring": {"steps.py": ('"""Makes something."""', '"""Makes something else, at length."""')},
    "formatting": {"steps.py": ("scale(K) + helpers.shift(1)", "( scale( K )\n        + helpers.shift( 1 ) )")},
    "a shift of lines": {"steps.py": ("K = 3", "\n\n\n\nK = 3")},
    "an unrelated function of the same file": {
        "steps.py": ("def unrelated(x):\n    return x", "def unrelated(x):\n    return x + 7")
    },
    "an unused function of a helper file": {
        "helpers.py": ("def unused(x):\n    return x", "def unused(x):\n    return 1")
    },
    "a comment in a helper": {"helpers.py": ("    return x * FACTOR", "    return x * FACTOR  # why")},
    "annotations": {"steps.py": ("raw: pl.DataFrame", "raw")},
    "a policy of the decorator": {"steps.py": ("@nr.dataset(cpu=1)", '@nr.dataset(cpu=2, retries=3, timeout="1h")')},
    "a class docstring": {"steps.py": ('"""Cleans."""', '"""Cleans well."""')},
    "the default of a hyperparameter": {"steps.py": ("C: float = 1.0", "C: float = 2.0")},
}  # the last one is a parameter: it counts as param:C where the step is planned, not as code

OTHER = {
    "the body": ({"steps.py": ("total * C", "total + C")}, "steps.step changed (steps.py:51)"),
    "a helper by from-import": ({"helpers.py": ("return x * FACTOR", "return x / FACTOR")}, "helpers.scale changed"),
    "a helper by module attribute": ({"helpers.py": ("return x + by", "return x - by")}, "helpers.shift changed"),
    "a default of a helper": ({"helpers.py": ("by=1", "by=2")}, "default helpers.shift.0 1 -> 2"),
    "a helper two modules down": ({"deep/inner.py": ("x - 1", "x - 2")}, "deep.inner.inner changed"),
    "a function beside it": ({"steps.py": ("return x + 1", "return x + 2")}, "steps.beside changed"),
    "a method of a class": ({"steps.py": ("min(x, self.limit)", "max(x, self.limit)")}, "steps.Cleaner changed"),
    "an attribute of a class": ({"steps.py": ("limit = 10", "limit = 11")}, "steps.Cleaner changed"),
    "a global number": ({"steps.py": ("K = 3", "K = 4")}, "steps.K 3 -> 4"),
    "a global of a helper": ({"helpers.py": ("FACTOR = 5", "FACTOR = 6")}, "helpers.FACTOR 5 -> 6"),
    "a global dictionary": ({"steps.py": ('"b": [1, 2]', '"b": [1, 3]')}, "steps.TABLE changed"),
    "a global expression": ({"steps.py": ('pl.col("x") > 2', 'pl.col("x") > 3')}, "steps.CUT changed"),
    "a closure": ({"steps.py": ("times = make(2)", "times = make(5)")}, "steps.factor 2 -> 5"),
    "a pattern": ({"steps.py": ('re.compile("a+")', 're.compile("b+")')}, "steps.PATTERN"),
    "an enum member": (
        {"steps.py": ("FAST = 1", "FAST = 1\n    SLOW = 2"), "steps.py#2": ("MODE = Mode.FAST", "MODE = Mode.SLOW")},
        "steps.MODE",
    ),
}


@pytest.mark.parametrize("edit", SAME)
def test_what_changes_nothing_runs_nothing(base: Manifest, tmp_path: Path, edit: str) -> None:
    write(tmp_path, SAME[edit])
    assert compare(base, identity(tmp_path, 7)) == []


@pytest.mark.parametrize("edit", OTHER)
def test_what_changes_something_is_seen_and_named(base: Manifest, tmp_path: Path, edit: str) -> None:
    edits, reason = OTHER[edit]
    write(tmp_path, edits)
    after = identity(tmp_path, 7)
    assert after.key != base.key
    assert any(reason in r.text for r in compare(base, after)), compare(base, after)


def test_a_library_of_another_version_is_seen(base: Manifest, tmp_path: Path) -> None:
    write(tmp_path)
    (reason,) = compare(base, identity(tmp_path, 7, library=True))
    assert (reason.level, reason.text.split()[0]) == ("LIBRARY", "numpy")


def test_only_libraries_that_are_reached_count(base: Manifest) -> None:
    assert {p for p in base.parts if p.startswith("lib:")} == {"lib:numpy", "lib:polars"}


def test_a_local_variable_may_be_renamed_either_way(base: Manifest, tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "steps.py": ("part = Cleaner().clean(total) + TABLE", "piece = Cleaner().clean(total) + TABLE"),
            "steps.py#2": ("times(part)", "times(piece)"),
        },
    )
    assert identity(tmp_path, 7).parts.keys() == base.parts.keys()


HOLES = """\
import importlib


class Thing:
    pass


THING = Thing()


def step(raw):
    f = getattr(raw, "a" + "b")
    m = importlib.import_module("x")
    t = open("data.csv").read()
    from json import dumps
    import wave
    return f, m, t, THING, dumps, undefined_name
"""


def test_holes_are_notes_and_never_failures(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "steps.py").write_text(HOLES)
    found = identity(tmp_path, 1)
    text = "\n".join(found.notes)
    for note in (
        "getattr with a computed name",
        "import_module(...)",
        "'data.csv'",
        "only its type counts",
        "undefined_name",
    ):
        assert note in text
    assert "opaque:steps.THING" in found.parts


def test_an_import_inside_the_function_is_followed(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text("def step(raw):\n    from helpers import scale\n    return scale(raw)\n")
    (tmp_path / "helpers.py").write_text("def scale(x):\n    return x\n")
    before = identity(tmp_path, 1)
    (tmp_path / "helpers.py").write_text("def scale(x):\n    return x + 1\n")
    (reason,) = compare(before, identity(tmp_path, 1))
    assert reason.text.startswith("helpers.scale changed")


def test_recursion_and_cycles_end(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(
        "def step(n):\n    return other(n)\n\n\ndef other(n):\n    return step(n - 1) if n else step\n"
    )
    assert {"code:steps.step", "code:steps.other"} <= identity(tmp_path, 1).parts.keys()


def test_manifests_never_change_their_digest(golden) -> None:
    manifest = Manifest({"code:a.b": "blake3:" + "0" * 64, "param:C": "1.0", "env:python": "3.11"})
    golden("manifest.json", json.dumps({"parts": manifest.parts, "key": str(manifest.key)}, indent=1).encode())


def test_a_function_of_a_notebook_cell_has_an_identity() -> None:
    import linecache

    from noria.pipelines.identity import Identifier

    def cell(text: str, number: int):
        name = f"<ipython-input-{number}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        space: dict = {"__name__": "__main__"}
        exec(compile(text, name, "exec"), space)
        return space["step"]

    first = cell("K = 1\ndef step(raw):\n    return raw + K\n", 1)
    again = cell("K = 1\n\n# moved\ndef step(raw):\n    return raw + K\n", 2)
    other = cell("K = 2\ndef step(raw):\n    return raw + K\n", 3)
    identify = Identifier(Path("/nowhere")).code
    assert identify(first).key == identify(again).key
    assert identify(first).key != identify(other).key
