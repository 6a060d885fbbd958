"""Writing parts of a tree into a folder: everything beside it first, then into its place by renaming.

What is written goes into ``.noria-HEX`` inside the folder: a folder that is new as a whole, a file that takes the place
of another one alone. Only when all of it is there, whole and verified, is anything of the folder touched. So a full
disk, a damaged object or a kill leaves the folder as it was, or, in the middle of the renaming, with some paths old and
some new, never with half a file; the next attempt goes on from there.

Folders are opened one by one, from the target downwards, and never through a link: a link that somebody puts into the
way meanwhile is not followed.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from noria.base.digest import Digest
from noria.base.errors import DiskFull, Invalid
from noria.base.names import check_path
from noria.store import files
from noria.store.errors import FileChanged, PathUnsafe
from noria.store.objects import ObjectStore
from noria.store.records import EntryKind, FileContent, Kind
from noria.store.tree import EXECUTABLE, Row, check_row

try:
    import fcntl
except ImportError:  # no such locks: what another checkout left lies there until somebody removes it
    fcntl = None  # type: ignore[assignment]

_STAGING: Final = re.compile(r"\.noria-[0-9a-f]{12}")
_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_BATCH: Final = 256
_BATCH_BYTES: Final = 4 << 20
_BLOCK: Final = 4096
_HOLE: Final = 64 << 10
_UNSIGNED: Final = (1 << 64) - 1
_ZEROS: Final = bytes(_BLOCK)


Seen = Callable[[str], "tuple[int, ...] | None"]
"""(size, mtime and ctime in ns, inode) of a path; None where there was no file and no link."""


@dataclass(slots=True)
class Written:
    """What was written: by folder (empty, or with a slash at its end) the names and four numbers for each of them.

    Attributes:
        files: folder -> (names; size, mtime, ctime in ns and inode of each, one after another).
        empty: empty folders, with a slash at their ends.
    """

    files: dict[str, tuple[list[str], list[int]]] = field(default_factory=dict[str, tuple[list[str], list[int]]])
    empty: list[str] = field(default_factory=list[str])


def write_rows(
    store: ObjectStore,
    target: Path,
    rows: Iterable[Row],
    removed: Iterable[str] = (),
    advance: Callable[..., None] | None = None,
    *,
    everything: Iterable[str] = (),
    seen: Seen | None = None,
) -> Written:
    """Puts rows of a tree (in order) into a folder and removes paths from it.

    Args:
        everything: all paths of the tree; asked for only where the file system cannot hold some names beside others.
        seen: the stats that a path had when it was decided that it may go; default: whatever is there may go.

    Raises:
        DiskFull, PathUnsafe, Invalid: nothing of the folder was changed, unless somebody else changed it meanwhile.
        FileChanged: somebody did, and that path was left alone.
    """
    with _Target(store, target, advance, seen) as at:
        plan = at.plan(rows, set(removed), everything)
        at.stage(plan)
        return at.apply(plan, removed)


@dataclass(slots=True)
class _Plan:
    folders: dict[str, list[Row]]  # rows by the folder that they lie in
    tops: dict[str, str]  # folders that are new as a whole, without a slash -> their name in the staging folder
    alone: dict[str, str]  # paths that go into folders that are there -> their name in the staging folder


class _Target:
    def __init__(
        self, store: ObjectStore, target: Path, advance: Callable[..., None] | None, seen: Seen | None
    ) -> None:
        self._store = store
        self._seen = seen
        self._target = target
        self._advance = advance
        self._faults = store.faults
        self._written = Written()
        self._chain: list[tuple[str, int]] = []

    def __enter__(self) -> _Target:
        self._root = os.open(self._target, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            self._clean()
            self._name = f".noria-{secrets.token_hex(6)}"
            os.mkdir(self._name, 0o700, dir_fd=self._root)
            self._staging = os.open(self._name, _FOLDER, dir_fd=self._root)
        except OSError as error:
            os.close(self._root)
            raise _said(str(self._target), error) from error
        _lock(self._staging)
        return self

    def __exit__(self, *_: object) -> None:
        for _name, folder in self._chain:
            os.close(folder)
        with contextlib.suppress(OSError):
            shutil.rmtree(self._name, dir_fd=self._root)
        os.close(self._staging)
        os.close(self._root)

    def _clean(self) -> None:
        """Removes what a checkout left that was killed. One that is at work holds a lock."""
        for name in os.listdir(self._root):  # noqa: PTH208 - of a folder that is open
            if _STAGING.fullmatch(name):
                with contextlib.suppress(OSError):
                    left = os.open(name, _FOLDER, dir_fd=self._root)
                    try:
                        if _lock(left):
                            shutil.rmtree(name, dir_fd=self._root)
                    finally:
                        os.close(left)

    # ---- planning

    def plan(self, rows: Iterable[Row], removed: set[str], everything: Iterable[str]) -> _Plan:
        """Which folders are new as a whole, and which paths go into folders that are there."""
        folders: dict[str, list[Row]] = {}
        paths: list[str] = []
        for row in rows:
            path = row[0].decode("utf-8", "surrogateescape")
            check_path(path)  # a tree from a hostile store is checked here too
            check_row(row)
            paths.append(path)
            prefix = path.rpartition("/")[0]
            folders.setdefault(prefix, []).append(row)
        self._refuse_collisions(paths, everything)
        plan, there = _Plan(folders, {}, {}), {"": True}
        for prefix, found in folders.items():
            top = self._top(prefix, there, removed)
            if top is None:
                for row in found:
                    plan.alone[row[0].decode("utf-8", "surrogateescape")] = ""
            else:
                plan.tops[top] = ""
        for number, top in enumerate(plan.tops):
            plan.tops[top] = str(number)
        for number, path in enumerate(plan.alone, len(plan.tops)):
            plan.alone[path] = str(number)
        return plan

    def _top(self, prefix: str, there: dict[str, bool], removed: set[str]) -> str | None:
        """The highest folder above a path that is not there yet; None if all are."""
        at = ""
        for part in prefix.split("/") if prefix else ():
            above, at = at, f"{at}/{part}" if at else part
            known = there.get(at)
            if known is None:
                known = there[at] = self._is_folder(above, part, at, removed)
            if not known:
                return at
        return None

    def _is_folder(self, above: str, name: str, path: str, removed: set[str]) -> bool:
        folder = self._open(above)
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(found.st_mode):
            return True
        if path in removed:
            return False
        what = "a symbolic link; nothing is written through it" if stat.S_ISLNK(found.st_mode) else "not a folder"
        raise PathUnsafe(
            f"{self._target / path} is {what}.",
            hint="Remove it, or check out into an empty folder.",
            details={"path": str(self._target / path)},
        )

    def _open(self, prefix: str) -> int:
        """A folder below the target, opened part by part; valid until the next call."""
        parts = prefix.split("/") if prefix else []
        kept = 0
        while kept < len(parts) and kept < len(self._chain) and self._chain[kept][0] == parts[kept]:
            kept += 1
        while len(self._chain) > kept:
            os.close(self._chain.pop()[1])
        for part in parts[kept:]:
            above = self._chain[-1][1] if self._chain else self._root
            try:
                self._chain.append((part, os.open(part, _FOLDER, dir_fd=above)))
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise PathUnsafe(
                        f"{self._target / prefix} became something else than a folder; nothing is written through it.",
                        hint="See who works in this folder, then repeat the command.",
                        details={"path": prefix},
                    ) from None
                raise
        return self._chain[-1][1] if self._chain else self._root

    def _refuse_collisions(self, paths: list[str], everything: Iterable[str]) -> None:
        case, form = folds(self._staging)
        if not case and not form:
            return
        seen: dict[str, str] = {}
        for path in itertools.chain(everything, paths):
            at = ""
            for part in path.split("/"):
                at = f"{at}/{part}" if at else part
                key = unicodedata.normalize("NFC", at) if form else at
                other = seen.setdefault(key.casefold() if case else key, at)
                if other != at:
                    raise Invalid(
                        f"{self._target} cannot hold {other} and {at} beside each other: its file system takes them "
                        "for the same name.",
                        hint="Rename one of them in the repository, or check out elsewhere.",
                        details={"paths": [other, at]},
                    )

    # ---- beside the folder

    def stage(self, plan: _Plan) -> None:
        """Writes everything into the staging folder."""
        made: set[str] = set()
        for prefix in sorted(plan.folders):
            top = next((t for t in _above(prefix) if t in plan.tops), None)
            if top is None:
                self._stage_rows(self._staging, prefix, plan.folders[prefix], plan.alone)
                continue
            place = plan.tops[top] + prefix[len(top) :]
            self._make(place, made)
            folder = os.open(place, _FOLDER, dir_fd=self._staging)
            try:
                self._stage_rows(folder, prefix, plan.folders[prefix], None)
            finally:
                os.close(folder)

    def _make(self, place: str, made: set[str]) -> None:
        at = ""
        for part in place.split("/"):
            at = f"{at}/{part}" if at else part
            if at not in made:
                made.add(at)
                with _translated(at):
                    os.mkdir(at, dir_fd=self._staging)

    def _stage_rows(self, folder: int, prefix: str, rows: list[Row], names: dict[str, str] | None) -> None:
        self._faults.at("checkout.write")
        slash = f"{prefix}/" if prefix else ""
        stats: dict[str, tuple[int, ...]] = {}
        for batch in _batches(rows):
            contents = self._store.views(Kind.CHUNK, [row[5] for row in batch if row[4] == Kind.CHUNK])
            for row in batch:
                path = row[0].decode("utf-8", "surrogateescape")
                name = path[len(slash) :]
                place = name if names is None else names[path]
                try:
                    found = self._stage_row(folder, place, row, contents)
                except OSError as error:
                    raise _said(str(self._target / path), error) from error
                if found is None:
                    self._written.empty.append(path + "/")
                else:
                    stats[name] = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
            if self._advance is not None:
                self._advance(len(batch))
        order = list(stats)
        if names is None and len(order) > 1:  # as the system will list them: the next look compares whole folders
            order = [name for name in os.listdir(folder) if name in stats]
        if order:
            self._written.files[slash] = (order, [number for name in order for number in stats[name]])

    def _stage_row(self, folder: int, name: str, row: Row, contents: dict[bytes, Any]) -> os.stat_result | None:
        kind, flags, size, content_kind, content = row[1], row[2], row[3], row[4], row[5]
        if kind == EntryKind.FOLDER:
            os.mkdir(name, dir_fd=folder)
            return None
        if kind == EntryKind.SYMLINK:
            os.symlink(content, os.fsencode(name), dir_fd=folder)
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        file = os.open(name, _NEW, 0o777 if flags & EXECUTABLE else 0o666, dir_fd=folder)
        try:
            if content_kind == Kind.RECIPE:
                _write_big(self._store, file, FileContent(kind=Kind.RECIPE, id=Digest(content), size=size))
            else:
                data = contents[content] if content_kind else content
                if os.write(file, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return os.fstat(file)
        finally:
            os.close(file)

    # ---- into its place

    def apply(self, plan: _Plan, removed: Iterable[str]) -> Written:
        """Removes and renames. Only now is the folder touched."""
        needed = {above for path in (*plan.alone, *plan.tops) for above in _above(path.rpartition("/")[0])}
        self._remove(sorted(removed), needed)
        for path, name in sorted(plan.alone.items()):
            self._faults.at("checkout.rename")
            self._rename(name, path)
        for top, name in plan.tops.items():
            self._faults.at("checkout.rename")
            self._rename(name, top)
        self._renamed(plan)
        return self._written

    def _rename(self, staged: str, path: str) -> None:
        prefix, _, name = path.rpartition("/")
        with _translated(str(self._target / path)):
            parent = self._open(prefix)
            self._check_unchanged(parent, name, path)
            try:
                os.rename(staged, name, src_dir_fd=self._staging, dst_dir_fd=parent)
            except (IsADirectoryError, FileExistsError):
                os.rmdir(name, dir_fd=parent)  # an empty folder that the tree does not know
                os.rename(staged, name, src_dir_fd=self._staging, dst_dir_fd=parent)

    def _check_unchanged(self, parent: int, name: str, path: str) -> None:
        """A file that was edited while the others were being staged holds what nobody has stored."""
        if self._seen is None:
            return
        try:
            now = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(now.st_mode):
            return  # only an empty one gives way
        # As the cache keeps them: without a sign, also where a time is before 1970.
        stats = tuple([n & _UNSIGNED for n in (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)])
        if stats != self._seen(path):
            raise FileChanged(
                path,
                "the folder was being changed, and is left as it is",
                "Commit it or remove it, then repeat the command: it goes on from there.",
            )

    def _renamed(self, plan: _Plan) -> None:
        """A rename gives a file a new ctime. One that was changed since it was written is looked at again."""
        for slash, (names, numbers) in self._written.files.items():
            if not names or slash + names[0] not in plan.alone:
                continue
            parent = self._open(slash[:-1])
            for number, name in enumerate(names):
                with contextlib.suppress(FileNotFoundError):
                    now = os.stat(name, dir_fd=parent, follow_symlinks=False)
                    size, mtime, _, inode = numbers[4 * number : 4 * number + 4]
                    if (now.st_size, now.st_mtime_ns, now.st_ino) == (size, mtime, inode):
                        numbers[4 * number + 2] = now.st_ctime_ns

    def _remove(self, paths: list[str], needed: set[str]) -> None:
        emptied: set[str] = set()
        for path in paths:
            if path in needed:  # an empty folder that is not going to be empty
                continue
            self._faults.at("checkout.remove")
            prefix, _, name = path.rpartition("/")
            with _translated(str(self._target / path)), contextlib.suppress(FileNotFoundError):
                parent = self._open(prefix)
                self._check_unchanged(parent, name, path)
                try:
                    os.unlink(name, dir_fd=parent)
                except (IsADirectoryError, PermissionError):
                    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                        raise
                    os.rmdir(name, dir_fd=parent)
            emptied.update(_above(prefix))
        for prefix in sorted(emptied - needed, key=len, reverse=True):
            above, _, name = prefix.rpartition("/")
            with contextlib.suppress(OSError, PathUnsafe):  # something else lives there
                parent = self._open(above)
                os.rmdir(name, dir_fd=parent)


def _above(prefix: str) -> Iterator[str]:
    """The folder and those above it, the highest first, without the target."""
    at = ""
    for part in prefix.split("/") if prefix else ():
        at = f"{at}/{part}" if at else part
        yield at


def _batches(rows: list[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += row[3] if row[4] == Kind.CHUNK else 0
        if len(batch) == _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write_big(store: ObjectStore, file: int, content: FileContent) -> None:
    """Writes a file piece by piece; runs of zeros become holes."""
    for piece in files.pieces(store, content):
        for start, stop, hole in _extents(piece):
            if hole:
                os.lseek(file, stop - start, os.SEEK_CUR)
                continue
            while start < stop:
                start += os.write(file, piece[start:stop])
    if os.lseek(file, 0, os.SEEK_CUR) != content.size:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    os.ftruncate(file, content.size)  # where it ends with a hole


def _extents(piece: Any) -> Iterator[tuple[int, int, bool]]:
    """(from, to, is it a hole): holes are at least 64 KiB of zeros."""
    size = len(piece)
    start = 0
    if size >= _HOLE and bytes(piece[:: _HOLE // 4]).count(0) >= 4:
        at = 0
        while at + _HOLE <= size:
            end = at
            while end + _BLOCK <= size and piece[end : end + _BLOCK] == _ZEROS:
                end += _BLOCK
            if end - at >= _HOLE:
                if at > start:
                    yield start, at, False
                yield at, end, True
                start = at = end
            else:
                at = end + _BLOCK
    if start < size:
        yield start, size, False


def is_ours(name: str) -> bool:
    """Whether a name is no part of any tree: a workspace, or what a checkout is at work in."""
    return name == ".noria" or _STAGING.fullmatch(name) is not None


def folds(folder: int) -> tuple[bool, bool]:
    """Whether the file system of a folder takes names for equal that differ by case, or by the form of Unicode."""
    probe = f"pro\u0301be-{secrets.token_hex(4)}"
    os.close(os.open(probe, _NEW, 0o600, dir_fd=folder))
    try:
        return _there(folder, probe.upper()), _there(folder, unicodedata.normalize("NFC", probe))
    finally:
        os.unlink(probe, dir_fd=folder)


def _there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _lock(folder: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _translated(path: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise _said(path, error) from error


def _said(path: str, error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(path)
    return Invalid(
        f"{path} cannot be written: {os.strerror(error.errno or 0)}.",
        hint="Mend that, then repeat the command.",
        details={"path": path},
    )
