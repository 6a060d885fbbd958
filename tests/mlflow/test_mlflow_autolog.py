"""Autologging of libraries, and studies of Optuna, end as runs with params and metrics."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import lightgbm
import numpy as np
import optuna
import pytest
import xgboost
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlflow import MlflowClient


@pytest.fixture(scope="module")
def rows() -> tuple[Any, Any, Any, Any]:
    x, y = make_classification(300, 6, random_state=3)
    return tuple(train_test_split(x, y, random_state=3))


@pytest.fixture
def auto(fluent: Any) -> Iterator[Any]:
    """``mlflow`` with nothing logged by itself before and after a test."""
    logging.getLogger("mlflow.utils.autologging_utils").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield fluent
    for module in (fluent.sklearn, fluent.lightgbm, fluent.xgboost):
        module.autolog(disable=True)


def only_run(fluent: Any, experiment: str) -> Any:
    found = fluent.search_runs([experiment], output_format="list")
    assert len(found) == 1
    assert found[0].info.status == "FINISHED"
    return found[0]


def test_scikit_learn_logs_a_fit(auto: Any, experiment: str, rows: tuple[Any, Any, Any, Any]) -> None:
    auto.sklearn.autolog(log_models=False, log_datasets=True)
    train_x, test_x, train_y, test_y = rows
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(train_x, train_y)
    run = only_run(auto, experiment)
    assert run.data.params["logisticregression__C"] == "0.5"
    assert run.data.params["steps"].startswith("[('standardscaler'")
    assert run.data.tags["estimator_name"] == "Pipeline"
    for key in ("training_accuracy_score", "training_f1_score", "training_roc_auc", "training_log_loss"):
        assert 0 <= run.data.metrics[key] <= 1
    assert [i.dataset.source_type for i in run.inputs.dataset_inputs] == ["code"]
    assert {t.key: t.value for t in run.inputs.dataset_inputs[0].tags} == {"mlflow.data.context": "train"}
    with auto.start_run() as active:
        model.fit(train_x, train_y)
        score = model.score(test_x, test_y)
    found = auto.get_run(active.info.run_id)
    assert found.data.metrics["Pipeline_score_test_x"] == score
    assert auto.MlflowClient().get_metric_history(active.info.run_id, "training_accuracy_score")[0].value > 0.5


def test_scikit_learn_logs_a_search_as_nested_runs(auto: Any, experiment: str, rows: tuple[Any, ...]) -> None:
    auto.sklearn.autolog(log_models=False, max_tuning_runs=3)
    GridSearchCV(Ridge(), {"alpha": [0.1, 1.0, 10.0]}, cv=2).fit(rows[0], rows[2])
    runs = auto.search_runs([experiment], output_format="list")
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(parents) == 1
    assert parents[0].data.params["best_alpha"] in ("0.1", "1.0", "10.0")
    assert "best_cv_score" in parents[0].data.metrics
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert sorted(r.data.params["alpha"] for r in children) == ["0.1", "1.0", "10.0"]
    assert all("mean_test_score" in r.data.metrics for r in children)


def test_lightgbm_logs_every_iteration(auto: Any, experiment: str, rows: tuple[Any, Any, Any, Any]) -> None:
    auto.lightgbm.autolog(log_models=False)
    train_x, test_x, train_y, test_y = rows
    data = lightgbm.Dataset(train_x, train_y)
    lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 4}, data, 12, [data.create_valid(test_x, test_y)],
        callbacks=[lightgbm.log_evaluation(0)], valid_names=["held"],
    )  # fmt: skip
    run = only_run(auto, experiment)
    assert (run.data.params["objective"], run.data.params["num_boost_round"]) == ("binary", "12")
    points = auto.MlflowClient().get_metric_history(run.info.run_id, "held-binary_logloss")
    assert [p.step for p in points] == list(range(12))
    assert run.data.metrics["held-binary_logloss"] == points[-1].value < points[0].value


def test_xgboost_logs_every_iteration(auto: Any, experiment: str, rows: tuple[Any, Any, Any, Any]) -> None:
    auto.xgboost.autolog(log_models=False)
    train_x, test_x, train_y, test_y = rows
    held = xgboost.DMatrix(test_x, test_y)
    xgboost.train(
        {"objective": "binary:logistic", "nthread": 1, "max_depth": 2}, xgboost.DMatrix(train_x, train_y), 10,
        evals=[(held, "held")], early_stopping_rounds=9, verbose_eval=False,
    )  # fmt: skip
    run = only_run(auto, experiment)
    assert (run.data.params["max_depth"], run.data.params["num_boost_round"]) == ("2", "10")
    points = auto.MlflowClient().get_metric_history(run.info.run_id, "held-logloss")
    by_step = {p.step: p.value for p in points}
    assert set(range(10)) <= set(by_step)
    assert "best_iteration" in run.data.metrics


def test_the_scikit_learn_face_of_xgboost(auto: Any, experiment: str, rows: tuple[Any, Any, Any, Any]) -> None:
    auto.xgboost.autolog(log_models=False)
    xgboost.XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1).fit(rows[0], rows[2])
    run = only_run(auto, experiment)
    assert run.data.params["max_depth"] == "2"


SWITCHED = """
import mlflow
mlflow.autolog(log_models=False)
from sklearn.linear_model import Ridge
with mlflow.start_run() as run:
    Ridge(alpha=2.0).fit([[0.0], [1.0], [3.0]], [0.0, 1.0, 2.0])
    mlflow.log_metric("mine", 1)
