"""Experiments by the real client and by raw HTTP."""

from __future__ import annotations

import pytest
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow_wire import AJAX, Wire, fresh

import mlflow
from mlflow import MlflowClient


def named(client: MlflowClient, prefix: str, **query) -> list[str]:
    """Names of the experiments that a search finds, in its order; only those of one test."""
    text = f"name LIKE '{prefix}%'"
    extra = query.pop("filter_string", "")
    found = client.search_experiments(filter_string=f"{text} AND {extra}" if extra else text, **query)
    return [e.name for e in found]


def test_an_experiment_says_what_it_was_made_with(client: MlflowClient) -> None:
    name = fresh()
    made = client.create_experiment(name, tags={"team": "red", "empty": ""})
    assert isinstance(made, str)
    found = client.get_experiment(made)
    assert (found.experiment_id, found.name, found.lifecycle_stage) == (made, name, "active")
    assert found.tags == {"team": "red", "empty": ""}
    assert found.artifact_location.startswith("mlflow-artifacts:/")
    assert found.artifact_location.endswith(f"/{made}")
    assert found.creation_time == found.last_update_time > 1_700_000_000_000
    by_name = client.get_experiment_by_name(name)
    assert by_name is not None
    assert dict(by_name) == dict(found)
    assert client.get_experiment_by_name(name + "-not") is None


def test_the_default_experiment_is_number_0(client: MlflowClient, wire: Wire) -> None:
    assert client.get_experiment("0").name == "Default"
    found = client.get_experiment_by_name("Default")
    assert found is not None
    assert found.experiment_id == "0"
    assert wire.post("runs/create", experiment_id="0", start_time=1)["run"]["info"]["experiment_id"] == "0"
    found = wire.call("POST", "runs/create", {"start_time": 1})  # MLflow's own server breaks a foreign key here
    assert found.status == 400 or found.json["run"]["info"]["experiment_id"] == "0"


def test_names_may_be_of_any_letters(client: MlflowClient, wire: Wire) -> None:
    for name in (fresh("Übung/zwei"), fresh("a b: c%d_e"), fresh("x'y\"z"), fresh("雪" * 200), fresh(" lead")):
        made = client.create_experiment(name)
        found = client.get_experiment_by_name(name)
        assert found is not None, name
        assert found.experiment_id == made
    longest = fresh().ljust(500, "n")
    assert wire.get("experiments/get", experiment_id=wire.experiment(longest))["experiment"]["name"] == longest


def test_an_own_place_for_artifacts_is_kept(client: MlflowClient) -> None:
    made = client.create_experiment(fresh(), artifact_location="s3://bucket/deep/folder")
    assert client.get_experiment(made).artifact_location == "s3://bucket/deep/folder"
    run = client.create_run(made)
    assert run.info.artifact_uri == f"s3://bucket/deep/folder/{run.info.run_id}/artifacts"


@pytest.mark.parametrize("place", ["/mnt/shared/x", "file:///mnt/shared/x", "s3://bucket/a b", "dbfs:/x"])
def test_a_place_may_be_a_path_which_only_clients_open(client: MlflowClient, place: str) -> None:
    made = client.create_experiment(fresh(), artifact_location=place)
    assert client.get_experiment(made).artifact_location == place


def test_a_name_is_taken_also_by_a_deleted_experiment(client: MlflowClient, wire: Wire) -> None:
    name = fresh()
    made = client.create_experiment(name)
    for _ in range(2):
        status, code, message = wire.refused("experiments/create", {"name": name})
        assert (status, code) == (400, "RESOURCE_ALREADY_EXISTS")
        assert name in message
        client.delete_experiment(made) if client.get_experiment(made).lifecycle_stage == "active" else None
    with pytest.raises(MlflowException) as caught:
        client.create_experiment(name)
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"
    other = client.create_experiment(fresh())
    status, _, _ = wire.refused("experiments/update", {"experiment_id": other, "new_name": name})
    assert status in (400, 500)  # MLflow's own server breaks its unique key here; ours says that the name is taken


