from __future__ import annotations

from noria.base.errors import Invalid, NotFound, Unavailable


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    code = "webhook_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"Webhook with ID {id:.100} not found.", hint="noria admin webhooks")


class WebhookInvalid(Invalid):
    """A webhook cannot be like this."""

    code = "webhook_invalid"


class NotDelivered(Unavailable):
    """A message did not arrive; it is tried again."""

    code = "not_delivered"
