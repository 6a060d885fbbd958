from __future__ import annotations

import errno
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from noria.base.faults import CountPoints
from noria.serving import segments
from noria.serving.errors import SegmentDamaged
from noria.serving.segments import HEADER, Captured, CapturedRow, SegmentWriter, read
from noria.store.errors import FormatTooNew

ROWS = [
    CapturedRow("a1", '["o1"]', 1_356_998_400_000_000, 0.25, b'{"id":"o1","n":3}', b'{"n":3,"big":false}'),
    CapturedRow("a2", '["o2"]', None, 1.0, b'{"id":"o2","n":null}', b'{"n":null,"big":true}'),
]
RECORDS = [
    Captured("returns", 3, 7, "tree/2", "champion", True, 1_357_000_000_000, 1234, ["c1", "c2"], ROWS),
    Captured("returns", 3, 8, "tree/3", "shadow", False, 1_357_000_000_001, 56, [], ROWS[:1]),
    Captured("returns", 3, 7, "tree/2", "champion", True, 1_357_000_000_002, 9, [], [], "model_failed", 4),
]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SegmentWriter]:
    made = SegmentWriter(tmp_path / "capture", "w1-1")
    yield made
    made.close()


def only(folder: Path) -> Path:
    (found,) = folder.glob("*.seg")
    return found


def written(folder: Path) -> tuple[bytes, list[int]]:
    """(a segment of RECORDS, where each record ends)."""
    made = SegmentWriter(folder, "w1-1")
    made.write(*RECORDS[:2])
    made.write(RECORDS[2])
    made.close()
    return only(folder).read_bytes(), [end for _, end in read(only(folder))]


def test_the_format_is_pinned(tmp_path: Path, golden: Callable[[str, bytes], None]) -> None:
    data, _ = written(tmp_path)
    golden("segment.bin", data)


def test_the_pinned_file_is_read(tmp_path: Path) -> None:
    found = list(read(Path(__file__).parents[1] / "golden" / "segment.bin"))
    assert [record for record, _ in found] == RECORDS


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data, ends = written(tmp_path)
    path = only(tmp_path)
    assert ends[-1] == len(data)
    for number, end in enumerate(ends):
        assert [record for record, _ in read(path, end)] == RECORDS[number + 1 :]


def test_a_file_that_was_cut_anywhere_gives_its_whole_records(tmp_path: Path) -> None:
    data, ends = written(tmp_path / "whole")
    path = tmp_path / "cut.seg"
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        assert [record for record, _ in read(path)] == RECORDS[: sum(end <= cut for end in ends)]


@pytest.mark.parametrize("zeros", [1, 12, 100, 5000])
def test_zeros_after_the_last_record_are_what_a_power_cut_leaves(tmp_path: Path, zeros: int) -> None:
    data, _ = written(tmp_path / "whole")
    path = tmp_path / "long.seg"
    for kept in (len(data), len(data) - 1, len(data) - 20):
        path.write_bytes(data[:kept] + bytes(zeros))
        found = [record for record, _ in read(path)]
        assert found in (RECORDS, RECORDS[:2])


def test_any_flipped_bit_in_the_middle_is_found(tmp_path: Path) -> None:
    data, ends = written(tmp_path / "whole")
    path = tmp_path / "flipped.seg"
    for place in range(len(HEADER), ends[1]):
        for bit in (0, 7):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            found: list[Captured] = []
            with pytest.raises(SegmentDamaged) as caught:
                found.extend(record for record, _ in read(path))
            assert caught.value.hint
            assert caught.value.details["offset"] == (len(HEADER), ends[0])[place >= ends[0]]


def test_what_comes_before_the_damage_is_given(tmp_path: Path) -> None:
    data, ends = written(tmp_path / "whole")
    path = tmp_path / "flipped.seg"
    path.write_bytes(data[: ends[0] + 20] + bytes([data[ends[0] + 20] ^ 1]) + data[ends[0] + 21 :])
    reading = read(path)
    assert next(reading) == (RECORDS[0], ends[0])
    with pytest.raises(SegmentDamaged, match=str(ends[0])):
        next(reading)


def test_another_file_and_a_newer_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.seg"
    path.write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(SegmentDamaged, match="does not begin"):
        list(read(path))
    path.write_bytes(b"NRSG\x02\x00\x00\x00")
    with pytest.raises(FormatTooNew):
        list(read(path))


