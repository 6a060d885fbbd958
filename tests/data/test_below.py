"""What a history holds, against the plainest walk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.base.ids import CommitId
from noria.data import below as module
from noria.data.below import Below, Histories, Tip

Dag = list[tuple[int, list[int]]]
"""Of each commit its generation and its parents, as places in the list."""


@st.composite
def dags(draw: st.DrawFn) -> Dag:
    found: Dag = []
    for number in range(draw(st.integers(1, 24))):
        parents = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        skipped = draw(st.integers(0, 4))  # squashed commits keep the generation that they had
        found.append((1 + skipped + max((found[p][0] for p in parents), default=0), parents))
    return found


class Reader:
    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        self.rows = 0

    def __call__(self, low: int, high: int) -> Iterator[tuple[CommitId, list[CommitId]]]:
        for number in sorted(range(len(self.dag)), key=lambda n: -self.dag[n][0]):
            if low <= self.dag[number][0] < high:
                self.rows += 1
                yield name(number), [name(parent) for parent in self.dag[number][1]]


def name(number: int) -> CommitId:
    return CommitId(f"c{number}")


def tip(dag: Dag, number: int) -> Tip:
    generation, parents = dag[number]
    return Tip(name(number), generation, [name(parent) for parent in parents])


def naive(dag: Dag, number: int) -> set[int]:
    found, todo = set[int](), [number]
    while todo:
        one = todo.pop()
        found.add(one)
        todo += dag[one][1]
    return found


@pytest.mark.parametrize("page", [1, 3, 32])
@given(dag=dags(), data=st.data())
def test_any_walk_of_heads_and_questions_is_answered_as_by_a_walk_of_the_graph(
    page: int, dag: Dag, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FIRST", page)
        histories, read = Histories(), Reader(dag)
        numbers = st.integers(0, len(dag) - 1)
        asked = []
        for _ in range(data.draw(st.integers(1, 8))):
            head = data.draw(numbers)
            asked.append((naive(dag, head), histories.of(1, "main", tip(dag, head), read)))
            for _ in range(data.draw(st.integers(0, 5))):
                truth, holds = data.draw(st.sampled_from(asked))  # also those that the branch left since
                one = data.draw(numbers)
                assert holds(name(one), dag[one][0]) == (one in truth)


@given(dag=dags(), data=st.data())
def test_it_moves_to_what_stands_on_it_and_to_nothing_else(dag: Dag, data: st.DataObject) -> None:
    numbers = st.integers(0, len(dag) - 1)
    one, other = data.draw(numbers), data.draw(numbers)
    below, read = Below(tip(dag, one)), Reader(dag)
    assert below.move(tip(dag, other), read) == (one in naive(dag, other))


def test_a_branch_that_goes_on_is_not_read_again() -> None:
    dag: Dag = [(1, [])] + [(n + 1, [n - 1]) for n in range(1, 5000)]
    histories, read = Histories(), Reader(dag)
    assert histories.of(1, "main", tip(dag, 4000), read)(name(3990), 3991)
    assert read.rows <= 32
    read.rows = 0
    for number in range(4001, 4100):
        assert histories.of(1, "main", tip(dag, number), read)(name(number - 1), number)
    assert read.rows == 0
    assert histories.of(1, "main", tip(dag, 4150), read)(name(4120), 4121)
    assert read.rows == 50
    assert not histories.of(1, "main", None, read)(name(0), 1)
