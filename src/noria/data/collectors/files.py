"""Rows from CSV, Parquet and JSON-lines files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3
import polars as pl

from noria.data.collectors.protocol import Piece
from noria.data.errors import SourceFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file that is not as its mark says.

    Attributes:
        before: its mark, empty where it was never collected.
        same: whether its content is the same all the same: it was only touched.
    """

    path: Path
    name: str
    before: dict[str, Any]
    mark: dict[str, Any]
    same: bool

    @property
    def source(self) -> str:
        return f"file:{self.name}"


class FileSource:
    """Files by a pattern below a folder, in the order of their names; a file is collected again when it changed.

    A file of the same size and time as before is not read.

    Args:
        keyed: whether rows have a key. Without one a file that changed brings all files again, as one whole piece.
    """

    def __init__(self, root: Path, pattern: str, *, keyed: bool = True) -> None:
        self._root = root
        self._pattern = pattern
        self._keyed = keyed

    def pieces(self, marks: dict[str, dict[str, Any]]) -> Iterator[Piece]:
        if self._keyed:
            for found in self._found(marks):
                yield self._piece(found)
            return
        every = list(self._found(marks))
        changed = [f for f in every if f.before and not f.same]
        if changed:
            yield self._whole(changed[0], marks)
        else:
            yield from map(self._piece, every)

    def pending(self, marks: dict[str, dict[str, Any]]) -> list[str]:
        """What a collection would read, in words; none where nothing is new."""
        return [f"{f.name} {'changed' if f.before else 'is new'}" for f in self._found(marks) if not f.same]

    def _piece(self, found: Found) -> Piece:
        meta = {"kind": "file", "path": found.name, "digest": f"blake3:{found.mark['digest']}"}
        if found.same:
            return Piece(source=found.source, mark=found.mark, frame=None, meta=meta)
        frame = read_rows(found.path)
        if _quick(found.path).items() - found.mark.items():
            raise SourceFailed(f"{found.path} changed while it was read.", hint="Repeat the command when it is whole.")
        return Piece(source=found.source, mark=found.mark, frame=frame, meta=meta)

    def _whole(self, changed: Found, marks: dict[str, dict[str, Any]]) -> Piece:
        """All files, to take the place of all rows."""
        pieces = {p.source: p for p in map(self._piece, self._found({}))}
        gone = sorted(source for source in marks if source.startswith("file:") and source not in pieces)
        if gone:
            raise SourceFailed(
                f"{changed.name} changed, and {gone[0].removeprefix('file:')}, which was collected before, is gone. "
                "Rows without a key are made anew from all files.",
                hint='Put it back, or give the source a key: key="COLUMN".',
                details={"gone": gone, "changed": changed.name},
            )
        frames = [p.frame for p in pieces.values() if p.frame is not None]
        try:
            frame = pl.concat(frames, how="vertical_relaxed")
        except pl.exceptions.PolarsError as error:
            raise SourceFailed(
                f"The files of {self._pattern} do not make one table: {str(error).splitlines()[0]:.300}",
                hint="Without a key all files are read together: give them the same columns, in the same order.",
            ) from None
        first = pieces.pop(changed.source)
        meta = {**first.meta, "whole": len(frames)}
        others = {p.source: p.mark for p in pieces.values()}
        return Piece(source=first.source, mark=first.mark, frame=frame, meta=meta, whole=True, others=others)

    def _found(self, marks: dict[str, dict[str, Any]]) -> Iterator[Found]:
        for path in self._paths():
            name = path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path)
            before, quick = marks.get(f"file:{name}", {}), _quick(path)
            if before and not quick.items() - before.items():
                continue
            try:
                digest = blake3.blake3(path.read_bytes()).hexdigest()
            except OSError as error:
                raise _unreadable(path, error) from None
            same = before.get("digest") == digest
            yield Found(path=path, name=name, before=before, mark={**quick, "digest": digest}, same=same)

    def _paths(self) -> list[Path]:
        whole = self._root / self._pattern
        if whole.is_dir():
            return sorted(p for p in whole.iterdir() if p.is_file() and not p.name.startswith("."))
        base, pattern = (Path(whole.anchor), str(whole.relative_to(whole.anchor)))
        found = sorted(p for p in base.glob(pattern) if p.is_file())
        if not found and not any(c in self._pattern for c in "*?["):
            raise SourceFailed(f"There is no file {whole}.", hint="Check files= of the source.")
        return found


def _quick(path: Path) -> dict[str, Any]:
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _unreadable(path: Path, error: OSError) -> SourceFailed:
    return SourceFailed(f"{path} cannot be read: {error.strerror}.", hint="Is it there, and may you read it?")


def read_rows(path: Path) -> pl.DataFrame:
    """A table file, by its ending; times in text become times."""
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    try:
        if kind == "parquet":
            return pl.read_parquet(path)
        if kind in ("csv", "tsv"):
            return pl.read_csv(
                path, try_parse_dates=True, separator="\t" if kind == "tsv" else ",", infer_schema_length=None
            )
        if kind in ("jsonl", "ndjson"):
            return pl.read_ndjson(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise SourceFailed(
            f"{path} cannot be read as {kind}: {str(error).splitlines()[0]:.300}",
            hint="Open the file: is it whole, and what its ending says?",
        ) from None
    raise SourceFailed(f"{path} has no ending that noria reads.", hint="csv, tsv, parquet, jsonl")
