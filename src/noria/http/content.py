"""Answers that are bytes: the part that was asked for, whether it changed, and nothing held in memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_PIECE: Final = 1 << 20
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Bytes to send, as a handler answers them where its route says ``answer=Content``.

    Attributes:
        size: bytes of the whole.
        etag: changes when, and only when, the bytes do.
        open: opens them; called once, and only if bytes are to be sent.
    """

    size: int
    etag: str
    open: Callable[[], BinaryIO]


def respond(content: Content, request: Request, headers: dict[str, str]) -> Response:
    """The answer to GET or HEAD: whole, one range (206), not modified (304) or no such range (416).

    Several ranges in one request get the whole, as the standard allows. Reads; call it in a worker thread.
    """
    tag = f'"{content.etag}"'
    headers = {**headers, "etag": tag, "accept-ranges": "bytes", "content-disposition": "attachment"}
    if tag in [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]:
        return Response(None, 304, headers)
    start, stop, status = 0, content.size, 200
    asked = request.headers.get("range")
    if asked is not None and request.headers.get("if-range", tag) == tag:
        found = _RANGE.fullmatch(asked.strip())
        if found is not None and found.groups() != ("", ""):
            start, stop = _bounds(found[1], found[2], content.size)
            if start >= stop:
                return Response(None, 416, {**headers, "content-range": f"bytes */{content.size}"})
            status = 206
            headers["content-range"] = f"bytes {start}-{stop - 1}/{content.size}"
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(None, status, headers, "application/octet-stream")
    file = content.open()
    file.seek(start)
    first = file.read(min(_PIECE, stop - start))  # before the status is sent: what is damaged is an error, not a stub
    return _Sent(file, first, stop - start, status, headers)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:  # the last so many bytes
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


class _Sent(Response):
    """Sends a part of an open file in pieces; stops when the caller has gone."""

    def __init__(self, file: BinaryIO, first: bytes, size: int, status: int, headers: dict[str, str]) -> None:
        self._file, self._first, self._size = file, first, size
        self.status_code = status
        self.media_type = "application/octet-stream"
        self.background = None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        piece, left = self._first, self._size
        with self._file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while piece and len(piece) < left:
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                if await request.is_disconnected():
                    return
                piece = await run_in_threadpool(self._file.read, min(_PIECE, left))
            await send({"type": "http.response.body", "body": piece, "more_body": False})
