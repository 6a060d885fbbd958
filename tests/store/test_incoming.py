"""Files that are pushed in, and files that are joined, are the objects that the same bytes make at once."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from noria.store import Incoming, ObjectStore, files, join
from noria.store.local import LocalBytes


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(LocalBytes(tmp_path / "objects"), tmp_path / "cache")


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 70_000, 4 << 20, (4 << 20) + 1, 9_500_000])
@pytest.mark.parametrize("piece", [7_001, 1 << 20, 5 << 20])
def test_pushed_in_is_the_same_as_pulled(store: ObjectStore, size: int, piece: int) -> None:
    data = noise(size, size)
    with store.writer() as writer:
        pulled = files.put_stream(writer, io.BytesIO(data))
        file = Incoming(writer)
        for start in range(0, size, piece):
            file.add(data[start : start + piece])
        assert file.size == size
        assert file.finish() == pulled
        writer.flush()
    assert files.read_bytes(store, pulled) == data


@pytest.mark.parametrize(
    "sizes",
    [
        (0,), (0, 0, 10), (1, 2, 3), (65_536, 1), (1, 65_536), (3_000_000, 0, 3_000_000), (10_000,) * 40,
        (5 << 20, 5 << 20, 777), (2_000_001, 100, 99_999, 4_000_003),
    ],
)  # fmt: skip
@pytest.mark.parametrize("zeros", [False, True])
def test_joined_is_the_same_as_whole(store: ObjectStore, sizes: tuple[int, ...], zeros: bool) -> None:
    total = sum(sizes)
    data = bytes(total) if zeros else noise(total, total)  # zeros are cut by length alone: borders never meet
    parts: list[bytes] = []
    start = 0
    for size in sizes:
        parts.append(data[start : start + size])
        start += size
    with store.writer() as writer:
        contents = [files.put_stream(writer, io.BytesIO(part)) for part in parts]
        writer.flush()
        before = writer.written
        joined = join(writer, store, contents)
        again = writer.written - before
        whole = files.put_stream(writer, io.BytesIO(data))
        assert joined == whole
        writer.flush()
    assert files.read_bytes(store, joined) == data
    if not zeros and total > 4_000_000:  # only what lies around the borders was stored again
        assert again < len(sizes) * 1_500_000
