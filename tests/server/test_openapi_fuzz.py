"""Every operation of our API, asked what its own description allows and what it does not: never the server's fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from test_once import CalledLoop  # pyright: ignore[reportMissingImports]

from noria.http.access import Access
from noria.http.app import build
from noria.server.loop import LEASE
from noria.server.routes import all_routes, openapi
from noria.workspace import Workspace

if TYPE_CHECKING:
    from starlette.applications import Starlette

TOKEN = "of-the-tests"
WAITS = {"POST /v1/clock"}
"""Moves event time on by what it is asked for, day by day: a far day is a long wait and no fault."""
ABSENT = {"nothing_serves"}
"""What a server without endpoints says of them."""
QUICK = settings(
    max_examples=12,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def api(shop: Workspace) -> Iterator[Starlette]:
    yield build(all_routes(shop, CalledLoop(shop)), Access(token=TOKEN, hosts=frozenset({"testserver"})))
    shop.jobs.release_lease(LEASE)


def test_no_request_is_the_servers_fault(shop: Workspace, api: Starlette) -> None:
    """All faults are shown at once: the requests are the same each time."""
    schema = schemathesis.openapi.from_dict(json.loads(openapi(all_routes(shop))))
    statuses: list[int] = []
    faults: list[str] = []
    for found in schema.get_all_operations():
        operation = found.ok()
        if f"{operation.method.upper()} {operation.path}" in WAITS:
            continue

        def ask(case: schemathesis.Case) -> None:
            answer = case.call(app=api, headers={"authorization": f"Bearer {TOKEN}"})
            statuses.append(answer.status_code)
            if answer.status_code >= 500 and answer.json()["error"]["code"] not in ABSENT:
                faults.append(
                    f"{case.method} {case.path} {case.path_parameters} {case.query} {case.body}: {answer.text}"
                )

        given(case=operation.as_strategy())(QUICK(ask))()
    assert faults == []
    assert len(statuses) > 300
    assert {200, 400, 404} <= set(statuses)
