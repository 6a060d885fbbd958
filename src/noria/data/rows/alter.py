"""Other columns for a table whose files stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec.structs
import polars as pl

from noria.base.errors import Invalid
from noria.base.names import nearest
from noria.data.rows.layout import Layout, column_id, encode_layout, make_layout
from noria.data.rows.read import TableReader, default_value, empty_rows
from noria.data.rows.schema import Column, TableSchema, check_key_columns, polars_type, type_name
from noria.data.rows.write import RowsChange, check_keys, total_of
from noria.store import Kind, Writer

_SIGNED = ("int8", "int16", "int32", "int64")
_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")

_OTHERS = {
    "float32": ["float64"],
    "date": ["datetime[us]", "datetime[us, UTC]"],
    "datetime[ms]": ["datetime[us]"],
    "datetime[ms, UTC]": ["datetime[us, UTC]"],
}


class CannotAlter(Invalid):
    """The columns of a table cannot be changed like this."""

    code = "cannot_alter"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewColumn:
    """A column to add. ``default`` is the value, as text, of the rows that are there; None: null.

    ``number`` is the id of a column that another layout has (a merge keeps it); None: a new one.
    """

    name: str
    type: str
    default: str | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alterations:
    """Changes to the columns of a table. Names are those before the change.

    Attributes:
        rename: old name -> new name.
        widen: column -> wider type.
        key: the new key, by names after the change; None: as it is. Rows must be unique under it.
    """

    add: tuple[NewColumn, ...] = ()
    drop: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict[str, str])
    widen: dict[str, str] = field(default_factory=dict[str, str])
    key: tuple[str, ...] | None = None

    @property
    def nothing(self) -> bool:
        return not (self.add or self.drop or self.rename or self.widen or self.key)


def parse_column(text: str) -> NewColumn:
    """``name:type`` or ``name:type=default``."""
    name, colon, rest = text.partition(":")
    kind, equals, default = rest.partition("=")
    if not name or not colon or not kind:
        raise CannotAlter(f"{text!r} is not a column.", hint="Write name:type or name:type=default, like delay:int32=0")
    return NewColumn(name=name, type=kind.strip(), default=default if equals else None)


def altered(base: Layout, changes: Alterations, *, seq: int) -> Layout:
    """The layout with other columns. Its sum is still the old one: see ``resum``.

    Raises:
        CannotAlter: with the column and the reason.
    """
    _check_names(base, changes)
    columns: list[Column] = []
    ids: list[int] = []
    for (name, kind), number in zip(base.columns, base.column_ids, strict=True):
        if name in changes.drop:
            continue
        wider = changes.widen.get(name, kind)
        if wider != kind and not can_widen(kind, wider):
            raise CannotAlter(
                f"{name!r} is {kind}; it cannot become {wider} without a loss.",
                hint=f"{kind} widens to {', '.join(wider_types(kind)) or 'nothing'}.",
            )
        columns.append(Column(name=changes.rename.get(name, name), type=wider))
        ids.append(number)
    defaults = {number: text for number, text in base.defaults.items() if number in ids}
    for made in changes.add:
        columns.append(Column(name=made.name, type=type_name(polars_type(made.type), made.name)))
        ids.append(_fresh_id(base, made.name, seq, ids) if made.number is None else made.number)
        if made.default is not None:
            _check_default(made)
            defaults[ids[-1]] = made.default
    renamed = [changes.rename.get(name, name) for name in base.key]
    schema = TableSchema(
        columns=tuple(columns),
        key=tuple(renamed) if changes.key is None else changes.key,
        time=None if base.time is None else changes.rename.get(base.time, base.time),
        known=None if base.known is None else changes.rename.get(base.known, base.known),
    )
    if changes.key is not None:
        check_key_columns(schema.key, {c.name: c.type for c in columns})
    for name in schema.key:
        if name not in schema.names:
            raise CannotAlter(f"The key column {name!r} is not in the table.", hint=nearest(name, schema.names))
    before = [(number, name, kind) for number, (name, kind) in zip(base.column_ids, base.columns, strict=True)]
    after = [(number, c.name, c.type) for number, c in zip(ids, columns, strict=True)]
    shapes, fragments = base.shapes, base.fragments
    if before != after:
        shapes = [*shapes, before]
        fragments = [f if f.shape else msgspec.structs.replace(f, shape=len(shapes)) for f in fragments]
    like = msgspec.structs.replace(
        base, columns=[(c.name, c.type) for c in columns], ids=ids, defaults=defaults, shapes=shapes
    )
    return make_layout(schema, base.rows, int.from_bytes(base.sum, "little"), fragments, like=like)


def resum(reader: TableReader, before: Layout, after: Layout) -> Layout:
    """``after`` with the sum of its rows' hashes.

    Hashes hold values, not names, and all integers alike: renamed and widened integer columns cost nothing. Else each
    row is read and hashed once, about a second for a million rows.

    Raises:
        CannotAlter: a value does not fit its wider type.
        KeyRepeated, KeyMissing: rows share their key, or have none.
    """
    _check_exact(reader, before, after)
    if after.key and after.key != _key_ids_named(before, after):
        names = list(after.key)
        check_keys(
            after.schema,
            pl.concat([empty_rows(after, names), *(reader.live(after, f, names) for f in after.fragments)]),
        )
    if _same_cells(before, after):
        return after
    total = total_of(after.schema, (reader.live(after, fragment) for fragment in after.fragments))
    return msgspec.structs.replace(after, sum=total.to_bytes(32, "little"))


def alter(reader: TableReader, writer: Writer, base: Layout, changes: Alterations, *, seq: int) -> RowsChange:
    """The table with other columns, as a change of no rows."""
    layout = resum(reader, base, altered(base, changes, seq=seq))
    none = empty_rows(layout)
    oid = writer.put(Kind.TABLE, encode_layout(layout))
    return RowsChange(layout=layout, layout_id=oid, new_rows=none, old_rows=none, altered=True)


def evolve(reader: TableReader, base: Layout, rows: pl.DataFrame, *, seq: int) -> tuple[Layout, pl.DataFrame]:
    """(the table with the columns of a batch, too, and of the wider type of both; the batch with those of the table).

    Columns that the batch lacks hold their default, or null. The layout is ``base`` itself where nothing is new.
    """
    types = dict(base.columns)
    found = {name: type_name(dtype, name) for name, dtype in rows.schema.items()}
    times = (base.time, base.known)
    changes = Alterations(
        add=tuple(NewColumn(name=name, type=kind) for name, kind in found.items() if name not in types),
        widen={
            name: kind
            for name, kind in found.items()
            if name in types and name not in times and kind != types[name] and can_widen(types[name], kind)
        },
    )
    layout = base if changes.nothing else resum(reader, base, altered(base, changes, seq=seq))
    lacking: list[pl.Series] = []
    for (name, kind), number in zip(base.columns, base.column_ids, strict=True):
        if name not in found and name not in (*base.key, base.time):
            value = default_value(base.defaults.get(number), kind)
            lacking.append(value.alias(name).new_from_index(0, len(rows)))
    return layout, rows.with_columns(lacking)


def wider_types(kind: str) -> list[str]:
    """The types that hold every value of this one."""
    if kind in _SIGNED:
        more = ["float64"] if kind == "int64" else ["float32", "float64"][kind == "int32" :]
        return [*_SIGNED[_SIGNED.index(kind) + 1 :], *more]
    if kind in _UNSIGNED:
        place = _UNSIGNED.index(kind)
        more = ["float64"] if kind == "uint64" else ["float32", "float64"][kind == "uint32" :]
        return [*_UNSIGNED[place + 1 :], *_SIGNED[place + 1 :], *more]
    return _OTHERS.get(kind, [])


def can_widen(kind: str, wider: str) -> bool:
    """Whether every value fits, or for whole numbers to float64: may fit (which ``resum`` looks at)."""
    old, new = polars_type(kind), polars_type(wider)
    if isinstance(old, pl.Decimal) and isinstance(new, pl.Decimal):
        return old.scale == new.scale and (new.precision or 38) >= (old.precision or 38)
    return wider in wider_types(kind)


def _check_names(base: Layout, changes: Alterations) -> None:
    names = [name for name, _ in base.columns]
    for verb, asked in (("drop", changes.drop), ("rename", changes.rename), ("widen", changes.widen)):
        for name in asked:
            if name not in names:
                hint = nearest(name, names) or f"Columns: {', '.join(names)}."
                raise CannotAlter(f"There is no column {name!r} to {verb}.", hint=hint)
    _check_kept(base, changes)
    after = [changes.rename.get(name, name) for name in names if name not in changes.drop]
    after += [made.name for made in changes.add]
    for name in after:
        if after.count(name) > 1:
            raise CannotAlter(f"There would be two columns {name!r}.", hint="Columns: " + ", ".join(names) + ".")
        if name.startswith("__") or not name:
            raise CannotAlter(f"The column name {name!r} is reserved.", hint="Names with __ are noria's own.")
    if not after:
        raise CannotAlter("A table keeps at least one column.")


def _check_kept(base: Layout, changes: Alterations) -> None:
    """Key and times stay."""
    kept = {*base.key, *(n for n in (base.time, base.known) if n is not None)}
    for name in changes.drop:
        if name in kept:
            raise CannotAlter(
                f"{name!r} is the key or a time of the table and cannot be dropped.",
                hint=f"It can be renamed: --rename {name}=NEW",
            )
        if name in changes.rename or name in changes.widen:
            raise CannotAlter(f"{name!r} is to be dropped, and renamed or widened.", hint="Say one of them.")
    for name in changes.widen:
        if name in (base.time, base.known):
            raise CannotAlter(f"{name!r} is a time of the table; its type stays.")


def _check_default(made: NewColumn) -> None:
    try:
        fits = default_value(made.default, made.type).null_count() == 0
    except (pl.exceptions.PolarsError, KeyError, Invalid):
        fits = False
    if not fits:
        raise CannotAlter(f"{made.default!r} is no value of {made.name!r}, which is {made.type}.")


def _fresh_id(base: Layout, name: str, seq: int, taken: list[int]) -> int:
    """An id that no column of this table, not even a dropped one in its files, has."""
    known = {*base.column_ids, *taken, *(number for shape in base.shapes for number, _, _ in shape)}
    made = column_id(name, seq)
    while made in known:
        made = (made + 1) % (1 << 63)
    return made


def _check_exact(reader: TableReader, before: Layout, after: Layout) -> None:
    """Looks at the values of columns whose wider type does not hold all of the narrower one."""
    types = {number: kind for number, (_, kind) in zip(before.column_ids, before.columns, strict=True)}
    for (name, kind), number in zip(after.columns, after.column_ids, strict=True):
        old = types.get(number)
        risky = (old in ("int64", "uint64") and kind == "float64") or (old is not None and old.startswith("date"))
        if old is None or old == kind or not risky:
            continue
        was = next(n for n, i in zip((n for n, _ in before.columns), before.column_ids, strict=True) if i == number)
        for fragment in before.fragments:
            column = reader.live(before, fragment, [was]).get_column(was)
            wider = column.cast(polars_type(kind), strict=False)
            unfit = column.filter(~column.eq_missing(wider.cast(column.dtype, strict=False)))
            if len(unfit):
                raise CannotAlter(
                    f"{name!r} holds {unfit[0]}, which is not exact as {kind}.",
                    hint="Nothing was changed. Keep the column, or write the table anew with rounded values.",
                    details={"column": name, "value": str(unfit[0])},
                )


def _key_ids_named(before: Layout, after: Layout) -> list[str]:
    """The names that the columns of the key of ``before`` have in ``after``."""
    ids = dict(zip((n for n, _ in before.columns), before.column_ids, strict=True))
    names = dict(zip(after.column_ids, (n for n, _ in after.columns), strict=True))
    return [names.get(ids[name], "") for name in before.key]


def _same_cells(before: Layout, after: Layout) -> bool:
    """Whether each row has the same hash in both: see ``noria.data.rows.encoding``."""
    if before.column_ids != after.column_ids or bool(before.key) != bool(after.key):
        return False
    pairs = zip((k for _, k in before.columns), (k for _, k in after.columns), strict=True)
    return all(_cell(old) == _cell(new) for old, new in pairs)


def _cell(kind: str) -> str:
    if kind in _SIGNED or kind in _UNSIGNED:
        return "integer"
    if kind.startswith("float"):
        return "float"
    return kind.partition("[")[0] if kind.startswith("decimal") else kind
