"""The model package: a folder that plain MLflow loads, with everything that serving and monitoring need beside it.

MLmodel               MLflow's description (YAML; written as JSON, which is YAML), with signature
input_example.json    rows as MLflow's clients send them, also as serving_input_example.json
requirements.txt      what MLflow needs to load it, with python_env.yaml: noria and the model's library
model.lgb|model.skops the model itself
noria.json            columns, levels, feature version, training window, trust class, digest of each file
reference.json        the distribution of scores and features on held-out rows, for drift
sample.json           source rows and the score of each, for warming up and checking a loaded model

Of a model that MLflow's client logged, an *adopted* one (``training/adoption.py``), the client's own package lies whole
in the folder ``model`` instead of the first four.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import blake3
import polars as pl

from noria.features.function import FeatureSpec
from noria.training import models
from noria.training.apart import Apart
from noria.training.errors import PackageDamaged, PackageForeign
from noria.training.models import Predictor, Stored
from noria.training.rows import Columns
from noria.training.signature import Signature

FORMAT: Final = 1
_EXAMPLE: Final = 5
"""Rows of the input example."""

_LOADER: Final = "noria.training.mlflow_loader"
"""What MLflow loads our packages by; it also tells ours from those of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What ``noria.json`` says.

    Attributes:
        task: binary or regression.
        target: the column of the truth; ``after_ms`` how long it is waited for.
        features: what the features function needs; None for a model that takes its features as they are.
        window: the moments (event time, milliseconds) that its training, validation and test rows span.
        metrics: name -> test value, the primary one first.
        adopted: of an adopted model, what it was adopted with, and the ``signature`` of its rows.
    """

    name: str
    task: str
    target: str
    after_ms: int
    labels: dict[str, Any]
    columns: Columns
    features: FeatureSpec
    stored: Stored
    params: dict[str, Any]
    window: dict[str, Any]
    metrics: dict[str, Any]
    primary: str
    code: str
    adopted: dict[str, Any] | None = None

    @property
    def needed(self) -> frozenset[str]:
        """Columns of a request that must not be missing, beside the key."""
        return frozenset(self.adopted["signature"]["needed"]) if self.adopted else frozenset()

    def as_value(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "name": self.name,
            "task": self.task,
            "target": self.target,
            "after_ms": self.after_ms,
            "labels": self.labels,
            "columns": self.columns.as_value(),
            "features": self.features.as_value(),
            "stored": {
                "flavor": self.stored.flavor,
                "file": self.stored.file,
                "trust": self.stored.trust,
                "library": self.stored.library,
                "version": self.stored.version,
            },
            "params": self.params,
            "window": self.window,
            "metrics": self.metrics,
            "primary": self.primary,
            "code": self.code,
            **({} if self.adopted is None else {"adopted": self.adopted}),
        }


def write(folder: Path, package: Package, reference: dict[str, Any], sample: dict[str, Any]) -> None:
    """Writes everything but the model file, which lies in the folder already."""
    (folder / "reference.json").write_text(json.dumps(reference), encoding="utf-8")
    (folder / "sample.json").write_text(json.dumps(sample), encoding="utf-8")
    if package.adopted is None:
        _write_for_mlflow(folder, package, sample)
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    value = {**package.as_value(), "files": digests}
    (folder / "noria.json").write_text(json.dumps(value, indent=1), encoding="utf-8")


def file_digest(path: Path) -> str:
    return f"blake3:{blake3.blake3().update_mmap(path).hexdigest()}"


def read(folder: Path) -> Package:
    """The package in a folder, every file verified against its digest.

    Raises:
        PackageDamaged: a file is missing or is not what was registered.
        PackageForeign: it was not trained by noria.
    """
    if (folder / "MLmodel").is_file() and not (folder / "noria.json").exists():
        if _LOADER.encode() in (folder / "MLmodel").read_bytes():
            raise PackageDamaged(
                f"{folder.name}: the file noria.json is missing.", hint="Train or pull the model again."
            )
        raise PackageForeign(
            "The model was logged through MLflow, and nobody has adopted it here yet.",
            hint="noria adopt MODEL, or noria deploy MODEL --endpoint NAME",
        )
    try:
        value = json.loads((folder / "noria.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        raise PackageDamaged(f"{folder.name} is no model package: {type(error).__name__}.") from None
    if value["format"] > FORMAT:
        raise PackageDamaged(
            f"The package has format {value['format']}; this noria reads {FORMAT}.",
            hint='pip install --upgrade "noria"',
        )
    for name, digest in value["files"].items():
        path = folder / name
        if not path.is_file() or path.is_symlink() or file_digest(path) != digest:
            raise PackageDamaged(
                f"The file {name} of the model {value['name']!r} is not what was registered; it is not loaded.",
                hint="Train it again, or restore the store from a backup: noria admin verify --data",
                details={"file": name},
            )
    return Package(
        name=value["name"],
        task=value["task"],
        target=value["target"],
        after_ms=value["after_ms"],
        labels=value["labels"],
        columns=Columns.of(value["columns"]),
        features=FeatureSpec.of(value["features"]),
        stored=Stored(**value["stored"]),
        params=value["params"],
        window=value["window"],
        metrics=value["metrics"],
        primary=value["primary"],
        code=value["code"],
        adopted=value.get("adopted"),
    )


def load(folder: Path) -> tuple[Package, Predictor]:
    """A verified package and its model. Only in worker processes."""
    package = read(folder)
    if package.adopted is not None:
        signature = Signature.of_value(package.adopted["signature"])
        return package, Apart(folder / package.stored.file, signature, probabilities=package.adopted["proba"])
    return package, models.load(folder, package.stored, package.task, package.columns)


def reference(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "reference.json").read_text(encoding="utf-8"))


def sample(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "sample.json").read_text(encoding="utf-8"))


def _write_for_mlflow(folder: Path, package: Package, sample: dict[str, Any]) -> None:
    """MLflow's files: its description, an example of what a model is asked, and what it takes to load the model."""
    names = package.columns.names
    example = {"columns": names, "data": [[row.get(name) for name in names] for row in sample["features"][:_EXAMPLE]]}
    needs = [f"noria[ml]=={importlib.metadata.version('noria')}"]
    if package.stored.flavor in (models.LIGHTGBM, models.SKLEARN):
        needs.append(f"{package.stored.library}=={package.stored.version}")
    files: dict[str, Any] = {
        "MLmodel": _mlmodel(package, folder),
        "input_example.json": example,
        "serving_input_example.json": {"dataframe_split": example},
        "python_env.yaml": {
            "python": platform.python_version(),
            "build_dependencies": [],
            "dependencies": ["-r requirements.txt"],
        },
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=1), encoding="utf-8")
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in needs), encoding="utf-8")


