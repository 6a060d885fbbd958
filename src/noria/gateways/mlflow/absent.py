"""What MLflow has and noria has not: each path, as data, with what it answers and why.

A feature that is not there answers 404 with ENDPOINT_NOT_FOUND, as a server of MLflow does that is older than the
feature. MLflow's client raises that at once, and knows it: it tries an older path where there is one, and says of
workspaces that the server has none. What MLflow's own server sends for a feature that is switched off is worse for the
caller: 503 for workspaces and 500 for FEATURE_DISABLED are repeated by the client for minutes, and 501 counts as a
fault of the server wherever statuses are counted.

A list of things that clients and pages ask for in passing is empty, since that is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from noria.gateways.mlflow.errors import NoEndpoint
from noria.gateways.mlflow.routes import Asked, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A feature that is not there.

    Attributes:
        what: its name, as a message says it.
        why: why noria has it not, or what does its work.
        paths: methods with a comma between them, a blank, the path as ``Route`` has it.
        empty: of the paths, those that answer with an empty message: MLflow's form of an empty list.
    """

    what: str
    why: str
    paths: tuple[str, ...]
    empty: tuple[str, ...] = ()


_REPOSITORIES: Final = "Tables and files live in repositories: noria data --help."
_MODELS_ONLY: Final = "noria serves models that it trained or that were logged to it, and calls no other service."
_GENAI: Final = "noria stores and searches traces and what was said about them."