def test_what_was_written_can_be_read_at_once(tmp_path: Path, writer: SegmentWriter) -> None:
    writer.write(RECORDS[0])
    assert [record for record, _ in read(only(tmp_path / "capture"))] == RECORDS[:1]
    writer.sync()
    writer.write(RECORDS[1])
    assert [record for record, _ in read(only(tmp_path / "capture"))] == RECORDS[:2]


class Disk:
    """``os.write`` that takes so many bytes and then has no room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = os.write

    def __call__(self, handle: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self.write(handle, data[: self.room])
        self.room -= taken
        return taken


@pytest.mark.parametrize("room", [0, 1, 11, 12, 50, 200])
def test_a_full_disk_leaves_no_half_record(
    tmp_path: Path, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    writer.write(RECORDS[0])
    before = only(tmp_path / "capture").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(segments.os, "write", Disk(room))
        with pytest.raises(OSError, match="No space"):
            writer.write(*RECORDS)
    assert only(tmp_path / "capture").read_bytes() == before
    writer.write(RECORDS[2])
    assert [record for record, _ in read(only(tmp_path / "capture"))] == [RECORDS[0], RECORDS[2]]


def test_a_write_that_is_cut_short_goes_on(
    tmp_path: Path, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.write
    monkeypatch.setattr(segments.os, "write", lambda handle, data: whole(handle, data[:7]))
    writer.write(*RECORDS)
    assert [record for record, _ in read(only(tmp_path / "capture"))] == RECORDS


def test_a_segment_grows_only_so_far(tmp_path: Path, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_ROTATE", 400)
    for _ in range(10):
        writer.write(*RECORDS)
    files = list((tmp_path / "capture").glob("*.seg"))
    assert len(files) > 3
    assert sum(len(list(read(path))) for path in files) == 30


def test_where_no_new_segment_can_be_begun_the_old_one_is_used(
    tmp_path: Path, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_ROTATE", 400)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(segments.os, "open", full)
        for _ in range(5):
            writer.write(*RECORDS)
    assert len(list(read(only(tmp_path / "capture")))) == 15
    writer.write(*RECORDS)
    writer.write(*RECORDS)
    files = list((tmp_path / "capture").glob("*.seg"))
    assert len(files) == 2
    assert sum(len(list(read(path))) for path in files) == 21


def test_syncing_goes_on_after_an_error(writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, tried, synced = os.fdatasync, threading.Event(), threading.Event()

    def once(handle: int) -> None:
        if not tried.is_set():
            tried.set()
            raise OSError(errno.EIO, "Input/output error")
        whole(handle)
        synced.set()

    monkeypatch.setattr(segments.os, "fdatasync", once)
    writer.write(RECORDS[0])
    assert tried.wait(10)
    writer.write(RECORDS[0])
    assert synced.wait(10)


def test_writers_in_several_threads_do_not_mix(tmp_path: Path, writer: SegmentWriter) -> None:
    def write(number: int) -> None:
        for _ in range(50):
            writer.write(msgspec.structs.replace(RECORDS[0], deployment=number))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [record.deployment for record, _ in read(only(tmp_path / "capture"))]
    assert sorted(found) == [n for n in range(4) for _ in range(50)]


def test_the_length_has_a_checksum_of_its_own() -> None:
    head = segments.frame(b"payload")
    assert head[:4] == (7).to_bytes(4, "little")
    assert head[4:8] == zlib.crc32(head[:4]).to_bytes(4, "little")
    assert head[8:] == zlib.crc32(b"payload").to_bytes(4, "little")


def test_each_write_fsync_and_change_of_file_announces_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_ROTATE", 1)
    points = CountPoints()
    made = SegmentWriter(tmp_path, "w1-1", points)
    made.write(RECORDS[0])
    assert points.seen[:5] == ["capture.open", "capture.write", "capture.open", "capture.rotate", "capture.written"]
    monkeypatch.setattr(segments, "_ROTATE", 1 << 20)
    made.write(RECORDS[1])
    made.sync()
    made.close()
    assert points.seen[-1] == "capture.close"
    assert "capture.fsync" in points.seen
    assert points.seen.count("capture.write") == points.seen.count("capture.written") == 2
