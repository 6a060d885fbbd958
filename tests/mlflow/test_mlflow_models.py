"""Models that autologging logs come back and predict the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from mlflow_wire import fresh
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


@pytest.fixture(scope="module")
def rows() -> tuple[pd.DataFrame, np.ndarray]:
    draw = np.random.default_rng(5)
    frame = pd.DataFrame(draw.normal(size=(200, 4)), columns=list("abcd"))
    return frame, (frame["a"] + frame["b"] > 0).to_numpy().astype(int)


@pytest.fixture
def auto(fluent: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``mlflow``, which does not start a process for each model to see what it imports: that takes it seconds."""
    monkeypatch.setattr(fluent.models, "infer_pip_requirements", lambda uri, flavor, fallback=None, **_: fallback or [])
    logging.getLogger("mlflow.utils.autologging_utils").setLevel(logging.ERROR)
    yield fluent
    for module in (fluent.sklearn, fluent.lightgbm, fluent.xgboost):
        module.autolog(disable=True)


def logged(fluent: Any, experiment: str) -> tuple[Any, Any]:
    """The one run of an experiment, and the one model of it."""
    (run,) = fluent.search_runs([experiment], output_format="list")
    (model,) = fluent.search_logged_models([experiment], output_format="list")
    assert model.source_run_id == run.info.run_id
    assert model.status == "READY"
    assert [o.model_id for o in fluent.get_run(run.info.run_id).outputs.model_outputs] == [model.model_id]
    return run, model


def test_a_model_of_scikit_learn(auto: Any, experiment: str, rows: tuple[pd.DataFrame, np.ndarray]) -> None:
    auto.sklearn.autolog(log_input_examples=True)
    frame, target = rows
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, target)
    run, model = logged(auto, experiment)
    back = auto.sklearn.load_model(f"models:/{model.model_id}")
    assert np.allclose(back.predict_proba(frame), fitted.predict_proba(frame))
    plain = auto.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    assert list(plain.predict(frame)) == list(fitted.predict(frame))
    assert [c.name for c in plain.metadata.get_input_schema()] == list("abcd")
    assert plain.metadata.run_id == run.info.run_id
    assert plain.metadata.saved_input_example_info is not None


def test_a_model_of_lightgbm(auto: Any, experiment: str, rows: tuple[pd.DataFrame, np.ndarray]) -> None:
    auto.lightgbm.autolog()
    frame, target = rows
    options = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 4}
    booster = lightgbm.train(options, lightgbm.Dataset(frame, target), 5)
    _, model = logged(auto, experiment)
    back = auto.lightgbm.load_model(f"models:/{model.model_id}")
    assert np.allclose(back.predict(frame), booster.predict(frame))


def test_a_model_of_xgboost(auto: Any, experiment: str, rows: tuple[pd.DataFrame, np.ndarray]) -> None:
    auto.xgboost.autolog()
    frame, target = rows
    options = {"objective": "binary:logistic", "nthread": 1, "max_depth": 2}
    booster = xgboost.train(options, xgboost.DMatrix(frame, target), 5)
    run, model = logged(auto, experiment)
    back = auto.xgboost.load_model(f"models:/{model.model_id}")
    assert np.allclose(back.predict(xgboost.DMatrix(frame)), booster.predict(xgboost.DMatrix(frame)))
    listed = [f.path for f in auto.MlflowClient().list_artifacts(run.info.run_id)]
    assert "feature_importance_weight.json" in listed


def test_autologging_registers_a_model(auto: Any, rows: tuple[pd.DataFrame, np.ndarray]) -> None:
    name = fresh("model")
    auto.sklearn.autolog(registered_model_name=name)
    frame, target = rows
    fitted = LogisticRegression().fit(frame, target)
    client = auto.MlflowClient()
    client.set_registered_model_alias(name, "champion", "1")
    back = auto.pyfunc.load_model(f"models:/{name}@champion")
    assert list(back.predict(frame)) == list(fitted.predict(frame))
    assert client.get_model_version_by_alias(name, "champion").version == "1"
