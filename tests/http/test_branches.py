"""Change sets, open commits and what moves branches, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from rooms_client import Answer, Client, client

from noria.data.http import routes
from noria.data.records import RepositoryKind
from noria.workspace import Workspace


@pytest.fixture
def http(workspace: Workspace) -> Client:
    workspace.data.create(workspace.project.id, "f", RepositoryKind.FILES, actor=workspace.actor)
    workspace.data.create(workspace.project.id, "t", RepositoryKind.TABLE, actor=workspace.actor, key=("k",))
    return client(routes(workspace.data, workspace.project.id))


def change(http: Client, *edits: dict[str, Any], **more: Any) -> Answer:
    return http.send("POST", "/v1/data/f/changes", {"edits": list(edits), **more})


def put(path: str, text: str) -> dict[str, str]:
    return {"op": "put", "path": path, "text": text}


def files(workspace: Workspace, ref: str = "main") -> dict[str, bytes]:
    repo = workspace.data.get(workspace.project.id, "f")
    return {e.path: workspace.data.read_file(repo, e.path, ref) for e in workspace.data.files(repo, ref)}


def test_a_change_set_lands_and_its_commit_is_shown(http: Client, workspace: Workspace) -> None:
    done = change(
        http,
        put("a", "1"),
        {"op": "put", "path": "b", "base64": "AAE=", "meta": {"x": 1}},
        {"op": "append", "path": "a", "text": "2"},
        {"op": "copy", "path": "b", "to": "c"},
        {"op": "move", "path": "c", "to": "d/c"},
        message="first",
    )
    assert done.status == 200, done.body
    assert files(workspace) == {"a": b"12", "b": b"\0\1", "d/c": b"\0\1"}
    shown = http.get(f"/v1/data/f/commits/{done.json['id']}").json
    assert shown["commit"]["message"] == "first"
    assert [c["path"] for c in shown["changes"]] == ["a", "b", "d/c"]


def test_a_new_name_takes_no_place_unasked(http: Client, workspace: Workspace) -> None:
    change(http, put("a", "1"), put("b", "2"))
    for op in ("copy", "move"):
        refused = change(http, {"op": op, "path": "a", "to": "b"})
        assert (refused.status, refused.json["error"]["code"]) == (409, "path_exists")
    assert change(http, {"op": "move", "path": "a", "to": "b", "overwrite": True}).status == 200
    assert files(workspace) == {"b": b"1"}


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"op": "put", "path": "x"}, "needs either text or base64"),
        ({"op": "put", "path": "x", "base64": "??"}, "base64 of edit 0"),
        ({"op": "put", "path": "../x", "text": ""}, "is refused"),
        ({"op": "copy", "path": "x"}, "says no 'to'"),
        ({"op": "delete", "path": "x"}, "no path 'x'"),
        ({"op": "burn", "path": "x"}, "burn"),
    ],
)
def test_bad_edits_are_4xx_with_the_reason(http: Client, edit: dict[str, Any], says: str) -> None:
    answer = change(http, edit)
    assert 400 <= answer.status < 500
    assert says in answer.error["message"]


def test_a_branch_is_merged_a_conflict_is_409(http: Client, workspace: Workspace) -> None:
    change(http, put("a", "1"))
    assert http.send("POST", "/v1/data/f/branches", {"branch": "x/y"}).status == 201
    change(http, put("b", "x"), branch="x/y")
    change(http, put("c", "main"))
    merged = http.send("POST", "/v1/data/f/merge", {"source": "x/y"}).json
    assert len(merged["parents"]) == 2
    assert files(workspace) == {"a": b"1", "b": b"x", "c": b"main"}
    change(http, put("a", "x"), branch="x/y")
    change(http, put("a", "main"))
    refused = http.send("POST", "/v1/data/f/merge", {"source": "x/y"})
    assert (refused.status, refused.error["code"]) == (409, "merge_conflict")
    assert refused.error["details"]["conflicts"] == ["a"]
    assert http.send("POST", "/v1/data/f/merge", {"source": "x/y", "strategy": "best"}).status == 400
    assert http.call("DELETE", "/v1/data/f/branches/x/y").status == 200
    assert http.send("POST", "/v1/data/f/merge", {"source": "x/y"}).status == 404


def test_history_is_rewritten_only_by_its_own_verbs(http: Client, workspace: Workspace) -> None:
    ids = [change(http, put("a", str(n)), message=f"m{n}").json["id"] for n in range(4)]
    assert http.send("POST", "/v1/data/f/tags", {"tag": "v1", "at": ids[0]}).status == 201
    assert http.get("/v1/data/f/tags").json["items"] == [{"tag": "v1", "commit": ids[0]}]
    page = http.get("/v1/data/f/log", "limit=3").json
    assert (page["items"][0]["branches"], page["items"][1]["branches"]) == (["main"], [])
    rest = http.get("/v1/data/f/log", f"limit=3&after={page['next']}").json
    assert [c["id"] for c in page["items"] + rest["items"]] == ids[::-1]
    assert rest["next"] is None
    assert http.send("POST", "/v1/data/f/squash", {"since": ids[1], "message": "two"}).status == 200
    assert [c["message"] for c in http.get("/v1/data/f/log").json["items"]] == ["two", "m1", "m0"]
    assert http.send("POST", "/v1/data/f/drop", {}).json["id"] == ids[1]
    assert http.send("POST", "/v1/data/f/revert", {"ref": ids[1]}).status == 200
    assert files(workspace) == {"a": b"0"}
    assert http.send("POST", "/v1/data/f/cherry-pick", {"ref": ids[1]}).status == 200
    assert files(workspace) == {"a": b"1"}
    assert http.send("POST", "/v1/data/f/reset", {"to": "v1", "expected": "0" * 64}).status == 409
    assert http.send("POST", "/v1/data/f/reset", {"to": "v1"}).json["id"] == ids[0]
    first = http.get("/v1/data/f/moves", "limit=2").json
    assert [m["verb"] for m in first["items"]] == ["reset", "cherry_pick"]
    assert (
        first["items"][0].items() >= {"before": first["items"][1]["after"], "after": ids[0], "branch": "main"}.items()
    )
    rest = http.get("/v1/data/f/moves", f"branch=main&after={first['next']}").json
    assert [m["verb"] for m in rest["items"]] == ["revert", "drop", "squash", *["change"] * 4, "create"]
    assert (rest["items"][-1]["after"], rest["next"]) == (None, None)
    for bad in ("after=x", "branch=nowhere", "limit=0"):
        assert 400 <= http.get("/v1/data/f/moves", bad).status < 500
    touched = http.get("/v1/data/f/touched", "path=a&limit=1").json
    assert [t["commit"]["id"] for t in touched["items"]] == [ids[0]]
    assert http.call("DELETE", "/v1/data/f/tags/v1").status == 200
    assert http.call("DELETE", "/v1/data/f/tags/v1").status == 404


def test_open_commits_of_files_and_of_rows(http: Client, workspace: Workspace) -> None:
    draft = http.send("POST", "/v1/data/f/drafts", {"message": "day"}).json
    one = f"/v1/data/f/drafts/{draft['id']}"
    assert http.send("POST", one, {"edits": [put("a", "1")]}).json["number"] == 1
    assert http.send("POST", one, {"edits": [put("b", "2")]}, idempotency_key="k").json["number"] == 2
    assert http.send("POST", one, {"edits": [put("b", "2")]}, idempotency_key="k").json["number"] == 2
    assert http.send("POST", one, {}).status == 400
    assert [d["id"] for d in http.get("/v1/data/f/drafts").json["items"]] == [draft["id"]]
    assert http.send("POST", one + "/finish", {}).json["message"] == "day"
    assert files(workspace) == {"a": b"1", "b": b"2"}
    assert http.get(one).json["state"] == "finished"

    rows = http.send("POST", "/v1/data/t/drafts", {}).json["id"]
    for k in (1, 2):
        done = http.send("POST", f"/v1/data/t/drafts/{rows}", {"rows": [{"k": k, "v": "x"}]})
        assert done.status == 200, done.body
    assert http.send("POST", f"/v1/data/t/drafts/{rows}/finish", {}).json["stats"]["added"] == 2
    dropped = http.send("POST", "/v1/data/t/drafts", {}).json["id"]
    assert http.call("DELETE", f"/v1/data/t/drafts/{dropped}").status == 200
    assert http.send("POST", f"/v1/data/t/drafts/{dropped}/finish", {}).status == 409


def test_conflicts_are_decided_path_by_path_and_looked_at_before(http: Client, workspace: Workspace) -> None:
    change(http, put("a", "1"), put("b", "1"))
    http.send("POST", "/v1/data/f/branches", {"branch": "x"})
    change(http, put("a", "x"), put("b", "x"), put("c", "x"), branch="x")
    change(http, put("a", "main"), put("b", "main"))
    body = {"source": "x", "resolve": {"a": "theirs"}}
    seen = http.send("POST", "/v1/data/f/merge/preview", body)
    assert seen.status == 200, seen.body
    assert (seen.json["how"], seen.json["count"], seen.json["conflicts"]) == ("merge", 1, ["b"])
    assert [(c["path"], c["kind"]) for c in seen.json["changes"]] == [("a", "changed"), ("c", "added")]
    refused = http.send("POST", "/v1/data/f/merge", body)
    assert (refused.status, refused.json["error"]["details"]["conflicts"]) == (409, ["b"])
    assert http.send("POST", "/v1/data/f/merge", {"source": "x", "resolve": {"a": "me"}}).status == 400
    done = http.send("POST", "/v1/data/f/merge", {"source": "x", "resolve": {"a": "theirs", "b": "ours"}})
    assert done.status == 200, done.body
    assert files(workspace) == {"a": b"x", "b": b"main", "c": b"x"}
    assert http.send("POST", "/v1/data/f/merge/preview", body).json["how"] == "nothing"
    picked = {"ref": "x", "resolve": {"*": "ours"}}
    assert http.send("POST", "/v1/data/f/cherry-pick", picked).status == 200
    assert http.send("POST", "/v1/data/t/merge", {"source": "main", "resolve": {"a": "ours"}}).status == 400
