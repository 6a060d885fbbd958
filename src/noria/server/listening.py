"""Sockets that a server listens on."""

from __future__ import annotations

import socket

from noria.base.errors import Unavailable


class PortTaken(Unavailable):
    """Another program listens on the port."""

    code = "port_taken"


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return url_at(host, port)


def url_at(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        PortTaken: the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(1024)
    except OSError as error:
        made.close()
        raise PortTaken(
            f"{host}:{port} cannot be listened on: {error.strerror}.",
            hint="Stop the other program, or choose another port: noria up --port 5100",
            details={"host": host, "port": port},
        ) from None
    made.set_inheritable(True)
    made.setblocking(False)
    return made
