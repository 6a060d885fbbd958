"""How the columns of one layout became those of another, and rows of the one in the form of the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from noria.data.rows.layout import Layout
from noria.data.rows.read import default_value, widened
from noria.data.rows.schema import KNOWN, SEQ, Column, type_name


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaDiff:
    """What differs between the columns of two layouts.

    Attributes:
        retyped: (name after, type before, type after).
        renamed: (name before, name after).
        key: (before, after) where the key differs, else None; a renamed key column is no difference.
    """

    added: tuple[Column, ...] = ()
    removed: tuple[Column, ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    key: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    @property
    def nothing(self) -> bool:
        return not (self.added or self.removed or self.retyped or self.renamed or self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns of ``after`` and where each comes from in ``before``.

    Attributes:
        source: name after -> name before, for the columns that both have.
    """

    before: Layout
    after: Layout
    source: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def same_key(self) -> bool:
        """Whether both name their rows by the same columns."""
        return bool(self.after.key) and [self.source.get(name) for name in self.after.key] == self.before.key

    def fit(self, frame: pl.DataFrame, *, exact: bool = False) -> pl.DataFrame:
        """Rows of ``before`` as ``after`` would hold them: renamed, cast, with the default where they lack a column.

        Args:
            exact: for rows that are written; else a value that does not fit is null, or cut.

        Raises:
            PolarsError: ``exact``, and a value does not fit.
        """
        types = self.after.schema.polars()
        kinds, columns = dict(self.after.columns), list[pl.Series]()
        ids = zip(kinds, self.after.column_ids, strict=True)
        defaults = {name: self.after.defaults.get(number) for name, number in ids}
        for name, dtype in types.items():
            source = self.source.get(name)
            if source is None:
                columns.append(default_value(defaults.get(name), kinds[name]).alias(name).new_from_index(0, len(frame)))
            else:
                column = frame.get_column(source)
                columns.append((_exact(column, dtype) if exact else _cast(column, dtype)).alias(name))
        if self.after.schema.hides_known:
            unknown = pl.Series(KNOWN, [None], dtype=pl.Datetime("us", "UTC")).new_from_index(0, len(frame))
            columns.append(frame.get_column(KNOWN) if KNOWN in frame.columns else unknown)
        if SEQ in frame.columns:
            columns.append(frame.get_column(SEQ))
        return pl.DataFrame(columns)

    def diff(self) -> SchemaDiff:
        before, after = dict(self.before.columns), dict(self.after.columns)
        used = set(self.source.values())
        pairs = self.source.items()
        same_key = self.same_key or not (self.before.key or self.after.key)
        return SchemaDiff(
            added=tuple(Column(name=n, type=t) for n, t in after.items() if n not in self.source),
            removed=tuple(Column(name=n, type=t) for n, t in before.items() if n not in used),
            retyped=tuple((new, before[old], after[new]) for new, old in pairs if before[old] != after[new]),
            renamed=tuple((old, new) for new, old in pairs if old != new),
            key=None if same_key else (tuple(self.before.key), tuple(self.after.key)),
        )


def match_columns(before: Layout, after: Layout) -> Columns:
    """By id; tables of no common origin by name."""
    by_id = dict(zip(before.column_ids, (name for name, _ in before.columns), strict=True))
    ids = dict(zip((name for name, _ in after.columns), after.column_ids, strict=True))
    source = {name: by_id[number] for name, number in ids.items() if number in by_id}
    if not source:
        source = {name: name for name, _ in before.columns if name in ids}
    return Columns(before=before, after=after, source=source)


def _exact(column: pl.Series, wanted: pl.DataType) -> pl.Series:
    """As the other type.

    Raises:
        PolarsError: a value does not fit.
    """
    if column.dtype == wanted:
        return column
    made = widened(column, str(type_name(wanted, column.name)))
    unfit = column.filter(~column.eq_missing(made.cast(column.dtype, strict=False)))
    if len(unfit):
        raise pl.exceptions.InvalidOperationError(f"{unfit[0]} of {column.name!r} is not exact as {wanted}")
    return made


def _cast(column: pl.Series, wanted: pl.DataType) -> pl.Series:
    """As the other type; null where a value, or the type, does not fit."""
    try:
        return widened(column, str(type_name(wanted, column.name)))
    except pl.exceptions.PolarsError:
        pass
    try:
        return column.cast(wanted, strict=False)
    except pl.exceptions.PolarsError:
        return pl.Series(column.name, [None], dtype=wanted).new_from_index(0, len(column))
