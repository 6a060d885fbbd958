from __future__ import annotations

import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.base import canonical, names, times
from noria.base.digest import Digest
from noria.base.errors import Invalid, MissingExtra, NotFound
from noria.base.ids import IdMaker
from noria.base.pages import position, token

GOLDEN = {
    "empty": {},
    "order": {"b": 1, "a": [True, False, None], "ä": 'ö\n"\\'},
    "numbers": [0, -1, 10**30, 1.0, 0.1, -0.0, 1e300, math.inf, -math.inf, math.nan],
    "bytes": b"\x00\xff",
}


def test_canonical_bytes_never_change(golden) -> None:
    text = {name: canonical.encode(value).decode() for name, value in GOLDEN.items()}
    golden("canonical.json", json.dumps(text, indent=1, sort_keys=True).encode())


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_canonical_reads_back_as_the_same_value(value) -> None:
    text = canonical.encode(value)
    if b"$float" not in text:
        assert json.loads(text) == value
    assert canonical.encode(json.loads(text)) == text or b"$float" in text


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_canonical_ignores_the_order_of_keys(value) -> None:
    assert canonical.digest(value) == canonical.digest(dict(reversed(list(value.items()))))


@pytest.mark.parametrize("value", [{1: 2}, object(), "\ud800", {"a": {1, 2}}])
def test_canonical_refuses_what_has_no_one_form(value) -> None:
    with pytest.raises(Invalid):
        canonical.encode(value)


def test_one_and_one_point_zero_differ() -> None:
    assert canonical.digest(1) != canonical.digest(1.0)
    assert canonical.digest(True) != canonical.digest(1)


def test_digest_text_form_reads_back() -> None:
    digest = Digest.of(b"x")
    assert Digest.parse(str(digest)) == digest
    for wrong in ("", "blake3:", "blake3:xyz", "sha256:" + "0" * 64, "blake3:" + "0" * 63):
        with pytest.raises(Invalid):
            Digest.parse(wrong)


def test_run_ids_are_uuid7_and_increase() -> None:
    maker = IdMaker()
    made = [maker.next(1_700_000_000_000 + n // 10) for n in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert all(len(i) == 32 and i[12] == "7" and i[16] in "89ab" for i in made)
    assert int(made[0][:12], 16) == 1_700_000_000_000


@given(st.integers(0, 10**12))
def test_durations_read_back(ms: int) -> None:
    assert times.parse_duration(times.duration_text(ms)) == ms


@pytest.mark.parametrize("text", ["", "2", "d", "2 d", "2x", "-1d", "1d2", "d1"])
def test_wrong_durations_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="not a duration"):
        times.parse_duration(text)


@given(st.integers(0, 4_000_000_000_000))
def test_times_read_back(ms: int) -> None:
    assert times.parse_time(times.to_text(ms)) == ms


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/../b", "..", "a//b", "a/", "./a", "a\\b", "a\0b", "C:/x", "a\nb", ".noria/x", "a/.NORIA", "x" * 2000],
)
def test_paths_that_leave_the_tree_are_refused(path: str) -> None:
    with pytest.raises(Invalid, match="refused"):
        names.check_path(path)


@given(st.text())
def test_a_path_is_refused_or_stays_below_its_root(path: str) -> None:
    try:
        names.check_path(path)
    except Invalid:
        return
    parts = path.split("/")
    assert parts
    assert ".." not in parts
    assert not path.startswith("/")


def test_errors_survive_a_process_border() -> None:
    error = pickle.loads(pickle.dumps(MissingExtra("ray", "ray", "The Ray executor")))
    assert error.hint == 'pip install "noria[ray]"'
    assert error.as_dict()["error"]["code"] == "missing_extra"
    assert isinstance(pickle.loads(pickle.dumps(NotFound("x", hint="y"))), NotFound)


@given(st.integers() | st.text() | st.lists(st.integers() | st.text()))
def test_page_tokens_read_back(value) -> None:
    assert position(token(value)) == value


@pytest.mark.parametrize("text", ["x", "!!!", "e30", "bnVsbA", "AAAA"])
def test_a_wrong_page_token_is_refused_not_a_crash(text: str) -> None:
    with pytest.raises(Invalid, match="page token"):
        position(text)
