"""What uploads and downloads through the proxy share: whose file a path is, and bodies that become files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final, TypeVar

from noria.base.errors import Invalid, NotFound
from noria.gateways.mlflow.bodies import Body
from noria.gateways.mlflow.door import Door
from noria.gateways.mlflow.places import PlaceNotFound, by_python, owners, path_of, shown_to_python
from noria.gateways.mlflow.routes import Asked
from noria.tracking.records import Owner
from noria.tracking.service import Receiving

T = TypeVar("T")
_PIECE: Final = 1 << 20
_WINDOW: Final = 4 << 20
_AT_ONCE: Final = 32
"""Uploads of more than a piece that are received at once; others wait."""
_THREADS: Final = 8
_PAGES: Final = 20
_HINT: Final = "A path is <experiment>/<run>/artifacts/<path> here."


class Proxy:
    """One for all calls about artifacts."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._tracking = door.ws.tracking
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="mlflow-artifacts")
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def place(self, path: str) -> tuple[Owner, str]:
        """Whose files a path below the root is about, and which; empty: all of them.

        Raises:
            NotFound: nothing of this project.
        """
        missing: NotFound | None = None
        for owner, below in owners(path):
            try:
                self._door.check_owner(owner)
            except NotFound as error:
                missing = missing or error
                continue
            return owner, below
        raise missing or PlaceNotFound(f"{path!r:.200} names no artifacts.", hint=_HINT)

    def file(self, asked: Asked) -> tuple[Owner, str]:
        """``place`` of a request's path, which has to name a file."""
        owner, path = self.place(path_of(asked))
        if not path:
            raise Invalid("The path names no file.", hint=_HINT)
        return owner, path

    def meant(self, asked: Asked, owner: Owner, path: str) -> str:
        """The path that a request means: MLflow's Python client asks for names as it read them in a list."""
        if not path or not by_python(asked) or self._tracking.has_artifact(owner, path):
            return path
        at = ""
        for part in path.split("/"):
            slash = f"{at}/" if at else ""
            if self._tracking.has_artifact(owner, slash + part):
                at = slash + part
                continue
            like = self._like(owner, at, part)
            if like is None:
                return path
            at = like
        return at

    def _like(self, owner: Owner, folder: str, name: str) -> str | None:
        following = None
        for _ in range(_PAGES):
            page = self._tracking.list_artifacts(owner, folder, after=following)
            for one in page.items:
                if shown_to_python(one.path.rpartition("/")[2]) == name:
                    return one.path
            following = page.next
            if following is None:
                break
        return None

    # ---- bodies

    async def run(self, work: Callable[..., T], *given: Any) -> T:
        """In a thread of its own kind: uploads never keep other calls waiting."""

        def limited() -> T:
            with self._door.ws.db.limited():
                return work(*given)

        return await asyncio.get_running_loop().run_in_executor(self._threads, limited)

    async def before(self, body: Body, work: Callable[..., T], *given: Any) -> T:
        """``run`` for what may refuse a request whose body is still to come."""
        try:
            return await self.run(work, *given)
        except Exception:
            await body.drain()
            raise

    async def stored(self, work: Callable[[Receiving], T]) -> T:
        """Fills and keeps a file in one go."""

        def whole() -> T:
            with self._tracking.receive() as file:
                return work(file)

        return await self.run(whole)

    async def receive(self, body: Body, keep: Callable[[Receiving], T]) -> T:
        """Takes a body in and hands the file to ``keep``; a body that breaks off leaves nothing.

        Raises:
            Gone, BodyBroken: it broke off.
        """
        first = await body.read(_PIECE)
        if body.ended:

            def fill(file: Receiving) -> T:
                file.add(first)
                return keep(file)

            return await self.stored(fill)
        async with self._slots:
            return await self._receive_long(body, first, keep)

    async def _receive_long(self, body: Body, data: bytes, keep: Callable[[Receiving], T]) -> T:
        opened = ExitStack()
        file = await self.run(lambda: opened.enter_context(self._tracking.receive()))
        try:
            while data:
                adding = asyncio.ensure_future(self.run(file.add, data))
                try:
                    data = await body.read(_WINDOW)
                finally:
                    await adding  # nobody else touches the file before
            return await self.run(keep, file)
        finally:
            await asyncio.shield(self.run(opened.close))
