"""A folder beside a repository: what is seen of it, without a workspace around it."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.data.worktree import Worktree
from noria.store import ObjectStore, folders, reading, tree
from noria.store.local import LocalBytes


class Beside:
    """A folder, a store, and the last commit."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.folder = place / "files"
        self.folder.mkdir()
        self.store = ObjectStore(LocalBytes(place / "store"), place / "cache")
        self.head: Digest | None = None

    def work(self, folder: Path | None = None) -> Worktree:
        return Worktree(self.place / "home", 1, folder or self.folder)

    def write(self, **contents: bytes) -> None:
        """Files, as old as files usually are; ``__`` in a name stands for ``/``."""
        for name, data in contents.items():
            path = self.folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self.age(path)

    @staticmethod
    def age(path: Path) -> None:
        past = time.time_ns() - 3_600_123_456_789
        os.utime(path, ns=(past, past), follow_symlinks=False)

    def commit(self, **options: object) -> Worktree:
        work = self.work()
        with self.store.writer() as writer:
            self.head = work.store(self.store, writer, self.head, None, **options)  # type: ignore[arg-type]
            writer.flush()
        work.save(self.head)
        return work

    def status(self, **options: object) -> dict[str, str]:
        with self.store.writer() as scratch:
            found = self.work().compare(self.store, scratch, self.head, **options)  # type: ignore[arg-type]
        return {c.path: "new" if c.before is None else "gone" if c.after is None else "changed" for c in found}

    def content(self, path: str) -> bytes | None:
        assert self.head is not None
        return folders.read_file(self.store, self.head, path)


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    return Beside(tmp_path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The names that were opened for reading since the last call."""
    seen: list[str] = []
    real = reading.Reader.read

    def read(self, prefix, names, odd=()):
        seen.extend(prefix + name for name in names)
        return real(self, prefix, names, odd)

    monkeypatch.setattr(reading.Reader, "read", read)

    def taken() -> list[str]:
        found, seen[:] = sorted(seen), []
        return found

    return taken


def test_only_what_changed_is_read(beside: Beside, reads: Callable[[], list[str]]) -> None:
    beside.write(a=b"1" * 100, d__b=b"2" * 100, d__c=b"3", e__f__g=b"4")
    beside.commit()
    assert reads() == ["a", "d/b", "d/c", "e/f/g"]
    assert beside.status() == {}
    assert reads() == []
    beside.write(d__c=b"changed", d__new=b"5")
    (beside.folder / "a").unlink()
    assert beside.status() == {"a": "gone", "d/c": "changed", "d/new": "new"}
    assert reads() == ["d/c", "d/new"]
    before = beside.head
    beside.commit()
    assert beside.head != before
    assert beside.status() == {}
    assert (beside.content("a"), beside.content("d/c")) == (None, b"changed")


def test_a_touched_file_is_read_once_and_then_remembered(beside: Beside, reads: Callable[[], list[str]]) -> None:
    beside.write(a=b"1" * 100, b=b"2" * 100, c=b"3")
    (beside.folder / "empty").mkdir()
    beside.commit()
    reads()
    beside.age(beside.folder / "a")
    beside.write(b=b"changed", d__new=b"new", empty__no__more=b"")
    (beside.folder / "c").unlink()
    (beside.folder / "void").mkdir()
    expected = {
        "b": "changed",
        "c": "gone",
        "d/new": "new",
        "empty": "gone",
        "empty/no/more": "new",
        "void": "new",
    }
    for opened in (["a", "b", "d/new", "empty/no/more"], ["b", "d/new", "empty/no/more"]):
        assert beside.status() == expected
        assert reads() == opened
    beside.commit()
    assert beside.status() == {}


def test_a_change_without_a_new_time_is_seen_shortly_after_the_look(beside: Beside) -> None:
    """The same size, time and inode; the cache was written within the same tick of the clock."""
    beside.write(a=b"old", b=b"x")
    path = beside.folder / "a"
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    work = beside.commit()
    assert work._fresh is not None
    path.write_bytes(b"new")
    os.utime(path, ns=(now, now))
    (names, stats, empty) = work._fresh[""]
    found = path.stat()
    seen = dict(zip(names.decode().split("\0"), range(2), strict=True))["a"]
    forged = bytearray(stats)
    forged[32 * seen + 16 : 32 * seen + 24] = found.st_ctime_ns.to_bytes(8, "little")
    work._fresh[""] = type(work._fresh[""])(names, bytes(forged), empty)
    assert beside.head is not None
    work.save(beside.head)
    assert beside.status() == {"a": "changed"}


def test_the_folder_is_compared_with_any_tree(beside: Beside) -> None:
    beside.write(a=b"1", b=b"2", c=b"3")
    beside.commit()
    with beside.store.writer() as writer:  # somebody else commits, not from this folder
        other = folders.put_files(writer, {"a": b"1", "b": b"other", "d": b"4"})
        writer.flush()
    ours, beside.head = beside.head, other
    beside.write(c=b"changed", e=b"5")
    assert beside.status() == {"b": "changed", "c": "new", "d": "gone", "e": "new"}
    beside.head = None
    assert beside.status() == dict.fromkeys("abce", "new")
    beside.head = other
    beside.commit()
    assert beside.head not in (ours, other)
    assert beside.status() == {}
    assert (beside.content("b"), beside.content("d")) == (b"2", None)


def test_a_tree_that_the_collector_took_is_made_from_the_folder_again(beside: Beside) -> None:
    beside.write(a=b"1" * 100)
    beside.commit()
    (pack,) = beside.store.index.packs()
    for condemned in (frozenset({pack}), frozenset[str]()):
        if not condemned:
            beside.store.drop_pack(pack)
        work = beside.work()
        with beside.store.writer(ignoring=condemned) as writer:
            root = work.store(beside.store, writer, beside.head, None)
            made = writer.flush()
        assert root == beside.head
        assert len(made) == 1
    assert beside.content("a") == b"1" * 100


def test_metadata_of_a_path_stays_when_its_file_changes(beside: Beside) -> None:
    beside.write(a=b"1" * 100, b=b"2")
    beside.commit()
    assert beside.head is not None
    with beside.store.writer() as writer:
        row = tree.find_rows(beside.store, beside.head, [b"a"])[b"a"]
        beside.head = tree.apply_rows(beside.store, writer, beside.head, {b"a": [*row[:6], {"by": "hand"}]})
        writer.flush()
    for again in (False, True):
        work = beside.work()
        work.save(beside.head)  # never looked: writes nothing
        if again:
            beside.write(a=b"changed")
        else:
            next((beside.place / "home" / "cache" / "stat").iterdir()).unlink()
        beside.commit()
        found = tree.find(beside.store, beside.head, "a")
        assert found is not None
        assert found.meta == {"by": "hand"}
    assert beside.content("a") == b"changed"


def test_some_paths_are_committed_without_a_look_at_others(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    beside.write(a=b"1", d__b=b"2", d__c=b"3", d__e__f=b"4", g=b"5")
    beside.commit()
    beside.write(a=b"changed", d__b=b"changed", g=b"changed", d__new=b"6")
    (beside.folder / "d" / "e" / "f").unlink()
    (beside.folder / "d" / "e").rmdir()
    assert beside.status(paths=["d/c"]) == {}
    assert beside.status(paths=["d/e/f", "a", "nowhere"]) == {"a": "changed", "d/e/f": "gone"}
    assert beside.status(paths=["d/"]) == {"d/b": "changed", "d/e/f": "gone", "d/new": "new"}
    with monkeypatch.context() as patch:
        patch.setattr(Worktree, "_look", None)
        patch.setattr(Worktree, "_cache", None)
        beside.commit(paths=["a", "d"])
    assert (beside.content("a"), beside.content("d/new"), beside.content("g")) == (b"changed", b"6", b"5")
    assert beside.status() == {"g": "changed"}
    with pytest.raises(Invalid, match="refused"):
        beside.status(paths=["../outside"])


def test_nothing_is_read_through_a_link_among_the_paths(beside: Beside) -> None:
    (beside.place / "secret").mkdir()
    (beside.place / "secret" / "key").write_bytes(b"secret")
    (beside.folder / "link").symlink_to(beside.place / "secret")
    assert beside.status(paths=["link"]) == {"link": "new"}
    assert beside.status(paths=["link/key"]) == {}


def test_names_that_collide_elsewhere_are_reported(beside: Beside) -> None:
    beside.write(d__Readme=b"1", d__README=b"2", D__x=b"3", other=b"4")
    composed, taken_apart = (unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD"))
    for name in (composed, taken_apart):
        (beside.folder / name).write_bytes(b"")
    groups = beside.commit().collisions
    assert sorted(groups) == [("D", "d"), ("d/README", "d/Readme"), tuple(sorted((composed, taken_apart)))]


def test_what_cannot_be_read_is_named_and_nothing_is_remembered(beside: Beside) -> None:
    beside.write(a=b"1")
    os.mkfifo(beside.folder / "pipe")
    with pytest.raises(Invalid, match="pipe is neither"):
        beside.commit()
    (beside.folder / "pipe").unlink()
    (beside.folder / "back\\slash").write_bytes(b"")
    with pytest.raises(Invalid, match="backslash"):
        beside.commit()
    (beside.folder / "back\\slash").unlink()
    beside.commit()
    assert beside.status() == {}
