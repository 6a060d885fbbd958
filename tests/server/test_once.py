"""A retried request has one effect (promise 4): every writing route of the API, with its Idempotency-Key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from looped_shop import ENDPOINT, ME, START_MS, Traffic, serve, settle
from rooms_client import Answer, Client, client  # pyright: ignore[reportMissingImports] - conftest.py says where it is
from test_loop import LoadingLoop  # pyright: ignore[reportMissingImports]

from noria.base.errors import Conflict
from noria.base.ids import RunId
from noria.base.times import DAY, HOUR, to_text
from noria.data.edits import Put
from noria.data.errors import ContractBroken
from noria.data.records import RepositoryKind
from noria.registry.records import CHAMPION
from noria.server.loop import LEASE
from noria.server.routes import all_routes
from noria.workspace import Workspace


class CalledLoop(LoadingLoop):
    """Without a thread: whoever asks does it."""

    def call(self, what: Callable[[], Any]) -> Any:
        return what()


@pytest.fixture
def api(shop: Workspace) -> Iterator[Client]:
    yield client(all_routes(shop, CalledLoop(shop)))
    shop.jobs.release_lease(LEASE)


ROW = {"id": "new", "at": "2013-01-20T00:00:00Z", "shop": "a", "n": 1, "price": 3.5}
OTHER = {"id": "newer", "at": "2013-01-20T00:00:00Z", "shop": "b", "n": 2, "price": 4.5}


def contract(ws: Workspace) -> dict[str, Any]:
    return msgspec.to_builtins(ws.data.infer_contract(ws.data.get(ws.project.id, "orders")))


def two_champions(ws: Workspace) -> None:
    serve(ws, 1)
    serve(ws, 2)


def spare(ws: Workspace) -> None:
    ws.data.append(ws.data.create(ws.project.id, "spare", RepositoryKind.TABLE, actor=ME, key=("id",)), [ROW], actor=ME)


def refused(ws: Workspace) -> None:
    """A batch in quarantine, and a contract that would take it by now."""
    orders = ws.data.get(ws.project.id, "orders")
    columns = {name: {"type": one["type"]} for name, one in contract(ws)["columns"].items()}
    ws.data.set_contract(orders, {"columns": columns, "rules": {"never": "n > 1000000"}}, actor=ME)
    with pytest.raises(ContractBroken):
        ws.data.append(orders, [ROW], actor=ME)
    ws.data.set_contract(orders, {"columns": columns}, actor=ME)


def on_its_way(ws: Workspace) -> None:
    serve(ws, 1)
    ws.delivery.release(ws.registry.version(ws.project.id, "tree", 2), actor=ME)
    settle(ws)


def album(ws: Workspace) -> None:
    """Files with a history, a branch, a tag and an open commit."""
    made = ws.data.create(ws.project.id, "album", RepositoryKind.FILES, actor=ME)
    for text in ("1", "2", "3"):
        ws.data.change(made, [Put("a", text)], actor=ME, message=text)
    ws.data.create_branch(made, "side", at="main~1", actor=ME)
    ws.data.change(made, [Put("b", "side")], actor=ME, branch="side")
    ws.data.tag(made, "v1", at="main~2", actor=ME)
    draft = ws.data.start(made, actor=ME)
    ws.data.edit(made, draft.id, [Put("c", "open")], actor=ME)


def lost(ws: Workspace) -> None:
    """Files with a commit that nothing leads to."""
    album(ws)
    ws.data.delete_branch(ws.data.get(ws.project.id, "album"), "side", actor=ME)


def spare_commit(ws: Workspace) -> None:
    """Files whose newest commit nothing else needs."""
    album(ws)
    ws.data.change(ws.data.get(ws.project.id, "album"), [Put("a", "4")], actor=ME)


def draft(ws: Workspace) -> str:
    return "/v1/data/album/drafts/" + ws.data.drafts(ws.data.get(ws.project.id, "album"))[0].id


def tracked(ws: Workspace) -> None:
    """Two clients' runs in the experiment `mine`, the second in the bin; `old` is in the bin as a whole."""
    mine = ws.tracking.create_experiment(ws.project.id, "mine", actor=ME)
    ws.tracking.create_experiment(ws.project.id, "old", actor=ME)
    with ws.db.write() as tx:
        for name in ("first", "second"):
            ws.tracking.create_run(tx, ws.project.id, mine.id, name=name, actor=ME, tags={"a": "1"})
    ws.tracking.delete_runs(ws.project.id, [named(ws, "second")], actor=ME)
    old = ws.tracking.experiment(ws.project.id, "old")
    ws.tracking.delete_experiment(ws.project.id, old.id, actor=ME)


