"""Pack files in an S3-compatible bucket, through obstore (extra ``noria[s3]``).

Credentials come from the usual environment variables (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_ENDPOINT_URL``, ``AWS_REGION``), handed in by the workspace. Heads are rows of the metadata database, so that
no conditional write is needed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from noria.base.errors import MissingExtra, Unavailable
from noria.store.errors import ObjectMissing


class S3Bytes:
    def __init__(self, bucket: str, prefix: str, environment: Mapping[str, str]) -> None:
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError:
            raise MissingExtra("obstore", "s3", "A store on S3") from None
        endpoint = environment.get("AWS_ENDPOINT_URL")
        options: dict[str, Any] = {
            "region": environment.get("AWS_REGION", "us-east-1"),
            "access_key_id": environment.get("AWS_ACCESS_KEY_ID"),
            "secret_access_key": environment.get("AWS_SECRET_ACCESS_KEY"),
        }
        if endpoint:
            options["endpoint"] = endpoint
            options["client_options"] = {"allow_http": endpoint.startswith("http://")}
        self._api: Any = obstore
        self._store: Any = S3Store(bucket, prefix=prefix or None, **options)
        self._url = f"s3://{bucket}/{prefix}"

    def put(self, name: str, source: Path) -> None:
        with self._translated(name):
            self._api.put(self._store, name, source)
        source.unlink()

    def read(self, name: str, offset: int, length: int) -> bytes:
        with self._translated(name):
            if offset < 0:
                size = self.size(name)
                offset = max(0, size + offset)
                length = min(length, size - offset)
            return bytes(self._api.get_range(self._store, name, start=offset, length=length))

    def size(self, name: str) -> int:
        with self._translated(name):
            return int(self._api.head(self._store, name)["size"])

    def list(self, prefix: str) -> Iterator[str]:
        with self._translated(prefix):
            found = [meta["path"] for page in self._api.list(self._store, prefix=prefix) for meta in page]
        yield from sorted(found)

    def delete(self, name: str) -> None:
        with self._translated(name):
            self._api.delete(self._store, name)

    def local_path(self, name: str) -> Path | None:
        return None

    def _translated(self, name: str) -> _Translated:
        return _Translated(self._url, name)


class _Translated:
    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, ObjectMissing | Unavailable):
            return
        if isinstance(error, FileNotFoundError):
            raise ObjectMissing(self._name) from None
        if isinstance(error, Exception):
            raise Unavailable(
                f"{self._url} did not answer for {self._name}: {error!s:.200}",
                hint="Check AWS_ENDPOINT_URL and the AWS keys, then repeat the command.",
            ) from error
