"""Over HTTP what the commands do: administration, branches, quarantine, comparisons; and which commands have no route."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import polars as pl
import pytest
from looped_shop import ME
from rooms_client import Client, client  # pyright: ignore[reportMissingImports] - conftest.py says where it is

from noria.assets.retention import DEFAULTS
from noria.cli.main import COMMANDS, noria
from noria.data.errors import ContractBroken
from noria.server.routes import all_routes
from noria.workspace import Workspace, connect


@pytest.fixture
def api(shop: Workspace) -> Client:
    return client(all_routes(shop))


def commands() -> Iterator[str]:
    context = click.Context(noria)
    for name in COMMANDS:
        yield from _commands(noria.get_command(context, name), name)


def _commands(found: click.Command | None, name: str) -> Iterator[str]:
    if isinstance(found, click.Group):
        context = click.Context(found)
        for part in found.list_commands(context):  # a lazy group has its commands only when they are asked for
            yield from _commands(found.get_command(context, part), f"{name} {part}")
    else:
        yield name


def test_every_command_has_a_route_or_is_named_in_the_documents_with_the_reason(workspace: Workspace) -> None:
    routed = {route.cli.removeprefix("noria ") for route in all_routes(workspace) if route.cli}
    text = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    excluded = {
        name
        for line in text.splitlines()
        if line.startswith("| `")
        for name in re.findall("`([^`]+)`", line.split("|")[1])
    }
    known = set(commands())
    assert excluded <= known
    for name in known:
        has = any(one == name or one.startswith(name + " ") for one in routed)
        assert has != (name in excluded), name
    for one in routed:
        assert any(one == name or one.startswith(name + " ") for name in known), one


def test_audit_and_its_chain(shop: Workspace, api: Client) -> None:
    page = api.get("/v1/admin/audit", "limit=2").json
    assert len(page["items"]) == 2
    rest = api.get("/v1/admin/audit", f"limit=2&after={page['next']}").json
    assert rest["items"][0]["seq"] < page["items"][1]["seq"]
    assert api.get("/v1/admin/audit/verify").json == {"faults": []}
    assert api.get("/v1/admin/verify").json == {"faults": []}
    assert api.get("/v1/admin/verify", "data=true").json == {"faults": []}
    for query in ("limit=0", "after=x", "limits=3"):
        assert api.get("/v1/admin/audit", query).status == 400, query


def test_retention_is_shown_and_set(shop: Workspace, api: Client) -> None:
    assert api.get("/v1/admin/retention").json["keep"]["segments"] == "7d"
    found = api.send("PUT", "/v1/admin/retention/segments", {"keep": "2d"})
    assert (found.status, found.json["keep"]["segments"]) == (200, "2d")
    assert api.get("/v1/admin/retention").json == found.json
    for what, keep in (("segments", "soon"), ("events", "1s"), ("nothing", "1d")):
        assert api.send("PUT", f"/v1/admin/retention/{what}", {"keep": keep}).status == 400
    assert set(api.call("POST", "/v1/admin/prune").json["removed"]) == set(DEFAULTS)


def test_branches_are_made(shop: Workspace, api: Client) -> None:
    made = api.send("POST", "/v1/data/orders/branches", {"branch": "try"})
    head = shop.data.resolve(shop.data.get(shop.project.id, "orders")).id
    assert (made.status, made.json) == (201, {"name": "try", "head": head})
    assert api.send("POST", "/v1/data/orders/branches", {"branch": "try"}).status == 409
    assert api.send("POST", "/v1/data/orders/branches", {"branch": "../x"}).status == 400
    assert api.send("POST", "/v1/data/nothing/branches", {"branch": "x"}).status == 404


def test_a_refused_batch_is_shown_to_its_own_project_only(shop: Workspace, api: Client) -> None:
    orders = shop.data.get(shop.project.id, "orders")
    shop.data.set_contract(orders, {"columns": {"n": {"type": "int64", "max": 100}}}, actor=ME)
    wrong = shop.data.read(orders).head(3).with_columns(n=pl.lit(1000, pl.Int64))
    with pytest.raises(ContractBroken):
        shop.data.append(shop.data.get(shop.project.id, "orders"), wrong, actor=ME)
    (batch,) = api.get("/v1/quarantine").json["items"]
    shown = api.get(f"/v1/quarantine/{batch['id']}", "rows=2").json
    assert (shown["batch"], [r["n"] for r in shown["rows"]]) == (batch, [1000, 1000])
    for number in ("99", "x", "²", "9" * 30):
        assert api.get(f"/v1/quarantine/{number}").status == 404
    with connect(shop.home.parent, project="elsewhere") as other:
        assert client(all_routes(other)).get(f"/v1/quarantine/{batch['id']}").status == 404


def test_runs_are_compared(shop: Workspace, api: Client) -> None:
    first, second = (r.id for r in shop.assets.list_runs(shop.project.id, name="tree", kinds=["step"]).items[:2])
    found = api.get("/v1/compare/runs", f"runs={first},{second}").json
    assert [r["id"] for r in found["runs"]] == [first, second]
    assert set(found["params"]) == {"leaves"}
    assert len(found["params"]["leaves"]) == 2
    assert api.get("/v1/compare/runs", f"runs={first},ffff").status == 404
    assert api.get("/v1/compare/runs").status == 400


def test_without_processes_that_answer_their_status_is_503(api: Client) -> None:
    found = api.get("/v1/serving")
    assert (found.status, found.error["code"], found.error["hint"]) == (503, "nothing_serves", "noria up")