def named(ws: Workspace, name: str) -> RunId:
    return ws.tracking.list_runs(ws.project.id, f"name = '{name}'", deleted=None).items[0].run.id


SAFE = {
    "post_v1_data_name_push",
    "post_v1_data_name_pull",
    "post_v1_data_name_fetch",
    "post_v1_admin_webhooks_id_test",
    "post_v1_adoptions",
    "post_v1_monitor_name_truth",
}
"""Safe to repeat by themselves: they send what is missing, and tests/data/test_transfer.py repeats them. A webhook is
tested again by a second test, which is what was asked for. The same adoption, the same truth is the one that there is:
tests/mlflow/test_mlflow_adopt.py repeats both."""

SAMPLES: dict[str, tuple[Callable[[Workspace], object], Any, Any, Any]] = {
    # operation: (what has to be there, path or what gives it, body, another body)
    "post_v1_clock": (lambda ws: None, "/v1/clock", {"to": to_text(START_MS + DAY)}, {"to": to_text(START_MS + 2 * DAY)}),
    "post_v1_captures_take": (lambda ws: None, "/v1/captures/take", None, None),
    "post_v1_data": (lambda ws: None, "/v1/data", {"name": "mine", "key": ["id"]}, {"name": "mine"}),
    "post_v1_rows": (
        lambda ws: None, "/v1/rows", {"repositories": {"orders": [ROW]}}, {"repositories": {"orders": [OTHER]}}
    ),
    "post_v1_data_name_rows": (lambda ws: None, "/v1/data/orders/rows", {"rows": [ROW]}, {"rows": [OTHER]}),
    "post_v1_data_name_columns": (
        lambda ws: None,
        "/v1/data/orders/columns",
        {"add": [{"name": "note", "type": "str"}]},
        {"add": [{"name": "other", "type": "str"}]},
    ),
    "post_v1_data_name_compact": (lambda ws: None, "/v1/data/orders/compact", {}, {"branch": "other"}),
    "put_v1_data_name_contract": (
        lambda ws: None, "/v1/data/orders/contract", lambda ws: {"contract": contract(ws)}, {"contract": {"columns": {}}}
    ),
    "post_v1_quarantine_id_offer": (refused, "/v1/quarantine/1/offer", {"rows": [ROW]}, {"rows": [OTHER]}),
    "post_v1_quarantine_id_drop": (refused, "/v1/quarantine/1/drop", {"reason": "a test"}, {"reason": "another"}),
    "post_v1_data_name_branches": (
        lambda ws: None, "/v1/data/orders/branches", {"branch": "try"}, {"branch": "other"}
    ),
    "post_v1_data_name_records": (
        lambda ws: None, "/v1/data/orders/records", {"records": [ROW]}, {"records": [OTHER]}
    ),
    "post_v1_data_name_changes": (
        album,
        "/v1/data/album/changes",
        {"edits": [{"op": "append", "path": "a", "text": "+"}]},
        {"edits": [{"op": "delete", "path": "a"}]},
    ),
    "post_v1_data_name_tags": (album, "/v1/data/album/tags", {"tag": "v2"}, {"tag": "v3"}),
    "delete_v1_data_name_tags_tag": (album, "/v1/data/album/tags/v1", None, None),
    "delete_v1_data_name_branches_branch": (album, "/v1/data/album/branches/side", None, None),
    "post_v1_data_name_merge": (album, "/v1/data/album/merge", {"source": "side"}, {"source": "v1"}),
    "post_v1_data_name_revert": (album, "/v1/data/album/revert", {"ref": "main"}, {"ref": "side"}),
    "post_v1_data_name_cherry_pick": (album, "/v1/data/album/cherry-pick", {"ref": "side"}, {"ref": "main"}),
    "post_v1_data_name_reset": (album, "/v1/data/album/reset", {"to": "main~1"}, {"to": "side"}),
    "post_v1_data_name_squash": (album, "/v1/data/album/squash", {"since": "v1"}, {"since": "main~1"}),
    "post_v1_data_name_drop": (spare_commit, "/v1/data/album/drop", {}, {"count": 2}),
    "post_v1_data_name_prune": (lost, "/v1/data/album/prune", {}, None),
    "post_v1_data_name_drafts": (album, "/v1/data/album/drafts", {"message": "a"}, {"message": "b"}),
    "post_v1_data_name_drafts_draft": (
        album,
        draft,
        {"edits": [{"op": "append", "path": "a", "text": "+"}]},
        {"edits": [{"op": "delete", "path": "a"}]},
    ),
    "post_v1_data_name_drafts_draft_finish": (album, lambda ws: draft(ws) + "/finish", {}, {"message": "other"}),
    "delete_v1_data_name_drafts_draft": (album, draft, None, None),
    "post_v1_admin_prune": (lambda ws: None, "/v1/admin/prune", None, None),
    "put_v1_admin_retention_what": (lambda ws: None, "/v1/admin/retention/logs", {"keep": "2d"}, {"keep": "3d"}),
    "put_v1_admin_quota_what": (lambda ws: None, "/v1/admin/quota/runs", {"most": 100}, {"most": None}),
    "post_v1_releases": (serve, "/v1/releases", {"model": "tree/2"}, {"model": "tree/2", "drill": True}),
    "post_v1_models_name_train": (serve, "/v1/models/tree/train", {"params": {"leaves": 5}}, {}),
    "post_v1_endpoints_name_rollback": (two_champions, "/v1/endpoints/shops/rollback", {}, {"drill": True}),
    "post_v1_endpoints_name_cancel": (on_its_way, "/v1/endpoints/shops/cancel", None, None),
    "post_v1_admin_repair": (lambda ws: None, "/v1/admin/repair", None, None),
    "post_v1_data_name_purge": (
        spare,
        "/v1/data/spare/purge",
        {"rows": "n = 1", "reason": "r", "dry_run": False},
        {"rows": "n = 2", "reason": "r", "dry_run": False},
    ),
    "post_v1_runs_delete": (
        tracked, "/v1/runs/delete", lambda ws: {"runs": [named(ws, "first")]}, lambda ws: {"runs": [named(ws, "second")]}
    ),
    "post_v1_runs_restore": (
        tracked, "/v1/runs/restore", lambda ws: {"runs": [named(ws, "second")]}, lambda ws: {"runs": [named(ws, "first")]}
    ),
    "post_v1_runs_move": (
        tracked,
        "/v1/runs/move",
        lambda ws: {"runs": [named(ws, "first")], "experiment": "new"},
        lambda ws: {"runs": [named(ws, "first")], "experiment": "other"},
    ),
    "post_v1_runs_purge": (
        tracked,
        "/v1/runs/purge",
        lambda ws: {"runs": [named(ws, "second")], "dry_run": False},
        lambda ws: {"older_than": "1d", "dry_run": False},
    ),
    "post_v1_runs_id_tags": (
        tracked,
        lambda ws: f"/v1/runs/{named(ws, 'first')}/tags",
        {"set": {"b": "2"}, "remove": ["a"]},
        {"set": {"c": "2"}},
    ),
    "put_v1_runs_id_note": (
        tracked, lambda ws: f"/v1/runs/{named(ws, 'first')}/note", {"text": "good"}, {"text": "bad"}
    ),
    "post_v1_experiments": (lambda ws: None, "/v1/experiments", {"name": "a/b"}, {"name": "a/c"}),
    "post_v1_experiments_rename": (
        tracked, "/v1/experiments/rename", {"experiment": "mine", "name": "x/mine"}, {"experiment": "old", "name": "y"}
    ),
    "post_v1_experiments_delete": (
        tracked, "/v1/experiments/delete", {"experiment": "mine"}, {"experiment": "old"}
    ),
    "post_v1_experiments_restore": (
        tracked, "/v1/experiments/restore", {"experiment": "old"}, {"experiment": "mine"}
    ),
    "post_v1_experiments_tags": (
        tracked,
        "/v1/experiments/tags",
        {"experiment": "mine", "set": {"team": "a"}},
        {"experiment": "mine", "remove": ["team"]},
    ),
    "post_v1_experiments_note": (
        tracked,
        "/v1/experiments/note",
        {"experiment": "mine", "text": "about cats"},
        {"experiment": "mine", "text": ""},
    ),
    "delete_v1_data_name": (spare, "/v1/data/spare", None, None),
    "post_v1_admin_gc": (lambda ws: None, "/v1/admin/gc", {"dry_run": False}, {"dry_run": True}),
    "put_v1_models_name_aliases_alias": (
        lambda ws: None, "/v1/models/tree/aliases/try", {"version": 2, "expected": None}, {"version": 3}
    ),
    "post_v1_endpoints_name_deployments": (
        lambda ws: None, "/v1/endpoints/shops/deployments", {"model": "tree"}, {"model": "tree/1"}
    ),
}  # fmt: skip


