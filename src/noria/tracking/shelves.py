"""Files by owner and path: rows of folders and of files, and what a path may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, or_, select, tuple_, update

from noria.assets.sessions import retire
from noria.base.digest import Digest
from noria.db import Tx
from noria.store import Kind
from noria.tracking import tables as t
from noria.tracking.errors import ArtifactInTheWay, ArtifactPathInvalid
from noria.tracking.records import Artifact, ArtifactEntry, Owner, OwnerKind

_A = t.artifacts.c
_MOST_BYTES: Final = 1_024
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_AGAIN: Final = 8
INLINE: Final = 64
"""Files of at most so many bytes stay in their row; those above go into a pack (see the index of the table)."""


def check_artifact_path(path: str) -> str:
    """A path below an owner: relative, ``/`` between its parts; refused, never cleaned.

    Nothing of it ever reaches a file system here, but clients make files of these names. Some of them decode a name
    until nothing is left to decode, so no stage of that may lead out of a folder.

    Raises:
        ArtifactPathInvalid: it is none.
    """
    fault, seen = _fault(path), path
    for _ in range(_AGAIN):
        if fault or "%" not in seen:
            break
        following = unquote(seen, errors="replace")
        if following == seen:
            break
        seen, fault = following, _hidden_fault(following)
    if fault:
        raise ArtifactPathInvalid(
            f"The artifact path {path!r:.120} is refused: {fault}.", hint="Paths are relative, like plots/roc.png"
        )
    return path


def _fault(path: str) -> str:
    if len(path.encode("utf-8", "surrogatepass")) > _MOST_BYTES:
        return f"it is longer than {_MOST_BYTES} bytes"
    if any("\ud800" <= sign <= "\udfff" for sign in path):
        return "it is not text in UTF-8"
    if _FORBIDDEN.search(path):
        return "it holds a backslash or a control character"
    if re.match(r"[A-Za-z]:/", path):
        return "it is absolute"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "it is absolute" if path.startswith("/") else f"it holds the part {part!r}"
    return ""


def _hidden_fault(path: str) -> str:
    if "\\" in path or "\0" in path or path.startswith("/") or ".." in path.split("/"):
        return "decoded once more it leads elsewhere"
    return ""


def of(owner: Owner) -> ColumnElement[bool]:
    return and_(_A.owner_kind == owner.kind.value, _A.owner == owner.id)


def at(owner: Owner, path: str) -> ColumnElement[bool]:
    folder, _, name = path.rpartition("/")
    return and_(of(owner), _A.folder == folder, _A.name == name)


def find(conn: Connection, owner: Owner, path: str) -> Artifact | ArtifactEntry | None:
    """The file, or the folder, at a path."""
    row = conn.execute(select(t.artifacts).where(at(owner, path))).one_or_none()
    if row is None:
        return None
    return ArtifactEntry(path=path, is_folder=True, size=0) if row.content_kind is None else _artifact(row)


def children(conn: Connection, owner: Owner, folder: str, limit: int, after: str | None) -> list[ArtifactEntry]:
    """What lies directly in a folder, by name, behind the name ``after``."""
    found = select(_A.name, _A.size, _A.content_kind).where(of(owner), _A.folder == folder)
    if after is not None:
        found = found.where(_A.name > after)
    slash = f"{folder}/" if folder else ""
    return [
        ArtifactEntry(path=slash + name, is_folder=kind is None, size=size)
        for name, size, kind in conn.execute(found.order_by(_A.name).limit(limit))
    ]


def files(conn: Connection, owner: Owner, limit: int, after: tuple[str, str] | None) -> list[Artifact]:
    """Files of an owner in all folders, by folder and name."""
    found = select(t.artifacts).where(of(owner), _A.content_kind.is_not(None))
    if after is not None:
        found = found.where(tuple_(_A.folder, _A.name) > after)
    return [_artifact(row) for row in conn.execute(found.order_by(_A.folder, _A.name).limit(limit))]


def below(conn: Connection, owner: Owner, folder: str, limit: int) -> list[Artifact]:
    """Files in a folder and in all below it."""
    found = select(t.artifacts).where(of(owner), _A.content_kind.is_not(None))
    if folder:
        found = found.where(or_(_A.folder == folder, _A.folder.startswith(f"{folder}/", autoescape=True)))
    return [_artifact(row) for row in conn.execute(found.order_by(_A.folder, _A.name).limit(limit))]


def put(tx: Tx, owner: Owner, found: Artifact) -> None:
    """Writes the row of a file, and those of the folders above it.

    Raises:
        ArtifactInTheWay: its path, or one above it, is the other thing already.
    """
    before = tx.execute(select(_A.content_kind).where(at(owner, found.path))).one_or_none()
    if before is not None and before.content_kind is None:
        raise ArtifactInTheWay(found.path, is_folder=True)
    folder, _, name = found.path.rpartition("/")
    row = {"owner_kind": owner.kind.value, "owner": owner.id, "at": tx.now_ms}
    file = {"size": found.size, "content_kind": found.content_kind, "content": found.content}
    file["data"] = found.data if found.content_kind == 0 else None
    tx.upsert(
        t.artifacts, {**row, "folder": folder, "name": name, **file}, key=["owner_kind", "owner", "folder", "name"]
    )
    if before is None and folder:
        _put_folders(tx, owner, folder, {**row, "size": 0, "content_kind": None, "content": None, "data": None})


def _put_folders(tx: Tx, owner: Owner, folder: str, row: dict[str, object]) -> None:
    while folder:
        there = tx.execute(select(_A.content_kind).where(at(owner, folder))).one_or_none()
        if there is not None:
            if there.content_kind is not None:
                raise ArtifactInTheWay(folder, is_folder=False)
            return  # and so are those above it
        above, _, name = folder.rpartition("/")
        tx.insert(t.artifacts, {**row, "folder": above, "name": name})
        folder = above


def remove(tx: Tx, owner: Owner, path: str) -> list[tuple[int, str]]:
    """Deletes the rows of a file, or of a folder and all in it; empty: everything. Returns the objects they named."""
    named: list[tuple[int, str]] = []
    if not path:
        named += _named(tx.execute(select(_A.content_kind, _A.content).where(of(owner), _A.content_kind > 0)))
        tx.execute(delete(t.artifacts).where(of(owner)))
        return named
    found = tx.execute(select(_A.content_kind, _A.content).where(at(owner, path))).all()
    folders = [path] if found and found[0].content_kind is None else []
    named += _named(found)
    for folder in folders:  # grows while it is walked through
        rows = tx.execute(select(_A.name, _A.content_kind, _A.content).where(of(owner), _A.folder == folder)).all()
        folders += [f"{folder}/{row.name}" for row in rows if row.content_kind is None]
        named += _named(rows)
        tx.execute(delete(t.artifacts).where(of(owner), _A.folder == folder))
    tx.execute(delete(t.artifacts).where(at(owner, path)))
    above = path.rpartition("/")[0]
    while above:
        if tx.execute(select(_A.name).where(of(owner), _A.folder == above).limit(1)).one_or_none() is not None:
            break
        tx.execute(delete(t.artifacts).where(at(owner, above)))
        above = above.rpartition("/")[0]
    return named


def delete_files(tx: Tx, kind: OwnerKind, owners: Sequence[str], limit: int) -> int:
    """Deletes rows of files and folders; what they named is kept for writers that may carry it into something new."""
    key = [_A.owner_kind, _A.owner, _A.folder, _A.name]
    chosen = select(*key, _A.content_kind, _A.content).where(_A.owner_kind == kind.value, _A.owner.in_(list(owners)))
    found = tx.execute(chosen.limit(limit)).all()
    for start in range(0, len(found), 500):
        some = [tuple(row)[:4] for row in found[start : start + 500]]
        tx.execute(delete(t.artifacts).where(tuple_(*key).in_(some)))
    retire(tx, [(Kind(row.content_kind), Digest(bytes.fromhex(row.content))) for row in found if row.content_kind])
    return len(found)


def waiting(conn: Connection, limit: int) -> list[tuple[Owner, Artifact]]:
    """Files whose bytes are still to be packed."""
    found = select(t.artifacts).where(_A.content_kind == 0, _A.size > INLINE)
    found = found.order_by(_A.owner_kind, _A.owner).limit(limit)
    return [(Owner(OwnerKind(row.owner_kind), row.owner), _artifact(row)) for row in conn.execute(found)]


def packed(tx: Tx, rows: Iterable[tuple[Owner, Artifact]]) -> None:
    """Says that the bytes of these files lie in a pack; a file that is another one by now is left alone."""
    key = (_A.owner_kind == bindparam("k"), _A.owner == bindparam("o"), _A.folder == bindparam("f"))
    same = (_A.name == bindparam("n"), _A.content_kind == 0, _A.content == bindparam("c"))
    given: list[dict[str, str]] = []
    for owner, one in rows:
        folder, _, name = one.path.rpartition("/")
        given.append({"k": owner.kind.value, "o": owner.id, "f": folder, "n": name, "c": one.content})
    if given:
        tx.execute(update(t.artifacts).where(*key, *same).values(content_kind=int(Kind.CHUNK), data=None), given)


def _named(rows: Iterable[Row]) -> list[tuple[int, str]]:
    return [(row.content_kind, row.content) for row in rows if row.content_kind]


def _artifact(row: Row) -> Artifact:
    path = f"{row.folder}/{row.name}" if row.folder else row.name
    return Artifact(
        path=path, size=row.size, content_kind=row.content_kind, content=row.content, at=row.at, data=row.data or b""
    )
