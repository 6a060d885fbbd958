"""A commit that a client names: how it is read from tags, and where it stands in the graph."""

from __future__ import annotations

import pytest

from noria.assets.records import AssetKind, Direction
from noria.base.actor import Actor
from noria.base.ids import RunId
from noria.tracking.codes import Code, code_of
from noria.workspace import Workspace

ME = Actor(name="user:test")
COMMIT, REPOSITORY = "mlflow.source.git.commit", "mlflow.source.git.repoURL"


@pytest.mark.parametrize(
    ("url", "kept", "asset"),
    [
        ("https://github.com/acme/flights.git", "https://github.com/acme/flights.git", "git.flights"),
        ("https://me:token@host/acme/flights/", "https://host/acme/flights/", "git.flights"),
        ("https://to/ken@host/a b", "https://to/ken@host/a b", "git.a-b"),
        ("https://me@x:pw@host:8443/x.git", "https://host:8443/x.git", "git.x"),
        ("ssh://git:pw@host:22/x.git", "ssh://git@host:22/x.git", "git.x"),
        ("git@host:acme/x.git", "git@host:acme/x.git", "git.x"),
        ("C:\\work\\flüge", "C:\\work\\flüge", "git.fl-ge"),
        ("/srv/" + "y" * 300, "/srv/" + "y" * 300, "git." + "y" * 124),
        ("..", "..", "git"),
        ("", "", "git"),
    ],
)
def test_the_repository_names_the_asset_and_keeps_no_password(url: str, kept: str, asset: str) -> None:
    found = code_of({COMMIT: " abc ", REPOSITORY: url})
    assert found is not None
    assert (found.commit, found.repository, found.asset) == ("abc", kept, asset)


def test_without_a_commit_there_is_no_code() -> None:
    assert code_of({REPOSITORY: "https://host/x", COMMIT: "  "}) is None
    assert Code(commit="a").identity() == Code(commit="a", branch="b", source="s", entry_point="e").identity()


def run_of(ws: Workspace) -> RunId:
    with ws.db.write() as tx:
        return ws.tracking.create_run(tx, ws.project.id, 0, name="one", actor=ME).id


def code(ws: Workspace, run: RunId) -> list[str]:
    edges = [e for e in ws.assets.edges(run) if e.direction is Direction.CODE]
    return [ws.assets.version(e.version_id).meta["git"]["commit"] for e in edges]


def test_tags_that_people_set_change_the_code_of_a_run(both: Workspace) -> None:
    project, tag = both.project.id, both.tracking.tag_run
    run, other = run_of(both), run_of(both)
    tag(project, run, {COMMIT: "a1"}, actor=ME)
    tag(project, other, {COMMIT: "a1"}, actor=ME)
    assert both.assets.edges(run)[0].version_id == both.assets.edges(other)[0].version_id
    tag(project, run, {COMMIT: "b2"}, actor=ME)
    tag(project, run, {"colour": "red"}, actor=ME)
    assert (code(both, run), code(both, other)) == (["b2"], ["a1"])
    tag(project, run, {}, remove=[COMMIT], actor=ME)
    assert (code(both, run), code(both, other)) == ([], ["a1"])
    both.gc.run()
    assert both.verify() == []


def test_a_name_that_is_taken_stops_no_run(both: Workspace) -> None:
    with both.db.write() as tx:
        both.assets.define(tx, both.project.id, "git.flights", AssetKind.DATASET)
    run = run_of(both)
    both.tracking.tag_run(both.project.id, run, {COMMIT: "a1", REPOSITORY: "https://host/flights"}, actor=ME)
    assert code(both, run) == []
    assert both.tracking.data(run).tags[COMMIT] == "a1"
