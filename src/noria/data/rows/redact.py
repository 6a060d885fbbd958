"""Rows are taken out of a table as it lies on disk: out of every file, deleted rows included."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
from pyroaring import BitMap

from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.data.rows.encoding import MODULUS
from noria.data.rows.layout import Fragment, Layout, encode_layout
from noria.data.rows.read import TableReader, numbers, sources
from noria.data.rows.schema import SEQ, fit
from noria.data.rows.write import total_of
from noria.store import Kind, Writer

BATCH: Final = "noria.batch"
"""In the metadata of the file of a refused batch: what tells it from others with the same rows."""


_QUOTED: Final = re.compile(r"'((?:[^']|'')*)'")


class Selection:
    """Which rows are meant: a condition in SQL, or values of columns."""

    def __init__(self, where: str | None = None, values: Mapping[str, str] | None = None) -> None:
        self.where = where
        self.values = dict(values or {})
        if where is not None:
            try:
                self._condition = pl.sql_expr(where)
            except pl.exceptions.PolarsError as error:
                raise _unreadable(where, error) from None
            self.columns = sorted(set(self._condition.meta.root_names()))
        else:
            self.columns = sorted(self.values)
        if not self.columns:
            raise Invalid("The condition names no column.", hint="Write for instance: --rows \"email = 'a@b.c'\"")

    def texts(self, forms: Sequence[Mapping[str, pl.DataType]]) -> list[str]:
        """The texts that are asked for: what stands in quotes, and values of columns that hold text."""
        if self.where is not None:
            found = [text.replace("''", "'").strip("%") for text in _QUOTED.findall(self.where)]
        else:
            found = [text for name, text in self.values.items() if any(form.get(name) == pl.String for form in forms)]
        return [text for text in found if text]

    def fits(self, frame: pl.DataFrame) -> bool:
        """Whether the frame has all columns that the condition names."""
        return set(self.columns) <= set(frame.columns)

    def mask(self, frame: pl.DataFrame) -> pl.Series:
        """For each row whether it is meant; a condition that is null is not met.

        Raises:
            Invalid: the condition cannot be evaluated on these columns.
        """
        try:
            found = frame.select(self._expression(frame).alias("meant")).to_series()
        except pl.exceptions.PolarsError as error:
            raise _unreadable(self.where or str(self.values), error) from None
        if found.dtype != pl.Boolean:
            raise Invalid(f"{self.where!r} is no condition: it gives {found.dtype}.", hint="Compare something.")
        whole = found if len(found) == len(frame) else found.new_from_index(0, len(frame))
        return whole.fill_null(value=False)

    def _expression(self, frame: pl.DataFrame) -> pl.Expr:
        if self.where is not None:
            return self._condition
        parts: list[pl.Expr] = []
        for name, text in self.values.items():
            dtype = frame.schema[name]
            if isinstance(dtype, pl.Datetime):
                wanted = pl.Series([text]).str.to_datetime(time_unit=dtype.time_unit, time_zone=dtype.time_zone)
            elif dtype == pl.Boolean:
                wanted = pl.Series([text.lower() == "true"])
            else:
                wanted = pl.Series([text]).cast(dtype, strict=False)
            parts.append(pl.col(name) == pl.lit(wanted.item(), dtype) if wanted.item() is not None else pl.lit(False))
        return pl.all_horizontal(parts)


def _unreadable(text: str, error: Exception) -> Invalid:
    return Invalid(
        f"{text!r:.200} cannot be used as a condition: {str(error).partition(chr(10))[0]:.200}",
        hint="Write what stands after WHERE, for instance: email = 'a@b.c'",
    )


@dataclass(slots=True)
class Redaction:
    """What is taken out, over all layouts of a table.

    Attributes:
        masks: file -> which of its rows are meant, in any layout that shows them.
        unseen: layouts without the columns that the condition names.
        objects: that hold such a row, and must be gone in the end.
    """

    masks: dict[bytes, Any] = field(default_factory=dict[bytes, Any])
    unseen: int = 0
    objects: set[bytes] = field(default_factory=set[bytes])
    looked: set[Any] = field(default_factory=set[Any])
    files: dict[bytes, Fragment | None] = field(default_factory=dict[bytes, "Fragment | None"])

    @property
    def rows(self) -> int:
        """Stored rows, deleted ones and those of older versions included."""
        return sum(int(mask.sum()) for mask in self.masks.values())


def search(reader: TableReader, layout: Layout, selection: Selection, done: Redaction) -> None:
    """Notes the rows that are meant as a layout shows them; each file is looked at once for each form that it has."""
    if not set(selection.columns) <= set(layout.schema.names):
        done.unseen += 1
        return
    types = [dict(layout.columns)[name] for name in selection.columns]
    for fragment in layout.fragments:
        form = (fragment.id, repr(sources(layout, fragment, selection.columns)), repr(types), repr(layout.defaults))
        if form in done.looked:
            continue
        done.looked.add(form)
        mask = selection.mask(reader.whole(layout, fragment, selection.columns)).to_numpy()
        if mask.any():
            done.masks[fragment.id] = done.masks.get(fragment.id, False) | mask


def redact(
    reader: TableReader,
    writer: Writer | None,
    layout_id: Digest,
    layout: Layout,
    done: Redaction,
    flush: Callable[[], None],
) -> Digest | None:
    """The table without the rows that ``search`` noted; None where it has none. Without ``writer``, only looks.

    Files are rewritten as they are: ``__seq`` and ``__known`` of the rows that stay are kept, and so are their order
    and what is deleted of them. A version without the columns loses a row that an older one shows with them, since
    both show the same stored row.
    """
    if not any(fragment.id in done.masks for fragment in layout.fragments):
        return None
    done.objects.add(layout_id.raw)
    fragments: list[Fragment] = []
    gone: list[pl.DataFrame] = []
    for fragment in layout.fragments:
        mask = done.masks.get(fragment.id)
        if mask is None:
            fragments.append(fragment)
            continue
        done.objects.add(fragment.id)
        if fragment.deleted:
            done.objects.add(fragment.deleted)
        if writer is None:
            continue
        live = mask & reader.keep(fragment)
        if live.any():
            gone.append(reader.whole(layout, fragment).filter(pl.Series(live)))
        made = _without(reader, writer, fragment, mask, done)
        if made is not None:
            fragments.append(made)
    if writer is None:
        return layout_id
    rows = layout.rows - sum(len(frame) for frame in gone)
    draft = msgspec.structs.replace(layout, rows=rows, fragments=fragments)
    if layout.key:
        total = int.from_bytes(layout.sum, "little") - total_of(layout.schema, gone)
    else:  # the place of a row counts, so all that follow another one are new
        flush()
        total = total_of(layout.schema, (reader.live(draft, fragment) for fragment in fragments))
    made_layout = msgspec.structs.replace(draft, sum=(total % MODULUS).to_bytes(32, "little"))
    return writer.put(Kind.TABLE, encode_layout(made_layout))


def _without(reader: TableReader, writer: Writer, fragment: Fragment, mask: Any, done: Redaction) -> Fragment | None:
    """A file without some rows; each is written once, whoever uses it."""
    if fragment.id not in done.files:
        done.files[fragment.id] = _write(reader, writer, fragment, mask)
    made = done.files[fragment.id]
    if made is None:
        return None
    how: dict[str, Any] = {"level": fragment.level, "shape": fragment.shape}
    if fragment.deleted:
        place = np.cumsum(~mask) - 1  # where the rows that stay stand now
        dead = numbers(reader.deleted(fragment))
        left = BitMap(place[dead[~mask[dead]]].astype(np.uint32))
        if left:
            left.run_optimize()
            how |= {"deleted": writer.put(Kind.BLOB, left.serialize()).raw, "deleted_rows": len(left)}
    return msgspec.structs.replace(made, **how)


def _write(reader: TableReader, writer: Writer, fragment: Fragment, mask: Any) -> Fragment | None:
    if mask.all():
        return None
    frame = reader.fragment(fragment.id).filter(pl.Series(~mask))
    out = io.BytesIO()
    frame.write_parquet(out, compression="zstd", compression_level=3, row_group_size=len(frame), statistics=False)
    raw = out.getvalue()
    oid = writer.put(Kind.FRAGMENT, raw).raw
    reader.remember(oid, frame)
    sequence = frame[SEQ]
    return msgspec.structs.replace(
        fragment,
        id=oid,
        rows=len(frame),
        size=len(raw),
        deleted=b"",
        deleted_rows=0,
        first_seq=int(sequence.min()),  # pyright: ignore[reportArgumentType]
        last_seq=int(sequence.max()),  # pyright: ignore[reportArgumentType]
    )


def redact_refused(
    raw: bytes, selection: Selection, forms: Sequence[Mapping[str, pl.DataType]], no_row: str, *, torn: bool
) -> tuple[bytes | None, int, int]:
    """A refused batch without the rows that are meant, and without those of which it cannot be told.

    A row stays only where the condition can be evaluated on it, and is not met. Values may have other types than in the
    table, or be text: they are cast before the condition. A row is told where its values fit one of the forms, and
    it is meant where the condition is met in any of them.

    Args:
        forms: types of the columns that the condition names, as versions of the table have them.
        no_row: the column of lines that are no rows; of those nothing can be told.
        torn: the rows are lines that do not fit the table, whose values may stand in the wrong columns: nothing can be
            told of one with a text of the condition in another column.

    Returns:
        what is left (None where nothing is), rows that are meant, rows of which it cannot be told.
    """
    frame = pl.read_parquet(io.BytesIO(raw))
    meant, told = _judged(frame, selection, forms, no_row)
    if torn:
        told &= ~_elsewhere(frame, selection, forms)
    stays = told & ~meant
    counts = int(meant.sum()), int((~told & ~meant).sum())
    if stays.all():
        return raw, 0, 0
    if not stays.any():
        return None, *counts
    out = io.BytesIO()
    about = {name: text for name, text in pl.read_parquet_metadata(io.BytesIO(raw)).items() if name == BATCH}
    left = frame.filter(pl.Series(stays))
    left.write_parquet(out, compression="zstd", statistics=False, metadata=about or None)
    return out.getvalue(), *counts


def _elsewhere(frame: pl.DataFrame, selection: Selection, forms: Sequence[Mapping[str, pl.DataType]]) -> Any:
    """Which rows have a text of the condition in a column that it does not name."""
    found, texts = np.zeros(len(frame), dtype=bool), selection.texts(forms)
    for name, dtype in frame.schema.items():
        if texts and dtype == pl.String and name not in selection.columns:
            found |= frame[name].str.contains_any(texts).fill_null(value=False).to_numpy()
    return found


def _judged(
    frame: pl.DataFrame, selection: Selection, forms: Sequence[Mapping[str, pl.DataType]], no_row: str
) -> tuple[Any, Any]:
    """(which rows are meant, of which it can be told)."""
    meant, told = np.zeros(len(frame), dtype=bool), np.zeros(len(frame), dtype=bool)
    if not selection.fits(frame):
        return meant, told
    some = frame.select(selection.columns)
    rows = frame[no_row].is_null() if no_row in frame.columns else pl.repeat(value=True, n=len(frame), eager=True)
    for form in forms:
        good = rows
        for misfits in fit(some, form)[1].values():
            good = good & ~misfits
        cast, left = fit(some.filter(good), form)
        if left or not len(cast):
            continue
        try:
            found = selection.mask(cast)
        except Invalid:  # of a value that fits its type, for instance a cast in the condition
            continue
        here = np.flatnonzero(good.to_numpy())
        told[here] = True
        meant[here] |= found.to_numpy()
    return meant, told
