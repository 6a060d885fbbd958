"""The contract of a byte store, and a fake in memory that keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from noria.base.errors import NotFound
from noria.store.errors import ObjectMissing


class MemoryBytes:
    """A byte store that forgets everything at the end of the process."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, name: str, source: Path) -> None:
        self.files[name] = source.read_bytes()
        source.unlink()

    def read(self, name: str, offset: int, length: int) -> bytes:
        data = self._get(name)
        start = max(0, len(data) + offset) if offset < 0 else offset
        return data[start : start + length]

    def size(self, name: str) -> int:
        return len(self._get(name))

    def list(self, prefix: str) -> Iterator[str]:
        yield from sorted(name for name in self.files if name.startswith(prefix))

    def delete(self, name: str) -> None:
        self.files.pop(name, None)

    def local_path(self, name: str) -> Path | None:
        return None

    def _get(self, name: str) -> bytes:
        if name not in self.files:
            raise ObjectMissing(name)
        return self.files[name]


class ByteStoreContract:
    """Subclass it and give the fixture ``backend``; every byte store has to pass every test."""

    def put(self, backend: Any, folder: Path, name: str, data: bytes) -> None:
        source = folder / "source"
        source.write_bytes(data)
        backend.put(name, source)
        assert not source.exists()

    def test_reads_back_what_was_put(self, backend: Any, tmp_path: Path) -> None:
        self.put(backend, tmp_path, "packs/ab/one.pack", b"0123456789")
        assert backend.read("packs/ab/one.pack", 2, 3) == b"234"
        assert backend.size("packs/ab/one.pack") == 10

    def test_reads_from_the_end_and_stops_there(self, backend: Any, tmp_path: Path) -> None:
        self.put(backend, tmp_path, "packs/ab/one.pack", b"0123456789")
        assert backend.read("packs/ab/one.pack", -4, 4) == b"6789"
        assert backend.read("packs/ab/one.pack", 8, 10) == b"89"

    def test_putting_twice_has_no_effect(self, backend: Any, tmp_path: Path) -> None:
        self.put(backend, tmp_path, "packs/ab/one.pack", b"same")
        self.put(backend, tmp_path, "packs/ab/one.pack", b"same")
        assert list(backend.list("packs/")) == ["packs/ab/one.pack"]

    def test_lists_by_prefix_in_order(self, backend: Any, tmp_path: Path) -> None:
        for name in ("packs/b/2", "packs/a/1", "other/3"):
            self.put(backend, tmp_path, name, b"x")
        assert list(backend.list("packs/")) == ["packs/a/1", "packs/b/2"]

    def test_what_is_missing_is_not_found(self, backend: Any) -> None:
        for call in (lambda: backend.read("packs/no", 0, 1), lambda: backend.size("packs/no")):
            try:
                call()
            except NotFound:
                continue
            raise AssertionError("a missing file must raise NotFound")

    def test_an_empty_file_is_a_file(self, backend: Any, tmp_path: Path) -> None:
        self.put(backend, tmp_path, "packs/a/empty", b"")
        assert backend.size("packs/a/empty") == 0
        assert list(backend.list("packs/")) == ["packs/a/empty"]

    def test_more_than_there_is_from_the_end_is_all_of_it(self, backend: Any, tmp_path: Path) -> None:
        self.put(backend, tmp_path, "packs/a/1", b"0123")
        assert backend.read("packs/a/1", -100, 100) == b"0123"
        assert backend.read("packs/a/1", 0, 100) == b"0123"

    def test_a_big_file_comes_back_by_parts(self, backend: Any, tmp_path: Path) -> None:
        data = bytes(range(251)) * 80_000  # larger than one part of a multipart upload
        self.put(backend, tmp_path, "packs/a/big", data)
        assert backend.size("packs/a/big") == len(data)
        assert backend.read("packs/a/big", 8_388_600, 20) == data[8_388_600:8_388_620]
        assert backend.read("packs/a/big", -7, 7) == data[-7:]
        assert backend.read("packs/a/big", 0, len(data)) == data

    def test_what_is_put_last_under_a_name_is_read(self, backend: Any, tmp_path: Path) -> None:
        """A damaged file is replaced by putting a whole one under its name."""
        self.put(backend, tmp_path, "packs/a/1", b"damaged")
        self.put(backend, tmp_path, "packs/a/1", b"whole and longer")
        assert backend.read("packs/a/1", 0, 100) == b"whole and longer"
        assert backend.size("packs/a/1") == 16

    def test_what_was_deleted_is_neither_read_nor_listed(self, backend: Any, tmp_path: Path) -> None:
        self.put(backend, tmp_path, "packs/a/1", b"x")
        self.put(backend, tmp_path, "packs/a/2", b"x")
        backend.delete("packs/a/1")
        assert list(backend.list("packs/")) == ["packs/a/2"]
        try:
            backend.read("packs/a/1", 0, 1)
        except NotFound:
            return
        raise AssertionError("a deleted file must not be read")

    def test_a_prefix_ends_with_a_whole_part_of_a_name(self, backend: Any, tmp_path: Path) -> None:
        self.put(backend, tmp_path, "packs/a/1", b"x")
        self.put(backend, tmp_path, "packs-old/a/1", b"x")
        assert list(backend.list("packs/")) == ["packs/a/1"]
        assert list(backend.list("nothing/")) == []

    def test_many_threads_put_and_read_at_once(self, backend: Any, tmp_path: Path) -> None:
        def work(number: int) -> bytes:
            folder = tmp_path / str(number)
            folder.mkdir()
            self.put(backend, folder, f"packs/{number % 4}/{number}", b"%d" % number * 1000)
            return bytes(backend.read(f"packs/{number % 4}/{number}", 0, 1 << 20))

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(work, range(32)))
        assert found == [b"%d" % number * 1000 for number in range(32)]
        assert len(list(backend.list("packs/"))) == 32

    def test_deleting_is_idempotent(self, backend: Any, tmp_path: Path) -> None:
        self.put(backend, tmp_path, "packs/a/1", b"x")
        backend.delete("packs/a/1")
        backend.delete("packs/a/1")
        assert list(backend.list("packs/")) == []
