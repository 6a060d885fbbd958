from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from noria.base.actor import Actor
from noria.pipelines.errors import PipelineFailed
from noria.training import models, package, reference, rows, splitting
from noria.training import sweep as sweeps
from noria.training.errors import ColumnUnfit, ModelUnfit, PackageDamaged, TooFewRows, TrainingInvalid
from noria.workspace import Workspace

ME = Actor(name="user:test")
T0 = datetime(2013, 1, 1, tzinfo=UTC)

PROJECT = """\
import noria as nr
import polars as pl
from lightgbm import LGBMClassifier
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

orders = nr.source("orders", key="id", time="at")
outcomes = nr.source("outcomes", key="id", time="known", known="known")


@nr.features(of=orders, at=pl.col("at"))
def basket(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.select("id", "shop", "n", "price", big=pl.col("price") > 50)


@nr.labels(of=orders, after="1d")
def returned(outcomes: pl.LazyFrame) -> pl.LazyFrame:
    return outcomes.select("id", returned=pl.col("back"))


SPLIT = nr.split.time(valid="6d", test="6d", gap="1d")


@nr.model(features=basket, target=returned, split=SPLIT, metrics=["log_loss", "roc_auc"],
          search={"num_leaves": nr.space.ints(2, 31), "learning_rate": nr.space.log(0.02, 0.3)})
def tree(train: nr.Rows, valid: nr.Rows, *, num_leaves: int = 7, learning_rate: float = 0.1):
    assert set(train.X.columns) == {"shop", "n", "price", "big"}
    assert str(train.X["shop"].dtype) == "category"
    assert set(train.y) <= {0, 1}
    assert train.at.max() < valid.at.min()
    model = LGBMClassifier(n_estimators=30, num_leaves=num_leaves, learning_rate=learning_rate, verbose=-1, n_jobs=1)
    return model.fit(train.X, train.y, eval_X=valid.X, eval_y=valid.y)


@nr.model(features=basket, target=returned, split=SPLIT, metrics=["roc_auc"])
def logistic(train, valid, *, C: float = 1.0):
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["shop"]),
        (StandardScaler(), ["n", "price", "big"]),
    )
    return make_pipeline(columns, LogisticRegression(C=C)).fit(train.X, train.y)


@nr.check(tree)
def good_in_every_shop(evaluation: nr.Evaluation):
    assert evaluation["roc_auc"] > 0.6
    assert evaluation.by("shop")["roc_auc"].min() > 0.55
    return evaluation.by("shop")["roc_auc"].min()
"""


