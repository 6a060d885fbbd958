"""Rows from CSV, Parquet and JSON-lines files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blake3
import polars as pl

from noria.data.collectors.protocol import Piece
from noria.data.errors import SourceFailed


class FileSource:
    """Files by a pattern below a folder, in the order of their names; a file is collected again when it changed."""

    def __init__(self, root: Path, pattern: str) -> None:
        self._root = root
        self._pattern = pattern

    def pieces(self, marks: dict[str, dict[str, Any]]) -> Iterator[Piece]:
        for path in self._paths():
            name = path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path)
            source, found = f"file:{name}", path.stat()
            before = marks.get(source, {})
            quick = {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
            if before and all(before.get(k) == v for k, v in quick.items()):
                continue
            digest = blake3.blake3(path.read_bytes()).hexdigest()
            if before.get("digest") == digest:
                continue
            meta = {"kind": "file", "path": name, "digest": f"blake3:{digest}"}
            yield Piece(source=source, mark={**quick, "digest": digest}, frame=read_rows(path), meta=meta)

    def _paths(self) -> list[Path]:
        whole = self._root / self._pattern
        if whole.is_dir():
            return sorted(p for p in whole.iterdir() if p.is_file() and not p.name.startswith("."))
        base, pattern = (Path(whole.anchor), str(whole.relative_to(whole.anchor)))
        found = sorted(p for p in base.glob(pattern) if p.is_file())
        if not found and not any(c in self._pattern for c in "*?["):
            raise SourceFailed(f"There is no file {whole}.", hint="Check files= of the source.")
        return found


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
