"""A change set: what to do to single paths of a repository of files, in order.

``Files.change`` commits one, ``Files.edit`` writes one to an open commit. Sources of bytes are read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from noria.base.names import check_path

Source: TypeAlias = "bytes | str | Path | BinaryIO"
"""Bytes themselves, text (stored as UTF-8), the path of a file, or an open binary file."""


@dataclass(frozen=True, slots=True)
class Put:
    """The path holds these bytes; ``meta`` is kept with it."""

    path: str
    source: Source
    executable: bool | None = None
    meta: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Append:
    """The path holds what it held, and then these bytes. Only the last chunk of what was there is read."""

    path: str
    source: Source


@dataclass(frozen=True, slots=True)
class Delete:
    """The path is gone; with ``*``, ``?`` or ``[`` in it, every path that fits (``*`` crosses folders)."""

    path: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A path, or all below a folder, is there under another name too. No byte is moved.

    Attributes:
        ref: take it from this commit; None: from the change set so far.
        overwrite: also where something else has the new name already.
    """

    path: str
    to: str
    ref: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """A path, or all below a folder, has another name.

    Attributes:
        overwrite: also where something else has that name already.
    """

    path: str
    to: str
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """The path is a symbolic link. It is kept as text and never followed."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Describe:
    """The path has this metadata; a value of None removes a name."""

    path: str
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])


Edit: TypeAlias = Put | Append | Delete | Copy | Move | Link | Describe


def check(edit: Edit) -> Edit:
    """Refuses paths that would leave the tree.

    Raises:
        Invalid: with the path and the reason.
    """
    if not isinstance(edit, Delete):
        check_path(edit.path)
    if isinstance(edit, Copy | Move):
        check_path(edit.to)
    return edit
