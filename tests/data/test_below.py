"""What a history holds, against the plainest walk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

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


def test_a_branch_that_reads_holds_no_other_one_up() -> None:
    """Two threads read at the same time, each of a repository of its own; one waits for the other to be done."""
    dag: Dag = [(1, [])] + [(n + 1, [n - 1]) for n in range(1, 100)]
    histories, plain, inside, done = Histories(), Reader(dag), threading.Event(), threading.Event()

    def slow(low: int, high: int) -> Iterator[tuple[CommitId, list[CommitId]]]:
        inside.set()
        assert done.wait(20), "the other branch had to wait"
        return plain(low, high)

    first = histories.of(1, "main", tip(dag, 99), slow)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(first, name(10), 11)
        assert inside.wait(20)
        try:
            other = in_time(lambda: histories.of(2, "main", tip(dag, 99), plain)(name(10), 11))
        finally:
            done.set()
        assert other
        assert answer.result(20)


def in_time(work: Callable[[], bool]) -> bool:
    """Does it in a thread that is not waited for, so that a lock that is held fails the test instead of hanging it."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(10)
    return found == [True]


def test_what_is_remembered_of_all_branches_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMITS", 10_000)
    dag: Dag = [(1, [])] + [(n + 1, [n - 1]) for n in range(1, 4000)]
    histories, reader = Histories(), Reader(dag)
    for number in range(12):
        assert histories.of(number, "main", tip(dag, 3999), reader)(name(0), 1)
    assert len(histories._seen) == 3
    assert sum(one.size for one in histories._seen.values()) <= 12_000
    reader.rows = 0
    assert histories.of(11, "main", tip(dag, 3999), reader)(name(0), 1)
    assert reader.rows == 0, "the newest ones are still known"
    assert histories.of(0, "main", tip(dag, 3999), reader)(name(0), 1), "what was forgotten is read again"
