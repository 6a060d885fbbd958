from __future__ import annotations

import uuid
from collections.abc import Iterator

import polars as pl
import pytest
from trained_shop import ME, POLICY, PROJECT, arm, route, trained, version

from noria.serving.errors import (
    ContractChanged,
    DeploymentMove,
    DeploymentNotFound,
    EndpointNotFound,
    NotOnline,
    RoutingInvalid,
    RoutingMoved,
)
from noria.serving.records import Deployment, DeploymentState, Endpoint
from noria.serving.segments import Captured, CapturedRow, SegmentWriter
from noria.training.errors import TrainingInvalid
from noria.workspace import Workspace

MORE = """

shops = nr.source("shops", key="shop")


@nr.features(of=orders, at=pl.col("at"))
def whole(orders: pl.LazyFrame, shops) -> pl.LazyFrame:
    return orders.join(shops.select("shop", "seats"), on="shop", how="left").select("id", "seats", "n")


@nr.model(features=whole, target=returned, split=SPLIT, metrics=["log_loss"])
def bulky(train: nr.Rows, valid: nr.Rows):
    return LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(train.X, train.y)


@nr.features(of=outcomes, at=pl.col("known"))
def ending(outcomes: pl.LazyFrame) -> pl.LazyFrame:
    return outcomes.select("id", hour=pl.col("known").dt.hour(), day=pl.col("known").dt.day())


@nr.labels(of=outcomes, after="1d")
def again(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.select("id", again=pl.col("n") > 4)


@nr.model(features=ending, target=again, split=SPLIT, metrics=["log_loss"])
def other(train: nr.Rows, valid: nr.Rows):
    return LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(train.X, train.y)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with trained(tmp_path_factory.mktemp("service"), 3, PROJECT + MORE) as ws:
        yield ws


@pytest.fixture
def endpoint(shop: Workspace) -> Endpoint:
    """A new endpoint for each test."""
    return shop.serving.ensure(f"e{uuid.uuid4().hex[:8]}", "tree", POLICY, actor=ME)


def deployed(ws: Workspace, endpoint: Endpoint, number: int) -> Deployment:
    made = ws.serving.deploy(endpoint, version(ws, number), actor=ME)
    ws.serving.mark(made.id, DeploymentState.READY)
    return ws.serving.deployment(made.id)


def test_a_new_endpoint_has_no_traffic_and_its_policy_is_what_was_said_last(
    shop: Workspace, endpoint: Endpoint
) -> None:
    assert (endpoint.revision, endpoint.contract, endpoint.policy) == (0, {}, POLICY)
    assert shop.serving.ensure(endpoint.name, "tree", {"p99_ms": 9}, actor=ME).policy == {"p99_ms": 9}
    assert shop.serving.get(endpoint.name).id == endpoint.id
    assert shop.serving.status(endpoint.name).routing.arms == ()
    assert endpoint.name in {e.name for e in shop.serving.endpoints_of("tree")}


def test_an_unknown_name_is_named_with_its_nearest(shop: Workspace) -> None:
    shop.serving.ensure("returns-nearest", "tree", POLICY, actor=ME)
    with pytest.raises(EndpointNotFound) as caught:
        shop.serving.get("returns-nearst")
    assert "returns-nearest" in caught.value.hint
    with pytest.raises(DeploymentNotFound):
        shop.serving.deployment(10**9)


def test_deploying_fixes_the_contract_and_gives_no_traffic(shop: Workspace, endpoint: Endpoint) -> None:
    before = shop.serving.stamp()
    made = shop.serving.deploy(endpoint, version(shop, 1), actor=ME)
    assert (made.state, made.model, made.endpoint) == (DeploymentState.STARTING, "tree/1", endpoint.name)
    assert shop.serving.get(endpoint.name).contract == {
        "source": "orders",
        "key": ["id"],
        "columns": {"id": "str", "at": "datetime[us, UTC]", "shop": "str", "n": "int64", "price": "float64"},
    }
    plan = shop.serving.plan()
    assert made.id in {d.id for d in plan.deployments}
    assert endpoint.name not in plan.routings
    assert shop.serving.stamp() != before
    package, code = shop.serving.folders(made)
    assert (package / "noria.json").is_file()
    assert list(code.glob("*.py"))
    up = shop.lineage.upstream([made.version_id])
    assert "basket" in {v.asset for v in up.versions.values()}


def test_deploying_the_same_version_again_is_the_same_deployment(shop: Workspace, endpoint: Endpoint) -> None:
    one = shop.serving.deploy(endpoint, version(shop, 1), actor=ME)
    assert shop.serving.deploy(endpoint, version(shop, 1), actor=ME) == one
    shop.serving.mark(one.id, DeploymentState.FAILED, "no room")
    assert shop.serving.deployment(one.id).error == "no room"
    assert one.id not in {d.id for d in shop.serving.plan().deployments}
    again = shop.serving.deploy(endpoint, version(shop, 1), actor=ME)
    assert (again.id, again.state, again.error) == (one.id, DeploymentState.STARTING, "")


def test_a_model_with_another_contract_is_refused(shop: Workspace, endpoint: Endpoint) -> None:
    shop.serving.deploy(endpoint, version(shop, 1), actor=ME)
    shop.pipelines.run(["other"], actor=ME, check=False)
    for known in (endpoint, shop.serving.get(endpoint.name)):  # the first knows of no contract yet
        with pytest.raises(ContractChanged, match="other columns") as caught:
            shop.serving.deploy(known, version(shop, 1, "other"), actor=ME)
        assert "new endpoint" in caught.value.hint


def test_features_that_read_a_whole_table_cannot_be_served(shop: Workspace, endpoint: Endpoint) -> None:
    shops = pl.DataFrame({"shop": ["a", "b", "c"], "seats": [4, 9, 12]})
    node = shop.pipelines.graph().node("shops")
    shop.data.append(shop.pipelines.ensure_source(node.thing), shops, actor=ME)
    shop.pipelines.run(["bulky"], actor=ME, check=False)
    with pytest.raises(NotOnline, match="shops") as caught:
        shop.serving.deploy(endpoint, version(shop, 1, "bulky"), actor=ME)
    assert "nr.asof" in caught.value.hint


def test_a_version_without_a_package_cannot_be_served(shop: Workspace, endpoint: Endpoint) -> None:
    made = shop.registry.register(shop.project.id, "foreign", actor=ME, version_id=None, run_id=None)
    with pytest.raises(TrainingInvalid):
        shop.serving.deploy(endpoint, made, actor=ME)


def test_only_what_every_worker_holds_gets_traffic(shop: Workspace, endpoint: Endpoint) -> None:
    made = shop.serving.deploy(endpoint, version(shop, 1), actor=ME)
    with pytest.raises(RoutingInvalid, match="starting"):
        route(shop, endpoint.name, arm(made, 1.0))
    shop.serving.mark(made.id, DeploymentState.READY)
    assert shop.serving.deployment(made.id).ready_at is not None
    done = route(shop, endpoint.name, arm(made, 1.0))
    assert (done.number, done.champion) == (1, made.id)
    assert shop.serving.plan().routings[endpoint.name].arms == done.arms
    stranger = deployed(shop, shop.serving.ensure("stranger", "tree", POLICY, actor=ME), 2)
    with pytest.raises(RoutingInvalid, match="unknown"):
        route(shop, endpoint.name, arm(stranger, 1.0))


@pytest.mark.parametrize("weights", [(0.5, 0.4), (1.2, -0.2), (float("nan"), 1.0), (float("inf"), 0.0), ()])
def test_weights_are_shares(shop: Workspace, endpoint: Endpoint, weights: tuple[float, ...]) -> None:
    both = [deployed(shop, endpoint, 1), deployed(shop, endpoint, 2)]
    with pytest.raises(RoutingInvalid) as caught:
        route(shop, endpoint.name, *(arm(d, w) for d, w in zip(both, weights, strict=False)))
    assert caught.value.hint
    assert shop.serving.get(endpoint.name).revision == 0


def test_a_deployment_has_one_arm(shop: Workspace, endpoint: Endpoint) -> None:
    made = deployed(shop, endpoint, 1)
    with pytest.raises(RoutingInvalid, match="twice"):
        route(shop, endpoint.name, arm(made, 0.5), arm(made, 0.5, "canary"))


def test_routing_moves_by_compare_and_swap(shop: Workspace, endpoint: Endpoint) -> None:
    one, two = deployed(shop, endpoint, 1), deployed(shop, endpoint, 2)
    route(shop, endpoint.name, arm(one, 1.0), expected=0)
    with pytest.raises(RoutingMoved) as caught:
        route(shop, endpoint.name, arm(two, 1.0), expected=0)
    assert caught.value.details == {"endpoint": endpoint.name, "expected": 0, "found": 1}
    assert shop.serving.status(endpoint.name).routing.champion == one.id
    route(shop, endpoint.name, arm(one, 0.9), arm(two, 0.1, "canary"), expected=1, reason="a canary")
    route(shop, endpoint.name, arm(two, 1.0), expected=2, reason="promoted")
    back = route(shop, endpoint.name, arm(one, 1.0), expected=3, reason="rolled back")
    assert [r.reason for r in shop.serving.history(endpoint.name)] == ["rolled back", "promoted", "a canary", "test"]
    assert shop.serving.status(endpoint.name).routing.arms == back.arms
    assert shop.serving.status(endpoint.name).routing.actor == ME.name


def test_a_change_that_fails_moves_no_routing(shop: Workspace, endpoint: Endpoint) -> None:
    made = deployed(shop, endpoint, 1)

    def fails() -> None:
        with shop.changes.begin("serving.route", shop.project.id, ME) as change:
            arms = [arm(made, 1.0)]
            shop.serving.route(change, endpoint, arms, salt="", paired=False, reason="half a change")
            raise RuntimeError("in between")

    before = shop.serving.stamp()
    with pytest.raises(RuntimeError):
        fails()
    assert shop.serving.status(endpoint.name).routing.number == 0
    assert shop.serving.history(endpoint.name) == []
    assert shop.serving.stamp() == before


def test_states_move_only_as_the_table_says(shop: Workspace, endpoint: Endpoint) -> None:
    made = deployed(shop, endpoint, 1)
    shop.serving.mark(made.id, DeploymentState.READY)  # again is nothing
    with pytest.raises(DeploymentMove, match="ready"):
        shop.serving.mark(made.id, DeploymentState.FAILED, "late")


def test_retiring_keeps_what_is_named(shop: Workspace, endpoint: Endpoint) -> None:
    one, two, three = (deployed(shop, endpoint, n) for n in (1, 2, 3))
    with shop.changes.begin("serving.retire", shop.project.id, ME) as change:
        shop.serving.retire(change, endpoint, {two.id})
    states = {d.id: d.state for d in shop.serving.status(endpoint.name).deployments}
    assert states == {
        one.id: DeploymentState.RETIRED, two.id: DeploymentState.READY, three.id: DeploymentState.RETIRED
    }  # fmt: skip
    held = {d.id for d in shop.serving.plan().deployments if d.endpoint_id == endpoint.id}
    assert held == {two.id}
    route(shop, endpoint.name, arm(two, 1.0))
    with shop.changes.begin("serving.retire", shop.project.id, ME) as change:
        shop.serving.retire(change, endpoint, set())
    assert shop.serving.deployment(two.id).state == DeploymentState.READY  # it answers
    again = shop.serving.deploy(endpoint, version(shop, 1), actor=ME)
    assert (again.id, again.state, again.ready_at) == (one.id, DeploymentState.STARTING, None)


def test_the_stamp_stands_still_where_nothing_changes(shop: Workspace, endpoint: Endpoint) -> None:
    made = shop.serving.deploy(endpoint, version(shop, 1), actor=ME)
    stamps = [shop.serving.stamp()]
    shop.serving.plan()
    assert shop.serving.stamp() == stamps[0]
    shop.serving.mark(made.id, DeploymentState.READY)
    stamps.append(shop.serving.stamp())
    route(shop, endpoint.name, arm(made, 1.0))
    stamps.append(shop.serving.stamp())
    assert stamps[0] != stamps[1] != stamps[2]


# ---- what was captured becomes rows


def captured(endpoint: str, *ids: str) -> Captured:
    rows = [CapturedRow(i, f'["{i}"]', 1_356_998_400_000_000, 0.5, b"{}", b"{}") for i in ids]
    return Captured(endpoint, 1, 1, "tree/1", "champion", True, 1_357_000_000_000, 10, [], rows)


def taken(ws: Workspace, endpoint: str) -> pl.DataFrame:
    return ws.data.read(ws.data.get(ws.project.id, f"{endpoint}.predictions"))


def pruned(ws: Workspace) -> int:
    """Removes the segments that were taken, as if they had been kept long enough."""
    with ws.db.write() as tx:
        ws.retention.set(tx, ws.project.id, "segments", 0)
    return ws.retention.prune(ws.project.id)["segments"]


def test_segments_are_taken_once_and_then_go(shop: Workspace) -> None:
    folder = shop.serving.capture_folder
    writer = SegmentWriter(folder, "w1")
    writer.write(captured("first", "a", "b"), captured("second", "a"))
    assert shop.ingest.take(actor=ME) == {"first": 2, "second": 1}
    assert shop.ingest.take(actor=ME) == {}
    writer.write(captured("first", "b", "c"))
    shop.ingest.take(actor=ME)
    assert sorted(taken(shop, "first")["id"]) == ["a", "b", "c"]
    pruned(shop)
    assert len(list(folder.glob("w1-*.seg"))) == 1  # its writer lives
    writer.close()
    shop.ingest.take(actor=ME)
    assert pruned(shop) == 1
    assert not list(folder.glob("w1-*.seg"))
    assert sorted(taken(shop, "first")["id"]) == ["a", "b", "c"]


def test_a_damaged_segment_holds_up_nothing_else(shop: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    folder = shop.serving.capture_folder
    for name, ids in (("w2", "xyz"), ("w3", "uvw")):
        writer = SegmentWriter(folder, name)
        for one in ids:
            writer.write(captured("third", one))
        writer.close()
    (path,) = folder.glob("w2-*.seg")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert shop.ingest.take(actor=ME) == {"third": 4}
    assert sorted(taken(shop, "third")["id"]) == ["u", "v", "w", "x"]
    assert path.name in caplog.text
    pruned(shop)
    assert list(folder.glob("*.seg")) == [path]  # kept for whoever looks into it
    path.unlink()
