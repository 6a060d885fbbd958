from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from noria.base import names
from noria.base.digest import Digest
from noria.base.errors import DiskFull, Invalid
from noria.store import Entry, EntryKind, Kind, ObjectStore, files, folders, packs, reading, tree
from noria.store import writer as packs_writer
from noria.store.errors import FormatTooNew, IndexBusy, ObjectCorrupt, ObjectMissing, PackCorrupt, PathUnsafe
from noria.store.index import PackIndex
from noria.store.local import LocalBytes
from noria.store.objects import pack_name
from noria.store.packs import INDEX
from noria.testing import ByteStoreContract, MemoryBytes

TIMES = int(os.environ.get("NORIA_TEST_FUZZ", "1"))


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(LocalBytes(tmp_path / "store"), tmp_path / "cache")


def reopened(store: ObjectStore) -> ObjectStore:
    """The same packs, seen by a process that has no cache."""
    root = store.temporary.parent.parent
    shutil.rmtree(root / "cache")
    return ObjectStore(LocalBytes(root / "store"), root / "cache")


class TestLocalBytes(ByteStoreContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBytes:
        return LocalBytes(tmp_path / "bytes")


class TestMemoryBytes(ByteStoreContract):
    @pytest.fixture
    def backend(self) -> MemoryBytes:
        return MemoryBytes()


def test_objects_read_back_and_equal_ones_are_stored_once(store: ObjectStore) -> None:
    with store.writer() as writer:
        first = writer.put(Kind.BLOB, b"a" * 1000)
        assert writer.put(Kind.BLOB, b"a" * 1000) == first
        made = writer.flush()
    assert [pack.count for pack in made] == [1]
    with store.writer() as writer:
        writer.put(Kind.BLOB, b"a" * 1000)
        assert writer.flush() == []
        assert writer.reused == 1000
    assert store.get(first, Kind.BLOB) == b"a" * 1000


def test_the_kind_is_part_of_the_id(store: ObjectStore) -> None:
    with store.writer() as writer:
        blob = writer.put(Kind.BLOB, b"same")
        chunk = writer.put(Kind.CHUNK, b"same")
        writer.flush()
    assert blob != chunk
    with pytest.raises(ObjectMissing):
        store.get(chunk, Kind.BLOB)


def test_nothing_is_readable_before_flush_and_a_dropped_writer_leaves_nothing(store: ObjectStore) -> None:
    with store.writer() as writer:
        oid = writer.put(Kind.BLOB, b"x")
    with pytest.raises(ObjectMissing):
        store.get(oid, Kind.BLOB)
    assert list(store.temporary.iterdir()) == []


def test_a_lost_index_is_rebuilt_from_the_packs(store: ObjectStore) -> None:
    with store.writer() as writer:
        oid = writer.put(Kind.BLOB, b"x")
        writer.flush()
    assert reopened(store).get(oid, Kind.BLOB) == b"x"


def test_a_damaged_index_file_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "index.db").write_bytes(b"garbage" * 1000)
    assert PackIndex(tmp_path / "index.db").count() == 0


def test_an_index_of_an_older_noria_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "index.db"
    store = ObjectStore(LocalBytes(tmp_path / "store"), cache=tmp_path / "cache")
    with store.writer() as writer:
        oid = writer.put(Kind.BLOB, b"kept")
        writer.flush()
    store.close()
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE packs (num INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE)")
        db.execute("CREATE TABLE objects (id BLOB NOT NULL, pack INTEGER NOT NULL, offset INTEGER NOT NULL)")
        db.execute("INSERT INTO packs (name) VALUES ('one')")
        db.commit()
    store = ObjectStore(LocalBytes(tmp_path / "store"), cache=tmp_path / "cache")
    assert store.get(oid, Kind.BLOB) == b"kept"
    assert store.index.packs() == {path.stem for path in (tmp_path / "store").rglob("*.pack")}
    store.close()


