"""Webhooks: other services hear of what changes, at the hosts that the operator allowed and nowhere else."""

from __future__ import annotations

from noria.webhooks.queries import anybody_hears
from noria.webhooks.records import KINDS, Outcome, Webhook
from noria.webhooks.sending import Message, Sender
from noria.webhooks.service import SUBSCRIBER, Webhooks
from noria.webhooks.targets import Target
from noria.webhooks.targets import allowed as allowed_places

__all__ = [
    "KINDS",
    "SUBSCRIBER",
    "Message",
    "Outcome",
    "Sender",
    "Target",
    "Webhook",
    "Webhooks",
    "allowed_places",
    "anybody_hears",
]
