"""Each line of the comparison that says yes of us names a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "versioned-data.md"
MLFLOW = ROOT / "docs" / "mlflow.md"


@pytest.mark.parametrize("page", [PAGE, MLFLOW])
def test_every_test_that_the_comparison_names_is_there(page: Path) -> None:
    named = re.findall(r"`([\w/]+\.py)(?:::(test_\w+))?`", page.read_text())
    assert len(named) > 40
    for file, name in named:
        text = (ROOT / "tests" / file).read_text()
        assert not name or re.search(rf"def {name}\b", text), f"{file}::{name}"


def test_every_line_of_ours_that_says_yes_names_a_test() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("|")]
    ours = [(row[0], row[5], row[6]) for row in rows if len(row) == 7 and row[5].strip().startswith("yes")]
    assert len(ours) > 40
    assert [feature for feature, _, test in ours if "test_" not in test] == []


def test_every_line_about_mlflow_that_says_yes_names_a_test() -> None:
    rows = [line.split("|")[1:-1] for line in MLFLOW.read_text().splitlines() if line.startswith("|")]
    ours = [row for row in rows if len(row) == 3 and row[1].strip().startswith(("yes", "better", "part"))]
    assert len(ours) > 40
    assert [row[0] for row in ours if "test_" not in row[2]] == []