def test_an_index_that_is_damaged_while_it_is_used_is_made_again(tmp_path: Path) -> None:
    store, other = (ObjectStore(LocalBytes(tmp_path / "store"), tmp_path / "cache") for _ in range(2))
    with store.writer() as writer:
        oids = writer.put_many(Kind.BLOB, [b"%d" % number for number in range(2000)])
        writer.flush()
    path = tmp_path / "cache" / "index.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        for page in range(2, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 100)
    for one in (store, other):
        assert one.index.missing(oids) == set()
        assert one.get(Digest(oids[7]), Kind.BLOB) == b"7"
    inode = path.stat().st_ino
    assert store.index.count() == other.index.count() == 2000
    with store.writer() as writer:
        assert writer.missing([*oids, b"x" * 32]) == {b"x" * 32}
    assert path.stat().st_ino == inode, "it is thrown away once"
    path.write_bytes(b"garbage" * 1000)
    again = ObjectStore(LocalBytes(tmp_path / "store"), tmp_path / "cache")
    assert again.index.missing(oids) == set(), "on opening, too, the packs tell what they hold"


def test_an_index_that_is_locked_is_not_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "index.db"
    PackIndex(path).close()
    inode = path.stat().st_ino
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, **{**options, "timeout": 0}))
    with contextlib.closing(connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(IndexBusy, match="locked"):
            PackIndex(path)
        assert path.stat().st_ino == inode


def test_every_flipped_bit_of_an_object_is_an_error_that_names_it(store: ObjectStore) -> None:
    with store.writer() as writer:
        oid = writer.put(Kind.BLOB, os.urandom(300))
        (pack,) = writer.flush()
    path = store.source.local_path(pack_name(pack.id))
    assert path is not None
    whole = path.read_bytes()
    (found,) = store.pack_entries(pack.id)
    for offset in range(found.offset + packs.RECORD.size, found.offset + packs.RECORD.size + found.stored, 7):
        damaged = bytearray(whole)
        damaged[offset] ^= 1
        path.write_bytes(damaged)
        fresh = reopened(store)
        with pytest.raises(ObjectCorrupt) as error:
            fresh.get(oid, Kind.BLOB)
        assert oid.hex[:16] in error.value.message
        assert fresh.check_pack(pack.id)
    path.write_bytes(whole)
    assert reopened(store).check_pack(pack.id) == []


@pytest.mark.parametrize("keep", [0, 5, 20, 100, -1])
def test_a_pack_that_was_cut_off_is_recognised(store: ObjectStore, keep: int) -> None:
    with store.writer() as writer:
        writer.put(Kind.BLOB, os.urandom(300))
        (pack,) = writer.flush()
    path = store.source.local_path(pack_name(pack.id))
    assert path is not None
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PackCorrupt, match="cannot be read"):
        list(reopened(store).pack_entries(pack.id))


def test_a_damaged_copy_is_skipped_where_another_pack_holds_a_whole_one(store: ObjectStore) -> None:
    data = os.urandom(300)
    with store.writer() as writer:
        oid = writer.put(Kind.BLOB, data)
        (first,) = writer.flush()
    with store.writer(ignoring=frozenset({first.id})) as writer:
        writer.put(Kind.BLOB, data)
        writer.put(Kind.BLOB, b"so that the second pack differs")
        (second,) = writer.flush()
    assert second.id != first.id
    path = store.source.local_path(pack_name(first.id))
    assert path is not None
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 255
    path.write_bytes(damaged)
    assert reopened(store).get(oid, Kind.BLOB) == data


def test_a_pack_of_a_newer_format_is_refused(store: ObjectStore) -> None:
    with store.writer() as writer:
        writer.put(Kind.BLOB, b"x")
        (pack,) = writer.flush()
    path = store.source.local_path(pack_name(pack.id))
    assert path is not None
    data = bytearray(path.read_bytes())
    data[8] = 99
    path.write_bytes(data)
    with pytest.raises(FormatTooNew, match="format 99"):
        list(reopened(store).pack_entries(pack.id))


def test_formats_on_disk_never_change(store: ObjectStore, golden) -> None:
    with store.writer() as writer:
        writer.put(Kind.BLOB, b"a blob")
        root = tree.build(
            writer,
            [
                Entry(path="a/empty", kind=EntryKind.FOLDER),
                Entry(path="a/inline.txt", size=5, inline=b"hello", meta={"by": "hand"}),
                Entry(path="a/link", kind=EntryKind.SYMLINK, target="inline.txt"),
                Entry(path="b/run.sh", size=2000, executable=True, content=files.put_bytes(writer, b"#" * 2000)),
            ],
        )
        (pack,) = writer.flush()
    path = store.source.local_path(pack_name(pack.id))
    assert path is not None
    golden("pack.bin", path.read_bytes())
    golden("tree.root", root.raw)
    golden("tree.range", store.get(Digest(next(tree.leaves(store, root)).id), Kind.RANGE))


