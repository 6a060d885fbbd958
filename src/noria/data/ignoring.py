"""What the ``.noriaignore`` of a folder leaves out: patterns as in ``.gitignore``, never a path that a commit holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.store import EntryKind, ObjectStore, folders, reading, tree

NAME: Final = ".noriaignore"
# For git, "src/**" is all inside of src and not src itself; pathspec takes it for both. "src/**/*" is the same to both.
_INSIDE: Final = re.compile(r"(/\*\*)(/?)\s*$")


class Ignored:
    """The patterns of one folder, and the trees whose paths they do not touch.

    A look with it sees the folder as if everything that it leaves out had been deleted, and with it the folders that
    held nothing else.

    Attributes:
        left: what was left out so far; folders end with a slash, and what is in them is not named.
    """

    def __init__(self, lines: Iterable[str], store: ObjectStore, roots: Sequence[Digest]) -> None:
        from pathspec import GitIgnoreSpec  # only where there is such a file

        try:
            self._matches = GitIgnoreSpec.from_lines(_INSIDE.sub(r"\1/*\2", line) for line in lines).match_file
        except ValueError as error:
            raise Invalid(
                f"{NAME} holds a line that is no pattern: {error}.", hint="Patterns are written as in .gitignore."
            ) from None
        self._store, self._roots = store, roots
        self._inside: set[str] = set()
        self.left: list[str] = []

    @classmethod
    def of(cls, folder: Path, store: ObjectStore, *roots: Digest | None) -> Ignored | None:
        """Those of ``folder``; None where it has no such file. Files below it of this name are files as others.

        Args:
            roots: trees whose paths are not left out, whatever the patterns say.

        Raises:
            Invalid: the file cannot be read, is a link, or holds what is no pattern.
        """
        try:
            file = os.open(folder / NAME, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise reading.unreadable(NAME, error) from None
        try:
            with os.fdopen(file, encoding="utf-8-sig", errors="surrogateescape") as opened:
                lines = opened.read().splitlines()
        except OSError as error:
            raise reading.unreadable(NAME, error) from None
        return cls(lines, store, [root for root in roots if root is not None])

    def sift(self, prefix: str, listed: folders.Listed) -> folders.Listed | None:
        """What lies directly in a folder, without what is left out. The folder above is to be sifted before.

        None where nothing remains of it; but a folder that a tree holds as an empty one is empty then.
        """
        names, below, odd, stats = listed
        whole = prefix in self._inside  # of an ignored folder nothing is taken back by a later pattern, as in git
        files = [name for name in names if whole or self._matches(prefix + name)]
        places = [name for name in below if whole or self._matches(f"{prefix}{name}/")]
        if not files and not places:
            return listed
        known = self._known([prefix + name for name in files])
        out = {name for name in files if prefix + name not in known}
        out_below = {name for name in places if not self._holds(f"{prefix}{name}")}
        self._inside.update(f"{prefix}{name}/" for name in places if name not in out_below)
        self.left += [prefix + name for name in out] + [f"{prefix}{name}/" for name in out_below]
        if prefix and len(out) == len(names) and len(out_below) == len(below) and not self._is_empty(prefix[:-1]):
            return None
        if stats:
            kept = [4 * number for number, name in enumerate(names) if name not in out]
            stats = [one for start in kept for one in stats[start : start + 4]]
        return [n for n in names if n not in out], [n for n in below if n not in out_below], odd - out, stats

    def _known(self, paths: list[str]) -> set[str]:
        keys = {tree.key_of(path): path for path in paths}
        found = (tree.find_rows(self._store, root, keys) for root in self._roots if keys)
        return {keys[key] for rows in found for key in rows}

    def _is_empty(self, folder: str) -> bool:
        """Whether one of the trees holds a folder as an empty one."""
        found = (tree.find(self._store, root, folder) for root in self._roots)
        return any(entry is not None and entry.kind == EntryKind.FOLDER for entry in found)

    def _holds(self, folder: str) -> bool:
        """Whether one of the trees holds a folder."""
        below = (next(tree.walk_rows(self._store, root, tree.key_of(f"{folder}/")), None) for root in self._roots)
        return any(row is not None for row in below) or self._is_empty(folder)
