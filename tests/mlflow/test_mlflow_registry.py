"""Registered models and their versions through the real client, and the refusals through raw HTTP."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow_wire import Wire, fresh

from mlflow import MlflowClient

DATABASES = ("sqlite", "postgres")
S3 = "s3://bucket/model"


def model(client: MlflowClient, versions: int = 1, **more: Any) -> str:
    name = fresh("m")
    client.create_registered_model(name, **more)
    for _ in range(versions):
        client.create_model_version(name, S3)
    return name


# ---- registered models


def test_a_model_is_made_read_changed_and_deleted(client: MlflowClient) -> None:
    name = fresh("m")
    made = client.create_registered_model(name, tags={"team": "a"}, description="first")
    assert (made.name, made.description, made.tags, made.latest_versions) == (name, "first", {"team": "a"}, [])
    found = client.get_registered_model(name)
    assert (found.name, found.description, found.tags, found.aliases) == (name, "first", {"team": "a"}, {})
    assert found.creation_timestamp == made.creation_timestamp <= found.last_updated_timestamp
    changed = client.update_registered_model(name, "second")
    assert changed.description == "second"
    assert changed.last_updated_timestamp >= found.last_updated_timestamp
    client.delete_registered_model(name)
    with pytest.raises(MlflowException) as caught:
        client.get_registered_model(name)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.parametrize("name", ["plain", "with space", "7 starts", "Zürich", "a@b", "50% off #1", "a.b-c_d", "模型"])
def test_nearly_any_text_names_a_model(client: MlflowClient, name: str) -> None:
    name = f"{name} {fresh()}"
    client.create_registered_model(name)
    version = client.create_model_version(name, S3)
    client.set_registered_model_alias(name, "champion", version.version)
    assert client.get_model_version_by_alias(name, "champion").name == name
    assert client.get_model_version(name, "1").source == S3
    assert client.get_model_version_download_uri(name, "1") == S3
    client.set_model_version_tag(name, "1", "k", "v")
    assert client.get_model_version(name, "1").tags == {"k": "v"}
    client.delete_registered_model(name)


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", ".", ".."])
def test_what_addresses_are_made_of_names_no_model(wire: Wire, name: str) -> None:
    status, code, _ = wire.refused("registered-models/create", {"name": name})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")


def test_a_taken_name_is_refused(client: MlflowClient, wire: Wire) -> None:
    name, other = model(client), model(client)
    status, code, message = wire.refused("registered-models/create", {"name": name})
    assert (status, code) == (400, "RESOURCE_ALREADY_EXISTS")
    assert name in message
    status, code, _ = wire.refused("registered-models/rename", {"name": name, "new_name": other})
    assert (status, code) == (400, "RESOURCE_ALREADY_EXISTS")


def test_renaming_takes_versions_tags_and_aliases_along(client: MlflowClient) -> None:
    name = model(client, 2, tags={"k": "v"})
    client.set_registered_model_alias(name, "champion", "1")
    client.set_model_version_tag(name, "2", "w", "x")
    new = fresh("m")
    client.rename_registered_model(name, new)
    renamed = client.get_registered_model(new)
    assert (renamed.name, renamed.tags, renamed.aliases) == (new, {"k": "v"}, {"champion": "1"})
    assert client.get_model_version_by_alias(new, "champion").version == "1"
    assert client.get_model_version(new, "2").tags == {"w": "x"}
    assert {v.version for v in client.search_model_versions(f"name = '{new}'")} == {"1", "2"}
    with pytest.raises(MlflowException, match=name):
        client.get_registered_model(name)
    assert client.create_registered_model(name).latest_versions == []  # the name is free again


def test_a_deleted_model_leaves_its_name_and_nothing_else(client: MlflowClient) -> None:
    name = model(client, 2, tags={"k": "v"}, description="d")
    client.set_registered_model_alias(name, "champion", "2")
    client.delete_registered_model(name)
    assert client.search_model_versions(f"name = '{name}'") == []
    assert client.search_registered_models(f"name = '{name}'") == []
    again = client.create_registered_model(name)
    assert (again.tags, again.aliases, again.description) == ({}, {}, "")
    assert client.create_model_version(name, S3).version == "1"


def test_tags_of_models(client: MlflowClient, wire: Wire) -> None:
    name = model(client, 0)
    client.set_registered_model_tag(name, "a.b/c", "1")
    client.set_registered_model_tag(name, "a.b/c", "2")
    client.set_registered_model_tag(name, "long", "x" * 100_000)
    client.delete_registered_model_tag(name, "never there")
    assert client.get_registered_model(name).tags == {"a.b/c": "2", "long": "x" * 100_000}
    client.delete_registered_model_tag(name, "a.b/c")
    assert set(client.get_registered_model(name).tags) == {"long"}
    for key, value in {"a/../b": "v", "k" * 251: "v", "a*b": "v", "k": "v" * 100_001}.items():
        status, code, _ = wire.refused("registered-models/set-tag", {"name": name, "key": key, "value": value})
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE"), key
    assert wire.refused("registered-models/set-tag", {"name": fresh(), "key": "k", "value": "v"})[0] == 404


# ---- versions


def test_a_version_says_what_the_client_said(client: MlflowClient, experiment: str) -> None:
    name = model(client, 0)
    run = client.create_run(experiment).info.run_id
    made = client.create_model_version(
        name, f"runs:/{run}/model", run_id=run, tags={"k": "v"}, run_link="http://host/run", description="d"
    )
    for version in (made, client.get_model_version(name, "1"), client.search_model_versions(f"name='{name}'")[0]):
        assert (version.name, version.version, version.run_id, version.status) == (name, "1", run, "READY")
        assert (version.tags, version.run_link, version.description) == ({"k": "v"}, "http://host/run", "d")
        assert version.current_stage == "None"
    assert client.get_registered_model(name).latest_versions[0].version == "1"
    assert client.update_model_version(name, "1", "e").description == "e"


def test_numbers_never_come_again(client: MlflowClient) -> None:
    name = model(client, 3)
    client.set_registered_model_alias(name, "best", "3")
    client.delete_model_version(name, "3")
    with pytest.raises(MlflowException) as caught:
        client.get_model_version(name, "3")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert client.get_registered_model(name).aliases == {}
    assert client.create_model_version(name, S3).version == "4"
    assert [v.version for v in client.search_model_versions(f"name='{name}'", order_by=["version_number"])] == [
        "1", "2", "4",
    ]  # fmt: skip


def test_a_run_that_lives_elsewhere_is_remembered(client: MlflowClient) -> None:
    name = model(client, 0)
    client.create_model_version(name, S3, run_id="0123abc")
    assert client.get_model_version(name, "1").run_id == "0123abc"
    assert [v.version for v in client.search_model_versions("run_id = '0123abc'") if v.name == name] == ["1"]


def test_a_version_is_copied(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    name, target = model(client, 0), fresh("m")
    client.create_model_version(name, S3, run_id=run)
    client.set_registered_model_alias(name, "best", "1")
    copied = client.copy_model_version(f"models:/{name}@best", target)
    assert (copied.name, copied.version, copied.run_id) == (target, "1", run)
    assert copied.source == f"models:/{name}/1"
    assert client.get_model_version_download_uri(target, "1") == S3


@pytest.mark.parametrize(
    "source",
    [
        "/etc", "etc", "file:///etc", "s3://b/../../etc", "s3://b/%2e%2e/x", "s3://b/%252e%252e/x",
        "mlflow-artifacts:/0/run/artifacts/model", "mlflow-artifacts://host/x", "runs:/0123/model", "models:/m-0123",
        "http://host/api/2.0/mlflow-artifacts/artifacts/0/x", "runs://host/abc/model", "models://host/m-1",
        "http://host/x/..%2f..", "s3://b/%00",
    ],
)  # fmt: skip
def test_sources_that_are_refused(wire: Wire, client: MlflowClient, source: str) -> None:
    status, code, _ = wire.refused("model-versions/create", {"name": model(client, 0), "source": source})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.ours
def test_a_drive_is_a_path_of_a_machine(wire: Wire, client: MlflowClient) -> None:
    """MLflow's own server asks this on Windows only."""
    assert wire.refused("model-versions/create", {"name": model(client, 0), "source": "C:/models"})[0] == 400