def test_chunk_borders_never_change(store: ObjectStore, golden) -> None:
    state, data = 1, bytearray()
    while len(data) < 1 << 20:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        data += state.to_bytes(8, "little")
    with store.writer() as writer:
        content = files.put_bytes(writer, bytes(data))
        writer.flush()
    borders = [length for _, length in files.recipe_parts(store, content.id)]
    golden("chunks.json", repr(borders).encode())
    assert files.read_bytes(store, content) == bytes(data)


def test_recipes_never_change(store: ObjectStore, golden) -> None:
    """Of few chunks in one list; of more than 4,096 in lists whose ends depend on the chunks only."""
    parts = [(Digest.of(b"%d" % n).raw, 16384 + n) for n in range(5_000)]
    with store.writer() as writer:
        one = files.put_recipe(writer, parts[:3])
        two = files.put_recipe(writer, parts)
        writer.flush()
    golden("recipe-1.bin", store.get(one.id, Kind.RECIPE))
    golden("recipe-2.bin", store.get(two.id, Kind.RECIPE))
    assert one.size == sum(length for _, length in parts[:3])
    assert two.size == sum(length for _, length in parts)
    for content, expected in ((one, parts[:3]), (two, parts)):
        assert [(oid.raw, length) for oid, length in files.recipe_parts(store, content.id)] == expected
    below = list(files.recipe_objects(store, two.id))
    leaves = [(kind, oid) for kind, oid, _ in below if kind == Kind.RECIPE]
    assert len(leaves) > 2
    assert files.chunks(store, two.id) == leaves
    assert [pair for leaf in leaves for pair in files.chunks(store, Digest(leaf[1]))] == [
        (kind, oid) for kind, oid, _ in below if kind == Kind.CHUNK
    ]
    with store.writer() as writer:
        newer = writer.put(Kind.RECIPE, b"NRCP\x03")
        writer.flush()
    with pytest.raises(FormatTooNew, match="format 3"):
        files.recipe_parts(store, newer)


def test_a_change_in_a_long_recipe_stores_one_part_of_it(store: ObjectStore) -> None:
    parts = [(os.urandom(32), 70_000) for _ in range(12_000)]
    changed = [*parts[:6_000], (os.urandom(32), 1), (os.urandom(32), 1), *parts[6_001:]]
    same = [(b"\0" * 32, 262_144)] * 9_000  # a file of zeros
    with store.writer() as writer:
        files.put_recipe(writer, parts)
        before = writer.written
        files.put_recipe(writer, changed)
        assert writer.written - before < 80_000
        assert files.put_recipe(writer, same).size == 9_000 * 262_144
        assert writer.written - before < 160_000


