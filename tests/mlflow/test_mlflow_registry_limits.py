"""What the registry's part of the protocol refuses, and up to where it takes."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow_wire import AJAX, API, Wire, fresh

INVALID = (400, "INVALID_PARAMETER_VALUE")
MISSING = (404, "RESOURCE_DOES_NOT_EXIST")
MODEL, VERSION = "registered-models/", "model-versions/"


@pytest.fixture(scope="module")
def made(server: str) -> Any:
    """A model with one version of a run's artifact; nothing here changes it."""
    wire = Wire(server)
    name = fresh("limits")
    run = wire.post("runs/create", experiment_id=wire.experiment(), start_time=1)["run"]["info"]
    wire.post(MODEL + "create", name=name)
    wire.post(VERSION + "create", name=name, source=run["artifact_uri"] + "/model", run_id=run["run_id"])
    yield {"NAME": name, "RUN": run["run_id"], "URI": run["artifact_uri"]}
    wire.close()


def filled(body: dict[str, Any], made: dict[str, str]) -> dict[str, Any]:
    return {k: made.get(v, v) if isinstance(v, str) else v for k, v in body.items()}


POSTS: list[tuple[str, dict[str, Any], str, tuple[int, str]]] = [
    (MODEL + "create", {}, "name", INVALID),
    (MODEL + "create", {"name": ""}, "name", INVALID),
    (MODEL + "create", {"name": 5}, "name", INVALID),
    (MODEL + "create", {"name": "a/b"}, "a/b", INVALID),
    (MODEL + "create", {"name": "a:b"}, "a:b", INVALID),
    (MODEL + "create", {"name": "NAME"}, "NAME", (400, "RESOURCE_ALREADY_EXISTS")),
    (MODEL + "rename", {"name": "NAME"}, "new_name", INVALID),
    (MODEL + "rename", {"name": "no such", "new_name": "x"}, "no such", MISSING),
    (MODEL + "set-tag", {"name": "NAME"}, "key", INVALID),
    (MODEL + "set-tag", {"name": "NAME", "key": "k" * 251, "value": "v"}, "250", INVALID),
    (MODEL + "set-tag", {"name": "NAME", "key": "k", "value": "v" * 100_001}, "100000", INVALID),
    (MODEL + "set-tag", {"name": "NAME", "key": "a//b", "value": "v"}, "a//b", INVALID),
    (MODEL + "set-tag", {"name": "no such", "key": "k", "value": "v"}, "no such", MISSING),
    (VERSION + "set-tag", {"name": "NAME", "version": "1", "key": "k" * 251, "value": "v"}, "250", INVALID),
    (VERSION + "set-tag", {"name": "NAME", "version": "1", "key": "k", "value": "v" * 100_001}, "100000", INVALID),
    (VERSION + "set-tag", {"name": "NAME", "version": "x", "key": "k", "value": "v"}, "x", INVALID),
    (VERSION + "set-tag", {"name": "NAME", "version": "99", "key": "k", "value": "v"}, "99", MISSING),
    (MODEL + "alias", {"name": "NAME", "version": "1"}, "alias", INVALID),
    (MODEL + "alias", {"name": "NAME", "alias": "a" * 256, "version": "1"}, "255", INVALID),
    (MODEL + "alias", {"name": "NAME", "alias": "latest", "version": "1"}, "latest", INVALID),
    (MODEL + "alias", {"name": "NAME", "alias": "v12", "version": "1"}, "v12", INVALID),
    (MODEL + "alias", {"name": "NAME", "alias": "a b", "version": "1"}, "a b", INVALID),
    (MODEL + "alias", {"name": "NAME", "alias": "ok", "version": "99"}, "99", MISSING),
    (MODEL + "alias", {"name": "no such", "alias": "ok", "version": "1"}, "no such", MISSING),
    (VERSION + "create", {"name": "NAME"}, "source", INVALID),
    (VERSION + "create", {"name": "no such", "source": "URI", "run_id": "RUN"}, "no such", MISSING),
    (VERSION + "create", {"name": "NAME", "source": "/etc/passwd"}, "/etc/passwd", INVALID),
    (VERSION + "create", {"name": "NAME", "source": "file:///etc"}, "file:///etc", INVALID),
    (VERSION + "create", {"name": "NAME", "source": "../model"}, "../model", INVALID),
    (VERSION + "create", {"name": "NAME", "source": "mlflow-artifacts:/1/../../x"}, "..", INVALID),
    (VERSION + "transition-stage", {"name": "NAME", "version": "1", "stage": "Nowhere"}, "Nowhere", INVALID),
    (VERSION + "transition-stage", {"name": "NAME", "version": "9", "stage": "Staging"}, "9", MISSING),
]


