"""A folder beside a repository: what is seen of it, without a workspace around it."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.base.digest import Digest
from noria.base.errors import DiskFull, Invalid
from noria.base.faults import CrashAt
from noria.data import statcache
from noria.data.worktree import Worktree
from noria.data.worktree.memory import Memory
from noria.store import Entry, EntryKind, Kind, ObjectStore, files, folders, reading, tree, writing
from noria.store.errors import FileChanged, ObjectCorrupt
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
    assert work._seen is not None
    places = work._seen.view.places
    path.write_bytes(b"new")
    os.utime(path, ns=(now, now))
    (names, stats, empty) = places[""]
    found = path.stat()
    seen = dict(zip(names.decode().split("\0"), range(2), strict=True))["a"]
    forged = bytearray(stats)
    forged[32 * seen + 16 : 32 * seen + 24] = found.st_ctime_ns.to_bytes(8, "little")
    places[""] = type(places[""])(names, bytes(forged), empty)
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
            for name in beside.store.index.packs():
                beside.store.drop_pack(name)
        work = beside.work()
        with beside.store.writer(ignoring=condemned) as writer:
            root = work.store(beside.store, writer, beside.head, None)
            made = writer.flush()
        assert root == beside.head
        assert len(made) == 1
    assert beside.content("a") == b"1" * 100


def test_a_recipe_that_outlived_its_chunks_does_not_stand_for_them(beside: Beside) -> None:
    """A collection took the chunks; the recipe lies in a pack that was kept for something else."""
    big = os.urandom(300_000)
    beside.write(big=big, small=b"s" * 100)
    beside.commit()
    old = sorted(beside.store.index.packs())
    with beside.store.writer(ignoring=frozenset(old)) as writer:
        for pack in old:
            kept = {found.id for found in beside.store.pack_entries(pack) if found.kind != Kind.CHUNK}
            assert writer.copy(pack, kept)
        writer.flush()
    for pack in old:
        beside.store.drop_pack(pack)
    beside.commit()
    assert beside.content("big") == big
    assert beside.content("small") == b"s" * 100
    assert beside.status() == {}


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
        patch.setattr(Memory, "cache", None)
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


# ---- checkout


class Switching(Beside):
    """A folder that is switched between trees."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.out = place / "out"

    def tree(self, contents: dict[str, bytes | None]) -> Digest:
        """A tree of files; None stands for an empty folder."""
        with self.store.writer() as writer:
            entries = [
                Entry(path=path, kind=EntryKind.FOLDER)
                if data is None
                else Entry(path=path, size=len(data), content=files.put_bytes(writer, data))
                if len(data) > 64
                else Entry(path=path, size=len(data), inline=data)
                for path, data in sorted(contents.items(), key=lambda item: tree.key_of(item[0]))
            ]
            root = tree.build(writer, entries)
            writer.flush()
        return root

    def switch(self, target: Digest, **options: object) -> int:
        return self.work(self.out).checkout(self.store, target, None, **options)  # type: ignore[arg-type]

    def now(self) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        for path in sorted(self.out.rglob("*")):
            name = path.relative_to(self.out).as_posix()
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    found[name] = None
            else:
                found[name] = path.read_bytes()
        return found

    def differs(self, root: Digest) -> dict[str, str]:
        with self.store.writer() as scratch:
            found = self.work(self.out).compare(self.store, scratch, root)
        return {c.path: "new" if c.before is None else "gone" if c.after is None else "changed" for c in found}


@pytest.fixture
def switching(tmp_path: Path) -> Switching:
    return Switching(tmp_path)


ONE: dict[str, bytes | None] = {
    "a": b"1",
    "big": b"x" * 300_000,
    "d/b": b"2" * 100,
    "d/e/c": b"3",
    "empty": None,
    "only/one": b"4",
    "swap/file": b"5",
    "turns": b"6",
}
TWO: dict[str, bytes | None] = {
    "a": b"changed",
    "big": b"x" * 300_000,
    "d/b": b"2" * 100,
    "d/new/deep/er": b"7" * 200,
    "empty/no/more": b"8",
    "only": b"a file now",
    "swap": b"5",
    "turns/into/a": b"folder",
    "void/deep": None,
}


