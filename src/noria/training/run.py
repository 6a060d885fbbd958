"""Runs a model's function: split, fit, judge, pack. Everything around the user's few lines."""

from __future__ import annotations

import inspect
import json
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from noria.base.times import to_text
from noria.features.function import AT, FeatureSpec
from noria.labels.records import KNOWN, LabelSpec
from noria.pipelines.execute import JSON, MODEL, TABLE, TREE, Output, Task
from noria.pipelines.logging import log
from noria.pipelines.runners import arguments
from noria.training import baselines, metrics, models, package, reference
from noria.training.asis import as_they_are
from noria.training.errors import TooFewRows, TrainingInvalid
from noria.training.evaluation import PART, SCORE, TRUTH, Evaluation, days_of, importance, judge
from noria.training.keys import with_keys
from noria.training.metrics import Metric
from noria.training.rows import Columns, columns_of, conform, make
from noria.training.splitting import Parts, split

_SAMPLE = 5


@dataclass(slots=True, kw_only=True)
class Material:
    """Everything a model is fitted from."""

    rows: pl.DataFrame
    key: list[str]
    names: list[str]
    truth: Any
    task: str
    parts: Parts
    columns: Columns
    metrics: list[Metric]
    features: FeatureSpec
    labels: LabelSpec
    facts: dict[str, Any]
    sample: list[dict[str, Any]]