def writing() -> dict[str, str]:
    """Operation -> method of every route that writes, as the kept OpenAPI document has them."""
    paths = json.loads((Path(__file__).parents[1] / "golden" / "openapi.json").read_text())["paths"]
    found = [(m, one) for ops in paths.values() for m, one in ops.items() if m != "get"]
    return {one["operationId"]: m.upper() for m, one in found if not one["x-permission"].endswith(".read")}


def ask(api: Client, method: str, path: str, body: Any, key: str) -> Answer:
    return api.call(method, path, "", b"" if body is None else json.dumps(body).encode(), idempotency_key=key)


def said(answer: Answer) -> Any:
    """The answer; appending says by ``repeated`` that it is the second time."""
    return {name: value for name, value in answer.json.items() if name != "repeated"}


def traces(ws: Workspace) -> tuple[int, int, int]:
    """What a second effect would leave behind: an audit entry, an event, a job."""
    audit = len(ws.audit.list(ws.project.id, limit=1000).items)
    return audit, len(ws.assets.list_events(ws.project.id, limit=1000)), len(ws.jobs.list(ws.project.id, limit=1000))


@pytest.mark.parametrize("operation", sorted(writing().keys() - SAFE))
def test_every_writing_route_answers_a_repeated_request_and_does_nothing(
    shop: Workspace, api: Client, operation: str
) -> None:
    assert operation in SAMPLES, "a new route that writes needs a sample here, and has to hand call.once on"
    prepare, path, body, other = SAMPLES[operation]
    prepare(shop)
    path = path(shop) if callable(path) else path
    body, method = body(shop) if callable(body) else body, writing()[operation]
    before = traces(shop)
    first = ask(api, method, path, body, "k1")
    assert first.status in (200, 201, 202), first.json
    after = traces(shop)
    assert after != before
    again = ask(api, method, path, body, "k1")
    assert (again.status, said(again)) == (first.status, said(first))
    assert traces(shop) == after
    for reused in (
        ask(api, method, path, other(shop) if callable(other) else other, "k1") if other is not None else None,
        ask(api, "POST", "/v1/data", {"name": "another"}, "k1"),
        ask(api, "PUT", "/v1/models/tree/aliases/another", {"version": 1}, "k1"),
    ):
        assert reused is None or (reused.status, reused.error["code"]) == (409, "idempotency_key_reused")
    assert traces(shop) == after


