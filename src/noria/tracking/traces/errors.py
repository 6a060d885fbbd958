from __future__ import annotations

from noria.base.errors import Invalid, NotFound


class TraceNotFound(NotFound):
    """There is no such trace."""

    code = "trace_not_found"

    def __init__(self, trace_id: str, hint: str = "noria runs traces") -> None:
        super().__init__(f"Trace with ID {trace_id!r:.120} is not found.", hint=hint)


class AssessmentNotFound(NotFound):
    """There is no such assessment."""

    code = "assessment_not_found"

    def __init__(self, assessment_id: str, trace_id: str) -> None:
        super().__init__(f"Assessment with ID {assessment_id!r:.80} not found for trace {trace_id!r:.120}.")


class TraceInvalid(Invalid):
    """A trace, a span or an assessment cannot be kept as it came."""

    code = "trace_invalid"
