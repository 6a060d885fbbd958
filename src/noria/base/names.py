"""Names that people type: what is allowed, and what they may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

from noria.base.errors import Invalid

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_BRANCH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# Parts that begin with a letter, a digit, _ or -, and hold no : or \ either: nothing in them can be at fault.
_PLAIN_PATH: Final = re.compile(r"[\w-][\w .+=@,-]*(?:/[\w-][\w .+=@,-]*)*", re.ASCII)
MAX_PATH_BYTES: Final = 1024


def check_name(name: str, what: str) -> str:
    """Accepts letters, digits, ``_ . -``, at most 128 characters, not starting with a digit."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r:.80} cannot be the name of {what}.",
            hint="A name starts with a letter or _ and goes on with letters, digits, _ . or -, 128 at most.",
        )
    return name


def check_branch(name: str) -> str:
    if not _BRANCH.fullmatch(name) or ".." in name or "//" in name or name.endswith(("/", ".lock")):
        raise Invalid(f"{name!r:.80} cannot be the name of a branch.", hint="Write for instance main or fix/prices.")
    return name


def is_pattern(text: str) -> bool:
    """Whether a path is meant as a pattern of ``fnmatch`` or ``glob``."""
    return any(sign in text for sign in "*?[")


def nearest(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'weather'?"`` or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {found[0]!r}?" if found else ""


def check_path(path: str) -> str:
    """A relative path inside a tree, with ``/`` between its parts; rejected, never cleaned.

    Refuses empty, absolute and oversized paths, ``.`` and ``..`` parts, NUL, backslash, control characters, drive
    letters and a part named ``.noria`` (reference: path traversal through names, every known case).
    """
    if len(path) <= MAX_PATH_BYTES and _PLAIN_PATH.fullmatch(path):
        return path
    reason = _path_fault(path)
    if reason:
        raise Invalid(
            f"The path {path!r:.120} is refused: {reason}.",
            hint="Paths inside a repository are relative, like data/2013/01.parquet.",
            details={"path": path},
        )
    return path


def _path_fault(path: str) -> str:
    if not path:
        return "it is empty"
    if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    if _CONTROL.search(path):
        return "it holds a control character"
    if "\\" in path:
        return "it holds a backslash"
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "it is absolute"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return f"it holds the part {part!r}"
        if part.casefold() == ".noria":
            return "it reaches into .noria"
    return ""
