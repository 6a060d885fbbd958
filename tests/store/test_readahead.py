"""Reads of far packs: the same bytes as without blocks, in far fewer requests, and nothing stale or failed sticks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.base.errors import Unavailable
from noria.store import Kind, ObjectStore, readahead
from noria.store.objects import pack_name
from noria.store.readahead import ReadAhead
from noria.testing import MemoryBytes


class Counted(MemoryBytes):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.failures = 0

    def read(self, name: str, offset: int, length: int) -> bytes:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise Unavailable("It did not answer.", hint="Again.")
        return super().read(name, offset, length)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 300),
    reads=st.lists(st.tuples(st.integers(0, 320), st.integers(0, 120)), max_size=30),
)
def test_any_reads_give_the_bytes_of_the_file(size: int, reads: list[tuple[int, int]]) -> None:
    source, data = Counted(), bytes(n % 251 for n in range(size))
    source.files["f"] = data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readahead, "BLOCK", 32)
        patch.setattr(readahead, "_KEPT", 3)
        ahead = ReadAhead(source)
        for offset, length in reads:
            assert ahead.read("f", offset, length) == data[offset : offset + length]
        ahead.close()


def test_records_in_order_take_few_requests_and_one_alone_takes_one(tmp_path: Path) -> None:
    source = Counted()
    store = ObjectStore(source, tmp_path / "cache")
    with store.writer() as writer:
        oids = [writer.put(Kind.CHUNK, b"%06d" % n * 500) for n in range(5_000)]
        writer.flush()
    source.reads = 0
    assert store.get(oids[2_500], Kind.CHUNK) == b"002500" * 500
    assert source.reads == 1
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda oid: store.get(oid, Kind.CHUNK), oids))
    assert found == [b"%06d" % n * 500 for n in range(5_000)]
    assert source.reads < 20
    store.close()


def test_a_failed_read_ahead_is_asked_again_and_an_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, "BLOCK", 32)
    source = Counted()
    source.files["f"] = bytes(200)
    ahead = ReadAhead(source)
    ahead.read("f", 0, 4)
    source.failures = 1
    with pytest.raises(Unavailable):
        ahead.read("f", 4, 4)
    assert ahead.read("f", 4, 4) == bytes(4)
    for _ in range(20):
        source.failures = 1  # hits a read ahead or a read
        for offset in range(0, 200, 8):
            try:
                part = ahead.read("f", offset, 8)
            except Unavailable:
                part = ahead.read("f", offset, 8)
            assert part == bytes(8)
        source.failures = 0
        ahead.forget("f")
    ahead.close()


def test_a_pack_that_was_mended_is_read_anew(tmp_path: Path) -> None:
    source = Counted()
    store = ObjectStore(source, tmp_path / "cache")
    with store.writer() as writer:
        oids = [writer.put(Kind.CHUNK, bytes([n]) * 5_000) for n in range(50)]
        (pack,) = writer.flush()
    name = pack_name(pack.id)
    whole = source.files[name]
    source.files[name] = bytes(len(whole))
    for oid in oids[:3]:
        with pytest.raises(Unavailable):
            store.get(oid, Kind.CHUNK)
    source.files[name] = whole
    assert [store.get(oid, Kind.CHUNK) for oid in oids] == [bytes([n]) * 5_000 for n in range(50)]
    store.close()