def world(n: int = 3000, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    at = [T0 + timedelta(minutes=int(m)) for m in np.sort(rng.integers(0, 40 * 24 * 60, n))]
    shop, items, price = rng.choice(["a", "b", "c"], n), rng.integers(1, 9, n), rng.gamma(2, 20, n).round(2)
    chance = 1 / (1 + np.exp(-(-2 + 0.03 * price + 0.3 * (shop == "a") - 0.1 * items)))
    orders = pl.DataFrame({"id": [f"o{i}" for i in range(n)], "at": at, "shop": shop, "n": items, "price": price})
    outcomes = pl.DataFrame(
        {"id": orders["id"], "back": rng.random(n) < chance, "known": [t + timedelta(hours=12) for t in at]}
    )
    keep = rng.random(n) < 0.95
    return orders, outcomes.filter(pl.Series(keep))


def filled(project, text: str = PROJECT, executor: str = "inline") -> Workspace:
    ws = project({"shop.py": text}, executor)
    graph = ws.pipelines.graph()
    for name, frame in zip(("orders", "outcomes"), world(), strict=True):
        ws.data.append(ws.pipelines.ensure_source(graph.node(name).thing), frame, actor=ME)
    return ws


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_a_model_is_fitted_judged_packed_and_registered(project, executor: str) -> None:
    ws = filled(project, executor=executor)
    done = ws.pipelines.run(["tree", "logistic"], actor=ME)
    assert all(s.action in ("made", "source") for s in done.steps.values())
    model = ws.registry.resolve(ws.project.id, "tree")
    assert (model.number, model.run_id) == (1, done.steps["tree"].run_id)
    made = ws.training.package_of(model)
    assert (made.task, made.target, made.primary, made.after_ms) == ("binary", "returned", "log_loss", 86_400_000)
    assert made.columns.names == ["shop", "n", "price", "big"]
    assert made.columns.levels == {"shop": ["a", "b", "c"]}
    facts = ws.training.facts(model)
    assert (
        facts["metrics"]["roc_auc"]["low"] < facts["metrics"]["roc_auc"]["value"] < facts["metrics"]["roc_auc"]["high"]
    )
    assert set(facts["baselines"]) == {"constant", "linear"}
    assert facts["baselines"]["constant"]["comparison"]["gain"] > 0
    assert {row["shop"] for row in facts["slices"]["shop"]} == {"a", "b", "c"}
    assert facts["importance"][0]["feature"] == "price"
    assert 0.9 < facts["coverage"] < 0.99
    metrics = ws.tracking.data(model.run_id).metrics
    assert metrics["test.log_loss"].value == facts["metrics"]["log_loss"]["value"]
    assert "valid.log_loss" in metrics
    tests = {e.test for e in ws.evidence.list(ws.project.id, subject="tree/1")}
    assert tests == {"baseline", "slices", "importance", "numeric"}
    up = ws.lineage.upstream([done.steps["tree"].outputs[""]])
    assert {"basket", "returned", "orders", "outcomes", "code", "environment"} <= {
        v.asset for v in up.versions.values()
    }
    assert ws.pipelines.value("good_in_every_shop")["value"] > 0.55


def test_test_rows_never_reach_the_function_and_late_truth_has_its_time(project) -> None:
    ws = filled(project)
    ws.pipelines.run(["tree"], actor=ME)
    evaluation = ws.training.evaluation(ws.registry.resolve(ws.project.id, "tree"))
    window = ws.training.facts(ws.registry.resolve(ws.project.id, "tree"))["window"]
    last_known = ws.data.read(ws.data.get(ws.project.id, "outcomes"))["known"].max()
    assert evaluation.frame["_at"].min().timestamp() * 1000 > window["test_from"]
    assert evaluation.frame["_at"].max() <= last_known - timedelta(days=1)
    assert window["train_to"] < window["valid_from"] < window["test_from"]


@pytest.mark.parametrize("name", ["tree", "logistic"])
def test_a_loaded_package_gives_the_very_same_scores(project, name: str) -> None:
    ws = filled(project)
    done = ws.pipelines.run([name], actor=ME)
    version = ws.assets.version(done.steps[name].outputs[""])
    folder = ws.pipelines.values.materialise(version)
    made, predict = package.load(folder)
    evaluation = ws.training.evaluation(ws.registry.resolve(ws.project.id, name))
    features = rows.conform(evaluation.frame, made.columns)
    assert predict(features).tolist() == evaluation.frame["score"].to_list()
    single = [predict(features[n : n + 1])[0] for n in range(25)]
    assert single == pytest.approx(evaluation.frame["score"].head(25).to_list(), abs=1e-12)
    if name == "tree":
        assert single == evaluation.frame["score"].head(25).to_list()
    kept = package.sample(folder)
    assert predict(rows.conform(pl.DataFrame(kept["features"]), made.columns)).tolist() == pytest.approx(kept["scores"])
    assert {p.suffix for p in folder.iterdir()} <= {"", ".json", ".lgb", ".skops", ".txt", ".yaml"}


@pytest.mark.parametrize("name", ["model.lgb", "noria.json", "reference.json"])
def test_a_changed_package_is_never_loaded(project, tmp_path: Path, name: str) -> None:
    import shutil

    ws = filled(project)
    done = ws.pipelines.run(["tree"], actor=ME)
    source = ws.pipelines.values.materialise(ws.assets.version(done.steps["tree"].outputs[""]))
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    data = bytearray((copy / name).read_bytes())
    if name == "noria.json":
        (copy / name).write_text("{")
    else:
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
    with pytest.raises(PackageDamaged):
        package.load(copy)
    (copy / name).unlink()
    with pytest.raises(PackageDamaged):
        package.load(copy)


def test_unknown_levels_and_nulls_are_missing_to_the_model(project) -> None:
    ws = filled(project)
    done = ws.pipelines.run(["tree"], actor=ME)
    made, predict = package.load(ws.pipelines.values.materialise(ws.assets.version(done.steps["tree"].outputs[""])))
    frame = pl.DataFrame({"shop": ["zzz", None], "n": [None, 3], "price": [10.0, None], "big": [None, True]})
    assert np.isfinite(predict(rows.conform(frame, made.columns))).all()
    with pytest.raises(ColumnUnfit, match="price"):
        rows.conform(frame.drop("price"), made.columns)


SWAPS = {
    "a time among the features": ('"price", big=', '"price", "at", big=', "has the type datetime", ".dt.hour()"),
    "a list among the features": ('big=pl.col("price") > 50', 'big=pl.col("price").implode().over("id")', "has the type list", "Leave it out"),
    "no model at all": ("return model.fit(train.X, train.y, eval_X=valid.X, eval_y=valid.y)", "return 3", "no model that is stored", "LightGBM"),
    "a model that is not fitted": ("return model.fit(train.X, train.y, eval_X=valid.X, eval_y=valid.y)", "return model", "fitted", ""),
    "a metric of the other kind": ('metrics=["log_loss", "roc_auc"],\n          search', 'metrics=["rmse"],\n          search', "does not judge", "log_loss"),
    "an unknown metric": ('metrics=["log_loss", "roc_auc"],\n          search', 'metrics=["log_los"],\n          search', "no metric", "log_loss"),
    "a part without rows": ('valid="6d", test="6d"', 'valid="60d", test="6d"', "training rows", "smaller"),
}  # fmt: skip


@pytest.mark.parametrize("swap", SWAPS)
def test_what_cannot_be_trained_is_refused_with_the_cure(project, swap: str) -> None:
    before, after, message, hint = SWAPS[swap]
    assert before in PROJECT
    ws = filled(project, PROJECT.replace(before, after))
    with pytest.raises(PipelineFailed, match=message) as error:
        ws.pipelines.run(["tree"], actor=ME)
    assert hint in error.value.hint


def test_a_pickle_class_model_is_refused_by_type(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    pipeline = make_pipeline(FunctionTransformer(math.floor), LinearRegression())
    with pytest.raises(ModelUnfit, match="not stored safely"):
        models.save(pipeline, tmp_path)


def test_a_hostile_skops_file_runs_nothing(tmp_path: Path) -> None:
    import skops.io as sio
    from sklearn.preprocessing import FunctionTransformer

    canary = tmp_path / "canary"
    sio.dump(FunctionTransformer(canary.touch), tmp_path / "model.skops")
    stored = models.Stored(flavor="sklearn", file="model.skops", trust="A", library="scikit-learn", version="1")
    with pytest.raises(ModelUnfit):
        models.load(tmp_path, stored, "binary", rows.Columns(types={}, levels={}))
    assert not canary.exists()


def test_a_sweep_is_the_same_however_often_it_is_started(project) -> None:
    ws = filled(project, executor="process")
    first = ws.training.sweep("tree", trials=4, actor=ME)
    assert len(first.trials) == 4
    assert first.best.value == min(t.value for t in first.trials)
    assert first.model_version == "tree/1"
    assert len(ws.registry.versions(ws.project.id, "tree")) == 1
    again = ws.training.sweep("tree", trials=5, actor=ME)
    assert [t.params for t in again.trials[:4]] == [t.params for t in first.trials[:4]]
    assert all(t.cached for t in again.trials[:4])
    assert (
        ws.pipelines.current("tree").id
        == ws.training.version_of(ws.registry.resolve(ws.project.id, again.model_version)).id
    )
    (evidence, _) = ws.evidence.list(ws.project.id, tests=["search"])
    assert evidence.details["distinct"]["num_leaves"] > 1
    runs = ws.assets.list_runs(ws.project.id, parent_id=first.run_id).items
    assert len(runs) == 4


def test_a_sweep_of_nothing_says_how_to_declare_one(project) -> None:
    ws = filled(project)
    with pytest.raises(TrainingInvalid, match="nothing to search"):
        ws.training.sweep("logistic", actor=ME)


def test_questions_depend_on_the_answers_only() -> None:
    space = {
        "a": {"kind": "log", "low": 0.01, "high": 1.0},
        "b": {"kind": "ints", "low": 1, "high": 9},
        "c": {"kind": "choice", "choices": ["x", "y"]},
    }
    done: list[tuple[dict, float | None]] = []
    for _ in range(4):
        asked = sweeps.ask(space, done, 4, better=-1, seed="s")
        assert asked == sweeps.ask(space, done, 4, better=-1, seed="s")
        done += [(p, None if n == 0 else p["a"]) for n, p in enumerate(asked)]
    assert sweeps.ask(space, [], 2, better=-1, seed="t") != sweeps.ask(space, [], 2, better=-1, seed="s")
    assert np.median([p["a"] for p, _ in done[8:]]) <= np.median([p["a"] for p, _ in done[:8]])


@pytest.mark.parametrize("n", [50, 100, 200])
def test_splits_are_disjoint_and_stable_when_rows_are_added(n: int) -> None:
    frame = pl.DataFrame({"id": list(range(400)), "g": [i // 10 for i in range(400)]})
    for spec in (
        {"kind": "random", "valid": 0.2, "test": 0.2, "seed": 1},
        {"kind": "group", "by": "g", "valid": 0.3, "test": 0.3},
    ):
        all_, some = splitting.split(frame, spec, ["id"]), None
        part = frame[: n + 200]
        some = splitting.split(part, spec, ["id"])
        assert (all_.train[: len(part)] == some.train).all()
        assert (all_.train.astype(int) + all_.valid + all_.test == 1).all()
        if spec["kind"] == "group":
            named = frame.with_columns(pl.Series("t", all_.test))
            assert named.group_by("g").agg(pl.col("t").n_unique())["t"].max() == 1
    with pytest.raises(TooFewRows):
        splitting.split(frame[:30], {"kind": "random", "valid": 0.2, "test": 0.2, "seed": 1}, ["id"])
    with pytest.raises(TrainingInvalid):
        splitting.split(frame, {"kind": "group", "by": "nope", "valid": 0.2, "test": 0.2}, ["id"])


def test_reference_counts_merge_and_keep_everything() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=5000)
    made = reference.freeze(values, pl.DataFrame({"x": values, "t": rng.choice(["a", "b"], 5000)}))
    column = made["columns"]["x"]
    new = pl.Series([float("nan"), float("inf"), -100.0, 100.0, 0.0])
    counts = reference.count(column, new)
    assert counts.sum() == 5
    assert counts[-2:].tolist() == [1, 1]
    halves = reference.count(column, pl.Series(values[:2500])) + reference.count(column, pl.Series(values[2500:]))
    assert halves.tolist() == column["counts"]
    text = made["columns"]["t"]
    assert reference.count(text, pl.Series(["a", "zz", None])).tolist() == [1, 0, 1, 1]
    json.dumps(made)
