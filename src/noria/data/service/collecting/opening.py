"""Opening what a source names: files, objects of a bucket, a query, an URL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from noria.base.errors import Invalid, NotFound
from noria.base.ids import ProjectId
from noria.data.collectors import BucketSource, FileSource, SqlSource, UrlSource
from noria.data.collectors.buckets import Listing
from noria.data.collectors.protocol import Columns, Marks, Piece, Source
from noria.data.errors import SourceFailed
from noria.data.records import MAIN, Repository
from noria.data.rows import schema as schemas
from noria.data.service import Data
from noria.data.service.collecting.sources import SourceSpec
from noria.store.buckets import is_bucket_url


class Begun:
    """A source of which the first piece was read when nothing was taken of it; asked again it looks anew."""

    def __init__(self, source: Source, first: Piece, rest: Iterator[Piece]) -> None:
        self._source = source
        self._begun: tuple[Piece, Iterator[Piece]] | None = first, rest

    def pieces(self, marks: Marks) -> Iterator[Piece]:
        begun, self._begun = self._begun, None
        if begun is None or marks:  # somebody else made the table in between, and took something
            del begun  # closes the files that it holds open
            yield from self._source.pieces(marks)
            return
        first, rest = begun
        yield first
        yield from rest


class Sources:
    """One per workspace.

    Args:
        root: of the project; patterns of files begin there.
        cache: where downloads go on after a kill.
    """

    def __init__(self, data: Data, root: Path, cache: Path, environment: Mapping[str, str]) -> None:
        self._data = data
        self._root = root
        self._cache = cache
        self._environment = environment

    @property
    def downloads(self) -> Path:
        """Of objects of buckets."""
        return self._cache / "downloads" / "objects"

    def pending(self, pattern: str, seen: Marks) -> list[str]:
        """Which files or objects would be read, and why, in words."""
        if is_bucket_url(pattern):
            return BucketSource(pattern, self._environment, self.downloads).pending(seen)
        return FileSource(self._root, pattern).pending(seen)

    def open(
        self,
        repository: Callable[[], Repository | None],
        keyed: bool,
        spec: SourceSpec,
        branch: str,
        *,
        settle: float | None = None,
        only: Collection[Path] | None = None,
        advance: Callable[..., None] | None = None,
    ) -> Source:
        def known() -> Columns | None:
            found = repository()
            return None if found is None else self._columns(found, branch)

        if spec.files is not None and is_bucket_url(spec.files):
            how = {"keyed": keyed, "known": known, "advance": advance}
            return BucketSource(spec.files, self._environment, self.downloads, **how)
        if spec.files is not None:
            waits = {} if settle is None else {"settle": settle, "first_settle": settle}
            return FileSource(self._root, spec.files, keyed=keyed, known=known, only=only, **waits)
        if spec.sql is not None and spec.url is not None:
            return SqlSource(spec.url, spec.sql, spec.watermark, keyed=keyed)
        if spec.url is not None:
            return UrlSource(spec.url, self._cache / "downloads", spec.checksum, keyed=keyed, known=known)
        raise Invalid(
            "The source says neither files= nor sql= nor url=: its rows are posted.", hint="noria data append"
        )

    def begun(
        self,
        project_id: ProjectId,
        name: str,
        spec: SourceSpec,
        *,
        key: tuple[str, ...],
        time: str | None,
        known: str | None,
        advance: Callable[..., None] | None,
    ) -> Source | None:
        """A source whose first piece was read before there is a repository for it; None where it has none.

        Raises:
            SourceFailed: it cannot be read, or its rows cannot be those of such a table.
        """
        source = self.open(lambda: self._data.find(project_id, name), bool(key), spec, MAIN, advance=advance)
        pieces = iter(source.pieces(Marks({})))
        first = next(pieces, None)
        if first is None:
            return None
        if first.frame is not None:
            try:
                schemas.infer(first.frame, key=key, time=time, known=known)
            except Invalid as error:
                raise SourceFailed(
                    f"{first.source}: {error.message}", hint=error.hint, details=error.details
                ) from error
        return Begun(source, first, pieces)

    def is_something(self, place: str) -> bool:
        """Whether a folder, or a prefix of a bucket, holds anything.

        Raises:
            SourceFailed: the bucket does not answer. NotFound: there is no such folder.
        """
        if is_bucket_url(place):
            return bool(Listing(place, self._environment).objects())
        folder = self._root / place
        if not folder.is_dir():
            raise NotFound(f"{folder} is not a folder.", hint="Give the folder that holds the files.")
        return any(folder.iterdir())

    def _columns(self, repository: Repository, branch: str) -> Columns | None:
        """What lines are compared with: the table as it stands, else its contract."""
        schema = self._data.schema(repository, branch)
        if schema is not None:
            return Columns(types=schema.polars(), key=schema.key)
        contract = self._data.contract(repository)
        return None if contract is None else Columns(types=contract.types, key=repository.key)
