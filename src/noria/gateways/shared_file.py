"""A readable file that several threads may use at once, as DuckDB does: each seeks and reads, nobody holds a lock."""

from __future__ import annotations

import io
import os
import threading
from typing import BinaryIO


class SharedFile(io.BufferedIOBase):
    """A file whose ``seek`` holds for the next read of the same thread, whatever other threads do in between.

    In a file that one thread uses at a time, and that is handed on, nothing is different from any other file: a read
    without a seek of its own goes on where the last read or seek of any thread left off.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._sought: dict[int, int] = {}
        self._position = 0
        self._by: int | None = None
        """The thread whose seek set the position, as long as nobody has read from it."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._sought.get(threading.get_ident(), self._position)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        me = threading.get_ident()
        with self._lock:
            if whence == os.SEEK_CUR:
                offset, whence = self._sought.get(me, self._position) + offset, os.SEEK_SET
            place = self._file.seek(max(0, offset) if whence == os.SEEK_SET else offset, whence)
            self._sought[me] = self._position = place
            self._by = me
            return place

    def read(self, size: int | None = -1) -> bytes:
        with self._lock:
            data = self._peek(-1 if size is None else size)
            self._take(len(data))
            return data

    def read1(self, size: int = -1) -> bytes:
        return self.read(io.DEFAULT_BUFFER_SIZE if size < 0 else size)

    def peek(self, size: int = 0) -> bytes:
        with self._lock:
            return self._peek(max(size, io.DEFAULT_BUFFER_SIZE))

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _peek(self, size: int) -> bytes:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        self._file.seek(self._sought.get(threading.get_ident(), self._position))
        return self._file.read(size)

    def _take(self, size: int) -> None:
        own = self._sought.pop(threading.get_ident(), None)
        if own is None:
            if self._by is not None:  # the file was handed on after a seek, which is used up with this read
                self._sought.pop(self._by, None)
            self._position += size
        else:
            self._position = own + size
        self._by = None
