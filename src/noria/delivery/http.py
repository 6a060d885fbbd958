"""Routes of delivery. What they start is brought on by the server's own loop."""

from __future__ import annotations

from noria.delivery import wire as w
from noria.delivery.errors import CandidateNotFound
from noria.delivery.service import Delivery
from noria.http import Call, Route


class DeliveryRoutes:
    """Handlers of the room; each is one verb."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def candidates(self, call: Call) -> w.CandidatePage:
        query: w.CandidateQuery = call.query
        limit = max(1, min(query.limit, 10_000))
        found = self._delivery.candidates(model=query.model, only_open=query.open, limit=limit)
        return w.CandidatePage([w.candidate_out(c, self._delivery.rollout_of(c.id)) for c in found])

    def candidate(self, call: Call) -> w.CandidateOut:
        text = call.path["id"]
        if not text.isdecimal() or len(text) > 18:
            raise CandidateNotFound(f"There is no candidate {text!r}.", hint="GET /v1/candidates")
        found = self._delivery.candidate(int(text))
        return w.candidate_out(found, self._delivery.rollout_of(found.id))

    def release(self, call: Call) -> w.CandidateOut:
        body: w.ReleaseBody = call.body
        found = self._delivery.release(body.model, actor=call.actor, drill=body.drill, force=body.force, once=call.once)
        return w.candidate_out(found)

    def train(self, call: Call) -> w.CandidateOut:
        body: w.TrainBody = call.body
        found = self._delivery.train(call.path["name"], actor=call.actor, params=body.params, once=call.once)
        return w.candidate_out(found)

    def rollback(self, call: Call) -> w.RollbackOut:
        body: w.RollbackBody = call.body
        done = self._delivery.rollback_now(call.path["name"], actor=call.actor, drill=body.drill, once=call.once)
        return w.RollbackOut(**done)

    def cancel(self, call: Call) -> w.CandidatePage:
        found = self._delivery.cancel(call.path["name"], actor=call.actor, once=call.once)
        return w.CandidatePage([] if found is None else [w.candidate_out(found)])


def routes(delivery: Delivery) -> list[Route]:
    r = DeliveryRoutes(delivery)
    return [
        Route(
            method="GET",
            path="/v1/candidates",
            handler=r.candidates,
            permission="models.read",
            summary="List candidates with their gates and verdicts, oldest first.",
            query=w.CandidateQuery,
            answer=w.CandidatePage,
            cli="noria candidates",
        ),
        Route(
            method="GET",
            path="/v1/candidates/{id}",
            handler=r.candidate,
            permission="models.read",
            summary="Show a candidate.",
            answer=w.CandidateOut,
        ),
        Route(
            method="POST",
            path="/v1/releases",
            handler=r.release,
            permission="models.write",
            summary="Put a model version through its gates and release it.",
            body=w.ReleaseBody,
            answer=w.CandidateOut,
            status=202,
            cli="noria release MODEL",
        ),
        Route(
            method="POST",
            path="/v1/models/{name}/train",
            handler=r.train,
            permission="models.write",
            summary="Train a model anew from the applied code.",
            body=w.TrainBody,
            answer=w.CandidateOut,
            status=202,
            cli="noria train MODEL",
        ),
        Route(
            method="POST",
            path="/v1/endpoints/{name}/rollback",
            handler=r.rollback,
            permission="endpoints.write",
            summary="Give all traffic back to the champion before.",
            body=w.RollbackBody,
            answer=w.RollbackOut,
            cli="noria rollback ENDPOINT",
        ),
        Route(
            method="POST",
            path="/v1/endpoints/{name}/cancel",
            handler=r.cancel,
            permission="endpoints.write",
            summary="Stop the release that is on its way; the champion has all traffic again.",
            answer=w.CandidatePage,
            cli="noria cancel ENDPOINT",
        ),
    ]
