"""The side of the control socket that answers: one line of JSON each way (``serving.link`` is the side that asks)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import msgspec

from noria.http.errors import from_exception

Op = Literal["sync", "flush", "status", "stop"]


class _Asked(msgspec.Struct):
    op: Op


_ASKED: Final = msgspec.json.Decoder(_Asked)


def answering(
    answer: Callable[[Op], Awaitable[dict[str, Any]]],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """What ``asyncio.start_unix_server`` calls for each connection; an error is answered in the one form."""

    async def safely(line: bytes) -> dict[str, Any]:
        try:
            return await answer(_ASKED.decode(line).op)
        except Exception as error:  # noqa: BLE001 - the border: whoever asks hears what went wrong
            return from_exception(error).as_dict()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line:
                writer.write(json.dumps(await safely(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            return
        finally:
            writer.close()

    return serve
