"""Datasets that clients name, recognised as commits of our repositories."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from noria.base.errors import NoriaError

if TYPE_CHECKING:
    from noria.base.ids import ProjectId, VersionId
    from noria.data import Files
    from noria.tracking.records import Dataset

_SCHEME: Final = "noria://"
_COMMIT: Final = re.compile(r"[0-9a-f]{12,64}")
_FIELDS: Final = ("uri", "url", "path")


def commit_of(files: Callable[[], Files], project_id: ProjectId, dataset: Dataset) -> VersionId | None:
    """The version that a dataset is: its source is an address of ours (``noria://flights@v3``), or its name is a
    repository and its digest the beginning of a commit (12 digits at least). Nothing is opened.
    """
    place = _place(dataset.source)
    named = _COMMIT.fullmatch(dataset.digest) is not None
    if place is None and not named:
        return None
    from noria.data import address

    try:
        if place is not None:
            at = address.parse(place)
            return files().resolve(files().get(project_id, at.repository), at.ref).version_id
        return files().resolve(files().get(project_id, dataset.name), dataset.digest).version_id
    except NoriaError:
        return None


def _place(source: str) -> str | None:
    """Clients write a source as JSON, with the address in one of its fields."""
    if _SCHEME not in source:
        return None
    try:
        told = json.loads(source)
    except (ValueError, RecursionError):
        told = source
    found = (
        [told] if isinstance(told, str) else [told.get(field) for field in _FIELDS] if isinstance(told, dict) else []
    )
    return next((text for text in found if isinstance(text, str) and text.startswith(_SCHEME)), None)