def test_there_is_no_sample_of_a_route_that_is_gone() -> None:
    assert SAMPLES.keys() | SAFE == writing().keys()


# ---- repeated later, when the world has moved on: by the request itself, or by others


def champion(ws: Workspace) -> int | None:
    return ws.registry.alias(ws.project.id, "tree", CHAMPION)


def test_a_repeated_rollback_does_not_go_back_to_the_bad_model(shop: Workspace, api: Client) -> None:
    two_champions(shop)
    path = f"/v1/endpoints/{ENDPOINT}/rollback"
    first = ask(api, "POST", path, {}, "back").json
    assert (first["before"], first["after"], champion(shop)) == ("tree/2", "tree/1", 1)
    assert ask(api, "POST", path, {}, "back").json == first
    assert champion(shop) == 1
    assert shop.delivery.champions() == {ENDPOINT: "tree/1"}
    assert ask(api, "POST", path, {}, "forth").json["after"] == "tree/2"  # another request is another rollback
    assert ask(api, "POST", path, {}, "back").json == first
    assert champion(shop) == 2


def test_a_rollback_that_was_cut_short_is_finished_by_the_same_request(
    shop: Workspace, api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_champions(shop)
    path = f"/v1/endpoints/{ENDPOINT}/rollback"
    with monkeypatch.context() as patched:
        patched.setattr(shop.jobs, "lease_info", lambda name: (_ for _ in ()).throw(Conflict("cut short")))
        assert ask(api, "POST", path, {}, "back").error["message"] == "cut short"
    assert champion(shop) == 1
    assert ask(api, "POST", path, {}, "back").json["after"] == "tree/1"
    assert champion(shop) == 1
    assert len(shop.evidence.list(shop.project.id, tests=["rollback"], subject=ENDPOINT)) == 1


def test_a_repeated_release_begins_no_second_one(shop: Workspace, api: Client) -> None:
    first = ask(api, "POST", "/v1/releases", {"model": "tree"}, "r").json
    settle(shop)
    assert (first["number"], champion(shop)) == (3, 3)
    serve(shop, 1)
    again = ask(api, "POST", "/v1/releases", {"model": "tree"}, "r").json
    assert (again["id"], again["state"]) == (first["id"], "promoted")
    settle(shop)
    assert champion(shop) == 1
    assert len(shop.delivery.candidates()) == 1


def test_a_repeated_train_begins_no_second_training(shop: Workspace, api: Client) -> None:
    serve(shop, 1)
    first = ask(api, "POST", "/v1/models/tree/train", {"params": {"leaves": 4}}, "t").json
    settle(shop)
    assert ask(api, "POST", "/v1/models/tree/train", {"params": {"leaves": 4}}, "t").json["id"] == first["id"]
    assert len(shop.delivery.candidates()) == 1
    assert ask(api, "POST", "/v1/models/tree/train", {"params": {"leaves": 4}}, "u").json["id"] != first["id"]


def test_a_repeated_deployment_is_the_one_that_was_meant_then(shop: Workspace, api: Client) -> None:
    shop.registry.move_alias(shop.project.id, "tree", "try", 1, actor=ME)
    path = f"/v1/endpoints/{ENDPOINT}/deployments"
    first = ask(api, "POST", path, {"model": "tree@try"}, "d").json
    shop.registry.move_alias(shop.project.id, "tree", "try", 2, actor=ME)
    again = ask(api, "POST", path, {"model": "tree@try"}, "d").json
    assert (again["id"], again["model"]) == (first["id"], "tree/1")
    assert [d.model for d in shop.serving.status(ENDPOINT).deployments] == ["tree/1"]


def test_a_repeated_move_of_an_alias_is_no_lost_race_and_moves_nothing_back(shop: Workspace, api: Client) -> None:
    path, body = "/v1/models/tree/aliases/try", {"version": 2, "expected": None}
    first = ask(api, "PUT", path, body, "a").json
    assert (
        ask(api, "PUT", path, body, "a").json == first == {"model": "tree", "alias": "try", "before": None, "after": 2}
    )
    assert ask(api, "PUT", path, body, "b").error["code"] == "alias_moved"
    shop.registry.move_alias(shop.project.id, "tree", "try", 3, actor=ME)
    assert ask(api, "PUT", path, body, "a").json == first
    assert shop.registry.alias(shop.project.id, "tree", "try") == 3


def test_a_repeated_move_of_the_clock_has_the_first_answer(shop: Workspace, api: Client) -> None:
    body = {"to": to_text(START_MS + 2 * DAY)}
    first = ask(api, "POST", "/v1/clock", body, "c").json
    assert first["watermark"] == body["to"]
    assert ask(api, "POST", "/v1/clock", {"to": to_text(START_MS + 2 * DAY + HOUR)}, "d").json["days"] == 0
    assert ask(api, "POST", "/v1/clock", body, "c").json == first  # without the key, time would go back
    assert ask(api, "POST", "/v1/clock", body, "e").error["code"] == "clock_backwards"


def test_a_repeated_cancel_leaves_a_later_release_alone(shop: Workspace, api: Client) -> None:
    path = f"/v1/endpoints/{ENDPOINT}/cancel"
    assert ask(api, "POST", path, None, "none").json == {"items": []}
    on_its_way(shop)
    assert ask(api, "POST", path, None, "none").json == {"items": []}
    assert len(shop.delivery.open_rollouts(ENDPOINT)) == 1
    (cancelled,) = ask(api, "POST", path, None, "one").json["items"]
    assert cancelled["state"] == "cancelled"
    shop.delivery.release(shop.registry.version(shop.project.id, "tree", 3), actor=ME)
    settle(shop)
    assert ask(api, "POST", path, None, "one").json["items"][0]["id"] == cancelled["id"]
    assert len(shop.delivery.open_rollouts(ENDPOINT)) == 1


def test_repeated_rows_change_nothing_later(shop: Workspace, api: Client) -> None:
    path = "/v1/data/orders/rows"
    expected = shop.data.resolve(shop.data.get(shop.project.id, "orders")).id
    first = ask(api, "POST", path, {"rows": [ROW], "expected": expected}, "rows").json
    assert ask(api, "POST", path, {"rows": [ROW], "expected": expected}, "rows").json == first
    gone = {"rows": [{"id": "elsewhere"}], "mode": "delete"}
    nothing = ask(api, "POST", path, gone, "gone").json
    assert nothing["id"] == first["id"]  # there was nothing to delete
    later = ask(api, "POST", path, {"rows": [{**ROW, "id": "elsewhere"}]}, "later").json
    assert ask(api, "POST", path, gone, "gone").json == nothing
    assert shop.data.resolve(shop.data.get(shop.project.id, "orders")).id == later["id"]


def test_captures_are_taken_once_and_the_answer_is_kept(shop: Workspace, api: Client) -> None:
    made = serve(shop, 1)
    Traffic(shop).day({made.id: lambda y, _: y * 0.5 + 0.2}, process=False)
    first = ask(api, "POST", "/v1/captures/take", None, "take").json
    assert first == {"rows": {ENDPOINT: 80}}
    assert ask(api, "POST", "/v1/captures/take", None, "take").json == first
    assert ask(api, "POST", "/v1/captures/take", None, "more").json == {"rows": {}}
