"""Buckets of S3, Google Cloud Storage and Azure, through obstore (extra ``noria[s3]``).

Credentials come only from the mapping that is handed in: the usual variables of each service. Nothing is looked up on
the machine, in files of a home folder or by asking the network.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from noria.base.errors import MissingExtra, Unavailable
from noria.store.errors import BucketUrlWrong, ObjectChanged, ObjectMissing

SCHEMES: Final = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "azure": "az", "abfs": "az"}
_RETRY: Final[dict[str, Any]] = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=5), "base": 2},
}
"""Lost connections and answers of 5xx are tried again, for half a minute at most."""
_CHECK: Final = {
    "s3": "Check AWS_ENDPOINT_URL and the AWS keys, then repeat the command.",
    "gs": "Check GOOGLE_SERVICE_ACCOUNT (the path of a key file) or GOOGLE_SERVICE_ACCOUNT_KEY. "
    "A public bucket is read with GOOGLE_SKIP_SIGNATURE=true.",
    "az": "Check AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_TOKEN) and, where one is "
    "set, AZURE_STORAGE_ENDPOINT.",
}
_ROLES: Final = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_NEEDED: Final = {
    "gs": (("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),),
    "az": (("AZURE_STORAGE_ACCOUNT_NAME",), ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN")),
}
"""Of each group of variables one has to be set. S3 without keys reads public buckets, and so does Google on request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketUrl:
    """Where objects lie.

    Attributes:
        scheme: ``s3``, ``gs`` or ``az``.
        bucket: of Azure the container.
        key: the rest, without slashes at its ends; may hold a pattern.
        folder: whether the URL ended with a slash.
    """

    scheme: str
    bucket: str
    key: str
    folder: bool = False

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"