def run_model(task: Task) -> list[Output]:
    """Fits a model and judges it on its test rows.

    Outputs: the package; and ``evaluation``, a folder with the scores of validation and test rows and what was found.
    """
    random.seed(0)
    np.random.seed(0)
    found = prepare(task)
    model = _fit(task, found)
    predict = models.predictor_of(model, found.task, found.columns)
    frame, facts = _judge(task, found, predict)
    folder = task.scratch / "package"
    folder.mkdir()
    stored = models.save(model, folder)
    _write_package(task, found, frame, facts, stored, folder)
    log(**{f"test.{name}": value["value"] for name, value in facts["metrics"].items()})
    log(**{f"valid.{name}": value for name, value in facts["valid"].items()})
    evaluation = task.scratch / "evaluation"
    evaluation.mkdir()
    frame.write_parquet(evaluation / "scores.parquet")
    (evaluation / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    task.facts.update(facts)
    meta = {"metrics": {n: v["value"] for n, v in facts["metrics"].items()}, "window": facts["window"]}
    return [
        Output(slot="", kind=MODEL, value=folder, meta=meta),
        Output(slot="evaluation", kind=TREE, value=evaluation, meta=meta),
    ]


def prepare(task: Task) -> Material:
    """Joins features and truth, takes only rows whose truth had its time, and divides them."""
    slots, spec = task.inputs(), task.spec.spec
    features_slot = next(s for s, i in slots.items() if "features" in i.meta and i.asset == spec["features"])
    target_slot = next(s for s, i in slots.items() if "labels" in i.meta and i.asset == spec["target"])
    features = FeatureSpec.of(slots[features_slot].meta["features"])
    labels = LabelSpec.of_value(slots[target_slot].meta["labels"])
    if features.spine.name != labels.of:
        raise TrainingInvalid(
            f"The features are of {features.spine.name!r} and the truth is of {labels.of!r}.",
            hint="Both need the same of=.",
        )
    if labels.target in features.columns:
        raise TrainingInvalid(
            f"{features.name!r} has a feature {labels.target!r}, which is the name of the truth.",
            hint="Give one of them another name; a truth among the features would be a leak.",
        )
    frame, truth = task.load(features_slot), task.load(target_slot, hidden=True)
    key = list(labels.key)
    horizon = truth[KNOWN].max()
    mature = frame
    if horizon is not None:
        mature = frame.filter(pl.col(AT) + pl.duration(milliseconds=labels.after_ms) <= horizon)
    rows = mature.join(truth.select(*key, labels.target, KNOWN), on=key, how="inner", maintain_order="left")
    if not len(rows):
        raise TooFewRows(
            f"No row of {features.name!r} has a truth in {labels.name!r} yet.", hint="Collect the truth first.",
            details={"features": len(frame), "truth": len(truth)},
        )  # fmt: skip
    kind, y = _truth(rows[labels.target], spec)
    names = list(features.columns)
    parts = split(rows, spec["split"], key)
    columns = columns_of(rows.select(names).filter(pl.Series(parts.train)))
    facts = {
        "rows": {"features": len(frame), "mature": len(mature), "labelled": len(rows)},
        "coverage": len(rows) / len(mature) if len(mature) else 0.0,
        "window": {**parts.facts, "known": int(horizon.timestamp() * 1000) if horizon is not None else None},
        "parts": {"train": int(parts.train.sum()), "valid": int(parts.valid.sum()), "test": int(parts.test.sum())},
    }
    return Material(
        rows=rows,
        key=key,
        names=names,
        truth=y,
        task=kind,
        parts=parts,
        columns=columns,
        metrics=_metrics(task, kind),
        features=features,
        labels=labels,
        facts=facts,
        sample=slots[features_slot].meta.get("sample", []),
    )


def _truth(series: pl.Series, spec: dict[str, Any]) -> tuple[str, Any]:
    """(binary or regression, the truth as float64)."""
    values = series.cast(pl.Float64).to_numpy() if series.dtype.is_numeric() or series.dtype == pl.Boolean else None
    if values is None:
        raise TrainingInvalid(
            f"The truth {series.name!r} has the type {series.dtype}; yes-or-no and numbers can be learned so far.",
            hint=f'late=pl.col("{series.name}") == "..."',
        )
    first = metrics.METRICS.get(spec["metrics"][0]["name"]) if spec["metrics"] else None
    if series.dtype == pl.Boolean:
        return "binary", values
    yes_no = bool(np.isin(values, (0.0, 1.0)).all())
    return ("binary" if yes_no and first is not None and "binary" in first.tasks else "regression"), values


def _metrics(task: Task, kind: str) -> list[Metric]:
    chosen: list[Metric] = []
    for value in task.spec.spec["metrics"] or [{"name": n, "entry": ""} for n in metrics.DEFAULTS[kind]]:
        found = (
            metrics.own(value["name"], task.entry(value["entry"])) if value["entry"] else metrics.metric(value["name"])
        )
        if kind not in found.tasks:
            raise TrainingInvalid(
                f"The metric {found.name!r} does not judge a {kind} model.", hint=", ".join(metrics.DEFAULTS[kind])
            )
        chosen.append(found)
    return chosen


def _fit(task: Task, found: Material) -> Any:
    given = arguments(task)
    signature = inspect.signature(task.function).parameters
    for name in ("train", "valid"):
        if name in signature:
            mask = pl.Series(found.parts.train if name == "train" else found.parts.valid)
            part = found.rows.filter(mask)
            y = found.truth[mask.to_numpy()]
            y = y.astype(np.int64) if found.task == "binary" else y
            annotation = signature[name].annotation
            given[name] = make(part.select(found.names), found.columns, y, part[AT], part.select(found.key), annotation)
    return task.function(**given, **task.spec.params)


def _judge(task: Task, found: Material, predict: models.Predictor) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Scores validation and test rows, the baselines too, and says what is to be said."""
    held = found.parts.valid | found.parts.test
    rows = found.rows.filter(pl.Series(held))
    part = np.where(found.parts.test[held], "test", "valid")
    features = conform(rows.select(found.names), found.columns)
    scores = predict(features)
    frame = rows.select(*found.key, AT, *found.names).with_columns(
        pl.Series(TRUTH, found.truth[held]), pl.Series(SCORE, scores), pl.Series(PART, part)
    )
    if task.spec.spec.get("baselines", True):
        frame = frame.with_columns(_baselines(found, features))
    test = frame.filter(pl.col(PART) == "test")
    facts = judge(test, found.metrics, found.names)
    facts |= found.facts | {"rows_judged": len(test), "task": found.task}
    valid = frame.filter(pl.col(PART) == "valid")
    y, p = valid[TRUTH].to_numpy(), valid[SCORE].to_numpy()
    facts["valid"] = {c.name: c.score(y, p) for c in found.metrics}
    facts["finite"] = bool(np.isfinite(scores).all())
    if task.spec.spec.get("importance", True):
        mask = pl.Series(part == "test")
        facts["importance"] = importance(
            predict, features.filter(mask), test[TRUTH].to_numpy(), days_of(test), found.metrics[0], found.names
        )
    return frame, facts


def _baselines(found: Material, features: pl.DataFrame) -> list[pl.Series]:
    train = conform(found.rows.filter(pl.Series(found.parts.train)).select(found.names), found.columns)
    y = found.truth[found.parts.train]
    (linear,) = baselines.linear(train, y, [features], found.columns, found.task)
    return [pl.Series("constant", baselines.constant(y, len(features))), pl.Series("linear", linear)]


def _write_package(
    task: Task, found: Material, frame: pl.DataFrame, facts: dict[str, Any], stored: models.Stored, folder: Any
) -> None:
    features = conform(frame.select(found.names), found.columns)
    made = package.Package(
        name=task.spec.asset,
        task=found.task,
        target=found.labels.target,
        after_ms=found.labels.after_ms,
        labels=found.labels.as_value(),
        columns=found.columns,
        features=found.features,
        stored=stored,
        params=task.spec.params,
        window={k: v if v is None else to_text(v) for k, v in facts["window"].items()},
        metrics={name: value["value"] for name, value in facts["metrics"].items()},
        primary=facts["primary"],
        code=task.spec.code.rsplit("/", 1)[-1],
    )
    head = features.head(_SAMPLE)
    sample = {
        "features": head.to_dicts(),
        "scores": frame[SCORE].head(_SAMPLE).to_list(),
        "rows": found.sample,
    }
    package.write(folder, made, reference.freeze(frame[SCORE].to_numpy(), features), sample)


# ---- other steps of the room


def run_check(task: Task) -> list[Output]:
    """A check; of a model, ``evaluation`` holds its test rows and scores."""
    given = arguments(task)
    if "evaluation" in inspect.signature(task.function).parameters:
        slot = next(s for s in task.inputs() if s.endswith(".evaluation"))
        given["evaluation"] = Evaluation.read(task.load(slot))
    made = task.function(**given, **task.spec.params)
    value = {"passed": True, "value": made if isinstance(made, bool | int | float | str | dict) else None}
    return [Output(slot="", kind=JSON, value=value)]


def run_score(task: Task) -> list[Output]:
    """Scores the rows of a features table with a model: what gates and batch predictions are made of.

    Inputs: ``model`` (a package) and ``features`` (a table); output: key, ``_at``, ``score``.
    """
    found, predict = package.load(task.load("model"))
    frame = task.load("features")
    wanted, keys = task.spec.spec.get("at_from"), task.spec.spec.get("keys")
    key = list(found.features.spine.key)
    if found.adopted is not None:
        frame = as_they_are(frame, found.features)
    if wanted is not None:
        frame = frame.filter(pl.col(AT).dt.epoch("ms") > wanted)
    if keys is not None:
        frame = with_keys(frame, key, keys)
    scores = predict(conform(frame.select(found.columns.names), found.columns))
    made = frame.select(*key, AT).with_columns(pl.Series(SCORE, scores))
    return [Output(slot="", kind=TABLE, value=made, meta={"key": key})]
