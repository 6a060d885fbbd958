"""The server behind the door of a driver, in a thread of its own."""

from __future__ import annotations

import base64
import binascii
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn

from noria.base.actor import Actor
from noria.db.group import GroupWriter
from noria.gateways.mlflow import Gateway, all_routes
from noria.gateways.mlflow.door import Door
from noria.gateways.steps.admitted import Admitted
from noria.gateways.steps.rules import Guest, Rules
from noria.http.access import Access, HostForeign, TokenNeeded, bearer, host_name, is_loopback

if TYPE_CHECKING:
    from noria.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAccess(Access):
    """Only tokens of steps that run now; being on this machine is not enough."""

    tokens: Mapping[str, Admitted]

    def caller(self, headers: Mapping[str, str], scope: Mapping[str, Any]) -> Actor:
        name = host_name(headers.get("host", ""))
        if not is_loopback(name):
            raise HostForeign(f"This server does not answer to the host {name!r}.")
        admitted = self.tokens.get(_token(headers.get("authorization", "")))
        if admitted is None:
            raise TokenNeeded("The token is not valid: its step is over, or there never was one.")
        return Guest(name=admitted.actor.name, automatic=admitted.actor.automatic, admitted=admitted)


def _token(value: str) -> str:
    """The token of an Authorization header; of Basic, it is the password."""
    kind, _, text = value.strip().partition(" ")
    if kind.lower() != "basic":
        return bearer(value)
    try:
        return base64.b64decode(text, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


class Serving:
    """Serves until it is closed."""

    def __init__(self, ws: Workspace, listener: socket.socket, tokens: Mapping[str, Admitted]) -> None:
        self._writer = GroupWriter(ws.db)
        door = Door(ws=ws, writer=self._writer)
        self._gateway = Gateway(all_routes(door), StepAccess(tokens=tokens), rules=Rules(door))
        config = uvicorn.Config(
            self._gateway, log_config=None, access_log=False, lifespan="off", server_header=False, date_header=False,
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        # Signals are the driver's: uvicorn takes none outside of the main thread.
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="step-door", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._gateway.close()
        self._writer.close()
