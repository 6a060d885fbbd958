"""Who may call (decision 20). Used on the control port and on the inference port alike.

A listener on loopback needs no token when the caller's address is loopback, the Host is an exact loopback name or
address, and the request carries no Origin and no cross-site Sec-Fetch-Site: a browser, the only way from another site
to loopback, always sends one of these. Everything else needs a token: what a request says of itself, its Host above
all, never makes it local. Addresses are parsed, names compared whole; there are no patterns.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from noria.base.actor import Actor
from noria.base.errors import Denied, Invalid

CHALLENGE = 'Bearer realm="noria", Basic realm="noria", charset="UTF-8"'
"""What a 401 says to MLflow's clients of how to prove who one is."""
BEARER = 'Bearer realm="noria"'
"""The same of our own API. Basic is taken there too, but its name would make a browser ask people for a password."""


class TokenNeeded(Denied):
    """The request needs a token."""

    code = "token_needed"


class HostForeign(Denied):
    """The Host header names a machine that this server is not."""

    code = "host_foreign"


class AuthenticationNeeded(Invalid):
    """A server beyond loopback must not start without authentication."""

    code = "authentication_needed"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} can be reached from other machines, and no token is set: the server does not start.",
            hint="Set NORIA_TOKEN to a long random text, or listen on 127.0.0.1.",
            details={"host": host},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The access rules of one listener.

    Attributes:
        token: the bearer token, or None where only loopback callers are served.
        hosts: Host names that the server answers to, besides loopback and the address that a request came in on.
        listener: the address that the socket is bound to; only one on loopback serves callers without a token.
    """

    token: str | None = None
    hosts: frozenset[str] = field(default_factory=frozenset)
    listener: str = "127.0.0.1"

    def caller(self, headers: Mapping[str, str], scope: Mapping[str, Any]) -> Actor:
        """The caller of a request.

        Args:
            headers: with lower-case names.
            scope: of ASGI; its ``client`` is the caller's address, its ``server`` the one that the request came in on.

        Raises:
            HostForeign: the Host is none of ours.
            TokenNeeded: the request is not plainly local and brings no valid token.
        """
        name = host_name(headers.get("host", ""))
        ours = is_loopback(name)
        if not ours and name not in self.hosts and not _same_address(name, _first(scope.get("server"))):
            raise HostForeign(
                f"This server does not answer to the host {name!r}.",
                hint=f"Use the address that `noria up` printed, or start it with --allow-host {name or 'NAME'}",
            )
        given = bearer(headers.get("authorization", ""))
        if given:
            if self.token is not None and hmac.compare_digest(given.encode(), self.token.encode()):
                return Actor(name="token:main")
            raise TokenNeeded("The token is not valid.", hint="Send Authorization: Bearer <token>.")
        crossing = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        local = ours and is_loopback(self.listener) and is_loopback(_first(scope.get("client")))
        if local and "origin" not in headers and not crossing:
            return Actor(name="user:local")
        raise TokenNeeded("This request needs a token.", hint="Send Authorization: Bearer <token>.")


def check_listener(host: str, token: str | None) -> None:
    """Refuses to listen beyond loopback without a token (promise 7)."""
    if not is_loopback(host) and not token:
        raise AuthenticationNeeded(host)


def host_name(value: str) -> str:
    """The name in a Host header, without the port; empty for anything malformed."""
    value = value.strip().lower()
    if value.startswith("["):
        name, closed, rest = value[1:].partition("]")
        return name if closed and (not rest or (rest[0] == ":" and rest[1:].isdigit())) else ""
    name, colon, port = value.partition(":")
    return "" if colon and not port.isdigit() else name


def is_loopback(name: str) -> bool:
    if name in ("localhost", "localhost."):
        return True
    found = _address(name)
    return found is not None and found.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text is; one of IPv4 that came through a socket of IPv6 as what it is."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _same_address(name: str, other: str) -> bool:
    """Whether both are one address. A foreign site can put a name of its own before our address, no other address."""
    found = _address(name)
    return found is not None and found == _address(other)


def _first(place: Any) -> str:
    """The host of an ASGI pair (host, port); empty where the server does not know it."""
    return str(place[0]) if place else ""


def bearer(value: str) -> str:
    """The token in an Authorization header: of ``Bearer``, or the password of ``Basic``, whatever the user's name is.

    Empty where there is none. What cannot be read is no token of ours either: it comes back as it is.
    """
    kind, _, token = value.strip().partition(" ")
    token = token.strip()
    if kind.lower() == "basic" and token:
        try:
            pair = base64.b64decode(token, validate=True).decode()
        except (binascii.Error, ValueError):
            return value
        return pair.partition(":")[2] or value
    if kind.lower() in ("bearer", "simple"):
        return token
    return "" if token else kind


def allowed(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower().strip("[]") for name in names)
