"""What a search of runs must find, said once more in plain Python, and runs to find."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cmp_to_key
from typing import Any

from mlflow_wire import Wire, fresh


@dataclass(kw_only=True)
class Row:
    """A run as the model knows it."""

    run_id: str = ""
    experiment: str = ""
    run_name: str
    status: str
    start_time: int
    end_time: int | None
    user_id: str
    artifact_uri: str = ""
    deleted: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[tuple[str, str, str | None]] = field(default_factory=list)


def like(text: str, pattern: str, *, any_case: bool = False) -> bool:
    """% stands for any letters, _ for one; nothing else is special."""
    parts = {"%": ".*", "_": "."}
    made = "".join(parts.get(sign, re.escape(sign)) for sign in pattern)
    return re.fullmatch(made, text, re.DOTALL | (re.IGNORECASE if any_case else 0)) is not None


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "LIKE": like,
    "ILIKE": lambda a, b: like(a, b, any_case=True),
    "IN": lambda a, b: a in b,
    "NOT IN": lambda a, b: a not in b,
}
DATASET = {"name": 0, "digest": 1, "context": 2}


@dataclass(frozen=True)
class Clause:
    """One comparison, by its meaning: ``kind`` is metric, param, tag, attribute or dataset."""

    kind: str
    key: str
    op: str
    value: Any = None

    def holds(self, row: Row) -> bool:
        if self.kind == "dataset":
            found = [d[DATASET[self.key]] for d in row.datasets]
            return any(v is not None and COMPARE[self.op](v, self.value) for v in found)
        value = value_of(row, self.kind, self.key)
        if self.op in ("IS NULL", "IS NOT NULL"):
            return (value is None) == (self.op == "IS NULL")
        return value is not None and COMPARE[self.op](value, self.value)


def value_of(row: Row, kind: str, key: str) -> Any:
    if kind == "attribute":
        return getattr(row, {"created": "start_time", "Created": "start_time"}.get(key, key.lower().replace(" ", "_")))
    return {"metric": row.metrics, "param": row.params, "tag": row.tags}[kind].get(key)


@dataclass(frozen=True)
class Order:
    kind: str
    key: str
    ascending: bool = True


def ordered(rows: Iterable[Row], orders: Sequence[Order] = ()) -> list[Row]:
    """By each order in turn, what is not a number behind numbers and what is missing behind both; then the newest
    first, then by id."""

    def compare(a: Row, b: Row) -> int:
        for one in orders:
            x, y = (rank(value_of(row, one.kind, one.key)) for row in (a, b))
            if x[0] != y[0]:
                return x[0] - y[0]
            if x != y:
                return (-1 if x < y else 1) * (1 if one.ascending else -1)
        if a.start_time != b.start_time:
            return -1 if a.start_time > b.start_time else 1
        return -1 if a.run_id < b.run_id else 1

    return sorted(rows, key=cmp_to_key(compare))


def rank(value: Any) -> tuple[Any, ...]:
    if value is None:
        return (2,)
    if isinstance(value, float) and math.isnan(value):
        return (1,)
    return (0, value)


def quoted(text: str) -> str:
    return f'"{text}"' if "'" in text else f"'{text}'"


def written(clause: Clause, draw: Callable[[Sequence[Any]], Any]) -> str:
    """The clause as a filter says it; ``draw`` chooses among the ways that mean the same."""
    prefixes = {
        "metric": ["metrics.", "metric."],
        "param": ["params.", "param.", "parameter.", "parameters."],
        "tag": ["tags.", "tag."],
        "attribute": ["", "attributes.", "attribute.", "attr.", "run."],
        "dataset": ["dataset.", "datasets."],
    }
    key = clause.key
    if not re.fullmatch(r"\w+", key):
        key = draw(["`{}`", '"{}"']).format(key)
    op = draw([clause.op, clause.op.lower()])
    left = draw(prefixes[clause.kind]) + key
    if clause.op in ("IS NULL", "IS NOT NULL"):
        return f"{left} {op}"
    value = clause.value
    if isinstance(value, (tuple, list)):
        right = "(" + ", ".join(quoted(v) for v in value) + ")"
    elif isinstance(value, str):
        right = quoted(value)
    else:
        right = repr(value).replace("e+", "e")  # MLflow's own parser does not know the plus
    space = draw([" ", "  "]) if op.isalpha() or " " in op else draw([" ", "", "  "])
    return f"{left}{space}{op}{space}{right}"


def direction(order: Order, draw: Callable[[Sequence[Any]], Any]) -> str:
    prefix = {"metric": "metrics.", "param": "params.", "tag": "tags.", "attribute": draw(["", "attributes."])}
    key = order.key if re.fullmatch(r"\w+", order.key) else f"`{order.key}`"
    tail = draw(["", " ASC", " asc"]) if order.ascending else draw([" DESC", " desc"])
    return prefix[order.kind] + key + tail


# ---- runs


METRICS: dict[str, list[float | None]] = {
    "loss": [None, 0.0, -1.5, 0.25, 0.25, 2.0, 1e300, math.nan],
    "acc": [None, 0.5, 0.75, 1.0],
    "val/f1: x": [None, None, 3.0, -3.0],
}
PARAMS: dict[str, list[str | None]] = {
    "depth": [None, "3", "10", "3.0", ""],
    "optimizer": ["adam", "Adam", "sgd", "sgd_x", "it's 100%", "a\\b"],
    "a b": [None, "x", "X", "line\nbreak"],
}
TAGS: dict[str, list[str | None]] = {
    "team": [None, "red", "Red", "blue", ""],
    "note/one": [None, 'say "hi"', "50%", "ünder_score", "\u00e9"],
}
DATA: list[list[tuple[str, str, str | None]]] = [
    [],
    [],
    [("flights", "d1", "train")],
    [("flights", "d2", "train"), ("weather", "w1", None)],
    [("Flights", "d1", "eval"), ("weather", "w1", "train")],
]
STATUS = ["RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED"]


def fill(wire: Wire, count: int = 45, seed: int = 4) -> tuple[list[str], list[Row]]:
    """Three experiments, and what was logged to them."""
    draw = random.Random(seed)
    experiments = [wire.experiment(fresh("search")) for _ in range(3)]
    rows = []
    for number in range(count):
        status = draw.choice(STATUS)
        row = Row(
            experiment=draw.choice(experiments),
            run_name=draw.choice(["first", "second run", "First", f"run-{number}"]),
            status=status,
            start_time=1_700_000_000_000 + draw.choice([0, 0, 5, 77, number]),
            end_time=None if status in ("RUNNING", "SCHEDULED") else 1_700_000_100_000 + draw.choice([0, number]),
            user_id=draw.choice(["ann", "Bob", "ben"]),
            metrics={k: v for k, some in METRICS.items() if (v := draw.choice(some)) is not None},
            params={k: v for k, some in PARAMS.items() if (v := draw.choice(some)) is not None},
            tags={k: v for k, some in TAGS.items() if (v := draw.choice(some)) is not None},
            datasets=draw.choice(DATA),
        )
        make(wire, row)
        row.deleted = draw.random() < 0.15
        if row.deleted:
            wire.post("runs/delete", run_id=row.run_id)
        rows.append(row)
    return experiments, rows


def make(wire: Wire, row: Row) -> None:
    """Logs one run."""
    info = wire.post(
        "runs/create", experiment_id=row.experiment, start_time=row.start_time, user_id=row.user_id,
        run_name=row.run_name, tags=[{"key": k, "value": v} for k, v in row.tags.items()],
    )["run"]["info"]  # fmt: skip
    row.run_id, row.artifact_uri = info["run_id"], info["artifact_uri"]
    row.tags = {**row.tags, "mlflow.runName": row.run_name}
    metrics = [{"key": k, "value": 99, "timestamp": 1, "step": 0} for k in row.metrics]
    metrics += [
        {"key": k, "value": "NaN" if math.isnan(v) else v, "timestamp": 1, "step": 1} for k, v in row.metrics.items()
    ]
    params = [{"key": k, "value": v} for k, v in row.params.items()]
    wire.post("runs/log-batch", run_id=row.run_id, metrics=metrics, params=params)
    if row.datasets:
        data = [
            {
                "tags": [{"key": "mlflow.data.context", "value": context}] if context else [],
                "dataset": {"name": name, "digest": digest, "source_type": "local", "source": "s"},
            }
            for name, digest, context in row.datasets
        ]
        wire.post("runs/log-inputs", run_id=row.run_id, datasets=data)
    more = {} if row.end_time is None else {"end_time": row.end_time}
    wire.post("runs/update", run_id=row.run_id, status=row.status, **more)
