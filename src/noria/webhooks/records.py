from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from noria.base.ids import ProjectId

KINDS: Final = ("model.created", "model.registered", "model.tagged", "model.untagged", "alias.moved")
"""The types of events that a webhook can hear of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one message.

    Attributes:
        status: that the other side answered, None where it did not.
        body: the beginning of its answer.
        error: why the message did not arrive, empty where it did.
        again: whether another try may help.
    """

    status: int | None = None
    body: str = ""
    error: str = ""
    again: bool = False

    @property
    def arrived(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One address that hears of some events.

    Attributes:
        events: the names of what it hears of, in the words of the door that it came through.
        kinds: the types of noria's own events among which those are.
        secret: signs what is sent; no door shows it.
        sent, failed: messages that arrived, and tries that did not.
        last_at, last_status, last_error: of the last try.
    """

    no: int
    id: str
    project_id: ProjectId
    name: str
    url: str
    events: tuple[str, ...]
    kinds: tuple[str, ...]
    description: str
    active: bool
    created_at: int
    updated_at: int
    sent: int = 0
    failed: int = 0
    last_at: int | None = None
    last_status: int | None = None
    last_error: str = ""
    secret: str | None = field(default=None, repr=False)
