from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from noria.serving.records import Arm
from noria.serving.router import choose, place

KEYS = [f"caller-{i}" for i in range(4000)]
_WEIGHTS = st.integers(0, 10_000).map(lambda n: n / 10_000)
_TEXT = st.text(max_size=20)


def arms(canary: float) -> list[Arm]:
    return [
        Arm(deployment=1, role="champion", weight=1 - canary),
        Arm(deployment=2, role="canary", weight=canary),
        Arm(deployment=3, role="shadow", weight=0.0),
    ]


@given(_TEXT, _TEXT, _WEIGHTS, st.randoms())
def test_the_same_key_gets_the_same_arm(salt: str, key: str, weight: float, order: object) -> None:
    shuffled = arms(weight)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(arms(weight), salt, key) == choose(shuffled, salt, key)
    assert 0 <= place(salt, key) < 10_000


@given(_TEXT, st.lists(_TEXT, max_size=50), _WEIGHTS, _WEIGHTS)
def test_a_growing_weight_only_adds_callers(salt: str, keys: list[str], one: float, other: float) -> None:
    low, high = sorted([one, other])
    before = {key for key in keys if choose(arms(low), salt, key).role == "canary"}
    after = {key for key in keys if choose(arms(high), salt, key).role == "canary"}
    assert before <= after


@given(_TEXT, _WEIGHTS)
def test_shares_are_as_the_weights_say(salt: str, weight: float) -> None:
    found = Counter(choose(arms(weight), salt, key).role for key in KEYS)
    assert abs(found["canary"] / len(KEYS) - weight) < 0.05  # more than six standard deviations
    assert found["shadow"] == 0


@given(_TEXT, _TEXT)
def test_the_ends_of_the_scale_are_exact(salt: str, key: str) -> None:
    assert choose(arms(0.0), salt, key).role == "champion"
    assert choose(arms(1.0), salt, key).role == "canary"


@given(st.lists(st.integers(1, 50), min_size=1, max_size=7), _TEXT, _TEXT)
def test_some_arm_always_answers(parts: list[int], salt: str, key: str) -> None:
    many = [Arm(deployment=i, role="canary", weight=part / sum(parts)) for i, part in enumerate(parts)]
    assert choose(many, salt, key) in many


def test_another_salt_shares_anew() -> None:
    one, other = (
        {key for key in KEYS if choose(arms(0.5), salt, key).role == "canary"} for salt in ("first", "second")
    )
    assert 0.4 < len(one & other) / len(one) < 0.6


def test_a_key_may_be_any_text() -> None:
    assert choose(arms(0.5), "s", "\ud800\x00").deployment in (1, 2)
