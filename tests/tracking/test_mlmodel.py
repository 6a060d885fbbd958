from __future__ import annotations

import contextlib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from noria.tracking.mlmodel import facts_of
from noria.tracking.yamltext import Unreadable, read, sections

TEXTS = st.text(st.characters(codec="utf-8"), max_size=200) | st.text("ab'\"\\ \n:#-{}[],&*!|>%@", max_size=160)
SCALARS = TEXTS | st.integers(-(10**12), 10**12) | st.booleans() | st.none() | st.floats(-1e9, 1e9)
KEYS = st.text("abcXYZ_0 -.'\"", min_size=1, max_size=20)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_what_a_program_writes_is_read_as_it_was_or_refused(value: dict[str, Any]) -> None:
    text = yaml.safe_dump(value, default_flow_style=False)
    wanted = yaml.safe_load(text)
    with contextlib.suppress(Unreadable):
        assert read(text) == wanted


@given(st.dictionaries(st.text("abc", min_size=1), st.text("abc '\"\n{}[]:,é", max_size=300), min_size=1, max_size=5))
def test_maps_of_texts_are_always_read(value: dict[str, str]) -> None:
    text = yaml.safe_dump(value, default_flow_style=False)
    assert read(text) == value
    assert {key: read(part)[key] for key, part in sections(text).items()} == value


@given(st.text("a: -'\"\n{}[]&*!|>#\\x", max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    facts_of(text.encode())
    with contextlib.suppress(Unreadable):
        read(text)


def test_facts_of_a_description() -> None:
    inputs = '[{"type": "double", "name": "a", "required": true}, {"type": "string", "name": "it\'s a long name"}]'
    told = {
        "flavors": {"python_function": {"env": {"conda": "c.yaml"}, "loader_module": "x"}, "sklearn": {"code": None}},
        "metadata": {"odd": "&anchor", "many": ["a"]},
        "mlflow_version": "3.17.2",
        "saved_input_example_info": {"artifact_path": "input_example.json", "type": "dataframe"},
        "signature": {"inputs": inputs, "outputs": None, "params": "[]"},
    }
    found = facts_of(yaml.safe_dump(told, default_flow_style=False).encode())
    assert found["flavors"] == ["python_function", "sklearn"]
    assert [column["name"] for column in found["signature"]["inputs"]] == ["a", "it's a long name"]
    assert found["signature"]["params"] == []
    assert found["input_example"] == "input_example.json"
    assert found["mlflow"] == "3.17.2"


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"{", b"[1]", b"flavors: &a {}\n", b"flavors:\n- a\n", b"a" * 10000]
)
def test_what_says_nothing_gives_no_facts(data: bytes) -> None:
    assert facts_of(data) == {}