ABSENT: Final = (
    Absent(
        what="evaluation datasets",
        why=_REPOSITORIES,
        paths=(
            "POST 3.0/mlflow/datasets/create",
            "GET,DELETE 3.0/mlflow/datasets/{dataset_id}",
            "POST 3.0/mlflow/datasets/{dataset_id}/add-experiments",
            "POST 3.0/mlflow/datasets/{dataset_id}/remove-experiments",
            "GET 3.0/mlflow/datasets/{dataset_id}/experiment-ids",
            "GET,POST,DELETE 3.0/mlflow/datasets/{dataset_id}/records",
            "PATCH 3.0/mlflow/datasets/{dataset_id}/tags",
            "DELETE 3.0/mlflow/datasets/{dataset_id}/tags/{key}",
        ),
        empty=("GET,POST 3.0/mlflow/datasets/search",),
    ),
    Absent(
        what="issues",
        why=_GENAI,
        paths=("POST 3.0/mlflow/issues", "GET,PATCH 3.0/mlflow/issues/{issue_id}"),
        empty=("POST 3.0/mlflow/issues/search",),
    ),
    Absent(
        what="label schemas",
        why="Labels come from a labels function of the project, and what people say of a trace is an assessment.",
        paths=(
            "POST 3.0/mlflow/label-schemas/create",
            "DELETE 3.0/mlflow/label-schemas/delete",
            "GET 3.0/mlflow/label-schemas/get",
            "GET 3.0/mlflow/label-schemas/get-by-name",
            "PATCH 3.0/mlflow/label-schemas/update",
        ),
        empty=("GET 3.0/mlflow/label-schemas/list",),
    ),
    Absent(
        what="prompt optimisation",
        why=_MODELS_ONLY,
        paths=(
            "POST 3.0/mlflow/prompt-optimization/jobs",
            "GET,DELETE 3.0/mlflow/prompt-optimization/jobs/{job_id}",
            "POST 3.0/mlflow/prompt-optimization/jobs/{job_id}/cancel",
        ),
        empty=("GET,POST 3.0/mlflow/prompt-optimization/jobs/search",),
    ),
    Absent(
        what="review queues",
        why=_GENAI,
        paths=(
            "POST 3.0/mlflow/review-queues/create",
            "POST 3.0/mlflow/review-queues/delete",
            "GET 3.0/mlflow/review-queues/get",
            "GET 3.0/mlflow/review-queues/get-by-name",
            "POST 3.0/mlflow/review-queues/get-or-create-user",
            "POST 3.0/mlflow/review-queues/items/add",
            "GET 3.0/mlflow/review-queues/items/list",
            "POST 3.0/mlflow/review-queues/items/remove",
            "POST 3.0/mlflow/review-queues/items/set-status",
            "POST 3.0/mlflow/review-queues/update",
        ),
        empty=("GET 3.0/mlflow/review-queues/list",),
    ),
    Absent(
        what="registered scorers",
        why="A scorer that is called in the client's own process works: what it says is kept as an assessment.",
        paths=(
            "POST 3.0/mlflow/scorers/register",
            "GET 3.0/mlflow/scorers/get",
            "DELETE 3.0/mlflow/scorers/delete",
            "PUT 3.0/mlflow/scorers/online-config",
            "GET 3.0/mlflow/scorers/online-configs",
            "GET 3.0/mlflow/scorers/versions",
        ),
        empty=("GET 3.0/mlflow/scorers/list",),
    ),
    Absent(
        what="gateway to other models",
        why=_MODELS_ONLY,
        paths=(
            "POST 3.0/mlflow/gateway/budgets/create",
            "DELETE 3.0/mlflow/gateway/budgets/delete",
            "GET 3.0/mlflow/gateway/budgets/get",
            "GET 3.0/mlflow/gateway/budgets/list",
            "POST 3.0/mlflow/gateway/budgets/update",
            "GET 3.0/mlflow/gateway/budgets/windows",
            "POST 3.0/mlflow/gateway/endpoints/bindings/create",
            "DELETE 3.0/mlflow/gateway/endpoints/bindings/delete",
            "GET 3.0/mlflow/gateway/endpoints/bindings/list",
            "POST 3.0/mlflow/gateway/endpoints/create",
            "DELETE 3.0/mlflow/gateway/endpoints/delete",
            "DELETE 3.0/mlflow/gateway/endpoints/delete-tag",
            "GET 3.0/mlflow/gateway/endpoints/get",
            "GET 3.0/mlflow/gateway/endpoints/list",
            "POST 3.0/mlflow/gateway/endpoints/models/attach",
            "POST 3.0/mlflow/gateway/endpoints/models/detach",
            "POST 3.0/mlflow/gateway/endpoints/set-tag",
            "POST 3.0/mlflow/gateway/endpoints/update",
            "POST 3.0/mlflow/gateway/guardrails/add-to-endpoint",
            "POST 3.0/mlflow/gateway/guardrails/create",
            "DELETE 3.0/mlflow/gateway/guardrails/delete",
            "GET 3.0/mlflow/gateway/guardrails/get",
            "GET 3.0/mlflow/gateway/guardrails/list",
            "GET 3.0/mlflow/gateway/guardrails/list-for-endpoint",
            "DELETE 3.0/mlflow/gateway/guardrails/remove-from-endpoint",
            "PATCH 3.0/mlflow/gateway/guardrails/update-config",
            "POST 3.0/mlflow/gateway/model-definitions/create",
            "DELETE 3.0/mlflow/gateway/model-definitions/delete",
            "GET 3.0/mlflow/gateway/model-definitions/get",
            "GET 3.0/mlflow/gateway/model-definitions/list",
            "POST 3.0/mlflow/gateway/model-definitions/update",
            "POST 3.0/mlflow/gateway/secrets/create",
            "DELETE 3.0/mlflow/gateway/secrets/delete",
            "GET 3.0/mlflow/gateway/secrets/get",
            "GET 3.0/mlflow/gateway/secrets/list",
            "POST 3.0/mlflow/gateway/secrets/update",
            "GET,POST 2.0/mlflow/gateway-proxy",
            "POST 2.0/mlflow/runs/create-promptlab-run",
            "GET,POST /gateway/{rest:path}",
        ),
    ),
    Absent(
        what="workspaces",
        why="One server serves one project; another project is another folder or database: noria init.",
        paths=("GET,POST 3.0/mlflow/workspaces", "GET,PATCH,DELETE 3.0/mlflow/workspaces/{workspace_name}"),
    ),
    Absent(
        what="GraphQL",
        why="The same is answered by the paths under /api/2.0/mlflow and by noria's own API: GET /openapi.json.",
        paths=("GET,POST /graphql",),
    ),
    Absent(
        what="jobs of MLflow's server",
        why="noria's own are shown by: noria jobs",
        paths=("POST 3.0/jobs", "GET 3.0/jobs/{job_id}", "POST 3.0/jobs/search", "PATCH 3.0/jobs/cancel/{job_id}"),
    ),
    Absent(
        what="assistant",
        why="noria calls no language model.",
        paths=("GET,POST,PUT,PATCH,DELETE 3.0/mlflow/assistant/{rest:path}",),
    ),
    Absent(
        what="registry of MCP servers",
        why="Models and their versions are what the registry holds.",
        paths=(
            "GET,POST 3.0/mlflow/mcp-servers",
            "GET,POST,PATCH,DELETE 3.0/mlflow/mcp-servers/{rest:path}",
        ),
    ),
    Absent(
        what="traces in tables of Databricks",
        why="POST /api/3.0/mlflow/traces/search finds traces; MLflow's own server has not this path either.",
        paths=("GET 2.0/mlflow/get-online-trace-details", "GET 2.0/mlflow/unified-traces"),
    ),
    Absent(
        what="telemetry of pages",
        why="noria sends nothing about its use to anybody.",
        paths=("GET,POST 3.0/mlflow/ui-telemetry",),
    ),
    Absent(
        what="MLflow's pages",
        why="Its client, its command line and noria's own commands work.",
        paths=("GET /static-files/{rest:path}",),
    ),
)
"""Every path of MLflow 3.17.2 that noria does not serve, by feature."""


def routes(served: Iterable[Route]) -> list[Route]:
    """The routes that say so; where ``served`` has a path already, that one counts."""
    taken = {(route.method, route.path) for route in served}
    made: list[Route] = []
    for feature in ABSENT:
        for paths, answer in ((feature.paths, None), (feature.empty, _nothing)):
            for method, path in spelled(paths):
                if (method, path) not in taken:
                    handler = answer or _refusal(feature, method, path)
                    made.append(Route(method=method, path=path, handler=handler))
    return made


def spelled(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Each method with its path."""
    pairs = (line.split(" ", 1) for line in paths)
    return [(method, path) for methods, path in pairs for method in methods.split(",")]


def _refusal(feature: Absent, method: str, path: str) -> Callable[[Asked], Any]:
    async def refuse(_: Asked) -> None:
        raise NoEndpoint(f"noria has no {feature.what}: {method} {path} is not served.", hint=feature.why)

    return refuse


async def _nothing(_: Asked) -> None:
    return None