def test_a_source_in_a_run_is_of_the_run_that_is_named(wire: Wire, client: MlflowClient, experiment: str) -> None:
    name, one, two = model(client, 0), wire.run(experiment), wire.run(experiment)
    place = client.get_run(one).info.artifact_uri
    for source in (f"runs:/{one}/model", f"{place}/model"):
        assert client.create_model_version(name, source, run_id=one).run_id == one
        for body in ({"run_id": two}, {}, {"run_id": "nope"}):
            status, code, _ = wire.refused("model-versions/create", {"name": name, "source": source, **body})
            assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    lookalike = place.replace("/artifacts", "/artifacts2")
    assert wire.refused("model-versions/create", {"name": name, "source": lookalike, "run_id": one})[0] == 400


def test_tags_of_versions(client: MlflowClient, wire: Wire) -> None:
    name = model(client, 2)
    client.set_model_version_tag(name, "1", "k", "v")
    client.set_model_version_tag(name, "1", "k", "w")
    assert client.get_model_version(name, "1").tags == {"k": "w"}
    assert client.get_model_version(name, "2").tags == {}
    client.delete_model_version_tag(name, "1", "k")
    client.delete_model_version_tag(name, "1", "k")
    assert client.get_model_version(name, "1").tags == {}
    assert wire.refused("model-versions/set-tag", {"name": name, "version": "9", "key": "k", "value": "v"})[0] == 404
    assert wire.refused("model-versions/set-tag", {"name": name, "version": "x", "key": "k", "value": "v"})[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "body", "wanted"),
    [
        ("POST", "registered-models/create", {}, (400, "INVALID_PARAMETER_VALUE")),
        ("POST", "registered-models/create", {"name": 7}, (400, "INVALID_PARAMETER_VALUE")),
        ("POST", "registered-models/rename", {"name": "nope"}, (400, "INVALID_PARAMETER_VALUE")),
        ("POST", "registered-models/rename", {"name": "nope", "new_name": "x"}, (404, "RESOURCE_DOES_NOT_EXIST")),
        ("PATCH", "registered-models/update", {"name": "nope"}, (404, "RESOURCE_DOES_NOT_EXIST")),
        ("DELETE", "registered-models/delete", {"name": "nope"}, (404, "RESOURCE_DOES_NOT_EXIST")),
        ("DELETE", "registered-models/alias", {"name": "nope", "alias": "a"}, (404, "RESOURCE_DOES_NOT_EXIST")),
        ("POST", "registered-models/get-latest-versions", {"name": "nope"}, (404, "RESOURCE_DOES_NOT_EXIST")),
        ("POST", "model-versions/create", {"name": "nope", "source": S3}, (404, "RESOURCE_DOES_NOT_EXIST")),
        ("POST", "model-versions/create", {"name": "nope"}, (400, "INVALID_PARAMETER_VALUE")),
        ("PATCH", "model-versions/update", {"name": "nope", "version": "1"}, (404, "RESOURCE_DOES_NOT_EXIST")),
        ("DELETE", "model-versions/delete", {"name": "nope", "version": "1"}, (404, "RESOURCE_DOES_NOT_EXIST")),
        ("POST", "model-versions/transition-stage", {"name": "nope", "version": "1", "stage": "Staging"},
         (404, "RESOURCE_DOES_NOT_EXIST")),
    ],
)  # fmt: skip
def test_what_is_not_there_or_not_said(wire: Wire, method: str, path: str, body: Any, wanted: Any) -> None:
    assert wire.refused(path, body, method)[:2] == wanted


