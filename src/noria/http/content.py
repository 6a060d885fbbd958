"""Answers that are bytes: the part that was asked for, whether it changed, and nothing held in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from noria.base.errors import Invalid

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_PIECE: Final = 1 << 20
_RANGE: Final = re.compile(r"\s*(\d*)-(\d*)\s*")
_FAR: Final = 10**18


class RangeWrong(Invalid):
    """The range that was asked for is none, or the bytes do not have it."""

    code = "range_not_satisfiable"


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

    As RFC 9110 has it: a range that is no range gets 416 like one that the bytes do not have, several ranges in one
    request get the whole, and so does a unit that is not bytes. Reads; call it in a worker thread.
    """
    tag = f'"{content.etag}"'
    headers = {**headers, "etag": tag, "accept-ranges": "bytes", "content-disposition": "attachment"}
    if tag in [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]:
        return Response(None, 304, headers)
    start, stop, status = 0, content.size, 200
    asked = request.headers.get("range")
    if asked is not None and request.headers.get("if-range", tag) == tag:
        unit, _, part = asked.partition("=")
        if unit.strip().lower() == "bytes" and "," not in part:
            try:
                start, stop = _bounds(part, content.size)
            except RangeWrong as error:
                return _refused(error, request, {**headers, "content-range": f"bytes */{content.size}"})
            status = 206
            headers["content-range"] = f"bytes {start}-{stop - 1}/{content.size}"
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(None, status, headers, "application/octet-stream")
    file = content.open()
    file.seek(start)
    first = file.read(min(_PIECE, stop - start))  # before the status is sent: what is damaged is an error, not a stub
    return _Sent(file, first, stop - start, status, headers)


def _bounds(part: str, size: int) -> tuple[int, int]:
    """From where to where (not included) a range goes.

    Raises:
        RangeWrong: it goes nowhere.
    """
    found = _RANGE.fullmatch(part)
    if found is None or found.groups() == ("", ""):
        raise RangeWrong(
            f"{part!r:.60} is not a range of bytes.", hint="Range: bytes=0-99, bytes=100- or bytes=-100 (the last 100)."
        )
    first, last = (None if text == "" else int(text) if len(text) <= 18 else _FAR for text in found.groups())
    if first is None:  # the last so many bytes
        first, last = max(0, size - (last or 0)), None
    if last is not None and last < first:
        raise RangeWrong(f"The range {part.strip()[:60]} ends before it begins.", hint=f"Range: bytes={last}-{first}")
    if first >= size:
        raise RangeWrong(f"The range {part.strip()[:60]} has none of the {size} bytes.", hint=f"Range: bytes=0-{size}")
    return first, size if last is None else min(size, last + 1)


def _refused(error: RangeWrong, request: Request, headers: dict[str, str]) -> Response:
    headers.pop("content-disposition")
    body = None if request.method == "HEAD" else json.dumps(error.as_dict()).encode()
    return Response(body, 416, headers, "application/json")


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
