"""Bodies of uploads, as they arrive: counted, never held whole, and given up when nothing comes any more."""

from __future__ import annotations

import asyncio
from typing import Final

from noria.base.errors import Invalid
from noria.gateways.mlflow.app import Gone
from noria.gateways.mlflow.routes import Asked

_SILENCE: Final = 120
"""Seconds after which a sender that sends nothing is given up."""
_DRAINED: Final = 64 << 20


class BodyBroken(Invalid):
    """Less, or more, arrived than was said."""

    code = "body_broken"


class Body:
    """The body of one request.

    Attributes:
        size: bytes so far.
        ended: nothing more comes.
    """

    def __init__(self, asked: Asked) -> None:
        self._receive = asked.receive
        length = asked.headers.get("content-length", "")
        self._length = int(length) if length.isdecimal() else None
        self.size = 0
        self.ended = False

    async def read(self, most: int) -> bytes:
        """The next bytes, about ``most``; fewer only at the end.

        Raises:
            Gone: the sender hung up, or fell silent.
            BodyBroken: the end came elsewhere than the header said.
        """
        parts: list[bytes] = []
        held = 0
        while held < most and not self.ended:
            part = await self._next()
            held += len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(_SILENCE):
                message = await self._receive()
        except TimeoutError:
            raise Gone from None
        if message["type"] == "http.disconnect":
            raise Gone
        part: bytes = message.get("body", b"")
        self.size += len(part)
        self.ended = not message.get("more_body", False)
        if self._length is not None and (self.size > self._length or (self.ended and self.size != self._length)):
            raise BodyBroken(f"{self.size} bytes arrived where {self._length} were announced.", hint="Send it again.")
        return part

    async def drain(self) -> None:
        """Lets a sender finish who is going to be refused: many read no answer before they have sent all."""
        while not self.ended and self.size < _DRAINED:
            await self._next()
