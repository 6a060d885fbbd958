"""Rows from a file behind HTTP(S). An interrupted download goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import blake3
import urllib3

from noria.base.errors import Invalid
from noria.data.collectors.files import read_rows
from noria.data.collectors.protocol import Piece
from noria.data.errors import SourceFailed

_PIECE = 1 << 20


class UrlSource:
    """One file. Downloaded into ``cache``; collected again when the server says that it changed.

    Args:
        checksum: ``blake3:<hex>`` of the file, checked where it is given.
        keyed: whether rows have a key. Without one a file that changed is a whole piece.
    """

    def __init__(self, url: str, cache: Path, checksum: str | None = None, *, keyed: bool = True) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise Invalid(f"{url!r} is not an HTTP address.", hint="https://host/path/file.parquet")
        self._url = url
        self._checksum = checksum
        self._keyed = keyed
        name = Path(parts.path).name or "download"
        self._part = cache / f"{blake3.blake3(url.encode()).hexdigest()[:16]}-{name}"
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=10, read=60), retries=urllib3.Retry(3))

    def pieces(self, marks: dict[str, dict[str, Any]]) -> Iterator[Piece]:
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
        if before.get("digest") != digest:
            meta = {"kind": "url", "url": self._url, "digest": f"blake3:{digest}"}
            frame, whole = read_rows(self._part), bool(before) and not self._keyed
            mark = {"etag": etag, "digest": digest}
            yield Piece(source=source, mark=mark, frame=frame, meta=meta, whole=whole)
        self._part.unlink(missing_ok=True)

    def _download(self, etag: str | None) -> str | None:
        """Fetches the file, or the rest of it; returns its ETag, or None where it did not change."""
        self._part.parent.mkdir(parents=True, exist_ok=True)
        note = self._part.with_name(self._part.name + ".etag")
        have = self._part.stat().st_size if self._part.exists() and note.exists() else 0
        headers: dict[str, str] = {}
        if have:
            headers = {"Range": f"bytes={have}-", "If-Range": note.read_text()}
        elif etag:
            headers = {"If-None-Match": etag}
        try:
            with self._pool.request("GET", self._url, headers=headers, preload_content=False) as answer:
                if answer.status == 304:
                    return None
                if answer.status == 416 and have:
                    return note.read_text()
                if answer.status not in (200, 206):
                    raise SourceFailed(f"{self._url} answered {answer.status}.", hint="Open it in a browser.")
                found = answer.headers.get("ETag", "")
                note.write_text(found)
                with self._part.open("ab" if answer.status == 206 else "wb") as file:
                    while piece := answer.read1(_PIECE):  # what has arrived, so that a cut loses nothing
                        file.write(piece)
        except urllib3.exceptions.HTTPError as error:
            raise SourceFailed(
                f"{self._url} could not be fetched: {type(error).__name__}.",
                hint="Repeat the command: what was fetched is kept, and the download goes on.",
            ) from None
        note.unlink(missing_ok=True)
        return found
