"""The model package: a folder that plain MLflow loads, with everything that serving and monitoring need beside it.

MLmodel               MLflow's description (YAML; written as JSON, which is YAML)
model.lgb|model.skops the model itself
noria.json            signature, levels, feature version, training window, trust class, digest of each file
reference.json        the distribution of scores and features on held-out rows, for drift
sample.json           source rows and the score of each, for warming up and checking a loaded model
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import blake3

from noria.features.function import FeatureSpec
from noria.training import models
from noria.training.errors import PackageDamaged
from noria.training.models import Predictor, Stored
from noria.training.rows import Columns

FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What ``noria.json`` says.

    Attributes:
        task: binary or regression.
        target: the column of the truth; ``after_ms`` how long it is waited for.
        features: what the features function needs; None for a model that takes its features as they are.
        window: the moments (event time, milliseconds) that its training, validation and test rows span.
        metrics: name -> test value, the primary one first.
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
        }


def write(folder: Path, package: Package, reference: dict[str, Any], sample: dict[str, Any]) -> None:
    """Writes everything but the model file, which lies in the folder already."""
    (folder / "reference.json").write_text(json.dumps(reference), encoding="utf-8")
    (folder / "sample.json").write_text(json.dumps(sample), encoding="utf-8")
    (folder / "MLmodel").write_text(json.dumps(_mlmodel(package), indent=1), encoding="utf-8")
    digests = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    value = {**package.as_value(), "files": digests}
    (folder / "noria.json").write_text(json.dumps(value, indent=1), encoding="utf-8")


def file_digest(path: Path) -> str:
    return f"blake3:{blake3.blake3(path.read_bytes()).hexdigest()}"


def read(folder: Path) -> Package:
    """The package in a folder, every file verified against its digest.

    Raises:
        PackageDamaged: a file is missing or is not what was registered.
    """
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
    )


def load(folder: Path) -> tuple[Package, Predictor]:
    """A verified package and its model. Only in worker processes."""
    package = read(folder)
    return package, models.load(folder, package.stored, package.task, package.columns)


def reference(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "reference.json").read_text(encoding="utf-8"))


def sample(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "sample.json").read_text(encoding="utf-8"))


def _mlmodel(package: Package) -> dict[str, Any]:
    """MLflow's description: a flavor of the library, and the generic one that ``mlflow.pyfunc.load_model`` reads."""
    stored = package.stored
    inputs = [
        {"type": "string" if n in package.columns.levels else "double", "name": n, "required": False}
        for n in package.columns.names
    ]
    flavors: dict[str, Any]
    if stored.flavor == models.LIGHTGBM:
        flavors = {
            "lightgbm": {
                "lgb_version": stored.version,
                "data": stored.file,
                "model_class": "lightgbm.basic.Booster",
                "code": None,
            },
            "python_function": {"loader_module": "mlflow.lightgbm", "data": stored.file, "env": {}},
        }
    else:
        flavors = {
            "sklearn": {
                "pickled_model": stored.file,
                "sklearn_version": stored.version,
                "serialization_format": "skops",
                "code": None,
            },
            "python_function": {
                "loader_module": "mlflow.sklearn",
                "model_path": stored.file,
                "predict_fn": "predict_proba" if package.task == "binary" else "predict",
                "env": {},
            },
        }
    return {
        "flavors": flavors,
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps([{"type": "double", "required": True}])},
        "metadata": {"noria": {"name": package.name, "features": package.features.name}},
        "model_uuid": None,
    }