def test_a_deleted_experiment_is_found_as_deleted_and_comes_back(client: MlflowClient) -> None:
    name = fresh()
    made = client.create_experiment(name, tags={"a": "1"})
    run = client.create_run(made).info.run_id
    client.delete_experiment(made)
    found = client.get_experiment(made)
    assert (found.lifecycle_stage, found.tags) == ("deleted", {"a": "1"})
    by_name = client.get_experiment_by_name(name)
    assert by_name is not None
    assert by_name.lifecycle_stage == "deleted"
    assert client.get_run(run).info.lifecycle_stage == "deleted"  # its runs go with it
    assert client.search_runs([made]) == []
    client.restore_experiment(made)
    assert client.get_experiment(made).lifecycle_stage == "active"
    assert client.get_run(run).info.lifecycle_stage == "active"
    assert [r.info.run_id for r in client.search_runs([made])] == [run]


def test_a_deleted_experiment_takes_no_runs_and_no_second_deletion(client: MlflowClient, wire: Wire) -> None:
    made = client.create_experiment(name := fresh())
    client.delete_experiment(made)
    status, code, message = wire.refused("runs/create", {"experiment_id": made, "start_time": 1})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert made in message or name in message
    assert wire.refused("experiments/delete", {"experiment_id": made})[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    client.restore_experiment(made)
    assert wire.refused("experiments/restore", {"experiment_id": made})[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    client.create_run(made)


def test_the_fluent_api_refuses_to_log_to_a_deleted_experiment(fluent) -> None:
    made = fluent.create_experiment(name := fresh())
    fluent.delete_experiment(made)
    with pytest.raises(MlflowException, match="deleted"):
        fluent.set_experiment(name)


def test_set_experiment_makes_what_is_not_there(fluent) -> None:
    name = fresh()
    made = fluent.set_experiment(name)
    assert made.name == name
    assert fluent.set_experiment(name).experiment_id == made.experiment_id
    with fluent.start_run() as run:
        assert run.info.experiment_id == made.experiment_id
    fluent.set_experiment_tags({"a": "1", "b": "2"})
    fluent.set_experiment_tag("b", "3")
    assert fluent.get_experiment(made.experiment_id).tags == {"a": "1", "b": "3"}


def test_an_experiment_gets_a_new_name(client: MlflowClient, wire: Wire) -> None:
    old, new = fresh(), fresh()
    made = client.create_experiment(old)
    before = client.get_experiment(made)
    client.rename_experiment(made, new)
    found = client.get_experiment(made)
    assert (found.name, found.creation_time) == (new, before.creation_time)
    assert found.last_update_time >= before.last_update_time
    assert client.get_experiment_by_name(old) is None
    client.create_experiment(old)  # the name is free again
    client.delete_experiment(made)
    status, code, message = wire.refused("experiments/update", {"experiment_id": made, "new_name": fresh()})
    assert (status, code) in ((500, "INVALID_STATE"), (400, "INVALID_PARAMETER_VALUE"))
    assert "active" in message or new in message


def test_tags_are_set_changed_and_deleted(client: MlflowClient, wire: Wire) -> None:
    experiment = client.create_experiment(name := fresh())
    client.set_experiment_tag(experiment, "key/with: all.kinds-of_signs", "1")
    client.set_experiment_tag(experiment, "n", 7)  # the client makes text of it
    client.set_experiment_tag(experiment, "n", "8")
    client.set_experiment_tag(experiment, "long", "v" * 20_000)
    found = client.get_experiment(experiment).tags
    assert found == {"key/with: all.kinds-of_signs": "1", "n": "8", "long": "v" * 20_000}
    client.delete_experiment_tag(experiment, "n")
    assert "n" not in client.get_experiment(experiment).tags
    status, code, message = wire.refused("experiments/delete-experiment-tag", {"experiment_id": experiment, "key": "n"})
    assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "n" in message
    client.delete_experiment(experiment)
    status, code, message = wire.refused(
        "experiments/set-experiment-tag", {"experiment_id": experiment, "key": "x", "value": "y"}
    )
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert experiment in message or name in message


def test_search_orders_and_filters(client: MlflowClient) -> None:
    prefix = fresh("s")
    ids = {
        tail: client.create_experiment(f"{prefix}-{tail}", tags=tags)
        for tail, tags in {
            "a": {"team": "red"},
            "B": {"team": "blue", "n": "1"},
            "c": {},
            "d": {"team": "Red", "with space": "x"},
        }.items()
    }
    names = {tail: f"{prefix}-{tail}" for tail in ids}
    made = [client.get_experiment(one) for one in ids.values()]
    newest = [e.name for e in sorted(made, key=lambda e: (-e.creation_time, int(e.experiment_id)))]
    assert named(client, prefix) == newest
    client.set_experiment_tag(ids["a"], "changed", "since")
    assert named(client, prefix) == newest  # and not those changed last
    assert named(client, prefix, order_by=["name"]) == sorted(names.values())
    assert named(client, prefix, order_by=["name DESC"]) == sorted(names.values(), reverse=True)
    assert named(client, prefix, order_by=["experiment_id ASC"]) == [names[t] for t in "aBcd"]
    by_time = sorted(made, key=lambda e: (e.creation_time, e.name))
    assert named(client, prefix, order_by=["attribute.creation_time asc", "name"]) == [e.name for e in by_time]
    for text, tails in {
        f"name = '{names['a']}'": "a",
        f"attribute.name != '{names['a']}'": "Bcd",
        f"name LIKE '{prefix.upper()}%'": "",
        f"name ILIKE '{prefix.upper()}-b'": "B",
        "tags.team = 'red'": "a",
        "tag.team != 'red'": "Bd",
        "tags.team LIKE 'r%'": "a",
        "tags.team ILIKE 'R%'": "ad",
        "tags.`with space` = 'x'": "d",
        "tags.\"with space\" = 'x'": "d",
        "tags.team IS NULL": "c",
        "tags.team IS NOT NULL": "aBd",
        "tags.team = 'blue' AND tags.n = '1'": "B",
        f"experiment_id = '{ids['c']}'": "c",
        f"experiment_id IN ('{ids['c']}', '{ids['a']}')": "ac",
        f"experiment_id NOT IN ('{ids['c']}', '{ids['a']}')": "Bd",
        "creation_time > 0": "aBcd",
        "creation_time < 1000": "",
        f"creation_time >= {client.get_experiment(ids['d']).creation_time} and tags.team = 'Red'": "d",
    }.items():
        assert sorted(named(client, prefix, filter_string=text)) == sorted(names[t] for t in tails), text


def test_search_by_view_type(client: MlflowClient) -> None:
    prefix = fresh("v")
    kept = client.create_experiment(f"{prefix}-kept")
    gone = client.create_experiment(f"{prefix}-gone")
    client.delete_experiment(gone)
    assert named(client, prefix) == [f"{prefix}-kept"]
    assert named(client, prefix, view_type=ViewType.DELETED_ONLY) == [f"{prefix}-gone"]
    assert sorted(named(client, prefix, view_type=ViewType.ALL)) == [f"{prefix}-gone", f"{prefix}-kept"]
    assert client.get_experiment(kept).lifecycle_stage == "active"


@pytest.mark.parametrize("size", range(1, 8))
def test_search_pages_hold_each_once(server: str, size: int) -> None:
    client, prefix = MlflowClient(server), fresh("p")
    for i in range(6):
        client.create_experiment(f"{prefix}-{i}")
    names: list[str] = []
    token = None
    pages = 0
    while True:
        page = client.search_experiments(
            filter_string=f"name LIKE '{prefix}%'", max_results=size, order_by=["name"], page_token=token
        )
        names += [e.name for e in page]
        pages += 1
        token = page.token
        if not token:
            break
        assert len(page) == size
    assert names == [f"{prefix}-{i}" for i in range(6)]
    assert pages == -(-6 // size)


def test_search_answers_get_and_post_and_both_prefixes(wire: Wire) -> None:
    name = fresh("w")
    made = wire.experiment(name)
    text = f"name = '{name}'"
    found = wire.post("experiments/search", filter=text, max_results=5)
    assert [e["experiment_id"] for e in found["experiments"]] == [made]
    assert "next_page_token" not in found
    assert wire.get("experiments/search", filter=text, max_results=5) == found
    assert wire.post(AJAX + "experiments/search", filter=text, max_results="5") == found
    assert wire.get("experiments/search", filter=text, view_type="ALL", max_results=5) == found
    assert wire.get("experiments/search", filter=text, view_type="DELETED_ONLY", max_results=5) == {}
    assert wire.get(AJAX + "experiments/get", experiment_id=made)["experiment"]["name"] == name
    assert wire.get(AJAX + "experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"] == made


def test_search_experiments_of_the_fluent_api_goes_through_the_pages(fluent) -> None:
    prefix = fresh("f")
    for i in range(5):
        fluent.create_experiment(f"{prefix}-{i}")
    found = fluent.search_experiments(filter_string=f"name LIKE '{prefix}%'", order_by=["name"], max_results=4)
    assert [e.name for e in found] == [f"{prefix}-{i}" for i in range(4)]
    assert isinstance(found[0], mlflow.entities.Experiment)
