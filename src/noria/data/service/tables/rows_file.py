"""A table as one Parquet file, for tools that read files and know nothing of fragments and deletions."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from noria.data.records import MAIN, Repository, RepositoryKind
from noria.data.service.contracts import ContractVerbs

_KEPT: Final = 8
_GROUP: Final = 100_000
"""Rows in a row group: what a reader of a few columns or a slice has to fetch at least."""


class RowsFileVerbs(ContractVerbs):
    def rows_file(self, repository: Repository, ref: str = MAIN) -> Path:
        """The rows of a table at a commit as a Parquet file, made when it is first asked for.

        It lies in the cache under the name of the table's layout, and goes when others were asked for since.
        """
        if repository.kind != RepositoryKind.TABLE:
            self.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        commit = self.resolve(repository, ref)
        folder = self._s.home / "cache" / "rows"
        place = folder / f"{commit.layout.hex}.parquet"
        try:
            os.utime(place)  # used now: not the next to go
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True)
            temporary = folder / f"{secrets.token_hex(8)}.part"
            try:
                self.reader.read(self.layout(commit)).write_parquet(temporary, row_group_size=_GROUP)
                temporary.replace(place)
            finally:
                temporary.unlink(missing_ok=True)
            _prune(folder)
        return place


def _prune(folder: Path) -> None:
    """Keeps the files that were used last. One that is open stays readable until it is closed."""
    found: list[tuple[float, Path]] = []
    for path in folder.glob("*.parquet"):
        with contextlib.suppress(FileNotFoundError):
            found.append((path.stat().st_mtime, path))
    for _, path in sorted(found)[:-_KEPT]:
        path.unlink(missing_ok=True)
