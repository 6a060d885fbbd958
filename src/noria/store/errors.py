from __future__ import annotations

from noria.base.errors import Invalid, MissingExtra, NotFound, Refused, Unavailable


class ObjectMissing(NotFound):
    """A row names an object that no pack holds."""

    code = "object_missing"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The object {name} is in no pack of this store.",
            hint="noria admin verify   tells what else is damaged; restore the pack from a backup.",
            details={"object": name},
        )


class ObjectCorrupt(Unavailable):
    """Stored bytes are not the bytes that were written. They are never handed out."""

    code = "object_corrupt"

    def __init__(self, name: str, pack: str, offset: int, reason: str) -> None:
        super().__init__(
            f"The object {name} in pack {pack} at byte {offset} is damaged: {reason}.",
            hint="noria admin verify --data   lists what is damaged. Restore the pack from a backup; files that are "
            "still in their folder are mended by noria data commit, too.",
            details={"object": name, "pack": pack, "offset": offset, "reason": reason},
        )


class PackCorrupt(Unavailable):
    """A pack file is not one, or was cut off."""

    code = "pack_corrupt"

    def __init__(self, pack: str, reason: str) -> None:
        super().__init__(
            f"The pack {pack} cannot be read: {reason}.",
            hint="noria admin verify   lists what is affected; restore the file from a backup.",
            details={"pack": pack, "reason": reason},
        )


class IndexBusy(Unavailable):
    """The index of the packs cannot be opened now."""

    code = "index_busy"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"The index {path} cannot be opened: {reason}.",
            hint="See who may write there and what holds it locked, then repeat the command.",
            details={"path": path, "reason": reason},
        )


class FormatTooNew(Unavailable):
    """Written by a newer noria."""

    code = "format_too_new"

    def __init__(self, what: str, found: int, known: int) -> None:
        super().__init__(
            f"{what} has format {found}; this noria reads formats up to {known}.",
            hint='pip install --upgrade "noria"',
            details={"found": found, "known": known},
        )


class PathUnsafe(Invalid):
    """A path would leave the folder that it belongs to."""

    code = "path_unsafe"


class FileChanged(Unavailable):
    """A file changed while it was read, or while it was about to be overwritten."""

    code = "file_changed"

    def __init__(
        self,
        path: str,
        when: str = "it was read, three times in a row",
        hint: str = "Commit it when nothing writes to it any more.",
    ) -> None:
        super().__init__(f"{path} changed while {when}.", hint=hint, details={"path": path})


class StoreUrlUnknown(Invalid):
    """No backend for this URL."""

    code = "store_url_unknown"

    def __init__(self, url: str) -> None:
        super().__init__(f"{url!r} is not the URL of a store.", hint="Write file:///folder or s3://bucket/prefix.")


class EndpointUnfit(Refused):
    """An S3 endpoint gives wrong answers to what noria relies on."""

    code = "endpoint_unfit"

    def __init__(self, host: str, store: str, request: str, expected: str, found: str) -> None:
        super().__init__(
            f"{host} is not used for {store}: {request} should give {expected}, and gave: {found:.200}",
            hint="Use another S3 server, or turn off the cache or proxy before it. Nothing was stored.",
            details={"host": host, "store": store, "request": request, "expected": expected, "found": found[:200]},
        )


class BucketUrlWrong(Invalid):
    """A URL does not name objects of a bucket."""

    code = "bucket_url_wrong"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"{url!r} does not name objects of a bucket: {reason}.",
            hint="Write s3://bucket/prefix/*.parquet, gs://bucket/prefix or az://container/prefix.",
        )


class ObjectChanged(Unavailable):
    """An object of a bucket was replaced or deleted while it was read."""

    code = "object_changed"

    def __init__(self, url: str, what: str = "was replaced or deleted while it was read") -> None:
        super().__init__(f"{url} {what}.", hint="Repeat the command: it begins anew with it.")


__all__ = [
    "BucketUrlWrong",
    "EndpointUnfit",
    "FileChanged",
    "FormatTooNew",
    "IndexBusy",
    "MissingExtra",
    "ObjectChanged",
    "ObjectCorrupt",
    "ObjectMissing",
    "PackCorrupt",
    "PathUnsafe",
    "StoreUrlUnknown",
]