def test_a_folder_is_switched_to_and_fro(switching: Switching, reads: Callable[[], list[str]]) -> None:
    one, two = switching.tree(ONE), switching.tree(TWO)
    assert switching.switch(one) == len(ONE)
    assert switching.now() == ONE
    inode = (switching.out / "big").stat().st_ino
    for root, expected in ((two, TWO), (one, ONE), (two, TWO)):
        switching.switch(root)
        assert switching.now() == expected
        assert switching.differs(root) == {}
    assert (switching.out / "big").stat().st_ino == inode, "what both have is left alone"
    time.sleep(0.15)  # beyond the tick of the clock, nothing is read
    switching.differs(two)
    reads()
    assert switching.differs(two) == {}
    assert reads() == []
    assert switching.switch(two) == 0


def checked_out_until(place: Path, tree: Digest, point: str) -> None:
    faults = CrashAt.parse(point)
    store = ObjectStore(LocalBytes(place / "store", faults), place / "cache", faults)
    Worktree(place / "home", 1, place / "out").checkout(store, tree, None)


@pytest.mark.parametrize(
    "point",
    [
        "checkout.write",
        "checkout.write:3",
        "checkout.remove",
        "checkout.remove:3",
        "checkout.rename",
        "checkout.rename:3",
        "checkout.cache",
    ],
)
def test_a_checkout_that_was_killed_is_finished_by_the_next(
    switching: Switching, point: str, in_a_child: Callable[..., int]
) -> None:
    one, two = switching.tree(ONE), switching.tree(TWO)
    switching.switch(one)
    assert in_a_child(lambda: checked_out_until(switching.place, two, point)) == 137
    for path in switching.out.rglob("*"):
        name = path.relative_to(switching.out).as_posix()
        if path.is_file() and not name.startswith(".noria-"):
            assert path.read_bytes() in (ONE.get(name), TWO.get(name)), "old or new, never half"
    assert not any(path.startswith(".noria-") for path in switching.differs(one))
    switching.switch(two)
    assert switching.now() == TWO
    assert switching.differs(two) == {}


def test_changes_never_committed_are_kept_unless_forced(switching: Switching) -> None:
    one, two = switching.tree(ONE), switching.tree(TWO)
    switching.switch(one)
    (switching.out / "a").write_bytes(b"mine")
    (switching.out / "d" / "b").unlink()
    (switching.out / "mine").write_bytes(b"new")
    (switching.out / "lonely").mkdir()
    before = switching.now()
    with pytest.raises(Invalid, match="4 changes never committed"):
        switching.switch(two)
    assert switching.now() == before
    (switching.out / "turns").unlink()
    (switching.out / "turns").mkdir()
    (switching.out / "turns" / "mine").write_bytes(b"")
    switching.switch(two, force=True)
    assert switching.now() == {**TWO, "mine": b"new", "lonely": None, "turns/mine": b""}
    for _ in range(2):
        assert switching.differs(two) == {"mine": "new", "lonely": "new", "turns/mine": "new"}
    (switching.out / "mine").unlink()
    assert switching.differs(two) == {"lonely": "new", "turns/mine": "new"}


class At:
    """Does something once, when a point is reached."""

    def __init__(self, point: str, do: Callable[[], object]) -> None:
        self._point, self._do = point, do

    def at(self, point: str) -> None:
        if point == self._point:
            self._point = ""
            self._do()


@pytest.mark.parametrize(
    "edited", ["a", "d/b", "gone", "new", "old"]
)  # overwritten twice, removed, made where there was nothing, and overwritten, from before 1970
def test_an_edit_while_a_checkout_stages_is_not_overwritten(switching: Switching, edited: str) -> None:
    first: dict[str, bytes | None] = {"a": b"1", "d/b": b"1" * 100, "gone": b"1", "old": b"1"}
    second: dict[str, bytes | None] = {"a": b"2", "d/b": b"2" * 100, "new": b"2", "old": b"2"}
    one, two = switching.tree(first), switching.tree(second)
    switching.switch(one)
    os.utime(switching.out / "old", ns=(-1, -1))
    switching.store.faults = At("checkout.write", lambda: (switching.out / edited).write_bytes(b"precious"))
    with pytest.raises(FileChanged, match=f"^{edited} changed while the folder was being changed"):
        switching.switch(two)
    assert (switching.out / edited).read_bytes() == b"precious"
    with pytest.raises(Invalid, match=f"1 change never committed, among them {edited}") as refused:
        switching.switch(two)
    assert "--force" in refused.value.hint
    (switching.out / edited).unlink()
    if edited in first:
        (switching.out / edited).write_bytes(first[edited] or b"")
    switching.switch(two)
    assert switching.now() == second
    assert switching.differs(two) == {}


