"""Writing through ``noria://``: what tools write is collected as a change set, and lands as one commit."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fsspec.transaction import Transaction

from noria.data.address import Address
from noria.data.edits import Edit

_IN_MEMORY: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Pending:
    """One edit, and where."""

    at: Address
    edit: Edit

    def close(self) -> None:
        """Lets go of what its bytes were read from."""
        close = getattr(getattr(self.edit, "source", None), "close", None)
        if close is not None:
            close()


class Upload(io.BufferedIOBase):
    """A file that is being written. It is handed over whole when it is closed; left by an error, it is not."""

    def __init__(self, path: str, hand_over: Callable[[Any], None]) -> None:
        self.path = path
        self._hand_over = hand_over
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed with the edit
        self._thrown = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        if self._thrown:
            self._file.close()
            return
        self._file.seek(0)
        try:
            self._hand_over(self._file)
        except BaseException:
            self._file.close()
            raise

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def __del__(self) -> None:
        self.discard()  # nobody closed it: it is not whole
        self.close()

    def commit(self) -> None:
        """At the end of a transaction; the file was closed before, or is now."""
        self.close()

    def discard(self) -> None:
        """Forgets what was written."""
        self._thrown = True


class OneCommit(Transaction):
    """``with fs.transaction:`` all that is written, copied, moved and removed in it is one commit a repository."""

    fs: Any

    def start(self) -> None:
        super().start()
        self.fs.collect()

    def complete(self, commit: bool = True) -> None:
        fs = self.fs
        try:
            super().complete(commit)
        except BaseException:
            fs.land(commit=False)
            raise
        fs.land(commit=commit)