@pytest.mark.parametrize("kind", ["random", "text", "zeros"])
def test_a_file_in_windows_is_the_file_at_once(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    size = 3_100_000
    data = {
        "random": lambda: os.urandom(size),
        "text": lambda: b"".join(b"%d,some text\n" % n for n in range(size // 16)),
        "zeros": lambda: bytes(size),
    }[kind]()
    with store.writer() as writer:
        whole = files.put_bytes(writer, data)
        writer.flush()
    assert files.read_bytes(store, whole) == data
    monkeypatch.setattr(files, "WINDOW", 300_000)
    monkeypatch.setattr(packs_writer, "_MANY", 1 << 16)
    with store.writer() as writer:
        assert files.put_stream(writer, io.BytesIO(data)) == whole
        assert writer.flush() == []
    (tmp_path / "f").write_bytes(data)
    with store.writer(ignoring=frozenset(store.index.packs())) as writer:
        file = os.open(tmp_path / "f", os.O_RDONLY)
        assert files.put_descriptor(writer, file, size) == whole
        os.close(file)
        (pack,) = writer.flush()
    assert store.check_pack(pack.id) == []

    class OnlyReads:
        def __init__(self) -> None:
            self.file = io.BytesIO(data)

        def read(self, count: int = -1) -> bytes:
            return self.file.read(min(count, 77_777))

    with store.writer() as writer:
        assert files.put_rest(writer, data[:70_000], io.BytesIO(data[70_000:])) == whole
        half = files.put_bytes(writer, data[: size // 2])
        writer.flush()
        assert files.append_bytes(store, writer, half, data[size // 2 :]) == whole
        slow = OnlyReads()
        assert files.put_rest(writer, slow.file.read(70_000), slow) == whole  # type: ignore[arg-type]


def test_a_tree_needs_the_chunks_of_its_big_files(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_ONE_LEVEL", 4)
    monkeypatch.setattr(files, "_LEAF_MIN", 2)
    monkeypatch.setattr(files, "_LEAF_MAX", 3)
    with store.writer() as writer:
        root = folders.put_files(writer, {"big": os.urandom(1_500_000), "small": b"x" * 100})
        (pack,) = writer.flush()
    needed = {oid for _, oid in tree.objects_of(store, root)}
    assert needed == {found.id for found in store.pack_entries(pack.id)}


@pytest.mark.parametrize("size", [0, 1, 64, 65, files.SMALL - 1, files.SMALL, files.SMALL + 1, 700_000])
def test_files_of_every_size_come_back(store: ObjectStore, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "f").write_bytes(data)
    with store.writer() as writer:
        root = folders.put_folder(writer, tmp_path / "in")
        writer.flush()
    folders.write_folder(store, root, tmp_path / "out")
    assert (tmp_path / "out" / "f").read_bytes() == data
    assert folders.read_file(store, root, "f") == data


def test_an_insert_in_the_middle_of_a_big_file_stores_little(store: ObjectStore) -> None:
    data = os.urandom(8 << 20)
    with store.writer() as writer:
        files.put_bytes(writer, data)
        writer.flush()
    with store.writer() as writer:
        files.put_bytes(writer, data[: 4 << 20] + b"inserted" + data[4 << 20 :])
        writer.flush()
        assert writer.written < 600_000


def test_an_open_file_seeks_and_reads_like_any_file(store: ObjectStore) -> None:
    data = os.urandom(500_000)
    with store.writer() as writer:
        content = files.put_bytes(writer, data)
        writer.flush()
    with files.open_file(store, content) as file:
        file.seek(-10, os.SEEK_END)
        assert file.read() == data[-10:]
        file.seek(123_456)
        assert file.read(300_000) == data[123_456:423_456]


def test_folders_keep_links_permissions_and_empty_folders(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "empty").mkdir()
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "link").symlink_to("../outside")
    (source / "deep" / "er" / "ünï code").write_bytes(b"x")
    os.close(os.open(os.fsencode(source) + b"/raw-\xff", os.O_CREAT | os.O_WRONLY))
    with store.writer() as writer:
        root = folders.put_folder(writer, source)
        writer.flush()
    folders.write_folder(store, root, tmp_path / "out")
    found = subprocess.run(["diff", "-r", "--no-dereference", str(source), str(tmp_path / "out")], check=False)
    assert found.returncode == 0
    assert os.access(tmp_path / "out" / "run.sh", os.X_OK)
    assert (tmp_path / "out" / "deep" / "empty").is_dir()
    assert (tmp_path / "out" / "link").readlink() == Path("../outside")


def test_nothing_is_written_through_a_link(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "outside")
    with store.writer() as writer:
        root = folders.put_files(writer, {"a/file": b"x"})
        writer.flush()
    with pytest.raises(PathUnsafe):
        folders.write_folder(store, root, tmp_path / "out")
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_hostile_tree_cannot_write_outside(store: ObjectStore, tmp_path: Path) -> None:
    with store.writer() as writer:
        root = tree.build(writer, [Entry(path="../evil", size=1, inline=b"x")])
        writer.flush()
    with pytest.raises(Invalid, match="refused"):
        folders.write_folder(store, root, tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_sockets_and_unreadable_files_are_named(store: ObjectStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with store.writer() as writer, pytest.raises(Invalid, match="pipe is neither"):
        folders.read_entry(writer, tmp_path, "pipe")


def test_many_objects_at_once_are_stored_like_one_by_one(store: ObjectStore) -> None:
    many = [b"%d" % (n % 400) for n in range(600)]  # more than one question to the index, and some twice
    with store.writer() as writer:
        early, pending = writer.put(Kind.CHUNK, many[0]), writer.put(Kind.CHUNK, many[1])
        assert writer.put_all(Kind.CHUNK, many) == [packs.object_id(Kind.CHUNK, raw) for raw in many]
        (pack,) = writer.flush()
    assert pack.count == 400
    assert store.get(early, Kind.CHUNK) == many[0]
    with store.writer() as writer:
        assert writer.missing([pending.raw, b"?" * 32]) == {b"?" * 32}
    with store.writer(ignoring=frozenset({pack.id})) as writer:
        assert writer.missing([pending.raw]) == {pending.raw}
        writer.put_all(Kind.CHUNK, many[:2])
        assert writer.missing([pending.raw]) == set()


def test_files_that_change_while_they_are_read_are_read_again(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "in"
    place.mkdir()
    for name in "abc":
        (place / name).write_bytes(b"old" * 50)

    real, calls = os.fstat, itertools.count()

    def fstat(file: int) -> os.stat_result:
        if next(calls) == 0:
            (place / "a").write_bytes(b"longer" * 50)
            (place / "b").unlink()
            (place / "b").symlink_to("c")
        return real(file)

    monkeypatch.setattr(os, "fstat", fstat)
    with store.writer() as writer:
        reader = reading.Reader(writer, str(place))
        assert reader.read("", ["a", "b", "c", "gone"])[0] == ["a", "b", "c"]
        found = {entry.path: entry for entry in map(tree.entry_of, reader.finish())}
        writer.flush()
    assert folders.entry_bytes(store, found["a"]) == b"longer" * 50
    assert (found["b"].kind, found["b"].target) == (EntryKind.SYMLINK, "c")
    assert folders.entry_bytes(store, found["c"]) == b"old" * 50


def test_a_folder_in_batches_is_the_tree_of_its_files_one_by_one(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_BATCH_FILES", 3)
    place = tmp_path / "in"
    place.mkdir()
    for number in range(20):
        (place / f"{number:02d}").write_bytes(os.urandom((number % 5) * 20_000))
    with store.writer() as writer:
        one_by_one = tree.build(writer, (folders.read_entry(writer, place, f"{n:02d}")[0] for n in range(20)))
        assert folders.put_folder(writer, place) == one_by_one


@given(path=st.text(alphabet=st.sampled_from("aZ9_-. /\\:\n\x7fä.noria"), max_size=12))
def test_plain_paths_are_accepted_quickly_and_no_others(path: str) -> None:
    try:
        accepted = names.check_path(path) == path
    except Invalid:
        accepted = False
    assert accepted == (names._path_fault(path) == "")


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path, store: ObjectStore, monkeypatch) -> None:
    with store.writer() as writer:
        kept = writer.put(Kind.BLOB, b"kept")
        writer.flush()
    real_open = Path.open

    def full(self: Path, *args, **kwargs):
        if self.suffix == ".pack" and args and args[0] == "xb":
            raise OSError(28, "No space left on device")
        return real_open(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DiskFull, match="Nothing was changed"), store.writer() as writer:
        writer.put(Kind.BLOB, b"new")
        writer.flush()
    monkeypatch.undo()
    assert store.get(kept, Kind.BLOB) == b"kept"
    assert list(store.temporary.iterdir()) == []


CRASH = """
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from noria.base.faults import CrashAt
from noria.store import Kind, ObjectStore
from noria.store.local import LocalBytes
root = Path(sys.argv[1])
faults = CrashAt.parse(sys.argv[2])
store = ObjectStore(LocalBytes(root / "store", faults), root / "cache", faults)
from noria.store import files, writer as packs_writer
packs_writer._SPILL = 1 << 18
packs_writer.PACK_TARGET = 1 << 19
with store.writer() as writer:
    writer.put(Kind.BLOB, b"interrupted" * 50)
    files.put_bytes(writer, b"".join(b"%d" % (n * n) for n in range(600_000)))
    writer.flush()
"""


@pytest.mark.parametrize(
    "point",
    [
        "store.write",
        "store.write:2",
        "store.write:3",
        "store.fsync",
        "store.rename",
        "store.fsync_folder:1",  # of the folder of packs
        "store.fsync:2",
        "store.rename:2",
        "store.fsync_folder:2",
    ],
)
def test_a_crash_at_any_point_leaves_the_store_whole(tmp_path: Path, point: str) -> None:
    store = ObjectStore(LocalBytes(tmp_path / "store"), tmp_path / "cache")
    with store.writer() as writer:
        kept = writer.put(Kind.BLOB, b"kept")
        writer.flush()
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path), point], check=False)
    assert done.returncode == 137
    fresh = reopened(store)
    assert fresh.get(kept, Kind.BLOB) == b"kept"
    assert all(fresh.check_pack(name.rsplit("/")[-1][:-5]) == [] for name in fresh.source.list("packs/"))


# ---- trees against a dictionary

paths = st.text("abc/", min_size=1, max_size=6).filter(
    lambda p: not p.startswith("/") and not p.endswith("/") and "//" not in p
)


def entry(path: str, value: bytes) -> Entry:
    return Entry(path=path, size=len(value), inline=value)


class TreeMachine(RuleBasedStateMachine):
    """A tree that is changed step by step equals the tree of the dictionary, built at once."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.store = ObjectStore(MemoryBytes(), self.place)
        self.model: dict[str, bytes] = {}
        with self.store.writer() as writer:
            self.root = tree.empty(writer)
            writer.flush()

    @rule(changes=st.dictionaries(st.text("abcdefgh", min_size=1, max_size=40), st.none() | st.binary(max_size=3)))
    def change(self, changes: dict[str, bytes | None]) -> None:
        with self.store.writer() as writer:
            entries = {p: None if v is None else entry(p, v) for p, v in changes.items()}
            after = tree.apply(self.store, writer, self.root, entries)
            writer.flush()
        before, old = self.root, dict(self.model)
        for path, value in changes.items():
            if value is None:
                self.model.pop(path, None)
            else:
                self.model[path] = value
        found = {
            c.path: (c.before and c.before.inline, c.after and c.after.inline)
            for c in tree.diff(self.store, before, after)
        }
        assert found == {
            p: (old.get(p), self.model.get(p))
            for p in old.keys() | self.model.keys()
            if old.get(p) != self.model.get(p)
        }
        self.root = after

    @rule(count=st.integers(300, 900), seed=st.integers(0, 9))
    def many(self, count: int, seed: int) -> None:
        self.change({f"{(n * 2654435761 + seed) % 100_000:05d}-{'x' * 60}": bytes([n % 256]) for n in range(count)})

    @rule()
    def remove_half(self) -> None:
        self.change(dict.fromkeys(list(self.model)[::2]))

    @invariant()
    def same_as_built_at_once(self) -> None:
        with self.store.writer() as writer:
            ordered = sorted(self.model, key=tree.key_of)
            assert tree.build(writer, [entry(p, self.model[p]) for p in ordered]) == self.root
            writer.flush()
        assert {e.path: e.inline for e in tree.walk(self.store, self.root)} == self.model
        for path in list(self.model)[:3]:
            found = tree.find(self.store, self.root, path)
            assert found is not None
            assert found.inline == self.model[path]
        assert tree.find(self.store, self.root, "not there") is None

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.place)


TestTrees = TreeMachine.TestCase
TestTrees.settings = settings(max_examples=8 * TIMES, stateful_step_count=8, deadline=None)


class DeepTreeMachine(TreeMachine):
    """The same with so small ranges and nodes that trees have many levels."""

    SMALL: ClassVar = {"_MIN": 200, "_MAX": 1500, "_MODULUS": 4, "_FANOUT": 5, "_BRANCHES": 2}

    def __init__(self) -> None:
        self.real = {name: getattr(tree, name) for name in self.SMALL}
        for name, value in self.SMALL.items():
            setattr(tree, name, value)
        super().__init__()

    @invariant()
    def found_by_prefix_and_in_numbers(self) -> None:
        keys = [tree.key_of(path) for path in self.model]
        assert set(tree.find_rows(self.store, self.root, [*keys[::3], b"", b"~", b"not there"])) == set(keys[::3])
        for prefix in ("a", "1", "12", "ab"):
            found = [e.path for e in tree.walk(self.store, self.root, prefix)]
            assert found == sorted(path for path in self.model if path.startswith(prefix))

    def teardown(self) -> None:
        super().teardown()
        for name, value in self.real.items():
            setattr(tree, name, value)


TestDeepTrees = DeepTreeMachine.TestCase
TestDeepTrees.settings = settings(max_examples=4 * TIMES, stateful_step_count=6, deadline=None)


def test_ten_changes_among_many_read_and_write_little(store: ObjectStore) -> None:
    names = sorted(f"dir{n % 97:02d}/file{n:06d}.bin" for n in range(20_000))
    with store.writer() as writer:
        root = tree.build(writer, (entry(name, b"v") for name in names))
        writer.flush()
    with store.writer() as writer:
        changed = tree.apply(store, writer, root, {name: entry(name, b"w") for name in names[::2000]})
        writer.flush()
        assert writer.written < 600_000
    assert len(tree.diff(store, root, changed)) == 10
    assert tree.totals(store, changed)[0] == 20_000


def test_a_diff_of_deep_trees_reads_only_what_differs(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(f"dir{n % 97:02d}/file{n:06d}.bin" for n in range(60_000))
    with store.writer() as writer:
        root = tree.build(writer, (entry(name, b"v") for name in names))
        writer.flush()
        changed = tree.apply(store, writer, root, {name: entry(name, b"w") for name in (names[5], names[-5])})
        writer.flush()
    level, refs = tree._open_node(store, root)
    assert level == 2
    assert len(refs) > 2
    read: list[Digest] = []
    real = store.get
    monkeypatch.setattr(store, "get", lambda oid, kind: read.append(oid) or real(oid, kind))
    assert [c.path for c in tree.diff(store, root, changed)] == [names[5], names[-5]]
    assert len(read) <= 2 * (1 + 2 + 2)
    with store.writer() as writer:
        assert tree.build(writer, tree.walk(store, changed)) == changed


@given(st.binary(max_size=5000))
def test_any_bytes_survive_compression(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = ObjectStore(MemoryBytes(), Path(folder))
        with store.writer() as writer:
            oid = writer.put(Kind.BLOB, data)
            writer.flush()
        assert store.get(oid, Kind.BLOB) == data
        store.close()


def test_an_index_on_a_full_disk_says_so_and_works_again(tmp_path: Path) -> None:
    index = PackIndex(tmp_path / "index.db")
    (pages,) = index._db.execute("PRAGMA page_count").fetchone()
    index._db.execute(f"PRAGMA max_page_count = {pages + 1}")
    many = b"".join(INDEX.pack(os.urandom(32), n, 1, 1, Kind.BLOB, 0, 0) for n in range(2_000))
    with pytest.raises(DiskFull, match=r"index\.db"):
        index.add("p", many)
    index._db.execute("PRAGMA max_page_count = 100000")
    assert index.count() == 0
    index.add("p", many)
    assert index.count() == 2_000
    index.close()


@pytest.mark.parametrize("blank", [True, False])
def test_objects_over_several_packs_are_stored_once(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, blank: bool
) -> None:
    """Also those of a pack that is just being made durable."""
    monkeypatch.setattr(packs_writer, "PACK_TARGET", 20_000)
    monkeypatch.setattr(packs_writer, "_MANY", 1)
    if not blank:
        with store.writer() as writer:
            writer.put(Kind.BLOB, b"something")
            writer.flush()
    raws = [os.urandom(3_000) for _ in range(40)]
    with store.writer() as writer:
        oids = [writer.put(Kind.CHUNK, raw) for raw in raws]
        assert [writer.put(Kind.CHUNK, raw) for raw in reversed(raws)] == oids[::-1]
        assert writer.put_all(Kind.CHUNK, raws * 2) == oids * 2
        assert writer.put_chunks([memoryview(raw) for raw in raws]) == [oid.raw for oid in oids]
        assert writer.missing([oid.raw for oid in oids]) == set()
        assert writer.reused == 4 * 120_000
        made = writer.flush()
    assert len(made) > 4
    assert sum(pack.count for pack in made) == 40
    assert [store.get(oid, Kind.CHUNK) for oid in oids] == raws


class Counted(Collection[bytes]):
    """A collection that counts what is asked of it."""

    def __init__(self, of: Collection[bytes]) -> None:
        self.of = of
        self.asked = self.walked = 0

    def __contains__(self, item: object) -> bool:
        self.asked += 1
        return item in self.of

    def __iter__(self) -> Iterator[bytes]:
        for one in self.of:
            self.walked += 1
            yield one

    def __len__(self) -> int:
        return len(self.of)


@pytest.mark.parametrize("blank", [True, False])
def test_one_object_asks_one_question_of_the_pack_before(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, blank: bool
) -> None:
    if not blank:
        with store.writer() as writer:
            writer.put(Kind.BLOB, b"something")
            writer.flush()
    monkeypatch.setattr(packs_writer, "PACK_TARGET", 100_000)
    with store.writer() as writer:
        first = writer.put(Kind.CHUNK, os.urandom(1_000))
        while writer._closing is None:
            writer.put(Kind.CHUNK, os.urandom(1_000))
        counted = writer._closing.ids = Counted(writer._closing.ids)
        assert len(counted) > 80
        for _ in range(20):
            writer.put(Kind.CHUNK, os.urandom(1_000))
        assert (counted.asked, counted.walked) == (20, 0)
        assert writer.put(Kind.CHUNK, os.urandom(1_000)) not in writer.put_all(Kind.CHUNK, [b"a", b"b"])
        assert (counted.asked, counted.walked) == (23, 0)
        assert writer.missing([first.raw]) == set()
        assert len(writer.flush()) == 2


def test_packs_are_written_where_a_rename_brings_them_to_their_place(tmp_path: Path) -> None:
    """The folder of the store may be on another file system than the cache."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    assert ObjectStore(LocalBytes(home / "store"), home / "cache").temporary == home / "cache" / "tmp"
    store = ObjectStore(LocalBytes(elsewhere), home / "cache")
    assert not elsewhere.exists()  # it may be for reading only
    with store.writer() as writer:
        oid = writer.put(Kind.BLOB, b"a" * 1000)
        (pack,) = writer.flush()
    assert store.temporary == elsewhere / "tmp"
    assert list(store.temporary.iterdir()) == []
    assert list(store.source.list("packs/")) == [pack_name(pack.id)]
    assert store.get(oid, Kind.BLOB) == b"a" * 1000


def test_the_store_may_be_on_another_file_system(tmp_path: Path) -> None:
    here = tmp_path.stat().st_dev
    others = [place for place in (Path("/var/tmp"), Path("/dev/shm")) if os.access(place, os.W_OK)]
    other = next((place for place in others if place.stat().st_dev != here), None)
    if other is None:
        pytest.skip("one file system only")
    with tempfile.TemporaryDirectory(dir=other) as folder:
        store = ObjectStore(LocalBytes(Path(folder) / "store"), tmp_path / "home" / "cache")
        with store.writer() as writer:
            oid = writer.put(Kind.BLOB, b"a" * 1000)
            writer.flush()
        assert store.get(oid, Kind.BLOB) == b"a" * 1000
        store.close()


def test_a_pack_that_cannot_be_made_durable_is_told_and_leaves_nothing(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs_writer, "PACK_TARGET", 20_000)

    def full(name: str, source: Path) -> None:
        raise DiskFull(str(source))

    monkeypatch.setattr(store.source, "put", full)
    with pytest.raises(DiskFull), store.writer() as writer:
        for _ in range(40):
            writer.put(Kind.CHUNK, os.urandom(3_000))
    monkeypatch.undo()
    assert store.index.packs() == set()
    assert list(store.temporary.iterdir()) == []


def test_looking_stores_nothing(tmp_path: Path) -> None:
    import os

    store = ObjectStore(LocalBytes(tmp_path / "store"), tmp_path / "cache")
    with store.hasher() as hasher:
        for _ in range(70):  # more than a pack, of noise
            files.put_bytes(hasher, os.urandom(1 << 20))
        oid = hasher.put(Kind.CHUNK, b"small")
        assert hasher.flush() == []
    assert list(store.source.list("packs/")) == []
    with store.writer() as writer:
        assert writer.put(Kind.CHUNK, b"small") == oid
