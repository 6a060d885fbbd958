"""HTTP/1.1 with a bound on what stands before the body: uvicorn's fast parser collects headers without end.

That happens before anybody was asked for a token, so nobody may fill the memory with it. And a response is sent whole:
uvicorn hands its head to the system by itself, which wakes the client up twice.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD: Final = 128 << 10
"""Bytes of request line and headers. A client that asks for the metrics of 100 runs sends about 5 KB."""

_REFUSAL: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)
_BODY: Final = b'{"error_code": "BAD_REQUEST", "message": "The address and headers are larger than 128 KiB."}'


class BoundedHttp(HttpToolsProtocol):
    """For ``uvicorn.Config(http=...)``."""

    _open = False
    _head = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Whole(transport))  # pyright: ignore[reportArgumentType]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._open:
            self._head += len(data)
            if self._head > MOST_HEAD and not self.transport.is_closing():
                self.transport.write(_REFUSAL % (len(_BODY), _BODY))
                self.transport.close()

    def on_message_begin(self) -> None:
        self._open, self._head = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._open = False
        super().on_headers_complete()


class _Whole:
    """A transport that keeps the head of a response until the body comes, or this turn of the loop ends."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
