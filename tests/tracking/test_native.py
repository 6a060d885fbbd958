"""The verbs of people: lists, comparisons, curves, order among runs and experiments."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.assets.errors import RunNotFound
from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.base.errors import Invalid, NoriaError
from noria.base.ids import RunId
from noria.base.search import SearchInvalid
from noria.terminal.plot import Drawn, picture
from noria.tracking.direction import best, lower_is_better
from noria.tracking.errors import ExperimentDeleted, ExperimentExists, ExperimentNotFound, RunDeleted, TagNotFound
from noria.tracking.records import Artifact, Owner, OwnerKind, Point
from noria.tracking.service import NOTE
from noria.workspace import Workspace


def new_run(ws: Workspace, actor: Actor, experiment: str = "Default", name: str = "r", **said: Any) -> RunId:
    with ws.db.write() as tx:
        at = ws.tracking.ensure_experiment(tx, ws.project.id, experiment)
        run = ws.tracking.create_run(tx, ws.project.id, at, name=name, actor=actor, user="alice")
    metrics = said.pop("metrics", {})
    ws.tracking.log(run.id, points=[Point(key=k, value=float(v), at=1) for k, v in metrics.items()], **said)
    return run.id


def ids(page: Any) -> list[RunId]:
    return [one.run.id for one in page.items]


# ---- lists


def test_a_list_combines_filter_kind_state_name_folder_and_columns(both: Workspace, actor: Actor) -> None:
    track, project = both.tracking, both.project.id
    a = new_run(both, actor, "vision/cats", "a", params={"lr": "1"}, metrics={"loss": 0.5}, tags={"team": "x"})
    b = new_run(both, actor, "vision/dogs", "b", params={"lr": "2"}, metrics={"loss": math.nan})
    c = new_run(both, actor, "text", "c", params={"lr": "1"})
    track.update_run(b, state=RunState.DONE)
    assert set(ids(track.list_runs(project))) == {a, b, c}
    assert ids(track.list_runs(project, under="vision", order_by=["params.lr desc"])) == [b, a]
    assert ids(track.list_runs(project, 'params.lr = "1"', under="vision")) == [a]
    assert ids(track.list_runs(project, experiments=["text", "vision/dogs"], order_by=["attributes.name"])) == [b, c]
    assert ids(track.list_runs(project, 'params.lr = "2"', states=[RunState.DONE])) == [b]
    assert ids(track.list_runs(project, 'params.lr = "2"', states=[RunState.RUNNING])) == []
    assert ids(track.list_runs(project, 'params.lr = "1"', name="c", kinds=["mlflow", "step"])) == [c]
    assert ids(track.list_runs(project, 'params.lr = "1"', kinds=["step"])) == []
    page = track.list_runs(project, under="vision", order_by=["attributes.name"], columns=["metrics.loss", "tags.team"])
    first, second = page.items
    assert (first.experiment, first.data.user, first.data.params, first.data.tags) == (
        "vision/cats", "alice", {}, {"team": "x"},
    )  # fmt: skip
    assert first.data.metrics["loss"].value == 0.5
    assert math.isnan(second.data.metrics["loss"].value)
    with pytest.raises(ExperimentNotFound):
        track.list_runs(project, experiments=["nothing"])
    with pytest.raises(SearchInvalid):
        track.list_runs(project, columns=["metric."])
    with pytest.raises(Invalid):
        track.list_runs(project, columns=["metrics.a"] * 201)
    track.delete_runs(project, [a], actor=actor)
    assert ids(track.list_runs(project, deleted=True)) == [a]
    assert set(ids(track.list_runs(project, deleted=None))) == {a, b, c}
    assert a not in ids(track.list_runs(project))


def test_pages_of_a_list_hold_every_run_once_whatever_the_order(both: Workspace, actor: Actor) -> None:
    track, project = both.tracking, both.project.id
    made = [
        new_run(both, actor, "e", f"r{n % 3}", metrics={"m": n % 4} if n % 5 else {}, params={"p": str(n % 2)})
        for n in range(23)
    ]
    for order in ((), ("metrics.m desc",), ("params.p", "metrics.m"), ("attributes.name desc",)):
        seen: list[RunId] = []
        after = None
        while True:
            page = track.list_runs(project, experiments=["e"], order_by=order, limit=5, after=after)
            seen += ids(page)
            after = page.next
            if after is None:
                break
        assert sorted(seen) == sorted(made), order
        assert len(set(seen)) == len(made)


def test_files_of_a_run_come_in_pages(both: Workspace, actor: Actor) -> None:
    run = new_run(both, actor)
    with both.db.write() as tx:
        for n in range(7):
            both.tracking.add_artifact(tx, run, Artifact(path=f"m/{n}", size=n, content_kind=0, content=""))
    owner = Owner(OwnerKind.RUN, run)
    first = both.tracking.all_artifacts(owner, limit=5)
    assert [one.path for one in first.items] == [f"m/{n}" for n in range(5)]
    rest = both.tracking.all_artifacts(owner, limit=5, after=first.next)
    assert ([one.path for one in rest.items], rest.next) == (["m/5", "m/6"], None)


# ---- comparisons


def test_a_comparison_shows_differences_only_and_marks_the_best(both: Workspace, actor: Actor) -> None:
    track = both.tracking
    a = new_run(
        both, actor, params={"lr": "1", "same": "x"}, metrics={"val_loss": 0.5, "acc": 0.9, "odd": 1}, tags={"t": "1"}
    )
    b = new_run(both, actor, params={"lr": "2", "same": "x"}, metrics={"val_loss": 0.4, "acc": 0.8, "odd": 2})
    c = new_run(both, actor, params={"same": "x"}, metrics={"val_loss": math.nan, "acc": 0.9, "odd": 2})
    page = track.compare([a, b, c])
    assert page.next is None
    found = {(line.part, line.key): line for line in page.items}
    assert list(found) == [
        ("params", "lr"), ("metrics", "acc"), ("metrics", "odd"), ("metrics", "val_loss"), ("tags", "t"),
    ]  # fmt: skip
    assert found["params", "lr"].values == ("1", "2", None)
    assert found["metrics", "acc"].best == (0, 2)
    assert found["metrics", "val_loss"].best == (1,)
    assert found["metrics", "odd"].best == ()
    assert math.isnan(found["metrics", "val_loss"].values[2])  # pyright: ignore[reportArgumentType]
    turned = {line.key: line.best for line in track.compare([a, b, c], lower=["odd"], higher=["val_loss"]).items}
    assert (turned["odd"], turned["val_loss"]) == ((0,), (0,))
    assert ("params", "same") in {(line.part, line.key) for line in track.compare([a, b], everything=True).items}
    assert track.compare([a]).items == []


def test_a_run_that_said_nothing_differs_and_nan_differs_from_zero(both: Workspace, actor: Actor) -> None:
    track = both.tracking
    a, b = new_run(both, actor, metrics={"m": 0.0}), new_run(both, actor, metrics={"m": math.nan})
    with both.db.write() as tx:
        silent = both.assets.start_run(tx, both.project.id, kind="step", name="s", actor=actor, leased=False).id
    assert [line.key for line in track.compare([a, b]).items] == ["m"]
    assert [line.values for line in track.compare([a, silent]).items] == [(0.0, None)]
    assert track.compare([silent]).items == []


def test_a_comparison_of_many_runs_and_keys_comes_in_pages_of_keys(both: Workspace, actor: Actor) -> None:
    track, runs = both.tracking, list[RunId]()
    for n in range(40):
        params = {f"p{k:02}": str(n if k % 2 else 0) for k in range(30)}
        runs.append(new_run(both, actor, params=params, metrics={f"m{k:02}": float(n * k) for k in range(30)}))
    whole = [(line.part, line.key, line.values) for line in track.compare(runs, limit=1_000).items]
    assert [key for _, key, _ in whole] == [f"p{k:02}" for k in range(1, 30, 2)] + [f"m{k:02}" for k in range(1, 30)]
    assert whole[-1][2] == tuple(float(n * 29) for n in range(40))
    seen: list[Any] = []
    after = None
    while True:
        page = track.compare(runs, limit=7, after=after)
        seen += [(line.part, line.key, line.values) for line in page.items]
        after = page.next
        if after is None:
            break
    assert seen == whole
    for wrong in ([], runs * 26):
        with pytest.raises(Invalid):
            track.compare(wrong)
    for bad in ("x", "WzksICJhIl0", "WzAsIDFd"):
        with pytest.raises(NoriaError, match="page token"):
            track.compare(runs, after=bad)


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        ("val_loss", True), ("train/loss", True), ("log_loss", True), ("RMSE", True), ("valLoss", True),
        ("neg_mean_squared_error", False), ("accuracy", False), ("val.f1", False), ("r2", False), ("roc_auc", False),
        ("loss/accuracy", False), ("steps", None), ("", None), ("C", None), ("negative_items", None),
    ],
)  # fmt: skip
def test_a_name_says_which_way_is_better_or_nothing(name: str, lower: bool | None) -> None:
    assert lower_is_better(name) is lower


def test_equal_values_are_not_best() -> None:
    assert best([1.0, 1.0], lower=True) == []
    assert best([1.0, None], lower=True) == [0]
    assert best([math.nan, None], lower=True) == []
    assert best([math.inf, 1.0, 1.0], lower=False) == [0]


# ---- curves


def test_curves_of_several_runs_keep_their_spikes(both: Workspace, actor: Actor) -> None:
    track, rng, runs = both.tracking, random.Random(1), list[RunId]()
    for n in range(3):
        run = new_run(both, actor)
        values = [rng.random() for _ in range(3_000)]
        values[1_700 + n] = 50.0
        values[100] = -50.0
        track.log(run, points=[Point(key="m", value=v, at=s, step=s) for s, v in enumerate(values)])
        runs.append(run)
    other = new_run(both, actor, metrics={"k": 1})
    curves = track.curves([*runs, other], "m", points=60)
    assert [c.run_id for c in curves] == runs
    for n, curve in enumerate(curves):
        assert curve.total == 3_000
        assert len(curve.points) <= 60
        found = {p.step: p.value for p in curve.points}
        assert (found[1_700 + n], found[100]) == (50.0, -50.0)
        assert (curve.points[0].step, curve.points[-1].step) == (0, 2_999)
    (part,) = track.curves(runs[:1], "m", points=10, start=200, end=300)
    assert (part.points[0].step, part.points[-1].step) == (200, 300)
    assert max(p.value for p in part.points) < 2
    assert track.curves(runs, "nothing") == []
    for bad in ({"points": 0}, {"points": 10_001}, {"start": 1 << 63}):
        with pytest.raises(Invalid):
            track.curves(runs, "m", **bad)
    with pytest.raises(Invalid):
        track.curves([RunId(f"{n:032}") for n in range(101)], "m")


_FLOATS = st.floats(allow_nan=True, allow_infinity=True)


@given(
    curves=st.lists(st.lists(st.tuples(st.floats(-1e300, 1e300), _FLOATS), max_size=20), min_size=1, max_size=4),
    width=st.integers(1, 40),
    height=st.integers(1, 6),
    log=st.booleans(),
)
def test_a_picture_fits_its_place_whatever_the_numbers_are(
    curves: list[list[tuple[float, float]]], width: int, height: int, log: bool
) -> None:
    from rich.text import Text

    drawn = [Drawn(label="c", x=[x for x, _ in c], y=[y for _, y in c]) for c in curves]
    lines = picture(
        drawn, width=width, height=height, x_text=lambda x: f"{x:.0e}", y_text=lambda y: f"{y:.2g}", log=log
    )
    if lines != ["No finite values."]:
        assert len(lines) == max(height, 3) + 1
    for line in lines[:-1]:
        assert len(Text.from_markup(line).plain) <= max(width, 10 + 8 + 1)


def test_a_picture_shows_a_line_from_corner_to_corner() -> None:
    lines = picture(
        [Drawn(label="c", x=[0, 1], y=[0, 1])], width=14, height=3, x_text=lambda x: f"{x:g}", y_text=lambda y: f"{y:g}"
    )
    assert lines[0].startswith("  1 ")
    assert lines[0].endswith("⠉") or lines[0].rstrip()[-1] > "⠀"
    assert lines[2].startswith("  0 ")
    assert lines[3] == "    0        1"


# ---- order


def test_runs_go_into_the_bin_and_come_back_together(both: Workspace, actor: Actor) -> None:
    track, project = both.tracking, both.project.id
    runs = [new_run(both, actor, params={"a": "1"}) for _ in range(3)]
    track.delete_runs(project, runs[:1], actor=actor)
    assert track.delete_runs(project, runs, actor=actor) == runs[1:]
    with pytest.raises(RunDeleted):
        track.log(runs[0], params={"b": "1"})
    with pytest.raises(RunNotFound, match="0000"):
        track.delete_runs(project, [runs[0], RunId("0" * 32)], actor=actor, restore=True)
    assert ids(track.list_runs(project)) == []
    assert sorted(track.delete_runs(project, runs, actor=actor, restore=True)) == sorted(runs)
    assert track.data(runs[0]).params == {"a": "1"}
    with pytest.raises(Invalid):
        track.delete_runs(project, [], actor=actor)


def test_runs_move_together_or_not_at_all(both: Workspace, actor: Actor) -> None:
    track, project = both.tracking, both.project.id
    runs = [new_run(both, actor) for _ in range(3)]
    track.move_runs(project, runs[:2], "vision/new", actor=actor)
    assert sorted(ids(track.list_runs(project, under="vision"))) == sorted(runs[:2])
    track.delete_runs(project, runs[2:], actor=actor)
    with pytest.raises(RunDeleted):
        track.move_runs(project, [runs[0], runs[2]], "elsewhere", actor=actor)
    assert sorted(ids(track.list_runs(project, under="vision"))) == sorted(runs[:2])
    track.delete_experiment(project, track.experiment(project, "Default").id, actor=actor)
    with pytest.raises(ExperimentDeleted):
        track.move_runs(project, runs[:1], "Default", actor=actor)


def test_notes_and_tags_are_audited_and_all_or_none(both: Workspace, actor: Actor) -> None:
    track, project = both.tracking, both.project.id
    run = new_run(both, actor, tags={"old": "1"})
    track.tag_run(project, run, {NOTE: "good", "team": "a"}, remove=["old"], actor=actor)
    assert track.data(run).tags == {NOTE: "good", "team": "a"}
    with pytest.raises(TagNotFound):
        track.tag_run(project, run, {"more": "1"}, remove=["nothing"], actor=actor)
    assert "more" not in track.data(run).tags
    experiment = track.create_experiment(project, "e", actor=actor)
    track.tag_experiment(project, experiment.id, {NOTE: "about", "x": "1"}, actor=actor)
    with pytest.raises(NoriaError):
        track.tag_experiment(project, experiment.id, {"y": "1"}, remove=["nothing"], actor=actor)
    assert track.experiment_by_id(project, experiment.id).tags == {NOTE: "about", "x": "1"}
    verbs = [entry.verb for entry in both.audit.list(project, limit=20).items]
    assert verbs.count("tracking.tag") == 1
    assert "tracking.experiment_tags" in verbs
    assert both.audit.verify(project) == []


def test_experiments_are_found_by_name_or_number_and_move_between_folders(both: Workspace, actor: Actor) -> None:
    track, project = both.tracking, both.project.id
    made = track.create_experiment(project, "a/b", actor=actor)
    named = track.create_experiment(project, str(made.id), actor=actor)
    assert track.named_experiment(project, "a/b").id == made.id
    assert track.named_experiment(project, str(made.id)).id == named.id
    track.renamed(project, str(made.id), "seven", actor=actor)
    assert track.named_experiment(project, str(made.id)).id == made.id
    track.renamed(project, "a/b", "c/d/b", actor=actor)
    assert [one.name for one in track.search_experiments(project, folder="c").items] == ["c/d/b"]
    assert track.search_experiments(project, folder="c/d/b").items == []
    with pytest.raises(ExperimentExists):
        track.renamed(project, "seven", "c/d/b", actor=actor)
    run = new_run(both, actor, "seven")
    assert track.counts(project, [made.id, named.id]) == {named.id: 1}
    assert track.list_runs(project, under="nowhere").items == []
    assert run in ids(track.list_runs(project, experiments=["seven"]))
