"""Which files of a place have to be taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from noria.gateways.mlflow.moving import places
from noria.gateways.mlflow.moving.records import Moved, Source, Unreachable
from noria.tracking.records import Owner


def files_to_take(
    tracking: Any, source: Source, report: Moved, owner: Owner, place: str
) -> Iterator[tuple[Owner, str, Any]]:
    """The files at a place that are not here yet, as far as size and time tell."""
    try:
        here: dict[str, tuple[int, int]] = {}
        for n, one in enumerate(source.files(place)):
            if n == 0:
                here = tracking.sizes_of(owner)
            size, at = here.get(one.path, (-1, 0))
            if size == one.size and (one.changed_at is None or one.changed_at < at):
                continue
            yield owner, one.path, one.opens
    except Unreachable as error:
        report.stay(places.named(place), str(error))
