"""Rows from a database, through SQLAlchemy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import blake3
import polars as pl
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from noria.base import canonical
from noria.data.collectors.protocol import Marks, Piece
from noria.data.errors import SourceFailed

_BATCH = 100_000
_READ: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "Decimal": Decimal,
    "UUID": UUID,
    "bytes": bytes.fromhex,
}
"""How a watermark comes back from the text in its mark, by the name of its type."""


class SqlSource:
    """The rows of a query; with ``watermark``, only those from the largest value seen on, in batches that resume.

    Several rows may have one value: a batch never ends between them, and those that come later with the largest value
    seen are found, since the mark holds the hashes of the rows that had it. Rows without a value are all read each
    time, and taken once.

    Args:
        url: an SQLAlchemy URL. It is never stored or shown.
        watermark: a column that grows, for instance a number or a time of change.
        keyed: whether rows have a key. Without one, and without a watermark, an answer that differs is a whole piece.
    """

    def __init__(self, url: str, query: str, watermark: str | None = None, *, keyed: bool = True) -> None:
        self._url = url
        self._keyed = keyed
        self._query = query.strip().rstrip(";")
        self._watermark = watermark

    def pieces(self, marks: Marks) -> Iterator[Piece]:
        source = f"sql:{canonical.digest(self._query).short}"
        meta = {"kind": "sql", "query": self._query}
        try:
            engine = create_engine(self._url)
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise SourceFailed(
                f"The database URL of the source is not usable: {type(error).__name__}.",
                hint="Write for instance postgresql+psycopg://user:password@host/name.",
            ) from None
        try:
            if self._watermark is None:
                yield from self._whole(engine, source, meta, marks)
            else:
                yield from self._beyond(engine, source, meta, marks, self._watermark)
                # Last: by then the column has a type, which rows without a value do not give it.
                yield from self._without(engine, source, meta, marks, self._watermark)
        finally:
            engine.dispose()

    def _whole(self, engine: Any, source: str, meta: dict[str, Any], marks: dict[str, Any]) -> Iterator[Piece]:
        frame = _frame(*self._rows(engine, self._query, {}))
        mark = {"rows": len(frame), "hash": int(frame.hash_rows(seed=1).sum() or 0) if len(frame) else 0}
        if marks.get(source) != mark:
            whole = not self._keyed and source in marks
            yield Piece(source=source, mark=mark, frame=frame, meta=meta, whole=whole)

    def _without(
        self, engine: Any, source: str, meta: dict[str, Any], marks: dict[str, Any], column: str
    ) -> Iterator[Piece]:
        """Rows that have no watermark."""
        source = f"{source}:null"
        query = f"SELECT * FROM ({self._query}) AS source WHERE {column} IS NULL"  # noqa: S608 - the project's own query
        names, rows = self._rows(engine, query, {})
        hashes = [_hash(row) for row in rows]
        fresh = _unseen(rows, hashes, marks.get(source, {}).get("seen", ()))
        if fresh:
            mark = {"seen": sorted(hashes)}
            yield Piece(source=source, mark=mark, frame=_frame(names, fresh), meta={**meta, "watermark": None})

    def _beyond(
        self, engine: Any, source: str, meta: dict[str, Any], marks: dict[str, Any], column: str
    ) -> Iterator[Piece]:
        """Rows from the largest watermark on, in its order."""
        mark = marks.get(source, {})
        since, seen = _read(mark), mark.get("seen", ())
        last = False
        while not last:
            upto = self._border(engine, column, since)
            last = upto is None
            limits = [f"{column} IS NOT NULL" if since is None else f"{column} >= :since"]
            limits += [] if last else [f"{column} <= :upto"]
            where = " AND ".join(limits)
            query = f"SELECT * FROM ({self._query}) AS source WHERE {where} ORDER BY {column}"  # noqa: S608 - as above
            names, rows = self._rows(engine, query, {"since": since, "upto": upto})
            if not rows:
                return
            place = _place(names, column)
            since_before, since = since, rows[-1][place]
            border = sorted(_hash(row) for row in rows if row[place] == since)
            fresh = rows
            if since_before is not None:
                fresh = _unseen(rows, [_hash(r) if r[place] == since_before else "" for r in rows], seen)
            seen = border
            if fresh:
                value = _written(since, column)
                about = {**meta, "watermark": value["watermark"]}
                yield Piece(source=source, mark={**value, "seen": seen}, frame=_frame(names, fresh), meta=about)

    def _border(self, engine: Any, column: str, since: Any) -> Any:
        """The value with which the next batch ends; None where it holds all the rest."""
        where = f"{column} IS NOT NULL" if since is None else f"{column} > :since"
        query = f"SELECT {column} FROM ({self._query}) AS source WHERE {where} ORDER BY {column}"  # noqa: S608 - as above
        _, rows = self._rows(engine, f"{query} LIMIT 1 OFFSET {_BATCH - 1}", {"since": since})
        return rows[0][0] if rows else None

    def _rows(self, engine: Any, query: str, values: dict[str, Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
        given = {name: value for name, value in values.items() if value is not None}
        try:
            with engine.connect() as conn:
                found = conn.execute(text(query), given)
                return list(found.keys()), [tuple(row) for row in found]
        except SQLAlchemyError as error:
            first = str(getattr(error, "orig", error)).splitlines()[0]
            raise SourceFailed(
                f"The source's query failed: {first:.300}", hint="Try it in the database's shell."
            ) from None


def _frame(names: list[str], rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    try:
        return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise SourceFailed(
            f"The rows of the source's query do not make a table: {str(error).splitlines()[0]:.300}",
            hint="Give each column one type and a name of its own, for instance with cast(... as ...).",
        ) from None


def _hash(row: tuple[Any, ...]) -> str:
    return blake3.blake3(repr(row).encode()).hexdigest()[:32]


def _unseen(rows: list[tuple[Any, ...]], hashes: list[str], seen: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows without those that were taken before, each as often as it was."""
    left = Counter(seen)
    fresh: list[tuple[Any, ...]] = []
    for row, digest in zip(rows, hashes, strict=True):
        if left[digest] > 0:
            left[digest] -= 1
        else:
            fresh.append(row)
    return fresh


def _place(names: list[str], column: str) -> int:
    """Which column the watermark is; databases fold the case of names."""
    folded = [name.casefold() for name in names]
    for wanted, found in ((column, names), (column.strip('"`[]').casefold(), folded)):
        if wanted in found:
            return found.index(wanted)
    raise SourceFailed(
        f"The source's query has no column {column!r} for its watermark.", hint=f"Its columns: {', '.join(names)}."
    )


def _written(value: Any, column: str) -> dict[str, Any]:
    """A watermark as a mark holds it."""
    kind = type(value).__name__
    if kind not in _READ:
        raise SourceFailed(
            f"The watermark {column!r} holds a {kind}, which does not grow.", hint="Take a number, a text or a time."
        )
    plain = value if isinstance(value, int | float | str) else value.hex() if kind == "bytes" else str(value)
    return {"watermark": plain, "type": kind}


def _read(mark: dict[str, Any]) -> Any:
    """The watermark that a mark holds; None where nothing was collected yet."""
    found = mark.get("watermark")
    return found if found is None else _READ[mark.get("type", type(found).__name__)](found)
