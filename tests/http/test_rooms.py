"""The control API of the rooms: what it answers, and how it says no."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from rooms_client import Client, all_routes, client

from noria.base.pages import token
from noria.http import openapi
from noria.http.access import BEARER
from noria.workspace import Workspace, connect


def test_runs_are_listed_in_pages_and_searched(http: Client) -> None:
    first = http.get("/v1/runs", "kind=step&limit=2").json
    second = http.get("/v1/runs", urlencode({"kind": "step", "limit": 2, "after": first["next"]})).json
    ids = [one["run"]["id"] for one in (*first["items"], *second["items"])]
    assert len(set(ids)) == len(ids) >= 3
    assert ids == sorted(ids, reverse=True)
    found = http.get("/v1/runs", urlencode({"filter": 'params.factor = "3" and kind = "step"'})).json["items"]
    assert [(one["run"]["name"], one["params"]) for one in found] == [("total", {"factor": "3"})]
    assert found[0]["metrics"] == {"odd": "NaN", "part/rows": 3}
    assert found[0]["run"]["trigger"] == "a test"
    assert {one["run"]["state"] for one in http.get("/v1/runs", "state=failed").json["items"]} == {"failed"}
    children = http.get("/v1/runs", "parent=" + found[0]["run"]["parent"]).json["items"]
    assert {one["run"]["name"] for one in children} == {"clean", "total"}
    ordered = http.get("/v1/runs", urlencode({"experiment": "total", "order": "params.factor asc"})).json["items"]
    assert [one["params"]["factor"] for one in ordered] == ["2", "3"]


def test_a_run_shows_what_it_read_made_and_said(http: Client) -> None:
    (one,) = http.get("/v1/runs", urlencode({"filter": 'params.factor = "3"'})).json["items"]
    run = http.get("/v1/runs/" + one["run"]["id"]).json
    assert {(e["direction"], e["asset"]) for e in run["edges"]} >= {("in", "clean"), ("out", "total"), ("code", "code")}
    assert run["metrics"]["part/rows"]["step"] == 2
    path = f"/v1/runs/{one['run']['id']}/metrics/part/rows"
    page = http.get(path, "limit=1").json
    assert [p["value"] for p in page["items"]] == [2.0]
    rest = http.get(path, urlencode({"after": page["next"]})).json
    assert [(p["value"], p["step"]) for p in rest["items"]] == [(3.0, 2)]
    parent = http.get("/v1/runs/" + one["run"]["parent"]).json
    assert {c["name"] for c in parent["children"]} == {"clean", "total"}
    (clean,) = [c for c in parent["children"] if c["name"] == "clean"]
    assert http.get(f"/v1/runs/{clean['id']}/logs").json == {"run": clean["id"], "name": "clean", "lines": ["cleaning"]}


def test_assets_show_what_they_stand_at_and_what_was_applied(http: Client) -> None:
    assets = {a["name"]: a for a in http.get("/v1/assets").json["items"]}
    assert assets["total"]["inputs"] == ["clean"]
    assert assets["clean"]["current"]["rows"] == 2
    assert [a["name"] for a in http.get("/v1/assets", "kind=source").json["items"]] == ["orders"]
    one = http.get("/v1/assets/total").json
    assert one["spec"]["params"] == {"factor": 2}
    assert one["entry"] == "http_steps:total"
    versions = http.get("/v1/assets/total/versions", "limit=1").json
    older = http.get("/v1/assets/total/versions", urlencode({"after": versions["next"]})).json
    assert len({v["digest"] for v in (*versions["items"], *older["items"])}) == 2
    assert http.get("/v1/assets/broken/versions").json["items"] == []


def test_events_are_read_on_from_a_number(http: Client) -> None:
    first = http.get("/v1/events", "limit=2").json
    assert len(first["items"]) == 2
    rest = http.get("/v1/events", f"after={first['next']}&limit=1000").json
    assert all(e["id"] > first["next"] for e in rest["items"])
    end = http.get("/v1/events", f"after={rest['next']}").json
    assert end == {"items": [], "next": rest["next"]}
    named = http.get("/v1/events", "types=model.registered,project.applied&limit=1000").json["items"]
    assert {e["type"] for e in named} == {"model.registered", "project.applied"}


def test_jobs_are_listed_and_shown(http: Client) -> None:
    (job,) = http.get("/v1/jobs", "kind=ingest,sweep&state=waiting").json["items"]
    assert http.get(f"/v1/jobs/{job['id']}").json == job
    assert http.get("/v1/jobs", "state=done").json["items"] == []


def test_models_are_shown_and_aliases_moved_by_compare_and_swap(http: Client) -> None:
    assert [m["name"] for m in http.get("/v1/models").json["items"]] == ["chance"]
    path = "/v1/models/chance/aliases/champion"
    assert http.send("PUT", path, {"version": 1}).json == {
        "model": "chance", "alias": "champion", "before": None, "after": 1,
    }  # fmt: skip
    assert http.send("PUT", path, {"version": 2, "expected": 1}).json["before"] == 1
    late = http.send("PUT", path, {"version": 1, "expected": 1})
    assert (late.status, late.error["code"], late.error["details"]["found"]) == (409, "alias_moved", 2)
    assert http.send("PUT", path, {"version": 1, "expected": None}).status == 409
    shown = http.get("/v1/models/chance").json
    assert [v["aliases"] for v in shown["versions"] if v["number"] == 2] == [["champion"]]
    assert http.send("PUT", path, {"version": None}).json["after"] is None
    assert http.get("/v1/models/chance").json["model"]["aliases"] == {}


def test_endpoints_are_shown_and_a_model_that_noria_did_not_store_is_refused(http: Client) -> None:
    (one,) = http.get("/v1/endpoints").json["items"]
    assert one["endpoint"]["policy"] == {"p99_ms": 20}
    shown = http.get("/v1/endpoints/returns").json
    assert (shown["routing"]["number"], shown["routing"]["at"], shown["deployments"]) == (0, None, [])
    refused = http.send("POST", "/v1/endpoints/returns/deployments", {"model": "chance/2"})
    assert (refused.status, refused.error["code"]) == (400, "training_invalid")


MISSING = [
    ("GET", "/v1/runs/ffff", "run_not_found", "noria runs list"),
    ("GET", "/v1/runs/_", "run_not_found", "noria runs list"),
    ("GET", "/v1/runs/" + "f" * 70_000, "run_not_found", "noria runs list"),
    ("GET", "/v1/runs/ffff/metrics/x", "run_not_found", "noria runs list"),
    ("GET", "/v1/runs/ffff/logs", "run_not_found", "noria runs list"),
    ("GET", "/v1/assets/totl", "asset_not_found", "Did you mean 'total'?"),
    ("GET", "/v1/assets/totl/versions", "asset_not_found", "Did you mean 'total'?"),
    ("GET", "/v1/jobs/99", "job_not_found", ""),
    ("GET", "/v1/jobs/²", "job_not_found", ""),
    ("GET", "/v1/models/", "not_found", "GET /openapi.json lists what there is."),
    ("GET", "/v1/jobs/99999999999999999999999", "job_not_found", ""),
    ("GET", "/v1/models/chanse", "model_not_found", "Did you mean 'chance'?"),
    ("GET", "/v1/endpoints/retruns", "endpoint_not_found", "Did you mean 'returns'?"),
    ("PUT", "/v1/models/chanse/aliases/champion", "model_not_found", "Did you mean 'chance'?"),
    ("PUT", "/v1/models/chance/aliases/champion", "model_not_found", "noria models show chance"),
    ("POST", "/v1/endpoints/retruns/deployments", "endpoint_not_found", "Did you mean 'returns'?"),
    ("POST", "/v1/endpoints/returns/deployments", "model_not_found", ""),
    ("GET", "/v1/nothing", "not_found", "GET /openapi.json lists what there is."),
]


@pytest.mark.parametrize(("method", "path", "code", "hint"), MISSING, ids=[m[0] + m[1][:40] for m in MISSING])
def test_unknown_names_are_404_with_the_nearest(http: Client, method: str, path: str, code: str, hint: str) -> None:
    body = {"PUT": {"version": 99}, "POST": {"model": "nope@champion"}}.get(method)
    found = http.get(path) if body is None else http.send(method, path, body)
    assert (found.status, found.error["code"]) == (404, code)
    assert hint in found.error["hint"]


def test_a_metric_that_a_run_does_not_have_is_404(http: Client) -> None:
    (one,) = http.get("/v1/runs", urlencode({"filter": 'params.factor = "3"'})).json["items"]
    found = http.get(f"/v1/runs/{one['run']['id']}/metrics/part/rwos")
    assert (found.status, found.error["hint"]) == (404, "Did you mean 'part/rows'?")


BAD: list[tuple[str, str, dict[str, Any], bytes]] = [
    ("GET", "/v1/runs", {"limit": "0"}, b""),
    ("GET", "/v1/runs", {"limit": "many"}, b""),
    ("GET", "/v1/runs", {"limit": "9" * 40}, b""),
    ("GET", "/v1/runs", {"state": "doen"}, b""),
    ("GET", "/v1/runs", {"filter": "metrics.x <"}, b""),
    ("GET", "/v1/runs", {"columns": "metric."}, b""),
    ("GET", "/v1/runs", {"order": "rows"}, b""),
    ("GET", "/v1/runs", {"after": "x"}, b""),
    ("GET", "/v1/runs", {"kind": "a\0b"}, b""),
    ("GET", "/v1/runs", {"filter": "params.x like '" + "%a" * 40_000 + "'"}, b""),
    ("GET", "/v1/runs/a\0b", {}, b""),
    ("GET", "/v1/runs", {"after": token([1, "a\0b"])}, b""),
    ("POST", "/v1/endpoints/returns/deployments", {}, b'{"model": "chance\\u0000"}'),
    ("POST", "/v1/endpoints/returns/deployments", {}, b'{"model": "chance", "\\u0000": 1}'),
    ("GET", "/v1/runs", {"after": token(["x", "y"])}, b""),
    ("GET", "/v1/runs", {"after": token([1])}, b""),
    ("GET", "/v1/runs", {"filter": 'state = "done"', "after": token(-1)}, b""),
    ("GET", "/v1/assets/total/versions", {"after": token("x")}, b""),
    ("GET", "/v1/assets/total/versions", {"after": token(10**30)}, b""),
    ("GET", "/v1/events", {"after": "-1"}, b""),
    ("GET", "/v1/events", {"after": "9" * 30}, b""),
    ("GET", "/v1/jobs", {"state": "asleep"}, b""),
    ("PUT", "/v1/models/chance/aliases/champion", {}, b""),
    ("PUT", "/v1/models/chance/aliases/champion", {}, b"{"),
    ("PUT", "/v1/models/chance/aliases/champion", {}, b'{"version": 1.5}'),
    ("PUT", "/v1/models/chance/aliases/champion", {}, b'{"version": 0}'),
    ("PUT", "/v1/models/chance/aliases/champion", {}, b'{"version": 99999999999999999999}'),
    ("PUT", "/v1/models/chance/aliases/champion", {}, b'{"version": 1, "expectd": 1}'),
    ("PUT", "/v1/models/chance/aliases/latest", {}, b'{"version": 1}'),
    ("PUT", "/v1/models/chance/aliases/v3", {}, b'{"version": 1}'),
    ("POST", "/v1/endpoints/returns/deployments", {}, b"{}"),
    ("POST", "/v1/endpoints/returns/deployments", {}, b'{"model": ""}'),
    ("POST", "/v1/endpoints/returns/deployments", {}, b'{"model": 3}'),
    ("POST", "/v1/endpoints/returns/deployments", {}, b"\xff\xfe"),
    ("POST", "/v1/endpoints/returns/deployments", {}, b"[" * 100_000),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_requests_are_400_in_the_one_form(http: Client, number: int) -> None:
    method, path, query, body = BAD[number]
    found = http.call(method, path, urlencode(query), body)
    assert found.status == 400, found.json
    assert found.error["message"]
    assert "Traceback" not in found.body.decode()


def test_an_escaped_backslash_is_no_nul(http: Client) -> None:
    found = http.call("POST", "/v1/endpoints/returns/deployments", "", b'{"model": "\\\\u0000"}')
    assert (found.status, found.error["code"]) == (404, "model_not_found")


def test_a_path_with_a_slash_too_many_is_not_redirected_before_the_caller_is_checked(http: Client) -> None:
    assert http.call("GET", "/v1/models/", "", b"", origin="https://evil.example").status == 404


def test_a_body_that_is_too_large_and_a_wrong_method_have_their_status(http: Client) -> None:
    large = http.call("POST", "/v1/endpoints/returns/deployments", "", b" " * ((1 << 20) + 1))
    assert (large.status, large.error["code"]) == (413, "request_too_large")
    wrong = http.call("DELETE", "/v1/runs")
    assert (wrong.status, wrong.error["code"]) == (405, "method_not_allowed")


def test_callers_from_other_sites_are_denied_everywhere(http: Client, shop: Workspace) -> None:
    for route in all_routes(shop):
        path = route.path.replace("{name}", "x").replace("{id}", "1").replace("{alias}", "a").replace("{key:path}", "k")
        for header in ({"origin": "https://evil.example"}, {"host": "evil.example"}, {"sec_fetch_site": "cross-site"}):
            found = http.call(route.method, path, "", b"{}", **header)
            assert found.status == (403 if "host" in header else 401), (route.path, header)
            assert found.headers.get("www-authenticate") == (None if "host" in header else BEARER)


def test_another_project_sees_nothing_of_this_one(http: Client, shop: Workspace) -> None:
    (one,) = http.get("/v1/runs", urlencode({"filter": 'params.factor = "3"'})).json["items"]
    (job,) = http.get("/v1/jobs").json["items"]
    with connect(shop.home.parent, project="elsewhere") as other:
        foreign = client(all_routes(other))
        for path in ("runs", "assets", "models", "endpoints", "jobs", "events", "data"):
            assert foreign.get(f"/v1/{path}").json["items"] == []
        for path in (f"runs/{one['run']['id']}", f"runs/{one['run']['id']}/metrics/part/rows", f"jobs/{job['id']}"):
            assert foreign.get(f"/v1/{path}").status == 404
        for path in ("assets/total", "models/chance", "endpoints/returns"):
            assert foreign.get(f"/v1/{path}").status == 404


def test_every_route_is_in_the_openapi_document(shop: Workspace) -> None:
    made = openapi.document(all_routes(shop), "0")
    ids = [op["operationId"] for path in made["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids)) == len(all_routes(shop))
    assert "/v1/runs/{id}/metrics/{key}" in made["paths"]
    assert not any(path.startswith(("/v1/plan", "/v1/sweep")) for path in made["paths"])
    assert set(made["components"]["schemas"]["ErrorBody"]["properties"]) == {"code", "message", "hint", "details"}
    json.dumps(made)


def test_runs_come_with_chosen_columns_curves_and_folders(http: Client) -> None:
    query = {"filter": 'params.factor = "3"', "columns": "params.factor,metrics.odd"}
    (one,) = http.get("/v1/runs", urlencode(query)).json["items"]
    assert (one["params"], one["metrics"], one["experiment"]) == ({"factor": "3"}, {"odd": "NaN"}, "total")
    id = one["run"]["id"]
    curve = http.get(f"/v1/runs/{id}/metrics/part/rows", "points=10").json
    assert (curve["total"], [p["value"] for p in curve["items"]], curve["next"]) == (2, [2.0, 3.0], None)
    curves = http.get("/v1/curves", urlencode({"runs": id, "key": "part/rows", "start": 2})).json["items"]
    assert [(c["run"], c["total"], [p["step"] for p in c["points"]]) for c in curves] == [(id, 2, [2])]
    assert http.get("/v1/curves", urlencode({"runs": id, "key": "part/rows", "points": 0})).status == 400
    assert http.get("/v1/curves", urlencode({"runs": "0" * 32, "key": "k"})).status == 404
    assert http.get(f"/v1/runs/{id}/artifacts").json == {"items": [], "next": None}
    shown = http.get(f"/v1/runs/{id}").json
    assert (shown["experiment"], shown["models_made"], shown["purged"]) == ("total", [], None)
    assert http.get("/v1/runs", "state=nothing").status == 400
    assert http.get("/v1/runs", "after=x&filter=kind%3D'step'").status == 400
    names = [e["name"] for e in http.get("/v1/experiments", "order=name").json["items"]]
    assert "total" in names
    assert http.get("/v1/experiments", "under=nowhere").json["items"] == []


def test_what_a_purge_would_delete_is_counted_over_http(http: Client) -> None:
    assert http.send("POST", "/v1/runs/purge", {}).json["dry_run"] is True
    assert http.send("POST", "/v1/runs/purge", {"now": True}).status == 400
    assert http.send("POST", "/v1/runs/purge", {"runs": []}).json["runs"] == 0
    assert http.send("POST", "/v1/runs/purge", {"experiment": "nothing"}).status == 404
    assert http.send("POST", "/v1/runs/purge", {"older_than": "soon"}).status == 400
