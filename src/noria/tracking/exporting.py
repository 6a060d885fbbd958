"""Runs as tables in files: one row a run, or one row a point. Written page by page; nothing is held as a whole."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, Protocol

from noria.base.errors import Invalid
from noria.base.times import to_text
from noria.tracking.records import Listed, Point

ATTRIBUTES: Final = ("run_id", "name", "kind", "state", "experiment", "user", "started_at", "ended_at")
HISTORY: Final = ("run_id", "key", "step", "at", "value")


class Sheet(Protocol):
    """A file that takes rows."""

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """The next rows, each with a value for every column."""
        ...

    def close(self) -> None: ...


def run_row(listed: Listed, columns: Sequence[str]) -> list[Any]:
    """The values of a run in these columns (``run_id``, ``params.lr``, ``metrics.loss``, ``tags.team``)."""
    run, data = listed.run, listed.data
    own = {
        "run_id": run.id,
        "name": run.name,
        "kind": run.kind,
        "state": run.state.value,
        "experiment": listed.experiment,
        "user": data.user,
        "started_at": to_text(run.started_at),
        "ended_at": None if run.ended_at is None else to_text(run.ended_at),
    }
    made: list[Any] = []
    for column in columns:
        part, _, key = column.partition(".")
        if part == "params":
            made.append(data.params.get(key))
        elif part == "metrics":
            point = data.metrics.get(key)
            made.append(None if point is None else float(point.value))
        elif part == "tags":
            made.append(data.tags.get(key))
        else:
            made.append(own.get(column))
    return made


def point_row(run_id: str, point: Point) -> list[Any]:
    return [run_id, point.key, point.step, point.at, float(point.value)]


def form_of(target: str, form: str | None) -> str:
    """csv, jsonl or parquet: as asked for, else by the end of the file's name.

    Raises:
        Invalid: neither says which.
    """
    ends = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
    found = form or ends.get(Path(target).suffix.lower())
    if found is None:
        raise Invalid(
            f"The name {target!r:.200} does not say what to write.",
            hint="End it in .csv, .jsonl or .parquet; or --form.",
        )
    return found


def sheet(target: Path | IO[str], form: str, columns: Sequence[str], numbers: Iterable[str]) -> Sheet:
    """A file of a form, with its columns.

    Args:
        numbers: the columns that hold floating-point numbers; ``step`` and ``at`` hold whole ones, all others text.

    Raises:
        Invalid: Parquet cannot go to the standard output.
    """
    if form == "parquet":
        if not isinstance(target, Path):
            raise Invalid("Parquet is not written to the standard output.", hint="Name a file.")
        return _Parquet(target, columns, set(numbers))
    file = target.open("w", encoding="utf-8", newline="") if isinstance(target, Path) else target
    done: Callable[[], None] = file.close if isinstance(target, Path) else file.flush
    return (_Csv if form == "csv" else _Lines)(file, columns, done)


class _Csv:
    def __init__(self, file: IO[str], columns: Sequence[str], done: Callable[[], None]) -> None:
        self._rows = csv.writer(file, lineterminator="\n")
        self._done = done
        self._rows.writerow(columns)

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        self._rows.writerows([[_plain(value) for value in row] for row in rows])

    def close(self) -> None:
        self._done()


class _Lines:
    """One JSON object a line; what a run does not have is left out."""

    def __init__(self, file: IO[str], columns: Sequence[str], done: Callable[[], None]) -> None:
        self._file, self._columns, self._done = file, columns, done

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            value = {c: _plain(v) for c, v in zip(self._columns, row, strict=True) if v is not None}
            self._file.write(json.dumps(value, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._done()


class _Parquet:
    def __init__(self, path: Path, columns: Sequence[str], numbers: set[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        def kind(name: str) -> Any:
            return pa.float64() if name in numbers else pa.int64() if name in ("step", "at") else pa.string()

        self._pa = pa
        self._schema = pa.schema([(name, kind(name)) for name in columns])
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        columns = list(zip(*rows, strict=True)) if rows else [() for _ in self._schema]
        arrays = [self._pa.array(c, field.type) for c, field in zip(columns, self._schema, strict=True)]
        self._file.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._file.close()


def _plain(value: Any) -> Any:
    """NaN and the infinities as words, which JSON has no numbers for."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def batches(rows: Iterable[Sequence[Any]], size: int) -> Iterator[list[Sequence[Any]]]:
    found: list[Sequence[Any]] = []
    for row in rows:
        found.append(row)
        if len(found) == size:
            yield found
            found = []
    if found:
        yield found
