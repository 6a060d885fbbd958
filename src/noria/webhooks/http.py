"""Routes of webhooks. They are made through the door whose events they hear of."""

from __future__ import annotations

import asyncio

from noria.base.ids import ProjectId
from noria.http import Call, Route
from noria.webhooks import wire as w
from noria.webhooks.service import Webhooks


class WebhookRoutes:
    """Handlers of the room; each is one verb."""

    def __init__(self, webhooks: Webhooks, project_id: ProjectId) -> None:
        self._webhooks = webhooks
        self._project_id = project_id

    def list(self, call: Call) -> w.WebhookPage:
        page = self._webhooks.list(self._project_id, limit=call.query.limit, after=call.query.after)
        return w.WebhookPage([w.webhook_out(one) for one in page.items], page.next)

    async def test(self, call: Call) -> w.OutcomeOut:
        body: w.TestBody = call.body
        begun = await asyncio.to_thread(self._webhooks.test, self._project_id, call.path["id"], body.event)
        return w.outcome_out(await asyncio.wrap_future(begun))


def routes(webhooks: Webhooks, project_id: ProjectId) -> list[Route]:
    r = WebhookRoutes(webhooks, project_id)
    return [
        Route(
            method="GET",
            path="/v1/admin/webhooks",
            handler=r.list,
            permission="admin.read",
            summary="List webhooks, and what came of the last message to each.",
            query=w.WebhookQuery,
            answer=w.WebhookPage,
            cli="noria admin webhooks",
        ),
        Route(
            method="POST",
            path="/v1/admin/webhooks/{id}/test",
            handler=r.test,
            permission="admin.write",
            summary="Send an example to a webhook, and say what came of it.",
            body=w.TestBody,
            answer=w.OutcomeOut,
            cli="noria admin webhooks --test ID",
        ),
    ]
