"""Pack files in an S3-compatible bucket, through obstore (extra ``noria[s3]``).

Credentials come from the usual environment variables (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_ENDPOINT_URL``, ``AWS_REGION``), handed in by the workspace. Heads are rows of the metadata database, and a pack
is named by what it holds, so that no conditional write is needed here: two writers of one name write the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from noria.base.errors import MissingExtra
from noria.store.buckets import Bucket, BucketUrl

_PART: Final = 8 << 20
_AT_ONCE: Final = 8
"""Parts of one big pack that are on their way together: 64 MiB of memory at most."""


class S3Bytes:
    def __init__(self, bucket: str, prefix: str, environment: Mapping[str, str]) -> None:
        try:
            import obstore
        except ImportError:
            raise MissingExtra("obstore", "s3", "A store on S3") from None
        self._api: Any = obstore
        self._bucket = Bucket(BucketUrl(scheme="s3", bucket=bucket, key=prefix), environment, prefix=prefix)
        self.endpoint = environment.get("AWS_ENDPOINT_URL", "")
        self.url = f"s3://{bucket}/{prefix}"

    def put(self, name: str, source: Path) -> None:
        with self._bucket.translated(name):
            self._api.put(self._bucket.store, name, source, chunk_size=_PART, max_concurrency=_AT_ONCE)
        source.unlink()

    def put_new(self, name: str, data: bytes) -> bool:
        """Asks for a write only where there is nothing yet; False where the server says that there is."""
        with self._bucket.translated(name):
            try:
                self._api.put(self._bucket.store, name, data, mode="create")
            except self._api.exceptions.AlreadyExistsError:
                return False
        return True

    def whole(self, name: str) -> bytes:
        """All bytes, asked for without a range."""
        with self._bucket.translated(name):
            return bytes(self._api.get(self._bucket.store, name).bytes())

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self._bucket.read(name, offset, length)

    def size(self, name: str) -> int:
        return self._bucket.head(name).size

    def list(self, prefix: str) -> Iterator[str]:
        yield from sorted(found.key for found in self._bucket.list(prefix))

    def delete(self, name: str) -> None:
        with self._bucket.translated(name):
            self._api.delete(self._bucket.store, name)

    def local_path(self, name: str) -> Path | None:
        return None
