"""What a stored scikit-learn model may name: real pipelines pass, functions that could run code do not."""

from __future__ import annotations

import builtins
import collections
import importlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io as sio
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.feature_selection import SelectKBest, mutual_info_classif
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, TweedieRegressor
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier

from noria.training import models, rows
from noria.training.errors import ModelUnfit
from noria.training.trusted import TRUSTED

COLUMNS = rows.Columns(types={"a": "float64", "b": "float64", "s": "str"}, levels={"s": ["x", "y", "z"]})


def world() -> tuple[pl.DataFrame, Any]:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"a": rng.random(200), "b": rng.random(200) + 1, "s": rng.choice(["x", "y", "z"], 200)})
    return frame, (frame["b"].to_numpy() > 1.5).astype(int)


def on_all(model: Any, sparse: bool = True) -> Any:
    columns = make_column_transformer(
        (
            make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=sparse), ["s"]),
    )
    return make_pipeline(columns, model)


def on_numbers(step: Any) -> Any:
    return make_pipeline(make_column_transformer((step, ["a", "b"])), LogisticRegression())


REAL: dict[str, Callable[[], Any]] = {
    "logistic": lambda: on_all(LogisticRegression()),
    "forest": lambda: on_all(RandomForestClassifier(5, random_state=0)),
    "hist": lambda: on_all(HistGradientBoostingClassifier(max_iter=3), sparse=False),
    "hist on categories": lambda: make_pipeline(
        make_column_transformer(("passthrough", ["a", "b", "s"])).set_output(transform="pandas"),
        HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype"),
    ),
    "hist for numbers": lambda: on_all(HistGradientBoostingRegressor(max_iter=3, loss="poisson"), sparse=False),
    "gradient boosting": lambda: on_all(GradientBoostingClassifier(n_estimators=3)),
    "stack": lambda: on_all(
        StackingClassifier([("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=2))], cv=3)
    ),
    "searched": lambda: on_all(
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, scoring="neg_log_loss", cv=TimeSeriesSplit(2))
    ),
    "calibrated": lambda: on_all(CalibratedClassifierCV(LogisticRegression(), cv=3)),
    "neighbours": lambda: on_all(KNeighborsClassifier(), sparse=False),
    "network": lambda: on_all(MLPClassifier((3,), solver="lbfgs", alpha=10.0, max_iter=2000, random_state=0)),
    "bayes": lambda: on_all(GaussianNB(), sparse=False),
    "reduced": lambda: on_all(make_pipeline(TruncatedSVD(2), LogisticRegression())),
    "selected": lambda: on_all(make_pipeline(SelectKBest(mutual_info_classif, k=2), LogisticRegression())),
    "bins": lambda: on_numbers(KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf")),
    "splines": lambda: on_numbers(SplineTransformer()),
    "quantiles": lambda: on_numbers(QuantileTransformer(n_quantiles=5)),
    "logarithm": lambda: on_numbers(FunctionTransformer(np.log1p)),
    "ordinal": lambda: make_pipeline(
        make_column_transformer((OrdinalEncoder(), ["s"]), (TargetEncoder(cv=2), ["s"])), LogisticRegression()
    ),
    "tweedie": lambda: on_all(TweedieRegressor(power=1.5)),
    "target": lambda: on_all(TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_pipelines_are_stored_and_give_the_same_scores(tmp_path: Path, name: str) -> None:
    frame, truth = world()
    model = REAL[name]()
    model.fit(rows.to_pandas(frame, COLUMNS), truth)
    task = "binary" if hasattr(model, "predict_proba") else "regression"
    stored = models.save(model, tmp_path)
    loaded = models.load(tmp_path, stored, task, COLUMNS)
    assert loaded(frame).tolist() == models.predictor_of(model, task, COLUMNS)(frame).tolist()


def _touch(path: str) -> None:
    Path(path).touch()


HOSTILE: dict[str, Callable[..., Any]] = {
    "eval": builtins.eval,
    "exec": builtins.exec,
    "import": builtins.__import__,
    "getattr": builtins.getattr,
    "compile": builtins.compile,
    "open": io.open,
    "numpy.load": np.load,
    "numpy.fromfile": np.fromfile,
    "numpy.vectorize": np.vectorize,
    "pandas.read_pickle": pd.read_pickle,
    "namedtuple": collections.namedtuple,
    "partial": partial(builtins.eval, "1"),
    "one's own": _touch,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_functions_that_could_run_code_are_refused_when_stored_and_when_loaded(tmp_path: Path, name: str) -> None:
    model = make_pipeline(FunctionTransformer(HOSTILE[name]), LogisticRegression())
    with pytest.raises(ModelUnfit, match="not stored safely") as refused:
        models.save(model, tmp_path)
    assert "features function" in refused.value.hint
    assert not list(tmp_path.iterdir())
    sio.dump(model, tmp_path / "model.skops")  # as somebody else would write it
    stored = models.Stored(flavor="sklearn", file="model.skops", trust="A", library="scikit-learn", version="1")
    with pytest.raises(ModelUnfit, match="not stored safely"):
        models.load(tmp_path, stored, "binary", COLUMNS)


@pytest.mark.parametrize("name", sorted(TRUSTED))
def test_each_name_on_the_list_exists_and_is_whole(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)
    assert module not in ("builtins", "collections", "os", "operator", "importlib")
