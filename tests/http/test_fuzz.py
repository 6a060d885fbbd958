"""Whatever is sent to whatever route: the answer is never a 5xx, and every refusal has the one form."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms_client import Client, all_routes, client

from noria.http import Route
from noria.workspace import Workspace

TIMES = int(os.environ.get("NORIA_TEST_FUZZ", "1"))

NAMES = ["orders", "total", "chance", "returns", "champion", "clean", "main", "part/rows", "1", "2", "code"]
ODD = [
    "",
    "%",
    "_",
    "../..",
    "a" * 300,
    "²",
    "٣",
    "-1",
    "1e9",
    "9" * 30,
    "main~99",
    "@2013",
    "@",
    "x@y",
    "[/b]",
    "\ud7ff",
    "a\0b",
    "main~²",
    "chance/²",
    "f" * 70_000,
]
VALUES = st.one_of(st.sampled_from(NAMES + ODD), st.text(max_size=30), st.integers().map(str), st.floats().map(str))
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(VALUES, inner, max_size=4),
    max_leaves=8,
)
TOKENS = JSONS.map(lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("="))
FILTERS = st.lists(
    st.sampled_from(
        [
            "metrics.x",
            "params.factor",
            "kind",
            "start_time",
            "`a b`",
            "tags.",
            "and",
            "=",
            "<",
            "like",
            "'%'",
            '"x"',
            "3",
            "1e999",
            "(",
            "'",
        ]
    ),
    max_size=8,
).map(" ".join)


def fields(kind: Any) -> list[str]:
    return [] if kind is None else [f.name for f in msgspec.structs.fields(kind)]


def part(data: st.DataObject, name: str) -> str:
    return data.draw(VALUES if name.endswith(":path") else VALUES.map(lambda v: v.replace("/", "")), label=name)


def query(data: st.DataObject, route: Route) -> str:
    from urllib.parse import quote_from_bytes

    names = data.draw(st.lists(st.sampled_from([*fields(route.query), "other"]), max_size=4), label="query")
    made: list[str] = []
    for name in names:
        kinds = {"after": TOKENS | VALUES, "filter": FILTERS | VALUES, "order": st.just("metrics.x asc") | VALUES}
        value = data.draw(kinds.get(name, VALUES), label=name)
        made.append(f"{name}={quote_from_bytes(value.encode('utf-8', 'surrogatepass'))}")
    return "&".join(made)


def body(data: st.DataObject, route: Route) -> bytes:
    if route.body is None:
        return b""
    known = st.fixed_dictionaries({}, optional=dict.fromkeys(fields(route.body), JSONS))
    as_json = (known | JSONS).map(lambda value: json.dumps(value).encode())
    return data.draw(as_json | st.binary(max_size=40), label="body")


@settings(max_examples=240 * TIMES)
@given(data=st.data())
def test_no_request_makes_the_server_fail(http: Client, shop: Workspace, data: st.DataObject) -> None:
    ask(http, shop, data)


@pytest.mark.postgres
@settings(max_examples=60 * TIMES)
@given(data=st.data())
def test_no_request_makes_the_server_fail_on_postgresql(postgres_shop: Workspace, data: st.DataObject) -> None:
    ask(client(all_routes(postgres_shop)), postgres_shop, data)


def ask(http: Client, shop: Workspace, data: st.DataObject) -> None:
    route = data.draw(st.sampled_from(all_routes(shop)), label="route")
    path = route.path
    for name in ("name", "id", "alias", "key:path", "path:path"):
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", part(data, name))
    found = http.call(route.method, path, query(data, route), body(data, route))
    assert found.status < 500, found.body
    if found.status >= 400:
        assert found.error["code"]
    else:
        assert found.status < 300, "no redirects: they would come before the caller is checked"
        json.loads(found.body)


@settings(max_examples=40 * TIMES)
@given(
    path=st.text(max_size=60).map(lambda text: "/" + text),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]),
)
def test_no_path_makes_the_server_fail(http: Client, path: str, method: str) -> None:
    found = http.call(method, path)
    assert found.status < 500
