"""From a store's URL to its backend: one line for each scheme."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from noria.base.faults import Faults
from noria.store.bytestore import ByteStore
from noria.store.errors import StoreUrlUnknown
from noria.store.local import LocalBytes

if TYPE_CHECKING:
    from noria.store.probe import Fitness


def byte_store(url: str, *, home: Path, environment: Mapping[str, str], faults: Faults) -> ByteStore:
    """``file:`` alone means the folder ``store`` of the workspace itself.

    Raises:
        EndpointUnfit: an S3 endpoint, seen for the first time, gave a wrong answer to what is relied upon.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalBytes(Path(parts.path) if parts.path else home / "store", faults)
    if parts.scheme == "s3" and parts.netloc:
        from noria.store.probe import probe, remember, remembered
        from noria.store.s3 import S3Bytes

        backend = S3Bytes(parts.netloc, parts.path.strip("/"), environment)
        if remembered(home, backend) is None:
            remember(home, backend, probe(backend, home / "cache" / "tmp"))
        return backend
    raise StoreUrlUnknown(url)


def fitness(url: str, *, home: Path, environment: Mapping[str, str]) -> Fitness | None:
    """What was found out about the store's endpoint; None for a folder, or where it was never opened."""
    parts = urlsplit(url)
    if parts.scheme != "s3":
        return None
    from noria.store.probe import remembered
    from noria.store.s3 import S3Bytes

    return remembered(home, S3Bytes(parts.netloc, parts.path.strip("/"), environment))
