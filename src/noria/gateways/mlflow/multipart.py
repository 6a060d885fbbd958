"""Uploads in parts: a client asks for addresses, puts a part to each of them, and has them joined.

The addresses are noria's own. They begin with the Host that the client called, which was checked before.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from starlette.responses import Response

from noria.base.errors import Invalid
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow.bodies import Body
from noria.gateways.mlflow.door import Door, need
from noria.gateways.mlflow.proxy import Proxy
from noria.gateways.mlflow.routes import Asked, Route
from noria.tracking.records import Owner
from noria.tracking.service import MOST_PARTS, Receiving

_ROOT: Final = "2.0/mlflow-artifacts/mpu/"
_FOLDERS: Final = re.compile(r".*[/\\\\]", re.DOTALL)


class Part(w.In):
    part_number: int = 0
    etag: str | None = None


class Create(w.In):
    path: str | None = None
    num_parts: int | None = None


class Complete(w.In):
    path: str | None = None
    upload_id: str | None = None
    parts: list[Part] | None = None


class Credential(w.Out):
    url: str
    part_number: int
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class MultipartCalls:
    """Handlers; each is one call."""

    def __init__(self, door: Door, proxy: Proxy) -> None:
        self._door = door
        self._proxy = proxy
        self._tracking = door.ws.tracking
        self._project_id = door.project_id

    def _target(self, asked: Asked, local: str | None) -> tuple[Owner, str]:
        """The file: the folder that the address names, and the last part of the sender's own path."""
        name = _FOLDERS.sub("", need(local, "path"))
        owner, folder = self._proxy.place(asked.path["path"])
        return owner, f"{folder}/{name}" if folder else name

    def create(self, asked: Asked) -> w.Json:
        message: Create = asked.message
        owner, path = self._target(asked, message.path)
        count = 1 if message.num_parts is None else message.num_parts
        if not 1 <= count <= MOST_PARTS:
            raise Invalid(f"Invalid value {count} for parameter 'num_parts'.", hint=f"From 1 to {MOST_PARTS}.")
        id = self._tracking.begin_upload(owner, path, project_id=self._project_id)
        at = f"{asked.scope.get('scheme', 'http')}://{asked.headers['host']}/api/{_ROOT}parts/{id}/"
        # The client puts parts without its own headers: who had to show a token gets it back to show it again.
        shown = {"Authorization": asked.headers["authorization"]} if "authorization" in asked.headers else {}
        return {"upload_id": id, "credentials": [Credential(f"{at}{n}", n, shown) for n in range(1, count + 1)]}

    async def put(self, asked: Asked) -> Response:
        body = Body(asked)
        id, number = asked.path["upload"], asked.path["number"]
        part = int(number) if number.isascii() and number.isdecimal() and len(number) < 9 else 0
        await self._proxy.before(body, self._tracking.check_upload, id, part, self._project_id)

        def keep(file: Receiving) -> str:
            return self._tracking.keep_part(file, id, part, project_id=self._project_id, commit=self._door.commit)

        digest = await self._proxy.receive(body, keep)
        return Response(b"{}", 200, {"etag": f'"{digest}"', "cache-control": "no-store"}, "application/json")

    def complete(self, asked: Asked) -> None:
        message: Complete = asked.message
        id = need(message.upload_id, "upload_id")
        owner, path = self._target(asked, message.path)
        if not message.parts:
            raise Invalid("Missing value for required parameter 'parts'.")
        parts = {part.part_number: (part.etag or "").strip('"') for part in message.parts}
        if len(parts) != len(message.parts):
            raise Invalid("A part is named twice.", hint="Name each part once.")
        self._tracking.complete_upload(id, parts, owner, path, project_id=self._project_id)

    def abort(self, asked: Asked) -> None:
        message: Complete = asked.message
        id = need(message.upload_id, "upload_id")
        owner, path = self._target(asked, message.path)
        self._tracking.abort_upload(id, owner, path, project_id=self._project_id)


def routes(door: Door, proxy: Proxy) -> list[Route]:
    c = MultipartCalls(door, proxy)
    return [
        Route(method="POST", path=_ROOT + "create/{path:path}", handler=c.create, message=Create),
        Route(method="POST", path=_ROOT + "complete/{path:path}", handler=c.complete, message=Complete),
        Route(method="POST", path=_ROOT + "abort/{path:path}", handler=c.abort, message=Complete),
        Route(method="PUT", path=_ROOT + "parts/{upload}/{number}", handler=c.put, raw=True),
    ]
