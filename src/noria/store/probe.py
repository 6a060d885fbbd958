"""Whether an S3 endpoint answers as noria needs it: asked once for each endpoint, before anything is stored there.

What is relied upon: an object that was put is there at once, whole, by range and from its end; a list tells it; what
was deleted is gone from both. A server that gets one of these wrong would be found out only when data is missing.
Conditional writes are asked about and noted: nothing relies on them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import blake3

from noria.base.errors import NoriaError, NotFound
from noria.store.errors import EndpointUnfit
from noria.store.s3 import S3Bytes

PROBE: Final = 1
"""Raise it when more is asked: endpoints that were found fit before are asked again."""
_SIZE: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """What an endpoint was found to do.

    Attributes:
        conditional: whether ``If-None-Match: *`` is kept. Nothing relies on it.
    """

    endpoint: str
    store: str
    conditional: bool
    probe: int = PROBE


def probe(backend: S3Bytes, folder: Path) -> Fitness:
    """Puts, reads, lists and deletes one small object below ``probe/``.

    Raises:
        EndpointUnfit: an answer was wrong; the message says which.
        Unavailable: there was no answer, or the keys are refused.
    """
    name = f"probe/{secrets.token_hex(8)}"
    data = secrets.token_bytes(_SIZE)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / name.replace("/", "-")
    source.write_bytes(data)
    try:
        try:
            backend.put(name, source)
        finally:
            source.unlink(missing_ok=True)
        conditional = _ask(backend, name, data)
        backend.delete(name)
        _gone(backend, name)
    except EndpointUnfit:
        backend.delete(name)
        raise
    return Fitness(endpoint=backend.endpoint, store=backend.url, conditional=conditional)


def _ask(backend: S3Bytes, name: str, data: bytes) -> bool:
    unfit = _Unfit(backend)
    unfit.unless_equal("GET", "an object that was just put", lambda: backend.whole(name), data)
    unfit.unless_equal("HEAD", "Content-Length", lambda: backend.size(name), _SIZE)
    cut = "GET with Range: bytes=1000-1099"
    unfit.unless_equal(cut, "those 100 bytes (status 206)", lambda: backend.read(name, 1000, 100), data[1000:1100])
    tail = f"GET with Range: bytes={_SIZE - 10}-{_SIZE + 89}"
    unfit.unless_equal(tail, "the 10 bytes up to the end", lambda: backend.read(name, _SIZE - 10, 100), data[-10:])
    end = "GET with Range: bytes=-100"
    unfit.unless_equal(end, "the last 100 bytes (status 206)", lambda: backend.read(name, -100, 100), data[-100:])
    listed = "a list with the object that was just put"
    unfit.unless_equal("GET ?list-type=2", listed, lambda: name in list(backend.list("probe/")), True)
    try:
        conditional = not backend.put_new(name, b"another")
    except NoriaError:
        return False  # it does not know the header, and says so
    kept = backend.whole(name)
    if conditional and kept != data:
        raise unfit.of("PUT with If-None-Match: *", "412 and the object as it was", "412 and the object was replaced")
    return conditional


def _gone(backend: S3Bytes, name: str) -> None:
    unfit = _Unfit(backend)
    try:
        backend.whole(name)
    except NotFound:
        pass
    else:
        raise unfit.of("GET", "404 for an object that was just deleted", "the object")
    if name in list(backend.list("probe/")):
        raise unfit.of("GET ?list-type=2", "a list without an object that was just deleted", "the object")


class _Unfit:
    def __init__(self, backend: S3Bytes) -> None:
        self._backend = backend

    def of(self, request: str, expected: str, found: str) -> EndpointUnfit:
        host = urlsplit(self._backend.endpoint).netloc.rpartition("@")[2] or "the endpoint of S3"
        return EndpointUnfit(host, self._backend.url, request, expected, found)

    def unless_equal(self, request: str, expected: str, call: Callable[[], object], wanted: object) -> None:
        try:
            found = call()
        except NotFound:
            raise self.of(request, expected, "404 not found") from None
        except NoriaError as error:
            raise self.of(request, expected, error.message) from None
        if found != wanted:
            raise self.of(request, expected, _shown(found))


def _shown(found: object) -> str:
    if isinstance(found, bytes):
        return f"{len(found)} bytes" if len(found) != _SIZE else f"{len(found)} bytes, not those"
    return "a list without it" if found is False else str(found)


# ---- what was found, kept beside the workspace


def remembered(home: Path, backend: S3Bytes) -> Fitness | None:
    """What was found out about this endpoint before; None where it has to be asked."""
    try:
        value = json.loads(_record(home, backend).read_text(encoding="utf-8"))
        found = Fitness(**value)
    except (OSError, ValueError, TypeError):
        return None
    same = (found.endpoint, found.store, found.probe) == (backend.endpoint, backend.url, PROBE)
    return found if same else None


def remember(home: Path, backend: S3Bytes, found: Fitness) -> None:
    place = _record(home, backend)
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
    temporary.write_text(json.dumps(asdict(found)), encoding="utf-8")
    temporary.replace(place)


def _record(home: Path, backend: S3Bytes) -> Path:
    name = blake3.blake3(f"{backend.endpoint}\n{backend.url}".encode()).hexdigest()[:16]
    return home / "cache" / "endpoints" / f"{name}.json"
