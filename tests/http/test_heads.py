"""What a connection sends, and in how many pieces: through uvicorn's own protocol, beside a transport that notes it."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from noria.http.heads import BoundedHttp


class Noted(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.sent.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


def pieces(request: bytes, bodies: list[bytes], *, pause: bool) -> Noted:
    """What is sent for one request that is answered by ``bodies``; with ``pause`` the loop turns before each."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        size = sum(map(len, bodies))
        head = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for n, body in enumerate(bodies):
            if pause:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": body, "more_body": n + 1 < len(bodies)})

    async def run() -> Noted:
        config = uvicorn.Config(app, http=BoundedHttp, lifespan="off", log_config=None)
        config.load()
        made = Noted()
        protocol = BoundedHttp(config, ServerState(), {})
        protocol.connection_made(made)
        protocol.data_received(request)
        for _ in range(20):
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        return made

    return asyncio.run(run())


GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def test_a_response_is_one_piece() -> None:
    sent = pieces(GET, [b"hello"], pause=False).sent
    assert len(sent) == 1
    assert sent[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert sent[0].endswith(b"\r\n\r\nhello")


def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    sent = pieces(GET, [b"hel", b"lo"], pause=True).sent
    assert len(sent) == 3
    assert sent[0].endswith(b"\r\n\r\n")
    assert sent[1:] == [b"hel", b"lo"]


def test_a_body_that_looks_like_a_head_stays_in_its_place() -> None:
    text = b"HTTP/1.1 204 No Content\r\n\r\n"
    sent = pieces(GET, [b"a", text, b"b"], pause=False).sent
    assert b"".join(sent).endswith(b"\r\n\r\na" + text + b"b")


def test_nothing_is_lost_where_the_connection_closes() -> None:
    noted = pieces(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), [b""], pause=False)
    assert noted.closed
    assert b"".join(noted.sent).endswith(b"\r\n\r\n")
