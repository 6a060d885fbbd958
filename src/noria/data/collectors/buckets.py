"""Rows from table files in a bucket, and a prefix of a bucket as a tree of files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blake3

from noria.base.errors import Invalid
from noria.base.names import check_path
from noria.data.collectors.downloads import Advance, Downloads
from noria.data.collectors.files import read_fitting
from noria.data.collectors.parts import Opened, Part, PartsSource
from noria.data.collectors.protocol import Known, Misfits
from noria.data.errors import SourceFailed
from noria.store.buckets import Bucket, BucketUrl, ObjectInfo, parse
from noria.store.errors import ObjectMissing

if TYPE_CHECKING:
    import polars as pl

_SIGNS = re.compile(r"[*?\[]")


class Listing:
    """The objects that a URL with a pattern names.

    ``*`` stays in a folder, ``**/`` goes through any number of them. A URL without a sign of patterns names what lies
    below it, or one object.
    """

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self.url: BucketUrl = parse(url)
        self.bucket = Bucket(self.url, environment)
        parts = self.url.key.split("/") if self.url.key else []
        place = next((n for n, part in enumerate(parts) if _SIGNS.search(part)), len(parts))
        self.prefix = "/".join(parts[:place])
        self._pattern = _compiled("/".join(parts[place:])) if place < len(parts) else None

    def objects(self) -> list[tuple[str, ObjectInfo]]:
        """(path below the prefix, object), in the order of their paths. Markers of folders are left out."""
        found: list[tuple[str, ObjectInfo]] = []
        for info in self.bucket.list(self.prefix):
            if info.key.endswith("/") and info.size == 0:
                continue
            path = info.key[len(self.prefix) :].lstrip("/") if self.prefix else info.key
            if not path:  # the URL names one object
                path = info.key.rsplit("/", 1)[-1]
            elif self._pattern is not None and not self._pattern.fullmatch(path):
                continue
            found.append((path, info))
        if not found and self._pattern is None and self.prefix and not self.url.folder:
            found = self._one()
        return sorted(found)  # paths differ: the objects are never compared

    def _one(self) -> list[tuple[str, ObjectInfo]]:
        """The object that has the URL's key; a list tells only what lies below it."""
        try:
            info = self.bucket.head(self.prefix)
        except ObjectMissing:
            return []
        return [(self.prefix.rsplit("/", 1)[-1], info)]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    out: list[str] = []
    place = 0
    while place < len(pattern):
        if pattern.startswith("**/", place):
            out.append("(?:[^/]+/)*")
            place += 3
            continue
        sign = pattern[place]
        if pattern.startswith("**", place):
            out.append(".*")
            place += 1
        elif sign == "*":
            out.append("[^/]*")
        elif sign == "?":
            out.append("[^/]")
        elif sign == "[" and (end := pattern.find("]", place + 2)) > 0:
            inside = pattern[place + 1 : end].replace("\\", "\\\\")
            out.append("[" + ("^" + inside[1:] if inside[0] == "!" else inside) + "]")
            place = end
        else:
            out.append(re.escape(sign))
        place += 1
    try:
        return re.compile("".join(out))
    except re.error as error:
        raise SourceFailed(f"{pattern!r} is not a pattern: {error}.", hint='For instance "*.parquet".') from None


def quick(info: ObjectInfo) -> dict[str, Any]:
    """What of an object is kept to tell whether it changed: size and ETag; the time where there is no ETag."""
    kept: dict[str, Any] = {"size": info.size}
    if info.etag:
        kept["etag"] = info.etag
    else:
        kept["modified"] = info.modified
    if info.version:
        kept["version"] = info.version
    return kept


class BucketSource(PartsSource):
    """Table files in a bucket: those whose ETag, size or version changed are fetched.

    Args:
        url: with a pattern, for instance ``s3://bucket/prefix/*.parquet``.
        folder: where objects lie until they are committed.
    """

    def __init__(
        self,
        url: str,
        environment: Mapping[str, str],
        folder: Path,
        *,
        keyed: bool = True,
        known: Known = lambda: None,
        advance: Advance | None = None,
    ) -> None:
        super().__init__(url, keyed=keyed)
        self._known = known
        self._listing = Listing(url, environment)
        self._downloads = Downloads(self._listing.bucket, folder)
        self._advance = advance
        self._found: dict[str, ObjectInfo] = {}

    def pending(self, marks: Mapping[str, dict[str, Any]]) -> list[str]:
        """What a collection would fetch, in words."""
        return [
            f"{part.name} {'changed' if part.source in marks else 'is new'}"
            for part in self._parts()
            if not self._unchanged(part, marks.get(part.source, {}))
        ]

    def _parts(self) -> list[Part]:
        objects = self._listing.objects()
        if not objects:
            raise SourceFailed(
                f"There is no object {self._shown}.", hint="Check the bucket, the prefix and the pattern."
            )
        made: list[Part] = []
        for _, info in objects:
            source = f"{self._listing.url.scheme}:{self._listing.url.bucket}/{info.key}"
            self._found[source] = info
            made.append(Part(name=info.key, source=source, quick=quick(info)))
        return made

    def _begin(self, parts: list[Part]) -> None:
        if self._advance is not None and parts:
            self._advance(0, total=sum(part.quick["size"] for part in parts))

    def _unchanged(self, part: Part, before: dict[str, Any]) -> bool:
        return bool(before) and {k: v for k, v in before.items() if k != "digest"} == part.quick

    @contextmanager
    def _open(self, part: Part, before: dict[str, Any]) -> Iterator[Opened]:
        info = self._found[part.source]
        path = self._downloads.fetch(info, self._advance)
        hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
        hasher.update_mmap(path)
        digest = hasher.hexdigest()
        yield Opened(part=part, mark={**part.quick, "digest": digest}, same=before.get("digest") == digest, handle=path)
        self._downloads.drop(info)  # not where it ended with an error: then it is not fetched again

    def _read(self, opened: Opened, *, whole: bool) -> tuple[pl.DataFrame, Misfits | None]:
        return read_fitting(opened.handle, None if whole else self._known())

    def _meta(self, opened: Opened) -> dict[str, Any]:
        url = self._listing.url
        return {
            "kind": url.scheme,
            "url": f"{url.scheme}://{url.bucket}/{opened.part.name}",
            "digest": f"blake3:{opened.mark['digest']}",
            **{k: v for k, v in opened.part.quick.items() if k in ("etag", "version")},
        }


def nothing_there(url: str) -> SourceFailed:
    return SourceFailed(f"There is no object {url}.", hint="Check the bucket, the prefix and the pattern.")


def tree_paths(listing: Listing) -> dict[str, ObjectInfo]:
    """Path in the tree -> object.

    Raises:
        SourceFailed: a key is no path, or one is a file and a folder at once.
    """
    found: dict[str, ObjectInfo] = {}
    for path, info in listing.objects():
        try:
            found[check_path(path)] = info
        except Invalid as error:
            raise SourceFailed(
                f"The object {info.key!r:.200} cannot be a file of a repository: {error.message}",
                hint="Rename it in the bucket, or narrow the pattern.",
                details={"key": info.key},
            ) from None
    for path in list(found):
        parent = path
        while parent := parent.rpartition("/")[0]:
            if parent not in found:
                continue
            if found[parent].size == 0:  # a marker, as some tools make one for each folder
                del found[parent]
            else:
                raise SourceFailed(
                    f"{parent} is an object, and so is {path}: a folder and a file of one name cannot both be there.",
                    hint="Rename one in the bucket, or narrow the pattern.",
                    details={"file": parent, "below": path},
                )
    return found
