"""A package of an extra that is not installed is named, with the line to type, by the command that needs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

BLOCKED = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None  # whoever imports it hears that there is none
from noria.cli.main import main
main(sys.argv[1:])
"""


def without(modules: str, folder: Path, *args: str) -> tuple[int, dict[str, str], str]:
    """(exit code, the error, everything that was written) of a command in a Python without some modules."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NORIA_")}
    asked = [sys.executable, "-c", BLOCKED, modules, *args, "--json"]
    done = subprocess.run(asked, cwd=folder, env=env, capture_output=True, text=True, check=False)
    error = json.loads(done.stderr.splitlines()[-1])["error"] if done.returncode else {}
    return done.returncode, error, done.stdout + done.stderr


@pytest.fixture
def looped(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "shop")
    return tmp_path / "shop"


def test_postgres(tmp_path: Path) -> None:
    for args in (("admin", "audit", "--workspace", "postgresql://localhost/none"),
                 ("init", "--db", "postgresql://localhost/none")):  # fmt: skip
        code, error, text = without("psycopg", tmp_path, *args)
        assert (code, error["code"], error["hint"]) == (6, "missing_extra", 'pip install "noria[postgres]"')
        assert "Traceback" not in text


def test_s3(tmp_path: Path) -> None:
    # init asks the endpoint whether it is fit
    code, error, text = without("obstore", tmp_path, "init", "--store", "s3://bucket/prefix")
    assert (code, error["code"], error["hint"]) == (6, "missing_extra", 'pip install "noria[s3]"')
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("modules", "args", "names"),
    [
        ("pandas", ("run", "tree", "leaves=9"), "'pandas'"),
        ("lightgbm", ("plan",), "'lightgbm'"),
        ("sklearn,skops", ("plan",), None),
    ],
)
def test_ml(looped: Path, modules: str, args: tuple[str, ...], names: str | None) -> None:
    code, error, text = without(modules, looped, *args)
    assert "Traceback" not in text
    if names is None:  # who only plans a LightGBM model needs neither
        assert code == 0
        return
    assert (code, error["hint"]) == (1, 'pip install "noria[ml]"')
    assert names in error["message"]


PARTS = {
    "optuna": "from noria.training.sweep import ask; ask({}, [], 1, better=1, seed='x')",
    "sklearn": "import numpy as np, polars as pl\n"
    "from noria.training.baselines import linear\n"
    "linear(pl.DataFrame(), np.zeros(1), [], None, 'binary')",
    "skops.io": "from pathlib import Path; from sklearn.linear_model import Ridge\n"
    "from noria.training.models import save; save(Ridge(), Path())",
}


@pytest.mark.parametrize("module", sorted(PARTS))
def test_parts_of_training(module: str) -> None:
    text = f"""
import sys
sys.modules[{module!r}] = None
from noria.base.errors import MissingExtra
try:
    exec({PARTS[module]!r})
except MissingExtra as error:
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.stdout == 'pip install "noria[ml]"\n', done.stderr


def test_the_doctor_knows_each_extra_that_code_uses(tmp_path: Path) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    assert extras == {"ml", "ray", "postgres", "s3", "fsspec", "duckdb", "dvc", "mlflow", "dev"}
    env = {k: v for k, v in os.environ.items() if not k.startswith("NORIA_")}
    asked = [sys.executable, "-c", BLOCKED, "obstore,psycopg", "doctor", "--json"]
    done = subprocess.run(asked, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    found = {c["what"]: c["hint"] for c in json.loads(done.stdout)["checks"] if c["what"].startswith("extra ")}
    assert set(found) == {f"extra {name}" for name in extras - {"ray", "dev"}}  # the first one is reserved
