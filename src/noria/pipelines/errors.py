from __future__ import annotations

from typing import Any

from noria.base.errors import Failed, Invalid, NotFound


class GraphInvalid(Invalid):
    """The project's modules do not make a graph."""

    code = "graph_invalid"


class CodeBroken(Failed):
    """A module of the project cannot be imported."""

    code = "code_broken"


class AssetUnknown(NotFound):
    """The project has no asset of this name."""

    code = "asset_unknown"


class ParameterUnknown(Invalid):
    """The asset has no hyperparameter of this name."""

    code = "parameter_unknown"


class SourceEmpty(Failed):
    """A source has no rows yet."""

    code = "source_empty"


class StepFailed(Failed):
    """The function of a step failed."""

    code = "step_failed"


class StepTimeout(Failed):
    """A step took longer than it may."""

    code = "step_timeout"


class StepLost(Failed):
    """The process of a step died."""

    code = "step_lost"


class MemoryExceeded(Failed):
    """A step took more memory than it may."""

    code = "memory_exceeded"


class ResultInvalid(Failed):
    """A step returned something that cannot be stored."""

    code = "result_invalid"


class Infeasible(Invalid):
    """No executor here has what a step asks for."""

    code = "infeasible"


class PipelineFailed(Failed):
    """At least one step of a pipeline failed."""

    code = "pipeline_failed"

    def __init__(self, run_id: str, failed: list[tuple[str, dict[str, Any]]]) -> None:
        name, error = failed[0]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        super().__init__(
            f"{name} failed{more}: {error.get('message', 'no reason was given')}",
            hint=error.get("hint") or f"noria runs logs {run_id}",
            details={"run": run_id, "failed": dict(failed)},
        )


class ComputeFailed(Failed):
    """Something that noria computes in a process of its own could not be computed."""

    code = "compute_failed"
