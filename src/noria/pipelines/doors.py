"""The door in a driver's process through which foreign clients in a step's process log to the step's own run.

This room does not know whose clients these are: the composition root hands in the door, and ``execute`` names what
stands at the other end.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from noria.base.actor import Actor
from noria.base.ids import RunId
from noria.pipelines.task import PointSpec


class StepDoor(Protocol):
    """One per workspace and process."""

    def admit(
        self, attempt: str, run_id: RunId, *, asset: str, actor: Actor, params: Mapping[str, str]
    ) -> dict[str, str]:
        """Lets an attempt of a step in; returns the variables by which its process finds the door."""
        ...

    def warnings(self, parts: Collection[str]) -> tuple[dict[str, Any], ...]:
        """What a person should know of clients in a step, in the form of errors.

        Args:
            parts: names of the parts of the step's manifest, which say what libraries its code uses.
        """
        ...

    def said(self, attempt: str, points: list[PointSpec]) -> None:
        """Takes note of what a step logged by ``nr.log``, so that a client that logs the same does not double it."""
        ...

    def dismiss(self, attempt: str, *, done: bool) -> None:
        """Ends what ``admit`` began. ``done``: the attempt came to its end well."""
        ...

    def listener(self) -> socket.socket | None:
        """The socket, as long as nobody is served and somebody may come."""
        ...

    def serve(self) -> None:
        """Starts to serve; called when somebody has come to ``listener``."""
        ...

    def close(self) -> None: ...
