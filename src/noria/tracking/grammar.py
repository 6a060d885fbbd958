"""What the searches of this room understand, as data for ``noria.base.search``.

The names are MLflow's, with its aliases, and our own beside them: ``state`` is a run's state in our words, ``status``
in MLflow's. Whoever queries decides what a canonical name means in the tables.
"""

from __future__ import annotations

from typing import Final

from noria.assets.records import RunState
from noria.base.search import EQUAL, LIST, NULL, ORDERED, TEXT, Grammar, Key, Kind

STATUS: Final = {
    RunState.QUEUED: "SCHEDULED",
    RunState.RUNNING: "RUNNING",
    RunState.DONE: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.CANCELLED: "KILLED",
    RunState.LOST: "FAILED",
}
"""A run's state as ``status`` says it."""
_LIKE: Final = frozenset({"like", "ilike"})


def _time(name: str, *, whole: bool = False) -> Key:
    return Key(name=name, type="whole" if whole else "integer", ops=ORDERED)


def _order_only(name: str) -> Key:
    return Key(name=name, ops=frozenset())


_METRIC: Final = Kind(name="metric", other=Key(type="number", ops=ORDERED))
_PARAM: Final = Kind(name="param", other=Key(ops=TEXT | NULL))
_TAG: Final = Kind(name="tag", other=Key(ops=TEXT | NULL))

_RUN: Final = Kind(
    name="attribute",
    keys={
        "run_id": Key(name="run_id", ops=TEXT | LIST),
        "name": Key(name="name", ops=TEXT | LIST),
        "run_name": Key(name="name"),
        "Run name": Key(name="name"),
        "run name": Key(name="name"),
        "Run Name": Key(name="name"),
        "state": Key(name="state", ops=TEXT | LIST),
        "status": Key(name="status"),
        "kind": Key(name="kind", ops=TEXT | LIST),
        "user": Key(name="user"),
        "user_id": Key(name="user"),
        "artifact_uri": Key(name="artifact_uri"),
        "start_time": _time("start_time"),
        "created": _time("start_time"),
        "Created": _time("start_time"),
        "end_time": _time("end_time"),
    },
)
_DATASET: Final = Kind(
    name="dataset", keys={name: Key(ops=TEXT | LIST, sort=False) for name in ("name", "digest", "context")}
)
RUNS: Final = Grammar(
    what="runs",
    prefixes={
        "metrics": _METRIC,
        "metric": _METRIC,
        "params": _PARAM,
        "param": _PARAM,
        "parameters": _PARAM,
        "parameter": _PARAM,
        "tags": _TAG,
        "tag": _TAG,
        "attributes": _RUN,
        "attribute": _RUN,
        "attr": _RUN,
        "run": _RUN,
        "datasets": _DATASET,
        "dataset": _DATASET,
    },
    default=_RUN,
    example='metrics.log_loss < 0.5 and tags.team = "a"',
    order_example="metrics.log_loss asc",
)

_EXPERIMENT: Final = Kind(
    name="attribute",
    keys={
        "name": Key(name="name"),
        # A number in the tables, a text on the wire.
        "experiment_id": Key(name="experiment_id", ops=EQUAL | LIST),
        "creation_time": _time("creation_time", whole=True),
        "last_update_time": _time("last_update_time", whole=True),
    },
)
_EXPERIMENT_TAG: Final = Kind(name="tag", other=Key(ops=TEXT | NULL, sort=False))
EXPERIMENTS: Final = Grammar(
    what="experiments",
    prefixes={
        "attribute": _EXPERIMENT,
        "tags": _EXPERIMENT_TAG,
        "tag": _EXPERIMENT_TAG,
    },
    default=_EXPERIMENT,
    example='name like "fly%" and tags.team = "a"',
    order_example="last_update_time desc",
)

_LOGGED_TEXTS: Final = (
    "name",
    "model_id",
    "experiment_id",
    "status",
    "model_type",
    "source_run_id",
    "artifact_location",
    "lifecycle_stage",
    "status_message",
)
_LOGGED: Final = Kind(
    name="attribute",
    keys={
        **{name: Key(name=name, ops=TEXT | LIST) for name in _LOGGED_TEXTS},
        "creation_timestamp": _time("creation_timestamp"),
        "creation_timestamp_ms": _time("creation_timestamp"),
        "creation_time": _time("creation_timestamp"),
        "last_updated_timestamp": _time("last_updated_timestamp"),
        "last_updated_timestamp_ms": _time("last_updated_timestamp"),
    },
)
LOGGED_MODELS: Final = Grammar(
    what="logged models",
    prefixes={
        "attributes": _LOGGED,
        "metrics": _METRIC,
        "params": Kind(name="param", other=Key(ops=TEXT | LIST, sort=False)),
        "tags": Kind(name="tag", other=Key(ops=TEXT | LIST, sort=False)),
    },
    default=_LOGGED,
    example='metrics.log_loss < 0.5 and params.depth = "3"',
    order_example="metrics.log_loss asc",
    bare_texts=True,
)

TRACE_STATUS: Final = {"ok": "OK", "error": "ERROR", "running": "IN_PROGRESS", "unknown": "STATE_UNSPECIFIED"}
"""A trace's state in MLflow's words."""
_TRACE: Final = Kind(
    name="attribute",
    keys={
        "request_id": Key(name="request_id", ops=TEXT | LIST),
        "client_request_id": Key(name="client_request_id", ops=TEXT | LIST, sort=False),
        "experiment_id": _order_only("experiment_id"),
        "state": Key(name="state", ops=TEXT | LIST),
        "status": Key(name="status", ops=TEXT | LIST),
        "name": Key(name="name", ops=TEXT | LIST | NULL),
        "run_id": Key(name="run_id", ops=TEXT | LIST | NULL),
        "prompt": Key(name="prompt", ops=frozenset({"="}), sort=False),
        "text": Key(kind="span", name="content", ops=_LIKE, sort=False),
        "timestamp": _time("timestamp_ms"),
        "timestamp_ms": _time("timestamp_ms"),
        "execution_time": _time("execution_time_ms"),
        "execution_time_ms": _time("execution_time_ms"),
        "end_time": _time("end_time_ms"),
        "end_time_ms": _time("end_time_ms"),
    },
)
_METADATA: Final = Kind(name="metadata", other=Key(ops=TEXT | NULL))
_SPAN: Final = Kind(
    name="span",
    keys={
        **{name: Key(ops=TEXT | LIST, sort=False) for name in ("name", "type", "status")},
        "content": Key(ops=_LIKE, sort=False),
    },
)
_ASSESSED: Final = Key(type="either", ops=TEXT | ORDERED | NULL, sort=False)
TRACES: Final = Grammar(
    what="traces",
    prefixes={
        "attributes": _TRACE,
        "attribute": _TRACE,
        "trace": _TRACE,
        "tags": _TAG,
        "tag": _TAG,
        "metadata": _METADATA,
        "request_metadata": _METADATA,
        "span": _SPAN,
        "span.attributes": Kind(name="span_attribute", other=Key(ops=TEXT | LIST, sort=False)),
        "feedback": Kind(name="feedback", other=_ASSESSED),
        "expectation": Kind(name="expectation", other=_ASSESSED),
        "issue": Kind(name="issue", keys={"id": Key(ops=frozenset({"="}), sort=False)}),
    },
    default=_TRACE,
    example='status = "OK" and timestamp_ms > 1700000000000 and tags.team = "a"',
    order_example="timestamp_ms desc",
    quoted_numbers=True,
)
