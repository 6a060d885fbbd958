"""A model package is asked by plain MLflow, in a process of its own, and gives the scores that noria gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_training import ME, filled

from noria.training import mlflow_loader, package, rows
from noria.training.errors import PackageDamaged
from noria.training.package import Package

PLAIN = """\
import json, sys
import mlflow.pyfunc
import pandas as pd
from mlflow.exceptions import MlflowException

folder, questions = sys.argv[1], json.load(sys.stdin)
model = mlflow.pyfunc.load_model(folder)
answers = [[float(score) for score in model.predict(pd.DataFrame(question))] for question in questions]
example = model.input_example
try:
    refused = model.predict(pd.DataFrame(questions[0]).assign(price="dear"))
except MlflowException as error:
    refused = "refused: " + str(error)
native = None
if "lightgbm" in model.metadata.flavors:
    import mlflow.lightgbm
    native = mlflow.lightgbm.load_model(folder).feature_name()
if "sklearn" in model.metadata.flavors:
    import mlflow.sklearn
    native = [float(v) for v in mlflow.sklearn.load_model(folder).predict_proba(pd.DataFrame(questions[0]))[:, 1]]
print(json.dumps({
    "answers": answers,
    "signature": {c.name: str(c.type) for c in model.metadata.signature.inputs},
    "example": [float(score) for score in model.predict(example)],
    "columns": list(example.columns),
    "refused": refused,
    "native": native,
}))
"""


def asked(folder: Path, questions: list[dict[str, list[Any]]], home: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(folder)],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true",  # for MLflow's own flavor; the loader of noria needs it not
        },
    )
    assert done.returncode == 0, done.stderr
    assert "mismatch" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def trained(project, name: str) -> tuple[Path, Package, Any, pl.DataFrame]:
    ws = filled(project)
    done = ws.pipelines.run([name], actor=ME)
    folder = ws.pipelines.values.materialise(ws.assets.version(done.steps[name].outputs[""]))
    found, predict = package.load(folder)
    frame = ws.training.evaluation(ws.registry.resolve(ws.project.id, name)).frame.select(found.columns.names).head(50)
    return folder, found, predict, frame


@pytest.mark.parametrize("name", ["tree", "logistic"])
def test_plain_mlflow_loads_a_package_and_gives_the_scores_of_noria(project, tmp_path: Path, name: str) -> None:
    folder, found, predict, frame = trained(project, name)
    whole = frame.to_dict(as_series=False)
    holes = pl.DataFrame(
        {"shop": ["a", None, "nowhere"], "n": [1, None, 3], "price": [10.5, 20.25, None], "big": [None, True, False]}
    )
    if name == "logistic":  # it was not taught to do without numbers
        holes = holes.with_columns(pl.col("n", "price", "big").fill_null(strategy="max"))
    other = {key: whole[key] for key in ("price", "big", "shop", "n")}  # columns in another order
    shops = [frame.with_columns(shop=pl.lit(shop)).to_dict(as_series=False) for shop in ("a", "b")]
    says = asked(folder, [whole, holes.to_dict(as_series=False), other, *shops], tmp_path)
    *says["answers"], one, another = says["answers"]
    assert sum(one) > sum(another)  # shop a has more returns: the texts do reach the model
    wanted = [predict(rows.conform(f, found.columns)).tolist() for f in (frame, holes, frame)]
    assert says["answers"] == wanted
    assert 0 < min(wanted[0]) < max(wanted[0]) < 1  # chances, no classes
    assert len(set(wanted[0])) > 10
    assert says["signature"]["shop"] == "DataType.string"
    assert says["signature"]["big"] == "DataType.boolean"
    assert says["columns"] == found.columns.names
    assert says["example"] == pytest.approx(package.sample(folder)["scores"][:5])
    assert says["refused"].startswith("refused: ")
    assert says["native"] == (found.columns.names if name == "tree" else pytest.approx(wanted[0]))


def test_a_changed_package_is_refused_by_the_loader_for_mlflow(project, tmp_path: Path) -> None:
    folder, _, _, _ = trained(project, "tree")
    shutil.copytree(folder, tmp_path / "copy")
    mlflow_loader._load_pyfunc(str(tmp_path / "copy"))
    text = (tmp_path / "copy" / "model.lgb").read_text()
    (tmp_path / "copy" / "model.lgb").write_text(text.replace("leaf_value=", "leaf_value=9", 1))
    with pytest.raises(PackageDamaged, match="is not what was registered"):
        mlflow_loader._load_pyfunc(str(tmp_path / "copy"))


def test_each_file_for_mlflow_has_its_digest(project) -> None:
    folder, _, _, _ = trained(project, "logistic")
    digests = json.loads((folder / "noria.json").read_text())["files"]
    assert {"MLmodel", "input_example.json", "serving_input_example.json", "requirements.txt"} <= set(digests)
    assert set(digests) == {path.name for path in folder.iterdir()} - {"noria.json"}
    assert (folder / "requirements.txt").read_text().startswith("noria[ml]==")
