"""The verbs that read tables: rows at a commit, rows by key, the difference of two commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from noria.base.errors import Invalid
from noria.base.names import nearest
from noria.base.times import parse_time
from noria.data.records import MAIN, Repository, RepositoryKind
from noria.data.rows import RowsDiff, TableSchema, diff_layouts
from noria.data.rows.outputs import Form, as_form
from noria.data.rows.schema import KNOWN, SEQ
from noria.data.service.tables.rowhistory import RowHistory


class RowReading(RowHistory):
    def schema(self, repository: Repository, ref: str = MAIN) -> TableSchema | None:
        """The schema of a table, None while it has no commit."""
        head = self.head(repository, ref) if ref == MAIN else self.resolve(repository, ref)
        return None if head is None else self.layout(head).schema

    def read(
        self,
        repository: Repository,
        ref: str = MAIN,
        *,
        columns: Sequence[str] | None = None,
        hidden: bool = False,
        after_seq: int | None = None,
        times: tuple[int | None, int | None] = (None, None),
        known_by: str | None = None,
    ) -> pl.DataFrame:
        """The rows of a table at a commit.

        Args:
            ref: branch, tag, commit, ``main~2``; ``@2013-04-01``: as the table was then.
            columns: only these; default all.
            hidden: with the hidden columns.
            after_seq: only rows that arrived in a later commit generation.
            times: only files that touch this span of event time (microseconds): a coarse filter.
            known_by: of a table with a time: only rows of this version that were known by that time.
        """
        if repository.kind != RepositoryKind.TABLE:
            self.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        layout = self.layout(self.resolve(repository, ref))
        for name in columns or ():
            if name not in layout.schema.names:
                hint = nearest(name, layout.schema.names) or f"Columns: {', '.join(layout.schema.names)}."
                raise Invalid(f"{repository.name} has no column {name!r}.", hint=hint)
        if columns is not None and len(set(columns)) < len(columns):
            raise Invalid("A column is asked for twice.", hint="Name each column once.")
        if known_by is None:
            return self.reader.read(layout, columns=columns, hidden=hidden, after_seq=after_seq, times=times)
        known = layout.schema.known_column
        if known is None:
            raise Invalid(f"{repository.name} has no time, so that it keeps no time at which rows were known.")
        wanted = list(columns) if columns is not None else layout.schema.names
        names = [*wanted, *(() if known in wanted or known == KNOWN else (known,))]
        rows = self.reader.read(layout, columns=names, hidden=True, after_seq=after_seq, times=times)
        limit = pl.lit(parse_time(known_by)).cast(pl.Datetime("ms", "UTC"))
        rows = rows.filter(pl.col(known) <= limit)
        return rows if hidden else rows.select(wanted)

    def read_as(self, repository: Repository, to: Form, ref: str = MAIN, **how: Any) -> Any:
        """Like ``read``, for other libraries.

        Args:
            to: ``polars``; ``arrow``: a ``pyarrow.Table``; ``pandas``: a frame with Arrow's types, where nothing is
                rounded; ``duckdb``: a relation of DuckDB, in its default connection.
            how: as of ``read``.

        Raises:
            MissingExtra: the library is not installed.
        """
        return as_form(self.read(repository, ref, **how), to)

    def rows_with_keys(self, repository: Repository, ref: str, keys: pl.DataFrame) -> pl.DataFrame:
        """The rows of a table with these keys at a commit, hidden columns included, in no order that means anything."""
        return self.writer.rows_with_keys(self.layout(self.resolve(repository, ref)), keys)

    def diff_rows(
        self, repository: Repository, before: str, after: str
    ) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """(added, removed, changed) rows between two commits of a table; changed ones as they are after."""
        found = self.compare_rows(repository, before, after)
        hidden = [KNOWN, SEQ]
        return (
            found.added.drop(hidden, strict=False),
            found.removed.drop(hidden, strict=False),
            found.after.drop(hidden, strict=False),
        )

    def compare_rows(self, repository: Repository, before: str, after: str) -> RowsDiff:
        """How the columns and rows of a table differ between two commits; hidden columns included.

        Its cost follows the difference, not the table.
        """
        if repository.kind != RepositoryKind.TABLE:
            self.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        old, new = self.resolve(repository, before), self.resolve(repository, after)
        return diff_layouts(self.reader, self.layout(old), self.layout(new))
