from __future__ import annotations

import threading

import pytest

from noria.base.actor import Actor
from noria.registry.errors import AliasInvalid, AliasMoved, ModelNotFound
from noria.workspace import Workspace


def register(ws: Workspace, actor: Actor, name: str = "delay"):
    with ws.db.write() as tx:
        run = ws.assets.start_run(tx, ws.project.id, kind="step", name=name, actor=actor, leased=False)
    return ws.registry.register(ws.project.id, name, actor=actor, version_id=None, run_id=run.id)


def test_versions_count_up_and_a_retry_is_the_same_one(both: Workspace, actor: Actor) -> None:
    first, second = register(both, actor), register(both, actor)
    assert (first.number, second.number) == (1, 2)
    again = both.registry.register(both.project.id, "delay", actor=actor, version_id=None, run_id=second.run_id)
    assert again == second
    assert [v.number for v in both.registry.versions(both.project.id, "delay")] == [2, 1]


def test_aliases_move_by_compare_and_swap(both: Workspace, actor: Actor) -> None:
    register(both, actor), register(both, actor)
    r, project = both.registry, both.project.id
    assert r.move_alias(project, "delay", "champion", 1, actor=actor, expected=None) is None
    with pytest.raises(AliasMoved, match="points at version 1"):
        r.move_alias(project, "delay", "champion", 2, actor=actor, expected=None)
    assert r.move_alias(project, "delay", "champion", 2, actor=actor, expected=1) == 1
    assert r.resolve(project, "models:/delay@champion").number == 2
    assert r.move_alias(project, "delay", "champion", None, actor=actor) == 2
    assert r.alias(project, "delay", "champion") is None
    with pytest.raises(ModelNotFound):
        r.move_alias(project, "delay", "champion", 9, actor=actor)


def test_eight_promoters_have_one_winner(both: Workspace, actor: Actor) -> None:
    for _ in range(9):
        register(both, actor)
    both.registry.move_alias(both.project.id, "delay", "champion", 9, actor=actor)
    won: list[int] = []

    def promote(number: int) -> None:
        try:
            both.registry.move_alias(both.project.id, "delay", "champion", number, actor=actor, expected=9)
            won.append(number)
        except AliasMoved:
            pass

    threads = [threading.Thread(target=promote, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert both.registry.alias(both.project.id, "delay", "champion") == won[0]


@pytest.mark.parametrize(("text", "number"), [("delay", 2), ("delay/1", 1), ("delay@good", 1), ("models:/delay/2", 2)])
def test_names_of_versions(both: Workspace, actor: Actor, text: str, number: int) -> None:
    register(both, actor), register(both, actor)
    both.registry.move_alias(both.project.id, "delay", "good", 1, actor=actor)
    assert both.registry.resolve(both.project.id, text).number == number


@pytest.mark.parametrize("text", ["delai", "delay/9", "delay@god", "delay/x", "", "delay@"])
def test_names_that_mean_nothing_are_not_found(both: Workspace, actor: Actor, text: str) -> None:
    register(both, actor)
    both.registry.move_alias(both.project.id, "delay", "good", 1, actor=actor)
    with pytest.raises(ModelNotFound):
        both.registry.resolve(both.project.id, text)


@pytest.mark.parametrize("alias", ["latest", "v3"])
def test_aliases_that_look_like_versions_are_refused(both: Workspace, actor: Actor, alias: str) -> None:
    register(both, actor)
    with pytest.raises(AliasInvalid):
        both.registry.move_alias(both.project.id, "delay", alias, 1, actor=actor)


def test_moving_an_alias_is_an_event_and_in_the_audit_log(both: Workspace, actor: Actor) -> None:
    register(both, actor)
    both.registry.move_alias(both.project.id, "delay", "champion", 1, actor=actor)
    both.registry.set_tag(both.project.id, "delay", 1, "note", "x", actor=actor)
    assert both.registry.version(both.project.id, "delay", 1).tags == {"note": "x"}
    (event,) = both.assets.list_events(both.project.id, types=["alias.moved"])
    assert event.payload == {"alias": "champion", "before": None, "after": 1}
    assert {e.verb for e in both.audit.list(both.project.id).items} >= {"registry.alias", "registry.register"}


@pytest.mark.parametrize("number", ["²", "٣", "", "-1", "1.0", "9" * 10, "9" * 5_000, " 1"])
def test_only_a_number_names_a_version(both: Workspace, actor: Actor, number: str) -> None:
    register(both, actor)
    with pytest.raises(ModelNotFound, match="not a model version"):
        both.registry.resolve(both.project.id, f"delay/{number}")
    with pytest.raises(ModelNotFound, match="no version 999999999"):
        both.registry.resolve(both.project.id, "delay/999999999")
    assert both.registry.resolve(both.project.id, "delay/1").number == 1
