from __future__ import annotations

from collections.abc import Sequence

from noria.base.errors import Failed, Invalid, NotFound


class ThingNotFound(NotFound):
    """Nothing that can be traced has this name or id."""

    code = "thing_not_found"


class ThingUnclear(Invalid):
    """Several things begin with this id."""

    code = "thing_unclear"

    def __init__(self, thing: str, found: Sequence[str]) -> None:
        super().__init__(
            f"{thing!r} could be {', '.join(found)}.",
            hint="Write more digits of it.",
            details={"thing": thing, "found": list(found)},
        )


class NoPredictions(NotFound):
    """An endpoint has no captured predictions."""

    code = "no_predictions"


class ReplayFailed(Failed):
    """A prediction could not be computed again."""

    code = "replay_failed"
