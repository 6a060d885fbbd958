"""From a store's URL to its backend: one line for each scheme."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from noria.base.faults import Faults
from noria.store.bytestore import ByteStore
from noria.store.errors import StoreUrlUnknown
from noria.store.local import LocalBytes
from noria.store.s3 import S3Bytes


def byte_store(url: str, *, home: Path, environment: Mapping[str, str], faults: Faults) -> ByteStore:
    """``file:`` alone means the folder ``store`` of the workspace itself."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalBytes(Path(parts.path) if parts.path else home / "store", faults)
    if parts.scheme == "s3" and parts.netloc:
        return S3Bytes(parts.netloc, parts.path.strip("/"), environment)
    raise StoreUrlUnknown(url)