def is_bucket_url(text: str) -> bool:
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def parse(url: str) -> BucketUrl:
    """The parts of a URL of a bucket.

    Raises:
        BucketUrlWrong: of another scheme, without a bucket, or with a user, a password or a query in it.
    """
    scheme, _, rest = url.partition("://")
    kind = SCHEMES.get(scheme.lower())
    if kind is None:
        raise BucketUrlWrong(url, "its scheme is none of s3, gs and az")
    # Not urlsplit for the key: ? and # are signs of patterns and of keys.
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise BucketUrlWrong(f"{scheme}://...", "it holds a user or a port; credentials come from the environment")
    if not bucket or bucket in (".", ".."):
        raise BucketUrlWrong(url, "it names no bucket")
    if "\0" in key or any(part in (".", "..") for part in key.split("/")):
        raise BucketUrlWrong(url, "its key has a part that is . or ..")
    return BucketUrl(scheme=kind, bucket=bucket, key=unquote(key).strip("/"), folder=key.endswith("/") or not key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """An object of a bucket, as a list tells it.

    Attributes:
        key: relative to the bucket.
        etag: with its quotes; None where the service has none.
        version: of a bucket that keeps versions.
        modified: milliseconds since 1970.
    """

    key: str
    size: int
    etag: str | None
    version: str | None
    modified: int


class Bucket:
    """An open bucket. Thread-safe.

    Args:
        prefix: is put before every key.

    Raises:
        MissingExtra: obstore is not installed.
        Unavailable: the environment holds no credentials for the service.
    """

    def __init__(self, url: BucketUrl, environment: Mapping[str, str], *, prefix: str = "") -> None:
        try:
            import obstore
        except ImportError:
            raise MissingExtra("obstore", "s3", f"Reading {url.scheme}:// buckets") from None
        self.url = url
        self._api: Any = obstore
        self._prefix = prefix
        self._shown = f"{url.scheme}://{url.bucket}/{prefix}"
        try:
            self.store: Any = _OPEN[url.scheme](url.bucket, prefix or None, environment)
        except Exception as error:
            raise Unavailable(
                f"{self._shown} cannot be opened: {_first_line(error)}", hint=_CHECK[url.scheme]
            ) from error

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object below ``prefix`` (whole parts of a key), in no order."""
        with self.translated(prefix):
            for page in self._api.list(self.store, prefix=prefix or None, chunk_size=1000):
                for meta in page:
                    yield _info(meta)

    def head(self, key: str) -> ObjectInfo:
        with self.translated(key):
            return _info(self._api.head(self.store, key))

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; a negative one counts from the end, which Azure does not offer."""
        with self.translated(key):
            if offset >= 0:
                return bytes(self._api.get_range(self.store, key, start=offset, length=length))
            found = self._api.get(self.store, key, options={"range": {"suffix": -offset}})
            return bytes(found.bytes())[:length]

    def stream(self, key: str, *, offset: int = 0, if_match: str | None = None) -> tuple[ObjectInfo, Iterator[Any]]:
        """(what is read, its bytes from ``offset`` on in parts of some MiB).

        Raises:
            ObjectChanged: it has another ETag than ``if_match`` now, or is gone.
        """
        found = self._get(key, {"range": {"offset": offset}} if offset else {}, if_match)
        return _info(found.meta), self._parts(key, found)

    def read_part(self, key: str, start: int, end: int, *, if_match: str | None) -> bytes:
        """The bytes from ``start`` up to ``end`` of the object with this ETag.

        Raises:
            ObjectChanged: it is another object now, or is gone.
        """
        found = self._get(key, {"range": (start, end)}, if_match)
        with self.translated(key):
            return bytes(found.bytes())

    def _get(self, key: str, options: dict[str, Any], if_match: str | None) -> Any:
        if if_match is not None:
            options["if_match"] = if_match
        with self.translated(key):
            try:
                found = self._api.get(self.store, key, options=options)
            except self._api.exceptions.PreconditionError:
                raise ObjectChanged(f"{self._shown}{key}") from None
            except FileNotFoundError:
                raise ObjectChanged(f"{self._shown}{key}", "was listed, but is not there now") from None
            # A server that does not know the condition answers with whatever is there.
            answered = _etag(found.meta.get("e_tag"))
        if if_match is not None and answered is not None and answered.removeprefix("W/") != if_match.removeprefix("W/"):
            raise ObjectChanged(f"{self._shown}{key}")
        return found

    def _parts(self, key: str, found: Any) -> Iterator[Any]:
        with self.translated(key):
            yield from found.stream(min_chunk_size=4 << 20)

    @contextmanager
    def translated(self, key: str) -> Generator[None]:
        """Errors of the service as ours; keys and secrets are never part of them."""
        try:
            yield
        except FileNotFoundError:
            raise ObjectMissing(key) from None
        except self._api.exceptions.BaseError as error:
            # A service that does not find the bucket says 404 in a list, which is no answer to what was asked.
            text = _first_line(error)
            absent = f"Is there a bucket {self.url.bucket}? " if " 404 " in text else ""
            raise Unavailable(
                f"{self._shown} did not answer for {key or 'a list'}: {text}",
                hint=absent + _CHECK[self.url.scheme],
            ) from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def _etag(found: str | None) -> str | None:
    """With its quotes, which Azure leaves out in a list: without them it would not count as strong."""
    return f'"{found}"' if found and not found.endswith('"') else found


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(
        key=meta["path"],
        size=int(meta["size"]),
        etag=_etag(meta.get("e_tag")),
        version=meta.get("version"),
        modified=int(meta["last_modified"].timestamp() * 1000),
    )


def _needs(scheme: str, environment: Mapping[str, str]) -> None:
    for group in _NEEDED.get(scheme, ()):
        if not any(environment.get(name) for name in group):
            raise ValueError(f"none of {', '.join(group)} is set")


def _s3(bucket: str, prefix: str | None, environment: Mapping[str, str]) -> Any:
    from obstore.store import S3Store

    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    options: dict[str, Any] = {"region": environment.get("AWS_REGION", "us-east-1"), "retry_config": _RETRY}
    if key and secret:
        options |= {"access_key_id": key, "secret_access_key": secret}
        if environment.get("AWS_SESSION_TOKEN"):
            options["session_token"] = environment["AWS_SESSION_TOKEN"]
    elif not any(environment.get(name) for name in _ROLES):
        options["skip_signature"] = True  # a public bucket; else the client asks the network for credentials
    endpoint = environment.get("AWS_ENDPOINT_URL")
    if endpoint:
        options["endpoint"] = endpoint
        options["client_options"] = {"allow_http": urlsplit(endpoint).scheme == "http"}
    return S3Store(bucket, prefix=prefix, **options)


def _gs(bucket: str, prefix: str | None, environment: Mapping[str, str]) -> Any:
    from obstore.store import GCSStore

    public = environment.get("GOOGLE_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes", "on")
    options: dict[str, Any] = {"retry_config": _RETRY}
    if not public:
        _needs("gs", environment)
    if public:
        options["skip_signature"] = True
    elif environment.get("GOOGLE_SERVICE_ACCOUNT_KEY"):
        options["service_account_key"] = environment["GOOGLE_SERVICE_ACCOUNT_KEY"]
    elif environment.get("GOOGLE_SERVICE_ACCOUNT"):
        options["service_account"] = environment["GOOGLE_SERVICE_ACCOUNT"]
    else:
        options["application_credentials"] = environment["GOOGLE_APPLICATION_CREDENTIALS"]
    endpoint = environment.get("GOOGLE_BASE_URL")
    if endpoint:
        options["base_url"] = endpoint
        options["client_options"] = {"allow_http": urlsplit(endpoint).scheme == "http"}
    return GCSStore(bucket, prefix=prefix, **options)


def _az(bucket: str, prefix: str | None, environment: Mapping[str, str]) -> Any:
    from obstore.store import AzureStore

    _needs("az", environment)
    options: dict[str, Any] = {"account_name": environment["AZURE_STORAGE_ACCOUNT_NAME"], "retry_config": _RETRY}
    if environment.get("AZURE_STORAGE_ACCOUNT_KEY"):
        options["account_key"] = environment["AZURE_STORAGE_ACCOUNT_KEY"]
    else:
        options["sas_key"] = environment["AZURE_STORAGE_SAS_TOKEN"]
    endpoint = environment.get("AZURE_STORAGE_ENDPOINT")
    if endpoint:
        options["endpoint"] = endpoint
        options["client_options"] = {"allow_http": urlsplit(endpoint).scheme == "http"}
    return AzureStore(bucket, prefix=prefix, **options)


_OPEN: Final = {"s3": _s3, "gs": _gs, "az": _az}
