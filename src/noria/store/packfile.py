"""A pack while it is written."""

from __future__ import annotations

import contextlib
import errno
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import blake3

from noria.base.errors import DiskFull
from noria.base.faults import Faults
from noria.store.packs import Bytes


class PackFile:
    """Takes large pieces, one after another; each is written and hashed beside whoever makes the next one.

    At most one piece is on its way, so that memory stays flat. Not thread-safe.
    """

    def __init__(self, folder: Path, faults: Faults) -> None:
        self.path = folder / f"{secrets.token_hex(8)}.pack"
        self._folder = folder
        self._faults = faults
        self._hash = blake3.blake3()
        self._file: BinaryIO | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def append(self, parts: Sequence[Bytes]) -> None:
        """Begins to write a piece, once the one before is written; ``parts`` is not to be changed afterwards.

        Raises:
            DiskFull: for this piece or an earlier one. Nothing of the file is left then.
        """
        self._wait()
        self._thread = threading.Thread(target=self._guarded, args=(parts,), name="noria-pack", daemon=True)
        self._thread.start()

    def finish(self, parts: Sequence[Bytes]) -> str:
        """Writes the last piece and closes the file; returns the BLAKE3 of it all, in hexadecimal."""
        self._wait()
        self._guarded(parts)
        self._wait()
        if self._file is not None:
            self._file.close()
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Leaves nothing behind; no error if there is nothing, or another took the file over."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self.path.unlink(missing_ok=True)

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            self.discard()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(str(self._folder)) from error
            raise error

    def _guarded(self, parts: Sequence[Bytes]) -> None:
        try:
            self._write(b"".join(parts))
        except BaseException as error:  # noqa: BLE001 - told to whoever hands over the next piece
            self._error = error

    def _write(self, data: bytes) -> None:
        self._faults.at("store.write")
        if self._file is None:
            self._file = self.path.open("xb")
        self._file.write(data)
        self._file.flush()
        self._hash.update(data)
