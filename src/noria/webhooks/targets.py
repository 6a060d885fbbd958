"""Addresses of webhooks, taken apart by one strict reader; what it does not know it refuses.

The reader that checks an address and the one that opens it are the same, so there is nothing between them to trick.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from noria.webhooks.errors import WebhookInvalid

MOST: Final = 2_000
"""Characters of an address."""

_URL: Final = re.compile(r"(?P<scheme>https?)://(?P<place>[^/?#]+)(?P<rest>[/?][^#]*)?", re.IGNORECASE)
_PLACE: Final = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:(?P<port>[0-9]{1,5}))?")
_PORTS: Final = {"https": 443, "http": 80}
_EXAMPLE: Final = "For instance https://hooks.example.com/noria"


@dataclass(frozen=True, slots=True)
class Place:
    """A scheme, a host and a port: what an operator allows."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """As it is typed behind ``--webhook-host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{'http://' if self.scheme == 'http' else ''}{host}{port}"


@dataclass(frozen=True, slots=True)
class Target:
    """An address: where it leads, and what is asked for there."""

    place: Place
    path: str


def target(url: str) -> Target:
    """The parts of an address.

    Raises:
        WebhookInvalid: it is no http(s) address in plain ASCII, names a user, or has a part behind #.
    """
    found = _URL.fullmatch(url) if len(url) <= MOST and re.fullmatch(r"[!-~]+", url) else None
    if found is None or "\\" in url:
        raise WebhookInvalid(f"Invalid webhook URL {url!r:.100}.", hint=_EXAMPLE)
    scheme = found["scheme"].lower()
    rest = found["rest"] or "/"
    return Target(_place(scheme, found["place"], url), rest if rest.startswith("/") else f"/{rest}")


def allowed(places: Iterable[str]) -> frozenset[Place]:
    """What ``--webhook-host`` said: HOST or HOST:PORT for https, http://HOST:PORT for http.

    Raises:
        WebhookInvalid: one of them is none of these.
    """
    made: set[Place] = set()
    for text in places:
        scheme, between, place = text.rpartition("://")
        scheme = scheme.lower() if between else "https"
        if scheme not in _PORTS:
            raise WebhookInvalid(f"{text!r:.100} is no host for webhooks.", hint="HOST, HOST:PORT or http://HOST:PORT")
        made.add(_place(scheme, place, text))
    return frozenset(made)


def _place(scheme: str, text: str, whole: str) -> Place:
    found = _PLACE.fullmatch(text.lower())
    port = _PORTS[scheme] if found is None or found["port"] is None else int(found["port"])
    if found is None or not 0 < port < 65_536 or ".." in found["host"]:
        raise WebhookInvalid(f"{whole!r:.100} names no host and port.", hint=_EXAMPLE)
    host = found["host"].strip("[]")
    if ":" in host:
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError:
            raise WebhookInvalid(f"{whole!r:.100} names no host and port.", hint=_EXAMPLE) from None
    return Place(scheme, host, port)