# ---- aliases and stages


def test_aliases_point_move_and_go(client: MlflowClient) -> None:
    name = model(client, 2)
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "other", "1")
    assert client.get_model_version(name, "1").aliases == ["champion", "other"]
    client.set_registered_model_alias(name, "champion", "2")
    assert client.get_model_version_by_alias(name, "champion").version == "2"
    assert client.get_registered_model(name).aliases == {"champion": "2", "other": "1"}
    client.delete_registered_model_alias(name, "champion")
    client.delete_registered_model_alias(name, "champion")
    assert client.get_registered_model(name).aliases == {"other": "1"}
    assert client.get_model_version_by_alias(name, "latest").version == "2"


@pytest.mark.parametrize("alias", ["latest", "LATEST", "v3", "V12", "a b", "a/b", "", "a" * 256])
def test_aliases_that_are_refused(wire: Wire, client: MlflowClient, alias: str) -> None:
    body = {"name": model(client), "alias": alias, "version": "1"}
    assert wire.refused("registered-models/alias", body)[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_an_alias_needs_a_version(wire: Wire, client: MlflowClient) -> None:
    name = model(client)
    body = {"name": name, "alias": "a", "version": "9"}
    assert wire.refused("registered-models/alias", body)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    found = wire.refused("registered-models/alias", None, "GET", {"name": name, "alias": "a"})
    assert found[:2] == (400, "INVALID_PARAMETER_VALUE")
    client.set_registered_model_alias(name, "a" * 255, "1")


@pytest.mark.filterwarnings("ignore")
def test_stages(client: MlflowClient, wire: Wire) -> None:
    name = model(client, 4)
    assert client.transition_model_version_stage(name, "1", "staging").current_stage == "Staging"
    client.transition_model_version_stage(name, "2", "Production")
    moved = client.transition_model_version_stage(name, "3", "Production", archive_existing_versions=True)
    assert moved.current_stage == "Production"
    stages = {v.version: v.current_stage for v in client.search_model_versions(f"name='{name}'")}
    assert stages == {"1": "Staging", "2": "Archived", "3": "Production", "4": "None"}
    assert {v.version for v in client.get_latest_versions(name)} == {"1", "2", "3", "4"}
    assert [v.version for v in client.get_latest_versions(name, ["production"])] == ["3"]
    client.create_model_version(name, S3)
    assert [v.version for v in client.get_latest_versions(name, ["None"])] == ["5"]
    body = {"name": name, "version": "1", "stage": "prod"}
    assert wire.refused("model-versions/transition-stage", body)[:2] == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.ours
def test_only_stages_in_use_are_archived(wire: Wire, client: MlflowClient) -> None:
    """MLflow's own server calls this an internal error."""
    body = {"name": model(client), "version": "1", "stage": "None", "archive_existing_versions": True}
    assert wire.refused("model-versions/transition-stage", body)[:2] == (400, "INVALID_PARAMETER_VALUE")


# ---- search, compared with a model in Python


@dataclass
class Row:
    name: str
    version: int = 0
    run: str = ""
    source: str = ""
    tags: dict[str, str] = field(default_factory=dict)


def like(value: str | None, pattern: str, *, any_case: bool = False) -> bool:
    text = "".join(".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern)
    return value is not None and re.fullmatch(text, value, re.DOTALL | (re.IGNORECASE if any_case else 0)) is not None


@pytest.fixture(scope="module")
def shelf(server: str) -> tuple[str, list[Row], list[Row]]:
    """Models and versions that only these tests know: all names begin with a mark."""
    client, mark = MlflowClient(server, server), fresh("S")
    models: list[Row] = []
    for n in range(7):
        tags = {"team": "ab"[n % 2], **({"task": f"Task {n}"} if n % 3 else {})}
        models.append(Row(f"{mark} {'Delay' if n < 4 else 'price'} {n}", tags=tags))
        client.create_registered_model(models[-1].name, tags=tags)
    versions: list[Row] = []
    for n in range(24):
        tags = {"stage": ("dev", "Prod")[n % 2], **({"note": "x%y"} if n % 5 == 0 else {})}
        name = models[n % 3].name
        row = Row(name, n // 3 + 1, f"{mark}run{n % 4}" if n % 4 else "", f"s3://b/{mark}/{n % 6}", tags)
        client.create_model_version(name, row.source, run_id=row.run or None, tags=tags)
        versions.append(row)
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}, {"key": "team", "value": "a"}]
    with contextlib.closing(Wire(server)) as wire:
        wire.post("registered-models/create", name=f"{mark} prompt", tags=prompt)
    return mark, models, versions


MODELS = [
    ("name = '{m} Delay 1'", lambda r, m: r.name == f"{m} Delay 1"),
    ("name != '{m} Delay 1'", lambda r, m: r.name != f"{m} Delay 1"),
    ("name LIKE '%Delay%'", lambda r, m: "Delay" in r.name),
    ("name LIKE '%delay%'", lambda r, m: False),
    ("name ILIKE '%DELAY _'", lambda r, m: "Delay" in r.name),
    ("name IN ('{m} Delay 0', '{m} price 5', 'x')", lambda r, m: r.name[-1] in "05"),
    ("name NOT IN ('{m} Delay 0', '{m} price 5')", lambda r, m: r.name[-1] not in "05"),
    ("tags.team = 'a'", lambda r, m: r.tags["team"] == "a"),
    ("tags.team != 'a'", lambda r, m: r.tags["team"] != "a"),
    ("tags.task != 'Task 1'", lambda r, m: "task" in r.tags and r.tags["task"] != "Task 1"),
    ("tags.task LIKE 'Task%'", lambda r, m: like(r.tags.get("task"), "Task%")),
    ("tags.task ILIKE 'tASK _'", lambda r, m: "task" in r.tags),
    ("tags.team = 'b' AND tags.task = 'Task 5'", lambda r, m: r.tags == {"team": "b", "task": "Task 5"}),
    ("tag.`team` = 'a' and name like '%price%'", lambda r, m: r.tags["team"] == "a" and "price" in r.name),
    ("tags.`mlflow.prompt.is_prompt` = 'false'", lambda r, m: True),
    ("tags.never = 'x'", lambda r, m: False),
]
VERSIONS = [
    ("name = '{m} Delay 1'", lambda r, m: r.name.endswith("1")),
    ("name LIKE '%1'", lambda r, m: r.name.endswith("1")),
    ("name IN ('{m} Delay 0', '{m} Delay 2')", lambda r, m: r.name[-1] in "02"),
    ("version_number = 3", lambda r, m: r.version == 3),
    ("version_number > 3 AND version_number <= 6", lambda r, m: 3 < r.version <= 6),
    ("version_number != 1", lambda r, m: r.version != 1),
    ("run_id = '{m}run1'", lambda r, m: r.run == f"{m}run1"),
    ("run_id IN ('{m}run1', '{m}run3')", lambda r, m: r.run in (f"{m}run1", f"{m}run3")),
    ("run_id LIKE '%run_'", lambda r, m: r.run != ""),
    ("source_path = 's3://b/{m}/2'", lambda r, m: r.source.endswith("/2")),
    ("source_path LIKE '%/4'", lambda r, m: r.source.endswith("/4")),
    ("source_path ILIKE 'S3://%/5'", lambda r, m: r.source.endswith("/5")),
    ("tags.stage = 'Prod'", lambda r, m: r.tags["stage"] == "Prod"),
    ("tags.stage ILIKE 'prod'", lambda r, m: r.tags["stage"] == "Prod"),
    ("tags.note != 'z'", lambda r, m: "note" in r.tags),
    ("tags.note LIKE '%\\%y'", lambda r, m: False),
    ("tags.stage = 'dev' AND version_number >= 7", lambda r, m: r.tags["stage"] == "dev" and r.version >= 7),
    ("tags.stage = 'dev' AND tags.note = 'x%y'", lambda r, m: r.tags == {"stage": "dev", "note": "x%y"}),
]


@pytest.mark.parametrize(("text", "fits"), MODELS)
def test_search_of_models(client: MlflowClient, shelf: Any, text: str, fits: Any) -> None:
    mark, models, _ = shelf
    found = client.search_registered_models(text.replace("{m}", mark), max_results=1000)
    assert [f.name for f in found if f.name.startswith(mark)] == [r.name for r in models if fits(r, mark)]


@pytest.mark.parametrize(("text", "fits"), VERSIONS)
def test_search_of_versions(client: MlflowClient, shelf: Any, text: str, fits: Any) -> None:
    mark, _, versions = shelf
    found = client.search_model_versions(text.replace("{m}", mark), max_results=1000)
    ours = {(f.name, int(f.version)) for f in found if f.name.startswith(mark)}
    assert ours == {(r.name, r.version) for r in versions if fits(r, mark)}


@pytest.mark.parametrize(
    ("order", "key"),
    [
        (["name DESC"], lambda r: [-ord(c) for c in r.name]),
        (["version_number ASC", "name ASC"], lambda r: (r.version, r.name)),
        (["version_number DESC", "name DESC"], lambda r: (-r.version, [-ord(c) for c in r.name])),
        (["creation_timestamp"], lambda r: 0),
        (["last_updated_timestamp DESC", "name"], lambda r: 0),
    ],
)
def test_order_and_pages_of_versions(client: MlflowClient, shelf: Any, order: list[str], key: Any) -> None:
    mark, _, versions = shelf
    text = f"name LIKE '{mark}%'"
    whole = client.search_model_versions(text, order_by=order)
    paged, token = [], None
    while True:
        page = client.search_model_versions(text, order_by=order, max_results=5, page_token=token)
        assert len(page) == 5 or not page.token
        paged += page
        token = page.token
        if not token:
            break
    names = [(v.name, int(v.version)) for v in paged]
    assert names == [(v.name, int(v.version)) for v in whole]
    assert len(set(names)) == 24
    keys = [key(next(r for r in versions if (r.name, r.version) == name)) for name in names]
    assert keys == sorted(keys)


def test_order_and_pages_of_models(client: MlflowClient, shelf: Any) -> None:
    mark, models, _ = shelf
    names, token = [], None
    while True:
        page = client.search_registered_models(
            f"name LIKE '{mark}%'", order_by=["name DESC"], max_results=3, page_token=token
        )
        names += [m.name for m in page]
        token = page.token
        if not token:
            break
    assert names == sorted((m.name for m in models), reverse=True)
    newest = client.search_registered_models(f"name LIKE '{mark}%'", order_by=["last_updated_timestamp DESC"])
    times = [m.last_updated_timestamp for m in newest]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("registered-models/search", {"filter": "colour = 'x'"}),
        ("registered-models/search", {"filter": "name > 'x'"}),
        ("registered-models/search", {"filter": "name = 'a' OR name = 'b'"}),
        ("registered-models/search", {"filter": "metrics.m > 1"}),
        ("registered-models/search", {"order_by": "colour"}),
        ("registered-models/search", {"max_results": "1001"}),
        ("registered-models/search", {"page_token": "nonsense"}),
        ("model-versions/search", {"filter": "version_number LIKE '1'"}),
        ("model-versions/search", {"filter": "version_number = 'x'"}),
        ("model-versions/search", {"filter": "source_path IN ('a')"}),
        ("model-versions/search", {"max_results": "200001"}),
        ("model-versions/search", {"max_results": "0"}),
    ],
)
def test_searches_that_are_refused(wire: Wire, path: str, query: Any) -> None:
    assert wire.refused(path, None, "GET", query)[:2] == (400, "INVALID_PARAMETER_VALUE")


