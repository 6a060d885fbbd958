"""How the columns of one layout became those of another, and rows of the one in the form of the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from noria.data.rows.layout import Layout
from noria.data.rows.schema import KNOWN, SEQ, Column


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

    def fit(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of ``before`` as ``after`` would hold them: renamed, cast, and null where they have no such column."""
        types = self.after.schema.polars()
        columns: list[pl.Expr] = []
        for name, dtype in types.items():
            source = self.source.get(name)
            if source is None:
                columns.append(pl.lit(None, dtype=dtype).alias(name))
            else:
                columns.append(_cast(pl.col(source), frame.schema[source], dtype).alias(name))
        hidden = [SEQ]
        if self.after.schema.hides_known:
            hidden.insert(0, KNOWN)
        for name in hidden:
            if name in frame.columns:
                columns.append(pl.col(name))
            elif name == KNOWN:
                columns.append(pl.lit(None, dtype=pl.Datetime("us", "UTC")).alias(KNOWN))
        return frame.select(columns)

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
    names = {name for name, _ in before.columns}
    return Columns(before=before, after=after, source={name: name for name, _ in after.columns if name in names})


def _cast(column: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    return column if found == wanted else column.cast(wanted, strict=False)
