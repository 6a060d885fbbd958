"""Three-way merges of trees, against dictionaries; files of one side that are folders of the other among them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.base.digest import Digest
from noria.store import Entry, ObjectStore, tree
from noria.store.local import LocalBytes
from noria.store.merging import Sides, TreeMerge, merge

TIMES = int(os.environ.get("NORIA_TEST_FUZZ", "1"))

Content = dict[str, bytes]

NAMES = ("a", "d", "d/x", "d/x/z", "d/y", "e/f")


def _parents(path: str) -> set[str]:
    return {path[:at] for at, letter in enumerate(path) if letter == "/"}


def _clash(content: Content) -> bool:
    return any(_parents(path) & content.keys() for path in content)


contents = st.dictionaries(st.sampled_from(NAMES), st.sampled_from((b"1", b"2", b"3"))).filter(lambda c: not _clash(c))
patterns = st.dictionaries(
    st.sampled_from((*NAMES, "e", "*", "d/*", "*/x", "[de]*")), st.sampled_from(("ours", "theirs")), max_size=4
)


class Trees:
    def __init__(self, place: Path) -> None:
        self.store = ObjectStore(LocalBytes(place / "store"), place / "cache")

    def put(self, content: Content) -> Digest:
        with self.store.writer() as writer:
            paths = sorted(content, key=tree.key_of)
            made = [Entry(path=path, size=len(content[path]), inline=content[path]) for path in paths]
            root = tree.build(writer, made)
            writer.flush()
        return root

    def content(self, root: Digest) -> Content:
        return {entry.path: entry.inline or b"" for entry in tree.walk(self.store, root)}

    def merge(self, base: Content, ours: Content, theirs: Content, sides: Sides) -> TreeMerge:
        with self.store.writer() as writer:
            done = merge(self.store, writer, self.put(base), self.put(ours), self.put(theirs), sides)
            writer.flush()
        return done


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    return Trees(tmp_path_factory.mktemp("trees"))


three = {"base": contents, "ours": contents, "theirs": contents}
quick = settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(**three, strategy=st.sampled_from(("conflict", "ours", "theirs")), resolve=patterns)
@quick
def test_each_path_is_as_the_side_has_it_that_it_was_given_to(
    trees: Trees, base: Content, ours: Content, theirs: Content, strategy: str, resolve: dict[str, str]
) -> None:
    sides = Sides(strategy, resolve)
    done = trees.merge(base, ours, theirs, sides)
    changed = {p for p in {**base, **theirs} if base.get(p) != theirs.get(p)}
    mine = {p for p in {**base, **ours} if base.get(p) != ours.get(p)}
    twice = {p for p in changed & mine if ours.get(p) != theirs.get(p)}
    undecided = {p for p in twice if sides.of(p) == "conflict"}
    assert undecided <= set(done.conflicts)
    clashing = {p for p in {**ours, **theirs} if _parents(p) & {**ours, **theirs}.keys()}
    clashing |= {above for p in clashing for above in _parents(p)}
    assert set(done.conflicts) - undecided <= clashing
    if done.conflicts:
        assert trees.content(done.root) == ours
        return
    result = trees.content(done.root)
    assert not _clash(result)
    for path in {**base, **ours, **theirs}:
        if path in twice:
            expected = theirs if sides.of(path) == "theirs" else ours
        else:
            expected = theirs if path in changed else ours
        if path not in clashing:
            assert result.get(path) == expected.get(path), path
        elif result.get(path) != expected.get(path):  # it gave way: to the other side, which won
            other = ours if expected is theirs else theirs
            assert result.get(path) == other.get(path), path


@given(**three, strategy=st.sampled_from(("ours", "theirs")))
@quick
def test_a_strategy_decides_everything(
    trees: Trees, base: Content, ours: Content, theirs: Content, strategy: str
) -> None:
    assert trees.merge(base, ours, theirs, Sides(strategy)).conflicts == []


@given(**three, choices=st.lists(st.sampled_from(("ours", "theirs")), min_size=6, max_size=6))
@quick
def test_what_is_named_can_be_decided(
    trees: Trees, base: Content, ours: Content, theirs: Content, choices: list[str]
) -> None:
    """One path after another, each given to a side by its name: it ends, unless a file and a folder of one name were
    given to different sides, and that is said."""
    chosen = dict(zip(NAMES, choices, strict=True))
    resolve: dict[str, str] = {}
    for _ in range(len(NAMES) + 1):
        named = trees.merge(base, ours, theirs, Sides("conflict", resolve)).conflicts
        if all(path in resolve for path in named):
            break
        resolve |= {path: chosen[path] for path in named}
    assert not named or len({resolve[path] for path in named}) == 2


def test_the_most_exact_pattern_decides() -> None:
    sides = Sides("conflict", {"*": "ours", "cat": "theirs", "cat/*1": "ours", "cat/11": "theirs", "c*t/2": "ours"})
    assert [sides.of(p) for p in ("x", "cat", "cat/3", "cat/01", "cat/11")] == [
        "ours",
        "theirs",
        "theirs",
        "ours",
        "theirs",
    ]
    assert Sides("ours", {"ab*": "theirs", "*bc": "ours"}).of("abc") == "conflict", "equally exact, and not of one mind"
    assert Sides("ours", {"a*": "theirs"}).of("b") == "ours"
    assert Sides("conflict", {"img[1].jpg": "ours", "img*": "theirs"}).of("img[1].jpg") == "ours"
