"""Capture segments: what was answered, on disk before the answer left (decision 7). Pinned by golden/segment.bin.

    header   "NRSG" version u8, 3 bytes zero
    record   length u32, crc32 u32 of the length, crc32 u32 of the payload, payload (MessagePack of ``Captured``)

The length has a checksum of its own: a damaged one would look like a record that is not whole yet, and everything
after it would be lost without a word.

One ``write`` a record, before the answer: a killed process loses nothing that was answered. A group fsync every few
milliseconds bounds what a power cut can take. A record that was cut off at the end of a file is no error, nor are
zeros there: a power cut may leave a file longer than what was written.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from noria.base.faults import Faults, NoFaults
from noria.serving.errors import SegmentDamaged
from noria.store.errors import FormatTooNew

log = logging.getLogger("noria.capture")

HEADER: Final = b"NRSG\x01\x00\x00\x00"
_FRAME: Final = struct.Struct("<III")
_LENGTH: Final = struct.Struct("<I")
_ROTATE: Final = 32 << 20
SYNC_SECONDS: Final = 0.005


class CapturedRow(msgspec.Struct, array_like=True):
    """One scored row.

    Attributes:
        id: of the prediction; with the deployment it is unique.
        entity: the key of the source row, as JSON.
        at: its moment, microseconds of event time; None where it has none.
        request: the source row, as JSON; features: the values in the model's order, as JSON.
    """

    id: str
    entity: str
    at: int | None
    score: float
    request: bytes
    features: bytes


class Captured(msgspec.Struct, array_like=True):
    """What one deployment scored of one request.

    Attributes:
        role: champion, canary or shadow; ``answered``: this score was the answer.
        received: wall time in milliseconds; latency: microseconds of the whole request.
        commits: ids of the commits of the tables that were read.
        error: the code of the error where the deployment failed; there are no rows then, ``count`` says how many.
    """

    endpoint: str
    revision: int
    deployment: int
    model: str
    role: str
    answered: bool
    received: int
    latency: int
    commits: list[str]
    rows: list[CapturedRow]
    error: str = ""
    count: int = 0


class SegmentWriter:
    """One worker's segments. ``write`` is called by one thread; syncing happens in another."""

    def __init__(self, folder: Path, worker: str, faults: Faults | None = None) -> None:
        self._folder = folder
        self._faults = faults or NoFaults()
        self._worker = worker
        folder.mkdir(parents=True, exist_ok=True)
        self._encoder = msgspec.msgpack.Encoder()
        self._handle = -1
        self._size = 0
        self._dirty = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._open()
        self._thread = threading.Thread(target=self._sync_loop, name="capture-sync", daemon=True)
        self._thread.start()

    def write(self, *records: Captured) -> None:
        """Appends records with one system call."""
        parts: list[bytes] = []
        for record in records:
            payload = self._encoder.encode(record)
            parts += (frame(payload), payload)
        data = b"".join(parts)
        with self._lock:
            self._faults.at("capture.write")
            try:
                _write(self._handle, data)
            except OSError:
                os.ftruncate(self._handle, self._size)  # half a record in the middle would be damage
                raise
            self._size += len(data)
            if not self._dirty:
                self._dirty = True
                self._wake.set()
            if self._size >= _ROTATE:
                self._rotate()
        self._faults.at("capture.written")

    def sync(self) -> None:
        """Makes everything written so far durable, without holding up writers."""
        with self._lock:
            if not self._dirty:
                return
            self._dirty = False
            handle = os.dup(self._handle)
        self._faults.at("capture.fsync")
        try:
            os.fdatasync(handle)
        finally:
            os.close(handle)

    def close(self) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join()
        with self._lock:
            self._close()

    def _open(self) -> None:
        path = self._folder / f"{self._worker}-{secrets.token_hex(6)}.seg"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)  # while it is held, nobody takes the file away
            self._faults.at("capture.open")
            _write(handle, HEADER)
        except OSError:
            os.close(handle)
            path.unlink()
            raise
        self._handle, self._size = handle, len(HEADER)

    def _rotate(self) -> None:
        """Goes on in a new file; in the old one, where there is no room for another: what was written is written."""
        before = self._handle
        try:
            self._open()
        except OSError as error:
            log.warning("no new capture segment could be begun: %s", error)
            return
        self._faults.at("capture.rotate")
        try:
            os.fdatasync(before)
        except OSError as error:
            log.error("a capture segment could not be made durable: %s", error)
        finally:
            os.close(before)
        self._dirty = False

    def _close(self) -> None:
        self._faults.at("capture.close")
        os.fdatasync(self._handle)
        os.close(self._handle)
        self._dirty = False

    def _sync_loop(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            time.sleep(SYNC_SECONDS)  # what comes meanwhile shares the fsync
            try:
                self.sync()
            except OSError as error:
                log.error("the capture could not be made durable: %s", error)


def frame(payload: bytes) -> bytes:
    """What stands before a payload."""
    length = len(payload)
    return _FRAME.pack(length, zlib.crc32(_LENGTH.pack(length)), zlib.crc32(payload))


def _write(handle: int, data: bytes) -> None:
    written = os.write(handle, data)
    while written < len(data):  # a full disk or a signal may cut it
        written += os.write(handle, data[written:])


_decoder: Any = msgspec.msgpack.Decoder(Captured)


def read(path: Path, start: int = 0) -> Iterator[tuple[Captured, int]]:
    """(record, end of it) for every whole record from byte ``start`` on; stops before one that is not whole yet.

    Raises:
        SegmentDamaged: a record in the middle does not have its checksums.
    """
    with path.open("rb") as file:
        head = file.read(len(HEADER))
        if len(head) < len(HEADER):
            return
        if head[:4] != HEADER[:4]:
            raise SegmentDamaged(f"{path.name} does not begin like a capture segment.", hint="noria admin verify")
        if head[4] > HEADER[4]:
            raise FormatTooNew(f"The segment {path.name}", head[4], HEADER[4])
        position = max(start, len(HEADER))
        file.seek(position)
        data = file.read()
    offset = 0
    while offset + _FRAME.size <= len(data):
        length, check, checksum = _FRAME.unpack_from(data, offset)
        begin = offset + _FRAME.size
        if zlib.crc32(_LENGTH.pack(length)) != check:
            if _zeros(data, begin):
                return
            raise _damaged(path, position + offset)
        end = begin + length
        if end > len(data):
            return
        payload = data[begin:end]
        if zlib.crc32(payload) != checksum:
            if _zeros(data, end):
                return  # the last record, half written when the power went
            raise _damaged(path, position + offset)
        yield _decoder.decode(payload), position + end
        offset = end


def _zeros(data: bytes, start: int) -> bool:
    """Whether nothing but zeros follows."""
    return data.count(0, start) == len(data) - start


def _damaged(path: Path, offset: int) -> SegmentDamaged:
    return SegmentDamaged(
        f"{path.name} is damaged at byte {offset}: a record does not have its checksum.",
        hint="What comes before it was taken over; keep the file and report it.",
        details={"segment": path.name, "offset": offset},
    )
