from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from noria.tracking.traces.records import Span


@dataclass(frozen=True, slots=True)
class Received:
    """A span as it came, with the trace that it is of and what the sender says of itself."""

    trace_id: str
    span: Span
    resource: dict[str, Any] = field(default_factory=dict[str, Any])