@pytest.mark.parametrize("holds", ["mine", "deep/er/mine", "deep/void/"])
def test_a_folder_that_holds_something_does_not_become_a_file_half_way(switching: Switching, holds: str) -> None:
    one = switching.tree({"a": b"1", "turns/b": b"1"})
    two = switching.tree({"a": b"2", "turns": b"2"})
    switching.switch(one)
    place = switching.out / "turns" / holds
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir() if holds.endswith("/") else place.write_bytes(b"mine")
    before = switching.now()
    with pytest.raises(Invalid, match=f"turns/? has to become a file, and holds turns/{holds},"):
        switching.switch(two, force=True)
    assert switching.now() == before
    shutil.rmtree(switching.out / "turns" / holds.split("/")[0]) if "/" in holds else place.unlink()
    switching.switch(two, force=True)
    assert switching.now() == {"a": b"2", "turns": b"2"}


@pytest.mark.parametrize(
    "row",
    [
        [b"x", 9, 0, 1, 0, b"a", {}],
        [b"x", 1, 0, 1, 7, b"a" * 32, {}],
        [b"x", 1, 0, 100, 1, b"a" * 31, {}],
        [b"x", 1, 0, -1, 1, b"a" * 32, {}],
        [b"x", 2, 0, 0, 0, b"a\0b", {}],
        [b"x", 2, 0, 0, 0, b"", {}],
        [b"x", 1, 0, 1, 0, None, {}],
        [b"x", 1, 0, 5, 0, b"ab", {}],
        [b"x", 3, 0, 1, 1, b"a" * 32, {}],
        [b"x", 1, 0],
        ["x", 1, 0, 1, 0, b"a", {}],
        [b"x", [1], 0, 1, 0, b"a", {}],
        [b"x", 1, 0, 1, 0, b"a", []],
        "x",
    ],
)
def test_entries_that_no_noria_writes_are_refused(switching: Switching, row: object) -> None:
    with switching.store.writer() as writer:
        made = writer.put(Kind.RANGE, b"NRNG\x01" + msgspec.msgpack.encode([row])).raw
        root = writer.put(Kind.NODE, b"NNOD\x01\x01" + msgspec.msgpack.encode([[b"x", b"x", made, 1, 1]]))
        writer.flush()
    switching.switch(switching.tree({"a": b"1"}))
    with pytest.raises(ObjectCorrupt):
        switching.switch(root)
    assert switching.now() == {"a": b"1"}
    with pytest.raises(ObjectCorrupt), switching.store.writer() as writer:
        for entry in tree.walk(switching.store, root):
            tree.check_row(tree.row_of(entry))


def test_a_node_that_no_noria_writes_is_refused(switching: Switching) -> None:
    with switching.store.writer() as writer:
        roots = [writer.put(Kind.NODE, b"NNOD\x01" + end) for end in (b"\x00\x90", b"\x01\x91\x01")]
        writer.flush()
    for root in roots:
        with pytest.raises(ObjectCorrupt):
            switching.switch(root)


