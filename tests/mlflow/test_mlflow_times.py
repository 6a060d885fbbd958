"""A client may send any number as a time; what noria itself lists must not stumble over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlflow_wire import Wire

pytestmark = pytest.mark.ours
FAR = 1_700_000_000_000_000_000
"""Nanoseconds where milliseconds are meant."""


@pytest.mark.parametrize("time", [FAR, 2**62 - 1, -(2**62)])
def test_a_run_beyond_all_years_is_listed_and_shown(wire: Wire, experiment: str, time: int) -> None:
    run = wire.run(experiment, start_time=FAR)
    wire.post("runs/update", run_id=run, status="FINISHED", end_time=time)
    for path in ("/v1/runs?limit=5", f"/v1/runs/{run}", f"/v1/experiments/{experiment}/traces"):
        answer = wire.call("GET", path)
        assert answer.status == 200, answer.body
    assert b'"9999-12-31T23:59:59.999Z"' in wire.call("GET", f"/v1/runs/{run}").body


def test_a_trace_beyond_all_years_is_listed(wire: Wire, experiment: str) -> None:
    made = wire.call("POST", "/api/2.0/mlflow/traces", {"experiment_id": experiment, "timestamp_ms": FAR})
    assert made.status == 200, made.body
    answer = wire.call("GET", f"/v1/experiments/{experiment}/traces")
    assert answer.status == 200, answer.body
    assert b"9999-12-31" in answer.body
