from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import noria as nr
from noria.pipelines import snapshot
from noria.pipelines.errors import AssetUnknown, CodeBroken, GraphInvalid, ParameterUnknown
from noria.pipelines.graph import build


def test_edges_come_from_parameter_names_and_hyperparameters_after_the_star() -> None:
    raw = nr.source("raw", key="id")

    @nr.dataset
    def clean(raw, *, limit: int = 3):
        return raw

    @nr.dataset(inputs={"df": raw.at("v1"), "df2": clean})
    def joined(df, df2):
        return df

    graph = build([joined, clean, raw])
    assert list(graph.nodes) == ["raw", "clean", "joined"]
    assert [(e.slot, e.asset, e.pinned) for e in graph.node("joined").edges] == [
        ("df", "raw", "v1"),
        ("df2", "clean", None),
    ]
    assert graph.params("clean", {"limit": 5}) == {"limit": 5}
    assert graph.upstream(["clean"]) == ["raw", "clean"]


def test_a_decorated_function_is_the_plain_function() -> None:
    @nr.dataset(cpu=2)
    def double(x):
        return 2 * x

    assert double(4) == 8
    assert double.__name__ == "double"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    weather = nr.source("weather")

    @nr.dataset
    def trip(wether):
        return wether

    with pytest.raises(GraphInvalid, match="takes 'wether'") as error:
        build([weather, trip])
    assert "Did you mean 'weather'?" in error.value.hint


def test_two_assets_of_one_name_are_named_with_their_places() -> None:
    def make():
        @nr.dataset
        def clean():
            return 1

        return clean

    with pytest.raises(GraphInvalid, match=r"Two assets are named 'clean': test_graph.py:\d+ and test_graph.py:\d+"):
        build([make(), make()])


def test_a_cycle_is_a_path() -> None:
    @nr.dataset
    def a(b):
        return b

    @nr.dataset
    def b(c):
        return c

    @nr.dataset
    def c(a):
        return a

    with pytest.raises(GraphInvalid, match="a -> b -> c -> a"):
        build([a, b, c])


def test_reserved_names_stay_reserved() -> None:
    with pytest.raises(GraphInvalid, match="reserved"):
        build([nr.source("train")])

    @nr.dataset
    def wrong(train):
        return train

    with pytest.raises(GraphInvalid, match="only a model may"):
        build([wrong])


def test_star_arguments_are_refused() -> None:
    @nr.dataset
    def wrong(*things):
        return things

    with pytest.raises(GraphInvalid, match="names each of its inputs"):
        build([wrong])


def test_unknown_assets_and_parameters() -> None:
    @nr.dataset
    def clean(*, limit=1):
        return limit

    graph = build([clean])
    with pytest.raises(AssetUnknown) as asset:
        graph.node("claen")
    assert "clean" in asset.value.hint
    with pytest.raises(ParameterUnknown) as parameter:
        graph.params("clean", {"limits": 2})
    assert "limit" in parameter.value.hint


def test_features_labels_models_checks_and_commands_are_edges() -> None:
    flights, landings = nr.source("flights"), nr.source("landings")

    @nr.features(of=flights, at="x")
    def trip(flights):
        return flights

    @nr.labels(of=flights, after="2d")
    def late(landings):
        return landings

    @nr.model(features=trip, target=late, metrics=["log_loss"])
    def delay(train, valid, *, C=1.0):
        return None

    @nr.check(delay)
    def good(evaluation):
        assert evaluation

    sessions = nr.command("sort {late} {out}", name="sessions")
    ends = nr.endpoint("delays", model=delay)
    graph = build([ends, sessions, good, delay, late, trip, flights, landings])
    edges = {n.name: [(e.slot, e.asset) for e in n.edges] for n in graph.nodes.values()}
    assert edges["trip"] == [("flights", "flights")]
    assert edges["late"] == [("landings", "landings"), ("of", "flights")]
    assert edges["delay"] == [("features", "trip"), ("target", "late")]
    assert edges["good"] == [("about", "delay")]
    assert edges["sessions"] == [("late", "late")]
    assert graph.checks_of(["delay"]) == ["good"]
    assert list(graph.endpoints) == ["delays"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nr.source("x", sql="select 1"), "no url="),
        (lambda: nr.source("x", files="a", url="b"), "takes one of them"),
        (lambda: nr.source("1x"), "cannot be the name"),
        (lambda: nr.dataset(memory="2 potatoes")(print), "amount of memory"),
        (lambda: nr.dataset(timeout="soon")(lambda: 1), "not a duration"),
        (lambda: nr.model(features=print)(lambda: 1), "together"),
        (lambda: nr.command("ls", name="x"), "never writes"),
        (lambda: nr.split.random(valid=2), "share between"),
        (lambda: nr.space.log(0, 1), "positive bounds"),
        (lambda: nr.space.ints(3, 1), "is empty"),
        (lambda: nr.gate.slices("a"), "one metric"),
        (lambda: nr.release.canary([0.5, 0.2]), "do not grow"),
        (lambda: nr.when.worse(by=0), "above 0"),
    ],
)
def test_wrong_declarations_say_what_to_write(make, message: str) -> None:
    with pytest.raises(nr.NoriaError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("import nothing_like_this", "no module 'nothing_like_this'", "pip install"),
        ("x = 1 / 0", "ZeroDivisionError", "broken.py:1: x = 1 / 0"),
        ("def f(:\n  pass", "SyntaxError", "broken.py:1"),
    ],
)
def test_a_module_that_does_not_import_is_explained(project, text: str, message: str, hint: str) -> None:
    workspace = project({"broken.py": text})
    with pytest.raises(CodeBroken, match=message) as error:
        workspace.pipelines.graph()
    assert hint in error.value.hint


def test_a_missing_module_is_named(project, tmp_path: Path) -> None:
    workspace = project({"a.py": ""})
    (tmp_path / "a.py").unlink()
    with pytest.raises(CodeBroken) as error:
        workspace.pipelines.graph()
    assert "noria.toml" in error.value.hint


def test_a_project_that_a_repository_around_it_ignores_is_walked(tmp_path: Path) -> None:
    """``noria demo`` in a clone makes its project in a folder that git ignores."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("inner/\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "noria.toml").write_text('name = "inner"\nmodules = ["steps"]\n')
    (inner / "steps.py").write_text("x = 1\n")
    (inner / ".gitignore").write_text("data/\n")
    (inner / "data").mkdir()
    (inner / "data" / "big.csv").write_text("1\n")
    found = snapshot.look(inner)
    assert found.paths == (".gitignore", "noria.toml", "steps.py")
    assert found.git == {}