"""


def test_one_word_switches_all_of_it_on(server: str, experiment: str, client: MlflowClient) -> None:
    """In a process of its own, since it leaves alone what somebody switched by hand."""
    told = {"MLFLOW_TRACKING_URI": server, "MLFLOW_EXPERIMENT_ID": experiment}
    subprocess.run([sys.executable, "-c", SWITCHED], env={**os.environ, **told}, capture_output=True, check=True)
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert run.data.params["alpha"] == "2.0"
    assert run.data.metrics["mine"] == 1
    assert "training_mean_squared_error" in run.data.metrics


# ---- Optuna


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -5, 5)
    y = trial.suggest_categorical("y", ["a", "b"])
    return x**2 + (y == "b")


def test_a_study_with_a_nested_run_for_each_trial(auto: Any, experiment: str) -> None:
    def logged(trial: optuna.Trial) -> float:
        with auto.start_run(nested=True, run_name=f"trial {trial.number}"):
            value = objective(trial)
            auto.log_params(trial.params)
            auto.log_metric("value", value)
            return value

    with auto.start_run(run_name="study") as parent:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        study.optimize(logged, n_trials=6)
        auto.log_params({f"best_{k}": v for k, v in study.best_params.items()})
        auto.log_metric("best", study.best_value)
    text = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    found = auto.search_runs([experiment], filter_string=text, order_by=["metrics.value"], output_format="list")
    assert [r.data.metrics["value"] for r in found] == sorted(t.value for t in study.trials)
    assert found[0].data.params == {k: str(v) for k, v in study.best_params.items()}
    assert auto.get_run(parent.info.run_id).data.metrics == {"best": study.best_value}


def test_the_callback_of_optuna(auto: Any, server: str, client: MlflowClient) -> None:
    integration = pytest.importorskip("optuna_integration")
    with np.errstate(all="ignore"):
        callback = integration.MLflowCallback(tracking_uri=server, metric_name="loss")
        study = optuna.create_study(
            study_name=f"study {np.random.default_rng().integers(1 << 40)}",
            sampler=optuna.samplers.RandomSampler(seed=2),
        )
        study.optimize(objective, n_trials=4, callbacks=[callback])
    made = client.get_experiment_by_name(study.study_name)
    assert made is not None
    runs = {r.info.run_name: r for r in client.search_runs([made.experiment_id])}
    assert set(runs) == {"0", "1", "2", "3"}
    for trial in study.trials:
        run = runs[str(trial.number)]
        assert run.info.status == "FINISHED"
        assert run.data.metrics == {"loss": trial.value}
        assert run.data.params == {k: str(v) for k, v in trial.params.items()}
        assert run.data.tags["direction"] == "MINIMIZE"
