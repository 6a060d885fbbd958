"""Wire shapes of files that are read where they lie."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.data.records import MAIN
from noria.data.service.access import FilesPage, etag
from noria.store import Entry, EntryKind


class FileOut(msgspec.Struct):
    """``kind`` is file, symlink or folder (an empty one); ``digest`` names the content of a file."""

    path: str
    kind: str
    size: int
    digest: str | None
    executable: bool
    target: str | None
    meta: dict[str, Any]


class FilePage(msgspec.Struct):
    """``next`` goes on at the same commit."""

    commit: str
    items: list[FileOut]
    next: str | None


class FilesQuery(msgspec.Struct):
    pattern: str = "*"
    ref: str = MAIN
    after: str | None = None
    limit: int = 100


class FileQuery(msgspec.Struct):
    ref: str = MAIN


def file_out(entry: Entry) -> FileOut:
    return FileOut(
        path=shown(entry.path),
        kind=entry.kind.name.lower(),
        size=entry.size,
        digest=etag(entry) if entry.kind == EntryKind.FILE else None,
        executable=entry.executable,
        target=None if entry.target is None else shown(entry.target),
        meta=entry.meta,
    )


def files_page_out(page: FilesPage) -> FilePage:
    return FilePage(page.commit.id, [file_out(e) for e in page.items], page.next)


def shown(path: str) -> str:
    """A path as text; bytes that are no UTF-8 as ``\\udcxx``, which JSON cannot carry otherwise."""
    return path.encode("utf-8", "backslashreplace").decode()
