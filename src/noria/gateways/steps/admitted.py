"""What is known of an attempt of a step whose clients may come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from noria.base.actor import Actor
from noria.base.ids import RunId

_MOST: Final = 10_000
"""Points that are remembered; what a step logs beyond them may be doubled."""


@dataclass(slots=True, kw_only=True)
class Admitted:
    """One attempt.

    Attributes:
        asset: the step's name, which is the name of its experiment as well.
        params: the hyperparameters that noria has written down for it.
        experiment_id: set with the first request.
        autologged: a client has begun the step's run by itself, when a model was fitted, and ends it after that.
        runs: the step's own one, and those that its clients have made.
        made: other things that its clients have made: ids of logged models and traces, ``name/version``.
    """

    token: str
    run_id: RunId
    asset: str
    actor: Actor
    params: Mapping[str, str]
    experiment_id: int | None = None
    autologged: bool = False
    runs: set[RunId] = field(init=False)
    made: set[str] = field(default_factory=set[str])
    _said: dict[tuple[str, int, float | str], tuple[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.runs = {self.run_id}
        self._said = {}

    def once(self, who: str, key: str, step: int, value: float, at: int) -> int:
        """The time of a point: where the other one of noria and a client has logged the same, it is the same point."""
        mark = (key, step, value if value == value else "nan")
        if mark not in self._said and len(self._said) >= _MOST:
            return at
        other, when = self._said.setdefault(mark, (who, at))
        return at if other == who else when
