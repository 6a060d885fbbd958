"""MLflow's calls about assessments: feedback, expectations and issues of traces."""

from __future__ import annotations

from noria.gateways.mlflow import assessmentwire as aw
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow import wire_traces as wt
from noria.gateways.mlflow.routes import Asked, Route


class AssessmentCalls:
    """Handlers; each is one call."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._traces = door.ws.tracking.traces
        self._project_id = door.project_id

    async def create(self, asked: Asked) -> w.Json:
        message: wt.AssessmentBody = asked.message
        given = d.need(message.assessment, "assessment")
        one = aw.assessment_in(given, asked.path["trace_id"], self._door.ws.clock.now_ms())
        made = await self._door.write(lambda tx: self._traces.assess(tx, self._project_id, one))
        return {"assessment": aw.assessment_out(made)}

    def get(self, asked: Asked) -> w.Json:
        found = self._traces.assessment(self._project_id, asked.path["trace_id"], asked.path["assessment_id"])
        return {"assessment": aw.assessment_out(found)}

    async def update(self, asked: Asked) -> w.Json:
        changed = aw.amended_in(asked.message)
        trace_id, id = asked.path["trace_id"], asked.path["assessment_id"]
        made = await self._door.write(
            lambda tx: self._traces.amend_assessment(tx, self._project_id, trace_id, id, **changed)
        )
        return {"assessment": aw.assessment_out(made)}

    async def delete(self, asked: Asked) -> None:
        trace_id, id = asked.path["trace_id"], asked.path["assessment_id"]
        await self._door.write(lambda tx: self._traces.delete_assessment(tx, self._project_id, trace_id, id))


def routes(door: d.Door) -> list[Route]:
    c = AssessmentCalls(door)
    all_, one = "3.0/mlflow/traces/{trace_id}/assessments", "3.0/mlflow/traces/{trace_id}/assessments/{assessment_id}"
    return [
        Route(method="POST", path=all_, handler=c.create, message=wt.AssessmentBody),
        Route(method="GET", path=one, handler=c.get),
        Route(method="PATCH", path=one, handler=c.update, message=wt.UpdateAssessment),
        Route(method="DELETE", path=one, handler=c.delete),
    ]