def _mlflow_type(name: str, columns: Columns) -> str:
    """MLflow's name for a type. It knows no whole numbers of which some are missing: "any" says that we check."""
    if name in columns.levels:
        return "string"
    dtype = columns.dtypes[name]
    return "boolean" if dtype == pl.Boolean else "any" if dtype.is_integer() else "double"


def _mlmodel(package: Package, folder: Path) -> dict[str, Any]:
    """MLflow's description: the library's own flavor, and ours, which ``mlflow.pyfunc.load_model`` reads."""
    stored = package.stored
    inputs = [
        {"type": _mlflow_type(name, package.columns), "name": name, "required": False} for name in package.columns.names
    ]
    own: dict[str, Any]
    if stored.flavor == models.LIGHTGBM:
        own = {
            "lightgbm": {
                "lgb_version": stored.version,
                "data": stored.file,
                "model_class": "lightgbm.basic.Booster",
                "code": None,
            }
        }
    elif stored.flavor == models.SKLEARN:
        own = {
            "sklearn": {
                "pickled_model": stored.file,
                "sklearn_version": stored.version,
                "serialization_format": "skops",
                "skops_trusted_types": models.trusted_types(folder / stored.file),
                "code": None,
            }
        }
    else:
        own = {}
    return {
        "flavors": {
            **own,
            "python_function": {
                "loader_module": _LOADER,
                "python_version": platform.python_version(),
                "env": {"virtualenv": "python_env.yaml"},
            },
        },
        "signature": {
            "inputs": json.dumps(inputs),
            "outputs": json.dumps([{"type": "double", "required": True}]),
        },
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
        },
        "metadata": {"noria": {"name": package.name, "features": package.features.name}},
        "model_uuid": None,
    }
