"""Assessments in MLflow's words."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from noria.base.errors import Invalid
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow import wire_times as times
from noria.gateways.mlflow import wire_traces as wt
from noria.gateways.mlflow.errors import Required
from noria.tracking.traces.records import Assessment, Source

_SOURCES: Final = ("SOURCE_TYPE_UNSPECIFIED", "HUMAN", "LLM_JUDGE", "CODE")


# ---- assessments


def assessment_in(given: wt.AssessmentIn, trace_id: str, now: int, *, keep_id: bool = False) -> Assessment:
    kind, value, error = value_in(given)
    source = given.source or wt.SourceIn()
    metadata = given.metadata or {}
    created = times.time_in(given.create_time, "create_time")
    updated = times.time_in(given.last_update_time, "last_update_time")
    return Assessment(
        id=(given.assessment_id or "") if keep_id else "",
        trace_id=trace_id,
        name=d.need(given.assessment_name, "assessment_name"),
        kind=kind,
        value=value,
        error=error,
        source=Source(kind=_source(source.source_type), id=source.source_id or None),
        span_id=given.span_id or None,
        rationale=given.rationale or None,
        overrides=given.overrides or None,
        valid=given.valid is not False,
        metadata=metadata,
        whole_session=wt.SESSION in metadata,
        created_at=now if created is None else created,
        updated_at=now if updated is None else updated,
    )


def _source(given: str | int | None) -> str:
    if isinstance(given, int) or (isinstance(given, str) and given.isascii() and given.isdecimal()):
        number = int(str(given)[:9])
        given = _SOURCES[number] if 0 <= number < len(_SOURCES) else ""
    name = given or (_SOURCES[0] if given is None else "")
    if name not in _SOURCES:
        raise Invalid(f"Invalid value {given!r:.60} for parameter 'source_type'.", hint=", ".join(_SOURCES[1:]))
    return name


def value_in(given: wt.AssessmentIn) -> tuple[str, Any, dict[str, Any] | None]:
    """Kind, value and error of an assessment."""
    if given.expectation is not None:
        return "expectation", _expected(given.expectation), None
    if given.feedback is not None:
        error = given.feedback.get("error")
        return "feedback", given.feedback.get("value"), error if isinstance(error, dict) else None
    if given.issue is not None:
        return "issue", str(given.issue.get("issue_name") or ""), None
    raise Invalid("An assessment has to hold one of 'feedback', 'expectation' and 'issue'.")


def _expected(given: dict[str, Any]) -> Any:
    written = given.get("serialized_value")
    if not isinstance(written, dict):
        return given.get("value")
    text = written.get("value")
    if written.get("serialization_format") != "JSON_FORMAT" or not isinstance(text, str):
        raise Invalid("The serialized value of an expectation is written in JSON_FORMAT.")
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise Invalid(f"The serialized value {text!r:.60} of an expectation is no JSON.") from None


def assessment_out(one: Assessment) -> w.Json:
    made: w.Json = {
        "assessment_id": one.id,
        "assessment_name": one.name,
        "trace_id": one.trace_id,
        "source": {"source_type": one.source.kind, **({"source_id": one.source.id} if one.source.id else {})},
        "create_time": times.time_out(one.created_at),
        "last_update_time": times.time_out(one.updated_at),
    }
    if one.kind == "feedback":
        made["feedback"] = {"value": one.value, **({"error": one.error} if one.error else {})}
    elif one.kind == "issue":
        made["issue"] = {"issue_name": one.value}
    elif isinstance(one.value, dict | list):
        written = {"serialization_format": "JSON_FORMAT", "value": json.dumps(one.value)}
        made["expectation"] = {"serialized_value": written}
    else:
        made["expectation"] = {"value": one.value}
    optional = {"span_id": one.span_id, "rationale": one.rationale, "overrides": one.overrides}
    made |= {key: value for key, value in optional.items() if value}
    if one.metadata:
        made["metadata"] = one.metadata
    return {**made, "valid": one.valid}


_MASK: Final = {
    "assessmentname": "name",
    "expectation": "value",
    "feedback": "value",
    "rationale": "rationale",
    "metadata": "metadata",
}


def amended_in(message: wt.UpdateAssessment) -> dict[str, Any]:
    """What an update changes, as arguments of the verb."""
    given = d.need(message.assessment, "assessment")
    mask = message.update_mask
    if mask is None:
        raise Required("update_mask")
    paths = mask.get("paths") or [] if isinstance(mask, dict) else mask.split(",")
    wanted = {_MASK.get(str(path).strip().replace("_", "").lower()) for path in paths}
    made: dict[str, Any] = {}
    if "name" in wanted:
        made["name"] = d.need(given.assessment_name, "assessment_name")
    if "value" in wanted:
        if given.expectation is not None and given.feedback is not None:
            raise Invalid("Cannot specify both `expectation` and `feedback` parameters.")
        made["kind"], made["value"], made["error"] = value_in(given)
    if "rationale" in wanted:
        made["rationale"] = given.rationale or ""
    if "metadata" in wanted:
        made["metadata"] = given.metadata or {}
    return made
