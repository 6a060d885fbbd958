"""Models of the libraries that we know, in formats that hold data and no code (decision 21, reference safety.md).

LightGBM: its own text format. scikit-learn: skops, with a reviewed list of types. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from noria.base.errors import MissingExtra
from noria.training.errors import ModelUnfit, PackageDamaged
from noria.training.rows import Columns, to_matrix, to_pandas
from noria.training.trusted import TRUSTED

if TYPE_CHECKING:
    import polars as pl

Floats = np.ndarray[Any, np.dtype[np.float64]]

LIGHTGBM, SKLEARN, CONSTANT = "lightgbm", "sklearn", "constant"


class Predictor(Protocol):
    """A loaded model: features in the model's order and types -> one score for each row."""

    def __call__(self, features: pl.DataFrame) -> Floats: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """How a model lies in its package.

    Attributes:
        trust: A (data only) or B (a native parser reads it); see reference safety.md, section 3.
    """

    flavor: str
    file: str
    trust: str
    library: str
    version: str


def predictor_of(model: Any, task: str, columns: Columns) -> Predictor:
    """The scores of a fitted model.

    Raises:
        ModelUnfit: it is of no library that we store safely.
    """
    flavor = flavor_of(model)
    if flavor == LIGHTGBM:
        return _lightgbm_predictor(_booster(model), columns)
    return _sklearn_predictor(model, task, columns)


def flavor_of(model: Any) -> str:
    module = type(model).__module__.partition(".")[0]
    if module == "lightgbm":
        return LIGHTGBM
    if hasattr(model, "predict") and hasattr(model, "get_params"):
        return SKLEARN
    raise ModelUnfit(
        f"The function returned a {type(model).__module__}.{type(model).__qualname__}, which is no model that is "
        "stored in a safe format.",
        hint="Return a fitted LightGBM model or a scikit-learn estimator or Pipeline (return model.fit(...)).",
    )


def _booster(model: Any) -> Any:
    booster = getattr(model, "booster_", model)
    if not hasattr(booster, "model_to_string"):
        raise ModelUnfit("The LightGBM model is not fitted.", hint="return model.fit(train.X, train.y)")
    return booster


def _lightgbm_predictor(booster: Any, columns: Columns) -> Predictor:
    def predict(features: pl.DataFrame) -> Floats:
        # The booster itself on a plain matrix: the scikit-learn wrapper costs many times the trees.
        return np.asarray(booster.predict(to_matrix(features, columns), num_threads=1), dtype=np.float64)

    return predict


def _sklearn_predictor(model: Any, task: str, columns: Columns) -> Predictor:
    def predict(features: pl.DataFrame) -> Floats:
        frame = to_pandas(features, columns)
        if task == "binary":
            if not hasattr(model, "predict_proba"):
                raise ModelUnfit(f"{type(model).__name__} gives no probabilities.", hint="Use one with predict_proba.")
            return np.asarray(model.predict_proba(frame)[:, -1], dtype=np.float64)
        return np.asarray(model.predict(frame), dtype=np.float64)

    return predict


# ---- storing


def save(model: Any, folder: Path) -> Stored:
    """Writes a fitted model into a folder."""
    if flavor_of(model) == LIGHTGBM:
        import lightgbm

        _booster(model).save_model(str(folder / "model.lgb"))
        return Stored(flavor=LIGHTGBM, file="model.lgb", trust="B", library="lightgbm", version=lightgbm.__version__)
    return _save_sklearn(model, folder)


def _save_sklearn(model: Any, folder: Path) -> Stored:
    try:
        import sklearn
        import skops.io as sio
    except ImportError:
        raise MissingExtra("skops", "ml", "Storing a scikit-learn model") from None
    path = folder / "model.skops"
    sio.dump(model, path)
    try:
        _check_types(path, sio)
    except ModelUnfit:
        path.unlink()
        raise
    return Stored(flavor=SKLEARN, file="model.skops", trust="A", library="scikit-learn", version=sklearn.__version__)


def _check_types(path: Path, sio: Any) -> list[str]:
    """The types and functions that skops does not trust by itself, all of them on our list."""
    found = sio.get_untrusted_types(file=path)
    refused = [t for t in found if t not in TRUSTED]
    if refused:
        raise ModelUnfit(
            f"The model holds {', '.join(refused[:3])}, which is not stored safely: it could run code when the model "
            "is loaded or asked.",
            hint="Use scikit-learn's own transformers and estimators. What a FunctionTransformer or a class of your "
            "own would do belongs into the features function.",
            details={"types": refused},
        )
    return list(found)


def trusted_types(path: Path) -> list[str]:
    """What MLflow's own flavor for scikit-learn has to be told to trust in a file that ``save`` has written."""
    import skops.io as sio

    return _check_types(path, sio)


def load(folder: Path, stored: Stored, task: str, columns: Columns) -> Predictor:
    """Loads a stored model; only ever in a worker process. The caller has verified the digests of the files."""
    path = folder / stored.file
    if stored.flavor == LIGHTGBM:
        try:
            import lightgbm
        except ImportError:
            raise MissingExtra("lightgbm", "ml", "This model") from None
        return _lightgbm_predictor(lightgbm.Booster(model_file=str(path)), columns)
    if stored.flavor == SKLEARN:
        try:
            import skops.io as sio
        except ImportError:
            raise MissingExtra("skops", "ml", "This model") from None
        trusted = _check_types(path, sio)
        return _sklearn_predictor(sio.load(path, trusted=trusted), task, columns)
    if stored.flavor == CONSTANT:
        value = float(json.loads(path.read_text())["value"])
        return lambda features: np.full(len(features), value)
    raise PackageDamaged(f"The package holds a model of the unknown flavor {stored.flavor!r}.")
