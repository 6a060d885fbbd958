"""Rows from CSV, Parquet and JSON-lines files."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import blake3
import polars as pl

from noria.base.names import is_pattern
from noria.data.collectors import lines
from noria.data.collectors.parts import Opened, Part, PartsSource
from noria.data.collectors.protocol import Columns, Known, Marks, Misfits
from noria.data.collectors.sift import TooManyMisfits
from noria.data.errors import SourceFailed


class FileSource(PartsSource):
    """Files by a pattern below a folder, in the order of their names; a file is collected again when it changed.

    A file of the same size and time as before is not read. Of a CSV or JSON-lines file that only grew, the new lines
    are. Hidden files are left out, and so are links that lead out of the pattern's folder.

    Args:
        keyed: whether rows have a key. Without one a file that changed brings all files again, as one whole piece.
        known: gives the columns of the table as it stands.
        settle: seconds after which a last line without an end counts as one, in a file that grew.
        first_settle: the same for a file that is read for the first time.
        only: full paths; the others wait.
    """

    def __init__(
        self,
        root: Path,
        pattern: str,
        *,
        keyed: bool = True,
        known: Known = lambda: None,
        settle: float = 2.0,
        first_settle: float = 0.0,
        only: Collection[Path] | None = None,
    ) -> None:
        super().__init__(pattern, keyed=keyed)
        self._root = root
        self._pattern = pattern
        self._known = known
        self._settle = settle
        self._first_settle = first_settle
        self._only = only

    def pending(self, marks: Marks) -> list[str]:
        """What a collection would read, in words; none where nothing is new."""
        found: list[str] = []
        for part in self._parts():
            before = marks.get(part.source, {})
            if self._unchanged(part, before):
                continue
            with self._open(part, before) as opened:
                if not opened.same:
                    found.append(f"{part.name} {'grew' if opened.grown else 'changed' if before else 'is new'}")
        return found

    def _parts(self) -> list[Part]:
        made: list[Part] = []
        for path in find(self._root, self._pattern):
            name = path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path)
            made.append(Part(name=name, source=f"file:{name}", quick=_quick(path)))
        return made

    def _looked_at(self, parts: list[Part]) -> list[Part]:
        return [p for p in parts if self._only is None or self._root / p.name in self._only]

    def _unchanged(self, part: Part, before: dict[str, Any]) -> bool:
        if not before or part.quick.items() - before.items():
            return False
        return before.get("read", part.quick["size"]) == part.quick["size"]

    @contextmanager
    def _open(self, part: Part, before: dict[str, Any]) -> Iterator[Opened]:
        path = self._root / part.name
        try:
            if lines.grows(part.name):
                opened = self._look(path, part, before)
            else:
                digest = _digest(path)
                same = before.get("digest") == digest
                opened = Opened(part=part, mark={**part.quick, "digest": digest}, same=same)
        except OSError as error:
            raise _unreadable(path, error) from None
        yield opened

    def _look(self, path: Path, part: Part, before: dict[str, Any]) -> Opened:
        span = lines.look(path, before, self._settle if before else self._first_settle)
        mark = {**part.quick, "digest": span.digest}
        if span.end != part.quick["size"]:
            mark["read"] = span.end
        grown = bool(before) and not span.rewritten
        note = None
        if span.rewritten:
            note = f"{part.name} was rewritten: it was read anew from its beginning"
        elif span.open_end:
            note = f"{part.name}: its last line has no end yet; it waits"
        return Opened(
            part=part,
            mark=mark,
            same=span.start == span.end and (grown or bool(span.open_end)),
            grown=grown,
            note=note,
            handle=span,
        )

    def _read(self, opened: Opened, *, whole: bool) -> tuple[pl.DataFrame, Misfits | None]:
        path = self._root / opened.part.name
        columns = None if whole else self._known()
        if isinstance(opened.handle, lines.Span):
            return translated(path, lambda: lines.read_lines(path, opened.handle, columns))
        found = read_fitting(path, columns)
        if _quick(path).items() - opened.mark.items():
            raise SourceFailed(f"{path} changed while it was read.", hint="Repeat the command when it is whole.")
        return found

    def _meta(self, opened: Opened) -> dict[str, Any]:
        meta: dict[str, Any] = {"kind": "file", "path": opened.part.name, "digest": f"blake3:{opened.mark['digest']}"}
        span = opened.handle
        if isinstance(span, lines.Span) and opened.grown:
            meta["bytes"] = [span.start, span.end]
        return meta


def find(root: Path, pattern: str) -> list[Path]:
    """The files of a pattern (``**`` goes through folders) or of a folder, in the order of their names.

    Hidden files and folders are left out where the pattern does not name them. A link to a file is followed where it
    stays in the folder in which the pattern begins.
    """
    whole = root / pattern
    if whole.is_dir():
        base, found = whole, list(_scan(whole))
    else:
        base, parts = _base(whole)
        if not base.is_dir() or not parts:
            found = [whole] if whole.is_file() else []
        else:
            try:
                found = [p for p in base.glob("/".join(parts)) if not _hidden(p, base, parts)]
            except (ValueError, NotImplementedError) as error:
                raise SourceFailed(
                    f"{pattern!r} is not a pattern: {error}.", hint='For instance "in/**/*.csv".'
                ) from None
    files = sorted(p for p in found if p.is_file() and not _leads_out(p, base))
    if not files and not is_pattern(pattern) and not whole.is_dir():
        raise SourceFailed(f"There is no file {whole}.", hint="Check files= of the source.")
    return files


def no_folder(root: Path, pattern: str) -> Path | None:
    """The folder in which a pattern begins, where it is not there."""
    base, parts = _base(root / pattern)
    return base if parts and not base.is_dir() else None


def _base(whole: Path) -> tuple[Path, list[str]]:
    """(the folder before the first part with a sign of patterns, the parts from there on)."""
    parts = list(whole.parts)
    for place, part in enumerate(parts):
        if is_pattern(part):
            return Path(*parts[:place]), parts[place:]
    return whole.parent, []


def _scan(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as items:
            yield from (Path(item.path) for item in items if not item.name.startswith("."))
    except OSError as error:
        raise _unreadable(folder, error) from None


def _hidden(path: Path, base: Path, parts: list[str]) -> bool:
    named = any(part.startswith(".") for part in parts)
    return not named and any(part.startswith(".") for part in path.relative_to(base).parts)


def _leads_out(path: Path, base: Path) -> bool:
    return path.is_symlink() and not path.resolve().is_relative_to(base.resolve())


def _quick(path: Path) -> dict[str, Any]:
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _digest(path: Path) -> str:
    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
    with path.open("rb") as file:
        while data := file.read(16 << 20):
            hasher.update(data)
    return hasher.hexdigest()


def _unreadable(path: Path, error: OSError) -> SourceFailed:
    return SourceFailed(
        f"{path} cannot be read: {error.strerror}.",
        hint="Is it there, and may you read it?",
        details={"path": str(path)},
    )


def read_fitting(path: Path, columns: Columns | None) -> tuple[pl.DataFrame, Misfits | None]:
    """The rows of a file that fit the columns of a table, and the lines that do not; all rows where none are known.

    Raises:
        SourceFailed: it cannot be read, or more than half of its lines do not fit.
    """
    kind = lines.kind_of(path.name)
    if columns is None or kind not in lines.KINDS:
        return read_rows(path), None

    def read() -> tuple[pl.DataFrame, Misfits | None]:
        return lines.read_text(_bytes(path), kind, columns, lambda: 2 if kind in ("csv", "tsv") else 1)

    return translated(path, read)


def _bytes(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) if path.name.lower().endswith(".gz") else raw


def read_rows(path: Path) -> pl.DataFrame:
    """A table file, by its ending; times in text become times."""
    kind = lines.kind_of(path.name)

    def read() -> pl.DataFrame | None:
        if kind == "parquet":
            return pl.read_parquet(path)
        return lines.parse(_bytes(path), kind) if kind in lines.KINDS else None

    frame = translated(path, read)
    if frame is None:
        raise SourceFailed(
            f"{path} has no ending that noria reads.", hint="csv, tsv, parquet, jsonl", details={"path": str(path)}
        )
    return frame


def translated(path: Path, read: Callable[[], Any]) -> Any:
    """What ``read`` gives; errors of Polars in our words."""
    try:
        return read()
    except TooManyMisfits as error:
        found = error.misfits
        raise SourceFailed(
            f"{found.count} of {found.lines} lines of {path} do not fit the table: {found.report[0].message}. None of "
            "them was taken.",
            hint="Has the form of the file changed? noria data show NAME   tells the columns of the table, and "
            "noria data alter NAME   changes them.",
            details={"path": str(path), "lines": found.lines, "misfits": found.count},
        ) from None
    except (pl.exceptions.PolarsError, OSError, EOFError, UnicodeDecodeError) as error:
        raise SourceFailed(
            f"{path} cannot be read as {lines.kind_of(path.name)}: {str(error).splitlines()[0]:.300}",
            hint="Open the file: is it whole, and what its ending says?",
            details={"path": str(path)},
        ) from None
