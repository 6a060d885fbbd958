"""The address of data in one line: ``flights@main/2013/01.parquet``, also written ``noria://flights@...``.

The reference is a branch, tag or commit, also ``main~2`` or ``@2013-04-01``; without it, ``main``. A slash inside a
branch name is written ``%2F``, since the first slash ends the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from noria.base.errors import Invalid
from noria.base.names import check_path
from noria.data.records import MAIN

SCHEME: Final = "noria://"


@dataclass(frozen=True, slots=True)
class Address:
    """Attributes:
    head: repository and reference as they were written.
    path: inside the repository; empty for the repository itself.
    """

    head: str
    repository: str
    ref: str
    path: str


def parse(text: str) -> Address:
    """The parts of an address.

    Raises:
        Invalid: it names no repository, or the path leaves the tree.
    """
    head, _, path = text.removeprefix(SCHEME).strip("/").partition("/")
    repository, _, ref = head.partition("@")
    if not repository:
        raise Invalid(f"{text!r:.120} names no repository.", hint="Write for instance flights@main/2013/01.parquet.")
    return Address(head, repository, unquote(ref) or MAIN, check_path(path) if path else "")


def write(repository: str, ref: str, path: str = "") -> str:
    """The address of these parts."""
    head = repository if ref == MAIN else f"{repository}@{quote(ref, safe='@:~+')}"
    return f"{head}/{path}" if path else head
