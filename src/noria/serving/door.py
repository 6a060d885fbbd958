"""The inference port as far as it needs no model: its paths, who may ask, the form of answers and errors.

    POST /endpoints/{name}/predict   {"row": {...}} or {"rows": [{...}]}, with "id" or "ids" where the caller has some
    GET  /endpoints/{name}           the contract and who answers
    GET  /endpoints, /health

Nobody is behind it: a server uses it as it is until there is a deployment, and a worker puts ``InferenceApp`` on it.
"""

from __future__ import annotations

import errno
from typing import Any, Final, NoReturn

import msgspec

from noria.base.errors import DiskFull, NoriaError, NotFound
from noria.base.names import nearest
from noria.http.access import Access
from noria.http.errors import MethodWrong, from_exception, headers_of, status_of
from noria.serving.errors import EndpointNotFound

_HEADERS: Final = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
encode: Final = msgspec.json.Encoder().encode


class Gone(Exception):
    """The caller went away before the request was whole."""


class InferenceDoor:
    """ASGI application.

    Attributes:
        endpoints: what is served, by name.
        headers: sent with every answer, besides the usual ones.
    """

    def __init__(self, access: Access, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.endpoints: dict[str, Any] = {}
        self._access = access
        self._headers = [*_HEADERS, *(headers or [])]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = self._headers
        try:
            status, body = await self._answer(scope, receive)
        except Gone:
            return
        except Exception as error:  # noqa: BLE001 - the border: every error becomes an answer in the one form
            found = _full(error) or from_exception(error)
            status, body = status_of(found), encode(found.as_dict())
            headers = [*headers, *((k.encode(), v.encode()) for k, v in headers_of(status).items())]
        headers = [*headers, (b"content-length", b"%d" % len(body))]  # else it is sent in chunks
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Any, receive: Any) -> tuple[int, bytes]:
        self._access.caller({k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}, scope)
        method, path = scope["method"], scope["path"]
        parts = path.strip("/").split("/")
        if parts[0] == "endpoints" and len(parts) == 3 and parts[2] == "predict":
            _check_method(method, "POST", path)
            return 200, await self.predict(parts[1], receive)
        if parts[0] == "endpoints" and len(parts) <= 2:
            _check_method(method, "GET", path)
            return 200, encode(self.about(parts[1]) if len(parts) == 2 else {"endpoints": self.all()})
        if parts == ["health"]:
            _check_method(method, "GET", path)
            return 200, encode({"status": "ok", "endpoints": sorted(self.endpoints)})
        raise NotFound(f"There is no {method} {path}.", hint="POST /endpoints/NAME/predict")

    def unknown(self, name: str) -> NoReturn:
        hint = nearest(name, self.endpoints) or f"Endpoints: {', '.join(sorted(self.endpoints)) or 'none yet'}."
        raise EndpointNotFound(f"There is no endpoint {name!r} here.", hint=hint)

    # ---- what somebody behind the door answers

    async def predict(self, name: str, receive: Any) -> bytes:
        """The answer to a request for predictions; ``receive`` gives its body."""
        more = True
        while more:  # whoever still sends when the connection is closed may not see the answer
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            more = message.get("more_body", False)
        self.unknown(name)

    def about(self, name: str) -> dict[str, Any]:
        self.unknown(name)

    def all(self) -> list[dict[str, Any]]:
        return []


def _check_method(found: str, wanted: str, path: str) -> None:
    if found != wanted:
        raise MethodWrong(f"{found} {path} is not possible.", hint=f"{wanted} {path}")


def _full(error: Exception) -> NoriaError | None:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return DiskFull("the capture of predictions") if full else None