# ---- prompts


def test_prompts(fluent: Any, client: MlflowClient) -> None:
    name = fresh("p")
    made = fluent.genai.register_prompt(name, "Say {{word}}.", commit_message="first", tags={"lang": "en"})
    assert (made.version, made.template) == (1, "Say {{word}}.")
    fluent.genai.register_prompt(name, "Now say {{word}}!", commit_message="second")
    fluent.genai.set_prompt_alias(name, "live", 2)
    assert fluent.genai.load_prompt(name, 1).format(word="yes") == "Say yes."
    assert fluent.genai.load_prompt(f"prompts:/{name}@live").template == "Now say {{word}}!"
    assert fluent.genai.load_prompt(name, 1).commit_message == "first"
    assert fluent.genai.load_prompt(name, 9, allow_missing=True) is None
    assert name in [p.name for p in fluent.genai.search_prompts(f"name = '{name}'")]
    assert client.search_registered_models(f"name = '{name}'") == []
    assert client.search_model_versions(f"name = '{name}'") == []
    fluent.genai.set_prompt_tag(name, "team", "a")
    assert fluent.genai.get_prompt_tags(name)["team"] == "a"
    fluent.genai.delete_prompt_alias(name, "live")
    with pytest.raises(MlflowException):
        fluent.genai.load_prompt(f"prompts:/{name}@live")


def test_a_prompt_that_talks(fluent: Any) -> None:
    name = fresh("p")
    turns = [{"role": "system", "content": "You are {{who}}."}, {"role": "user", "content": "{{question}}"}]
    fluent.genai.register_prompt(name, turns)
    assert fluent.genai.load_prompt(name, 1).format(who="kind", question="Why?")[1]["content"] == "Why?"


def test_the_source_of_a_prompt_is_a_placeholder(wire: Wire, client: MlflowClient) -> None:
    tags = [{"key": "mlflow.prompt.is_prompt", "value": "true"}, {"key": "mlflow.prompt.text", "value": "x"}]
    body = {"name": model(client, 0), "tags": tags, "source": S3}
    assert wire.refused("model-versions/create", body)[:2] == (400, "INVALID_PARAMETER_VALUE")
    wire.post("model-versions/create", **{**body, "source": "dummy-source"})