def test_a_folder_below_a_file_is_refused(switching: Switching, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    switching.out = tmp_path / "file" / "out"
    with pytest.raises(Invalid, match="file/out cannot be made: Not a directory"):
        switching.switch(switching.tree(ONE))


def test_a_folder_with_files_is_taken_over_where_nothing_is_lost(switching: Switching) -> None:
    one = switching.tree(ONE)
    switching.out.mkdir()
    (switching.out / "a").write_bytes(b"1")
    switching.switch(one)
    assert switching.now() == ONE
    other = Switching.__new__(Switching)
    other.place, other.store, other.out, other.folder = (
        switching.place,
        switching.store,
        switching.place / "b",
        switching.folder,
    )
    other.out.mkdir()
    (other.out / "mine").write_bytes(b"x")
    with pytest.raises(Invalid, match="not checked out before, among them mine"):
        other.switch(one)
    assert other.now() == {"mine": b"x"}
    other.switch(one, force=True)
    assert other.now() == {**ONE, "mine": b"x"}
    assert other.differs(one) == {"mine": "new"}


@pytest.mark.parametrize("how", ["deleted", "emptied", "only folders"])
def test_a_folder_that_was_deleted_since_is_made_again(switching: Switching, how: str) -> None:
    one, two = switching.tree(ONE), switching.tree(TWO)
    for root, expected in ((one, ONE), (two, TWO), (two, TWO)):
        switching.switch(root)
        left = {path for path, data in switching.now().items() if data is None} - expected.keys()
        assert {path: data for path, data in switching.now().items() if path not in left} == expected
        assert switching.differs(root) == dict.fromkeys(left, "new")
        assert not left or how == "only folders"
        if how == "only folders":
            for path in switching.out.rglob("*"):
                if not path.is_dir():
                    path.unlink()
            continue
        shutil.rmtree(switching.out)
        if how == "emptied":
            switching.out.mkdir()


def test_what_a_folder_was_equal_to_is_known_without_its_files(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    assert beside.work().synced is None
    beside.write(a=b"1")
    beside.commit()
    monkeypatch.setattr(statcache.StatCache, "load", None)
    assert beside.work().synced == beside.head


def test_a_part_of_a_tree_is_checked_out(switching: Switching) -> None:
    one, two = switching.tree(ONE), switching.tree(TWO)
    switching.switch(one, pattern="d/*")
    assert switching.now() == {path: data for path, data in ONE.items() if path.startswith("d/")}
    assert switching.differs(one) == {}, "what was never asked for is not gone"
    (switching.out / "d" / "b").write_bytes(b"mine")
    (switching.out / "d" / "e" / "c").unlink()
    (switching.out / "d" / "e").rmdir()
    assert switching.differs(one) == {"d/b": "changed", "d/e/c": "gone"}
    work = switching.work(switching.out)
    with switching.store.writer() as writer:
        root = work.store(switching.store, writer, one, None)
        writer.flush()
    paths = {entry.path for entry in tree.walk(switching.store, root)}
    assert paths == ONE.keys() - {"d/e/c"}
    work.save(root)
    # A cache is lost, and still nobody deletes what was never checked out.
    for path in (switching.place / "home" / "cache" / "stat").iterdir():
        path.unlink()
    assert switching.differs(root) == {}
    with switching.store.writer() as writer:
        assert switching.work(switching.out).store(switching.store, writer, root, None) == root
    switching.switch(root, pattern="a")
    assert set(switching.now()) == {"a", "d/b"}
    switching.switch(two, pattern="[ad]*")  # of another version: the folder is neither the one nor the other
    assert set(switching.now()) == {"a", "d/b", "d/new/deep/er"}
    assert switching.differs(root) == {"a": "changed", "d/b": "changed", "d/new/deep/er": "new"}
    with pytest.raises(Invalid, match="never committed"):
        switching.switch(one)
    switching.switch(two)
    assert switching.now() == TWO
    assert switching.differs(two) == {}


def test_a_link_that_comes_into_the_way_is_not_followed(switching: Switching, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = switching.tree(ONE), switching.tree(TWO | {"d/b": b"new"})
    switching.switch(one)
    outside = switching.place / "outside"
    outside.mkdir()
    real = writing._Target.apply

    def swapped(self, plan, removed):
        shutil.rmtree(switching.out / "d")
        (switching.out / "d").symlink_to(outside)
        return real(self, plan, removed)

    monkeypatch.setattr(writing._Target, "apply", swapped)
    with pytest.raises(Invalid, match="nothing is written through it"):
        switching.switch(two)
    assert list(outside.iterdir()) == []


def test_a_full_disk_or_a_damaged_object_changes_nothing(switching: Switching, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = switching.tree(ONE), switching.tree(TWO)
    switching.switch(one)
    with monkeypatch.context() as patch:
        calls = itertools.count()
        real = os.write

        def write(file: int, data: bytes) -> int:
            if next(calls) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(file, data)

        patch.setattr(os, "write", write)
        with pytest.raises(DiskFull, match="could not be written"):
            switching.switch(two)
    assert switching.now() == ONE
    assert [path for path in switching.out.iterdir() if path.name.startswith(".noria")] == []
    switching.switch(two)
    assert switching.now() == TWO


def test_what_cannot_be_written_is_named(switching: Switching) -> None:
    long = "n" * 300
    one, two = switching.tree({"a": b"1"}), switching.tree({"a": b"2", "d/" + long: b"x"})
    switching.switch(one)
    with pytest.raises(Invalid, match="File name too long"):
        switching.switch(two)
    assert switching.now() == {"a": b"1"}


@pytest.mark.parametrize(
    ("folding", "names"), [((True, False), ("d/A", "d/a")), ((False, True), ("\u00e9", "e\u0301"))]
)
def test_names_that_the_file_system_cannot_tell_apart_are_refused(
    switching: Switching, monkeypatch: pytest.MonkeyPatch, folding: tuple[bool, bool], names: tuple[str, str]
) -> None:
    one, both = switching.tree({names[0]: b"1"}), switching.tree({names[0]: b"1", names[1]: b"2"})
    switching.switch(one)
    monkeypatch.setattr(writing, "folds", lambda folder: folding)
    with pytest.raises(Invalid, match="beside each other"):
        switching.switch(both)
    assert switching.now() == {names[0]: b"1"}
    monkeypatch.undo()
    file = os.open(switching.place, os.O_RDONLY)
    assert writing.folds(file) == (False, False)
    os.close(file)
    switching.switch(both)
    assert switching.now() == {names[0]: b"1", names[1]: b"2"}


def test_holes_stay_holes(switching: Switching) -> None:
    data = os.urandom(100_000) + bytes(3 << 20) + os.urandom(300_000) + bytes(1 << 20)
    root = switching.tree({"sparse": data, "zeros": bytes(2 << 20)})
    switching.switch(root)
    assert switching.now() == {"sparse": data, "zeros": bytes(2 << 20)}
    assert (switching.out / "sparse").stat().st_blocks * 512 < 1_400_000
    assert (switching.out / "zeros").stat().st_blocks == 0


def test_links_permissions_and_odd_names_are_written(switching: Switching) -> None:
    odd = os.fsdecode(b"raw-\xff")
    with switching.store.writer() as writer:
        root = tree.build(
            writer,
            [
                Entry(path="link", kind=EntryKind.SYMLINK, target="../out\u00e9/" + odd),
                Entry(path=odd, size=1, inline=b"x", executable=True),
            ],
        )
        writer.flush()
    switching.switch(root)
    assert os.fspath((switching.out / "link").readlink()) == "../out\u00e9/" + odd
    assert os.access(switching.out / odd, os.X_OK)
    assert switching.differs(root) == {}


IGNORABLE = ("a.log", "b", "build/keep", "build/o", "build/sub/x", "logs/z.log", "src/a.log", "src/build/o", "src/c d")
PATTERNS = (
    *("*.log", "build/", "/build", "!src/a.log", "!build/keep", "src/**", "logs/*", "# b", "?", "**/build/o", "src"),
    *(
        "c d",
        "/src/*",
        "!/src/build/",
        "a.*  ",
        "sub",
        "src/**/",
        "build/sub/**",
        "*/*",
        "**",
        "!**/",
        "b*/s?b",
        "[a-b]*",
    ),
)


@given(
    tracked=st.sets(st.sampled_from(IGNORABLE)),
    later=st.sets(st.sampled_from(IGNORABLE)),
    gone=st.sets(st.sampled_from(IGNORABLE)),
    patterns=st.lists(st.sampled_from(PATTERNS), max_size=4),
    looked=st.booleans(),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ignored_is_what_git_ignores(
    tmp_path_factory: pytest.TempPathFactory,
    tracked: set[str],
    later: set[str],
    gone: set[str],
    patterns: list[str],
    looked: bool,
) -> None:
    beside = Beside(tmp_path_factory.mktemp("one"))

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(beside.folder), "--git-dir", str(beside.place / "git"), "--work-tree", "."]
        return subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    beside.write(**{path.replace("/", "__"): b"1" for path in tracked | {"kept"}})
    beside.commit()
    git("add", ".")
    beside.write(**{path.replace("/", "__"): b"2" for path in later})
    for path in gone:
        (beside.folder / path).unlink(missing_ok=True)
    if looked:  # what a look has seen as new may be ignored later
        beside.status()
    (beside.folder / ".noriaignore").write_text("\n".join(patterns))
    listed = git("ls-files", "-c", "-o", "-z", "--exclude-from=.noriaignore").split("\0")
    there = {path for path in listed if path and (beside.folder / path).exists()}
    changed = beside.status()
    assert {p for p, how in changed.items() if how == "gone"} == (tracked & gone)
    assert {p for p in changed if (beside.folder / p).is_file()} == (there - tracked - {"kept"}) | (
        tracked & later & there
    )
    assert beside.status() == changed
    beside.commit()
    assert beside.head is not None
    kinds = {entry.path: entry.kind for entry in tree.walk(beside.store, beside.head)}
    assert {path for path, kind in kinds.items() if kind == EntryKind.FILE} == there
    assert beside.status() == {}


def test_a_checkout_leaves_what_is_ignored(switching: Switching, reads: Callable[[], list[str]]) -> None:
    ignore = b"*.log\ncache/\n"
    one = switching.tree({".noriaignore": ignore, "a": b"1", "d/b": b"2", "cache/kept": b"3", "e.log": b"4"})
    two = switching.tree({".noriaignore": ignore, "a": b"1", "x.log": b"theirs"})
    switching.switch(one)
    for path in ("mine.log", "d/deep.log", "cache/heavy", "cache/sub/heavy"):
        (switching.out / path).parent.mkdir(exist_ok=True)
        (switching.out / path).write_bytes(b"mine")
    reads()
    assert switching.differs(one) == {}
    assert set(reads()) & {"mine.log", "d/deep.log", "cache/heavy"} == set()
    switching.switch(two, force=True)
    mine = {"mine.log": b"mine", "d/deep.log": b"mine", "cache/heavy": b"mine", "cache/sub/heavy": b"mine"}
    assert switching.now() == {".noriaignore": ignore, "a": b"1", "x.log": b"theirs", **mine}
    assert switching.differs(two) == {}
    switching.switch(one)
    (switching.out / "x.log").write_bytes(b"not yours")
    with pytest.raises(Invalid, match=r"never committed, among them x\.log"):
        switching.switch(two)
    three = switching.tree({"a": b"1", "d": b"a file now"})
    with pytest.raises(Invalid, match=r"has to become a file, and holds d/deep\.log"):
        switching.switch(three, force=True)
    (switching.out / "x.log").unlink()
    (switching.out / "d" / "deep.log").unlink()
    switching.switch(three)
    assert switching.differs(three).keys() == {"mine.log", "cache/heavy", "cache/sub/heavy"}, "nothing says so any more"


def test_folders_of_ignored_things_are_not_there(beside: Beside) -> None:
    (beside.folder / "was_empty").mkdir()
    beside.write(kept=b"1")
    beside.commit()
    beside.write(**{".noriaignore": b"*.log", "was_empty__a.log": b"x", "new__deep__b.log": b"x"})
    assert beside.status() == {".noriaignore": "new"}
    (beside.folder / "new" / "really").mkdir()
    assert beside.status() == {".noriaignore": "new", "new/really": "new"}
    assert beside.status(paths=["new", "was_empty"]) == {"new/really": "new"}
    assert beside.status(paths=["new/deep/b.log"]) == {"new/deep/b.log": "new"}, "what is named itself is taken"


def test_an_ignore_file_that_says_nothing_is_named(beside: Beside) -> None:
    beside.write(**{".noriaignore": b"*.log\n!\n", "a": b"1"})
    with pytest.raises(Invalid, match=r"no pattern: .*'!'"):
        beside.status()
    (beside.folder / ".noriaignore").unlink()
    (beside.folder / ".noriaignore").symlink_to(beside.folder / "a")
    with pytest.raises(Invalid, match=r"\.noriaignore cannot be read"):
        beside.commit()


def test_a_part_goes_into_an_empty_folder_only(switching: Switching, reads: Callable[[], list[str]]) -> None:
    one = switching.tree(ONE)
    switching.out.mkdir()
    (switching.out / "mine").write_bytes(b"x")
    with pytest.raises(Invalid, match="not checked out before") as refused:
        switching.switch(one, pattern="d/*")
    assert "--force" in refused.value.hint
    assert reads() == []
    switching.switch(one, pattern="d/*", force=True)
    assert switching.now() == {"mine": b"x", "d/b": ONE["d/b"], "d/e/c": ONE["d/e/c"]}
    assert switching.differs(one) == {"mine": "new"}
