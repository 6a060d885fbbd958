"""The contents that a DVC repository holds, each read once and checked against its MD5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, cast

from noria.data.collectors.dvc import Blob, DvcRepository, Md5Reader, Out
from noria.data.collectors.git import GitCommit
from noria.data.service.transfer.dvc.history import History, State
from noria.data.service.transfer.dvc.report import Report
from noria.data.service.transfer.sending import Naming
from noria.store import FileContent, Kind, Writer, files
from noria.store.folders import INLINE


class Contents:
    """Of one import.

    Args:
        skip_missing: go on without contents that are missing or damaged.

    Attributes:
        unlisted: folders of which the list of files is missing.
    """

    def __init__(
        self, dvc: DvcRepository, report: Report, *, skip_missing: bool, advance: Callable[..., None] | None
    ) -> None:
        self._dvc = dvc
        self._report = report
        self._skip_missing = skip_missing
        self._advance = advance
        self._stored: dict[str, FileContent | bytes | None] = {}
        self._listings: dict[Out, dict[str, Blob]] = {}
        self.unlisted: set[Out] = set()

    def of(self, blob: Blob) -> FileContent | bytes | None:
        """What was stored, or read and is small; None where it is missing."""
        return self._stored[blob.md5]

    def look_for_all(self, history: History, groups: Mapping[str, list[str]]) -> None:
        """Says everything that is missing before anything is imported."""
        seen = set[Out]()
        found = dict[str, bool]()
        wanted = {path for paths in groups.values() for path in paths}
        for commit in history.commits:
            for path, out in history.states[commit.id].items():
                if path not in wanted or out in seen:
                    continue
                seen.add(out)
                for below, blob in self.listing(out, commit.id).items():
                    if blob.md5 not in found:
                        found[blob.md5] = bool(self._dvc.paths(blob.md5))
                    if not found[blob.md5]:
                        place = f"{path}/{below}" if out.is_folder else path
                        self._report.lose(place, commit.id, f"is missing (MD5 {blob.md5})")
        if self._report.lost:
            raise self._report.error()

    def listing(self, out: Out, commit: str) -> dict[str, Blob]:
        if out not in self._listings:
            found = self._dvc.listing(out)
            if found is None:
                self.unlisted.add(out)
                self._report.lose(out.path, commit, f"is missing: its list of files ({out.md5})")
                return {}
            while len(self._listings) >= 8:
                self._listings.pop(next(iter(self._listings)))
            self._listings[out] = found
        return self._listings[out]

    def paths(self, state: State, single: bool, commit: GitCommit) -> dict[str, Blob]:
        """Every path of a tree -> its content."""
        found: dict[str, Blob] = {}
        for path, out in state.items():
            listing = self.listing(out, commit.id)
            if not single:
                found.update(listing)
            elif out.is_folder:
                found.update({f"{path}/{below}": blob for below, blob in listing.items()})
            else:
                (found[path],) = listing.values()
        return found

    def store_all(self, writer: Writer, naming: Naming, wanted: Mapping[str, Blob], commit: GitCommit) -> None:
        """Reads every content that was not read yet; small ones are stored together."""
        small = list[tuple[str, bytes]]()
        for path, blob in wanted.items():
            if blob.md5 in self._stored:
                continue
            self._stored[blob.md5] = None
            read = self._read_blob(writer, blob)
            if isinstance(read, bytes) and len(read) > INLINE:
                small.append((blob.md5, read))
                if len(small) >= 256:
                    self._store_small(writer, small)
            elif read is not None:
                self._stored[blob.md5] = read
            else:
                self._report.lose(path, commit.id, f"is missing or damaged (MD5 {blob.md5})")
                if not self._skip_missing:
                    raise self._report.error()
            naming.step()
        self._store_small(writer, small)

    def _store_small(self, writer: Writer, small: list[tuple[str, bytes]]) -> None:
        oids = writer.put_all(Kind.CHUNK, [data for _, data in small])
        for oid, (md5, data) in zip(oids, small, strict=True):
            self._stored[md5] = FileContent(kind=Kind.CHUNK, id=oid, size=len(data))
        small.clear()

    def _read_blob(self, writer: Writer, blob: Blob) -> FileContent | bytes | None:
        """A small content itself, a large one stored; None where no place holds it whole."""
        for path in self._dvc.paths(blob.md5):
            with path.open("rb", buffering=0) as file:
                reader = Md5Reader(file, legacy=blob.legacy)
                size = path.stat().st_size
                content = reader.read() if size < files.SMALL else files.put_stream(writer, cast("BinaryIO", reader))
            if reader.fits(blob.md5):
                self._report.files += 1
                self._report.read += size
                if self._advance is not None:
                    self._advance(size)
                return content
        return None
