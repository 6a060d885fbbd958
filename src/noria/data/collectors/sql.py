"""Rows from a database, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import polars as pl
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from noria.base import canonical
from noria.data.collectors.protocol import Piece
from noria.data.errors import SourceFailed

_BATCH = 100_000


class SqlSource:
    """The rows of a query; with ``watermark``, only those beyond the largest value seen, in batches that resume.

    Args:
        url: an SQLAlchemy URL. It is never stored or shown.
        watermark: a column that grows, for instance a number or a time of change.
    """

    def __init__(self, url: str, query: str, watermark: str | None = None) -> None:
        self._url = url
        self._query = query.strip().rstrip(";")
        self._watermark = watermark

    def pieces(self, marks: dict[str, dict[str, Any]]) -> Iterator[Piece]:
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
                yield from self._beyond(engine, source, meta, marks.get(source, {}).get("watermark"))
        finally:
            engine.dispose()

    def _whole(self, engine: Any, source: str, meta: dict[str, Any], marks: dict[str, Any]) -> Iterator[Piece]:
        frame = self._rows(engine, self._query, {})
        mark = {"rows": len(frame), "hash": int(frame.hash_rows(seed=1).sum() or 0) if len(frame) else 0}
        if marks.get(source) != mark:
            yield Piece(source=source, mark=mark, frame=frame, meta=meta)

    def _beyond(self, engine: Any, source: str, meta: dict[str, Any], since: Any) -> Iterator[Piece]:
        column = self._watermark
        while True:
            where = "" if since is None else f" WHERE {column} > :since"
            query = f"SELECT * FROM ({self._query}) AS source{where} ORDER BY {column} LIMIT {_BATCH}"  # noqa: S608 - the project's own query
            frame = self._rows(engine, query, {} if since is None else {"since": since})
            if not len(frame):
                return
            since = frame[column].max()  # type: ignore[index]
            mark = since.isoformat() if isinstance(since, datetime) else since
            yield Piece(source=source, mark={"watermark": mark}, frame=frame, meta={**meta, "watermark": mark})

    def _rows(self, engine: Any, query: str, values: dict[str, Any]) -> pl.DataFrame:
        try:
            with engine.connect() as conn:
                found = conn.execute(text(query), values)
                names = list(found.keys())
                rows = [tuple(row) for row in found]
        except SQLAlchemyError as error:
            first = str(getattr(error, "orig", error)).splitlines()[0]
            raise SourceFailed(
                f"The source's query failed: {first:.300}", hint="Try it in the database's shell."
            ) from None
        return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
