"""Wire shapes of webhooks: what HTTP sends and what ``--json`` prints. Never a secret."""

from __future__ import annotations

import msgspec

from noria.base.times import to_text
from noria.webhooks.records import Outcome, Webhook


class WebhookQuery(msgspec.Struct):
    limit: int = 100
    after: str | None = None


class WebhookOut(msgspec.Struct):
    """``sent`` counts messages that arrived, ``failed`` tries that did not; ``last_...`` is of the last try."""

    id: str
    name: str
    url: str
    events: list[str]
    description: str
    active: bool
    signed: bool
    created_at: str
    updated_at: str
    sent: int
    failed: int
    last_at: str | None
    last_status: int | None
    last_error: str


class WebhookPage(msgspec.Struct):
    items: list[WebhookOut]
    next: str | None


class TestBody(msgspec.Struct, forbid_unknown_fields=True):
    """``event``: of which an example is sent; the first that the webhook hears of by default."""

    event: str | None = None


class OutcomeOut(msgspec.Struct):
    arrived: bool
    status: int | None
    body: str
    error: str


def webhook_out(found: Webhook) -> WebhookOut:
    return WebhookOut(
        id=found.id,
        name=found.name,
        url=found.url,
        events=list(found.events),
        description=found.description,
        active=found.active,
        signed=bool(found.secret),
        created_at=to_text(found.created_at),
        updated_at=to_text(found.updated_at),
        sent=found.sent,
        failed=found.failed,
        last_at=None if found.last_at is None else to_text(found.last_at),
        last_status=found.last_status,
        last_error=found.last_error,
    )


def outcome_out(found: Outcome) -> OutcomeOut:
    return OutcomeOut(found.arrived, found.status, found.body, found.error)
