"""The control port's own API: a few rooms at once, the others from the first request on that asks for one of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.routing import Match

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp


class Growing:
    """ASGI application. To import all rooms takes most of a second, and memory that logged runs never need.

    Attributes:
        begin: the beginnings of the paths that ``whole`` serves; all others are left to ``light``, which refuses them.
    """

    def __init__(self, light: Starlette, whole: Callable[[], ASGIApp], begin: tuple[str, ...]) -> None:
        self._light = light
        self._make = whole
        self.begin = begin
        self._whole: ASGIApp | None = None
        self._lock = threading.Lock()

    @property
    def grown(self) -> bool:
        return self._whole is not None

    def grow(self) -> None:
        """Imports and builds everything, if that is not done; blocks."""
        with self._lock:
            if self._whole is None:
                self._whole = self._make()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._whole is None and not self._fits(scope):
            await asyncio.to_thread(self.grow)
        await (self._whole or self._light)(scope, receive, send)

    def _fits(self, scope: Any) -> bool:
        if scope["type"] != "http" or not scope["path"].startswith(self.begin):
            return True
        return any(route.matches(scope)[0] == Match.FULL for route in self._light.routes)
