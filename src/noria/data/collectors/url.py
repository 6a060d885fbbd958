"""Rows from a file behind HTTP(S). An interrupted download goes on where it stopped, if it is surely the same file.

That is so where the server gave it a strong ETag, and answers the request for the rest with that ETag and from the byte
asked for on. Everything else begins anew: bytes of two states of a file are never put together.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import blake3
import urllib3

from noria.base.errors import Invalid
from noria.data.collectors.files import read_fitting
from noria.data.collectors.protocol import Known, Marks, Piece
from noria.data.errors import SourceFailed

_PIECE = 1 << 20


class UrlSource:
    """One file. Downloaded into ``cache``; collected again when the server says that it changed.

    Args:
        checksum: ``blake3:<hex>`` of the file, checked where it is given.
        keyed: whether rows have a key. Without one a file that changed is a whole piece.
    """

    def __init__(
        self, url: str, cache: Path, checksum: str | None = None, *, keyed: bool = True, known: Known = lambda: None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise Invalid(f"{url!r} is not an HTTP address.", hint="https://host/path/file.parquet")
        self._url = url
        self._checksum = checksum
        self._keyed = keyed
        self._known = known
        name = Path(parts.path).name or "download"
        self._part = cache / f"{blake3.blake3(url.encode()).hexdigest()[:16]}-{name}"
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=10, read=60), retries=urllib3.Retry(3))

    def pieces(self, marks: Marks) -> Iterator[Piece]:
        self._part.parent.mkdir(parents=True, exist_ok=True)
        with alone(self._part.with_name(self._part.name + ".lock")):
            yield from self._pieces(marks)

    def _pieces(self, marks: dict[str, dict[str, Any]]) -> Iterator[Piece]:
        source = f"url:{self._url}"
        before = marks.get(source, {})
        etag = self._download(before.get("etag"))
        if etag is None:
            return
        digest = blake3.blake3(self._part.read_bytes()).hexdigest()
        if self._checksum is not None and self._checksum != f"blake3:{digest}":
            self._part.unlink()
            raise SourceFailed(
                f"{self._url} has the checksum blake3:{digest}, not {self._checksum}.",
                hint="Ask who publishes the file.",
            )
        mark = {"etag": etag, "digest": digest}
        if mark != before:
            same, whole = before.get("digest") == digest, bool(before) and not self._keyed
            meta = {"kind": "url", "url": self._url, "digest": f"blake3:{digest}"}
            columns = None if whole else self._known()
            frame, misfits = (None, None) if same else read_fitting(self._part, columns)
            yield Piece(source=source, mark=mark, frame=frame, meta=meta, whole=whole, misfits=misfits)
        self._part.unlink(missing_ok=True)

    def _download(self, etag: str | None) -> str | None:
        """Fetches the file, or the rest of it; returns its ETag, or None where it did not change."""
        note = self._part.with_name(self._part.name + ".etag")
        started = note.read_text() if note.exists() else ""
        have = self._part.stat().st_size if strong(started) and self._part.exists() else 0
        if have:
            found = self._fetch(note, {"Range": f"bytes={have}-", "If-Range": started}, have, started)
            if found is not _OTHER:
                return found
        return self._fetch(note, {"If-None-Match": etag} if etag else {}, 0, "")

    def _fetch(self, note: Path, headers: dict[str, str], have: int, started: str) -> str | None:
        """One request. ``_OTHER`` where the answer is not the rest of what was begun: it has to begin anew."""
        headers["Accept-Encoding"] = "identity"  # ranges count the bytes as they are sent
        found = ""
        try:
            with self._pool.request("GET", self._url, headers=headers, preload_content=False) as answer:
                found = answer.headers.get("ETag", "")
                if answer.status == 304:
                    return None
                if have and not _goes_on(answer.status, answer.headers, have, started):
                    note.unlink(missing_ok=True)
                    return _OTHER
                if answer.status not in (200, 206, 416) or (answer.status != 200 and not have):
                    raise SourceFailed(f"{self._url} answered {answer.status}.", hint="Open it in a browser.")
                if answer.status != 416:  # all of it is here where nothing lies beyond
                    note.unlink(missing_ok=True)
                    if answer.status == 200:
                        self._part.unlink(missing_ok=True)
                    with self._part.open("ab") as file:
                        note.write_text(found)
                        while piece := answer.read1(_PIECE):  # what has arrived, so that a cut loses nothing
                            file.write(piece)
        except urllib3.exceptions.HTTPError as error:
            kept = strong(found or started)
            raise SourceFailed(
                f"{self._url} could not be fetched: {type(error).__name__}.",
                hint="Repeat the command: "
                + ("what was fetched is kept, and the download goes on." if kept else "the download begins anew."),
            ) from None
        note.unlink(missing_ok=True)
        return found or started


_OTHER = "other"
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


def strong(etag: str) -> bool:
    """Whether equal ETags mean equal bytes; a weak one says only that the meaning is the same."""
    return len(etag) > 2 and etag.startswith('"') and etag.endswith('"')


def _goes_on(status: int, headers: Mapping[str, str], have: int, started: str) -> bool:
    """Whether an answer to a request for the rest is that, of the same bytes, from the right place on."""
    place = _RANGE.fullmatch(headers.get("Content-Range", ""))
    if status == 200:
        return True  # the whole file, from its beginning: what was fetched before is thrown away
    if status == 416:
        return place is not None and place[1] is None and place[2] == str(have)
    if status != 206:
        return True  # an error, which is said as one
    begins = place is not None and place[1] == str(have)
    return begins and headers.get("ETag") == started


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One download of an address at a time on this machine."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