@pytest.mark.parametrize(("path", "body", "word", "kind"), POSTS)
def test_what_is_refused(
    wire: Wire, made: dict[str, str], path: str, body: dict[str, Any], word: str, kind: tuple[int, str]
) -> None:
    status, code, message = wire.refused(path, filled(body, made))
    assert (status, code) == kind, message
    assert made.get(word, word) in message


GETS: list[tuple[str, dict[str, Any], str, tuple[int, str]]] = [
    (MODEL + "get", {}, "name", INVALID),
    (MODEL + "get", {"name": "no such"}, "no such", MISSING),
    (MODEL + "search", {"max_results": 1001}, "max_results", INVALID),
    (MODEL + "search", {"max_results": 5, "page_token": "x"}, "token", INVALID),
    (MODEL + "search", {"max_results": 5, "filter": "nope = 'x'"}, "nope", INVALID),
    (MODEL + "search", {"max_results": 5, "filter": "name > 'x'"}, ">", INVALID),
    (MODEL + "search", {"max_results": 5, "order_by": "nope"}, "nope", INVALID),
    (MODEL + "alias", {"name": "NAME", "alias": "gone"}, "gone", INVALID),
    (VERSION + "get", {"name": "NAME"}, "version", INVALID),
    (VERSION + "get", {"name": "NAME", "version": "x"}, "x", INVALID),
    (VERSION + "get", {"name": "NAME", "version": "99"}, "99", MISSING),
    (VERSION + "get-download-uri", {"name": "NAME", "version": "99"}, "99", MISSING),
    (VERSION + "search", {"max_results": 0}, "max_results", INVALID),
    (VERSION + "search", {"max_results": 200_001}, "max_results", INVALID),
    (VERSION + "search", {"max_results": 5, "filter": "nope = 'x'"}, "nope", INVALID),
    (VERSION + "search", {"max_results": 5, "page_token": "x"}, "token", INVALID),
]


@pytest.mark.parametrize(("path", "query", "word", "kind"), GETS)
def test_questions_that_are_refused(
    wire: Wire, made: dict[str, str], path: str, query: dict[str, Any], word: str, kind: tuple[int, str]
) -> None:
    for prefix in (API, AJAX):
        status, code, message = wire.refused(prefix + path, None, "GET", filled(query, made))
        assert (status, code) == kind, message
        assert made.get(word, word) in message


def test_the_longest_that_is_taken(wire: Wire, made: dict[str, str]) -> None:
    name = fresh("long")
    tags = [{"key": "k" * 250, "value": "v" * 100_000}]
    wire.post(MODEL + "create", name=name, tags=tags, description="d" * 5000)
    found = wire.get(MODEL + "get", name=name)["registered_model"]
    assert found["tags"] == tags
    wire.post(VERSION + "create", name=name, source=made["URI"] + "/model", run_id=made["RUN"], tags=tags)
    wire.post(MODEL + "alias", name=name, alias="a" * 255, version="1")
    version = wire.get(MODEL + "alias", name=name, alias="a" * 255)["model_version"]
    assert (version["version"], version["tags"]) == ("1", tags)
    assert version["aliases"] == ["a" * 255]


def test_a_deleted_model_is_gone(wire: Wire, made: dict[str, str]) -> None:
    name = fresh("gone")
    wire.post(MODEL + "create", name=name)
    wire.post(VERSION + "create", name=name, source=made["URI"] + "/model", run_id=made["RUN"])
    assert wire.call("DELETE", VERSION + "delete", {"name": name, "version": "1"}).status == 200
    assert wire.refused(VERSION + "get", None, "GET", {"name": name, "version": "1"})[:2] == MISSING
    assert wire.call("DELETE", MODEL + "delete", {"name": name}).status == 200
    assert wire.refused(MODEL + "get", None, "GET", {"name": name})[:2] == MISSING
    wire.post(MODEL + "create", name=name)  # the name is free again


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_pages_of_models_and_versions(wire: Wire, made: dict[str, str], size: int) -> None:
    prefix = fresh("page")
    names = [f"{prefix}-{i}" for i in range(5)]
    for name in names:
        wire.post(MODEL + "create", name=name)
        wire.post(VERSION + "create", name=name, source=made["URI"] + "/model", run_id=made["RUN"])
    for path, kind in ((MODEL, "registered_models"), (VERSION, "model_versions")):
        found: list[str] = []
        query: dict[str, Any] = {"filter": f"name LIKE '{prefix}%'", "max_results": size, "order_by": ["name ASC"]}
        if path == VERSION:
            query["filter"] = "name IN (" + ", ".join(f"'{n}'" for n in names) + ")"
        while True:
            page = wire.get(path + "search", **query)
            found += [one["name"] for one in page.get(kind, [])]
            if "next_page_token" not in page:
                break
            query["page_token"] = page["next_page_token"]
        assert found == names
