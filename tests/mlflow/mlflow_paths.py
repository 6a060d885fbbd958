"""The paths of MLflow 3.17.2: methods, and the path behind ``/api/``. The groups are those of its own route table."""

from __future__ import annotations

from typing import Final

TRACKING: Final = """
GET 2.0/mlflow-artifacts/artifacts
DELETE,GET,PUT 2.0/mlflow-artifacts/artifacts/{artifact_path:path}
POST 2.0/mlflow-artifacts/mpu/abort/{artifact_path:path}
POST 2.0/mlflow-artifacts/mpu/complete/{artifact_path:path}
POST 2.0/mlflow-artifacts/mpu/create/{artifact_path:path}
GET 2.0/mlflow-artifacts/presigned/{artifact_path:path}
GET 2.0/mlflow/artifacts/list
POST 2.0/mlflow/artifacts/presigned-download-url
POST 2.0/mlflow/artifacts/presigned-upload-url
POST 2.0/mlflow/experiments/create
POST 2.0/mlflow/experiments/delete
POST 2.0/mlflow/experiments/delete-experiment-tag
GET 2.0/mlflow/experiments/get
GET 2.0/mlflow/experiments/get-by-name
POST 2.0/mlflow/experiments/restore
GET,POST 2.0/mlflow/experiments/search
POST 2.0/mlflow/experiments/set-experiment-tag
POST 2.0/mlflow/experiments/update
POST 2.0/mlflow/logged-models
DELETE,GET,PATCH 2.0/mlflow/logged-models/{model_id}
GET 2.0/mlflow/logged-models/{model_id}/artifacts/directories
POST 2.0/mlflow/logged-models/{model_id}/params
PATCH 2.0/mlflow/logged-models/{model_id}/tags
DELETE 2.0/mlflow/logged-models/{model_id}/tags/{tag_key}
POST 2.0/mlflow/logged-models/search
GET 2.0/mlflow/metrics/get-history
GET 2.0/mlflow/metrics/get-history-bulk-interval
POST 2.0/mlflow/model-versions/create
DELETE 2.0/mlflow/model-versions/delete
DELETE 2.0/mlflow/model-versions/delete-tag
GET 2.0/mlflow/model-versions/get
GET 2.0/mlflow/model-versions/get-download-uri
GET 2.0/mlflow/model-versions/search
POST 2.0/mlflow/model-versions/set-tag
POST 2.0/mlflow/model-versions/transition-stage
PATCH 2.0/mlflow/model-versions/update
DELETE,GET,POST 2.0/mlflow/registered-models/alias
POST 2.0/mlflow/registered-models/create
DELETE 2.0/mlflow/registered-models/delete
DELETE 2.0/mlflow/registered-models/delete-tag
GET 2.0/mlflow/registered-models/get
GET,POST 2.0/mlflow/registered-models/get-latest-versions
POST 2.0/mlflow/registered-models/rename
GET 2.0/mlflow/registered-models/search
POST 2.0/mlflow/registered-models/set-tag
PATCH 2.0/mlflow/registered-models/update
POST 2.0/mlflow/runs/create
POST 2.0/mlflow/runs/delete
POST 2.0/mlflow/runs/delete-tag
GET 2.0/mlflow/runs/get
POST 2.0/mlflow/runs/log-batch
POST 2.0/mlflow/runs/log-inputs
POST 2.0/mlflow/runs/log-metric
POST 2.0/mlflow/runs/log-model
POST 2.0/mlflow/runs/log-parameter
POST 2.0/mlflow/runs/outputs
POST 2.0/mlflow/runs/restore
POST 2.0/mlflow/runs/search
POST 2.0/mlflow/runs/set-tag
POST 2.0/mlflow/runs/update
POST 2.0/mlflow/experiments/search-datasets
GET 3.0/mlflow/server-info
"""
"""Experiments, runs, metrics, artifacts, logged models, the registry."""

BESIDE: Final = """
GET /health
GET /version
GET /get-artifact
GET /model-versions/get-artifact
GET 2.0/mlflow/metrics/get-history-bulk
GET 2.0/mlflow/logged-models/{model_id}/artifacts/files
POST 2.0/mlflow/upload-artifact
POST /v1/traces
GET 2.0/mlflow/get-trace-artifact
GET 3.0/mlflow/get-trace-artifact
"""
"""What stands outside of its table and is asked for nevertheless."""

TRACES: Final = """
GET 2.0/mlflow/get-online-trace-details
GET,POST 2.0/mlflow/traces
PATCH 2.0/mlflow/traces/{request_id}
GET 2.0/mlflow/traces/{request_id}/info
DELETE,PATCH 2.0/mlflow/traces/{request_id}/tags
POST 2.0/mlflow/traces/delete-traces
POST 2.0/mlflow/traces/link-prompts
POST 2.0/mlflow/traces/link-to-run
GET 2.0/mlflow/unified-traces
DELETE,GET 3.0/mlflow/datasets/{dataset_id}
POST 3.0/mlflow/datasets/{dataset_id}/add-experiments
GET 3.0/mlflow/datasets/{dataset_id}/experiment-ids
DELETE,GET,POST 3.0/mlflow/datasets/{dataset_id}/records
POST 3.0/mlflow/datasets/{dataset_id}/remove-experiments
PATCH 3.0/mlflow/datasets/{dataset_id}/tags
DELETE 3.0/mlflow/datasets/{dataset_id}/tags/{key}
POST 3.0/mlflow/datasets/create
GET,POST 3.0/mlflow/datasets/search
POST 3.0/mlflow/issues
GET,PATCH 3.0/mlflow/issues/{issue_id}
POST 3.0/mlflow/issues/search
POST 3.0/mlflow/label-schemas/create
DELETE 3.0/mlflow/label-schemas/delete
GET 3.0/mlflow/label-schemas/get
GET 3.0/mlflow/label-schemas/get-by-name
GET 3.0/mlflow/label-schemas/list
PATCH 3.0/mlflow/label-schemas/update
POST 3.0/mlflow/prompt-optimization/jobs
DELETE,GET 3.0/mlflow/prompt-optimization/jobs/{job_id}
POST 3.0/mlflow/prompt-optimization/jobs/{job_id}/cancel
GET,POST 3.0/mlflow/prompt-optimization/jobs/search
POST 3.0/mlflow/review-queues/create
POST 3.0/mlflow/review-queues/delete
GET 3.0/mlflow/review-queues/get
GET 3.0/mlflow/review-queues/get-by-name
POST 3.0/mlflow/review-queues/get-or-create-user
POST 3.0/mlflow/review-queues/items/add
GET 3.0/mlflow/review-queues/items/list
POST 3.0/mlflow/review-queues/items/remove
POST 3.0/mlflow/review-queues/items/set-status
GET 3.0/mlflow/review-queues/list
POST 3.0/mlflow/review-queues/update
DELETE 3.0/mlflow/scorers/delete
GET 3.0/mlflow/scorers/get
GET 3.0/mlflow/scorers/list
PUT 3.0/mlflow/scorers/online-config
GET 3.0/mlflow/scorers/online-configs
POST 3.0/mlflow/scorers/register
GET 3.0/mlflow/scorers/versions
POST 3.0/mlflow/traces
GET 3.0/mlflow/traces/{trace_id}
POST 3.0/mlflow/traces/{trace_id}/assessments
DELETE,GET,PATCH 3.0/mlflow/traces/{trace_id}/assessments/{assessment_id}
DELETE,PATCH 3.0/mlflow/traces/{trace_id}/tags
GET 3.0/mlflow/traces/batchGet
POST 3.0/mlflow/traces/batchGetInfos
POST 3.0/mlflow/traces/calculate-filter-correlation
POST 3.0/mlflow/traces/delete-traces
GET 3.0/mlflow/traces/get
POST 3.0/mlflow/traces/metrics
POST 3.0/mlflow/traces/search
"""
"""Traces, assessments and what is built on them."""

REST: Final = """
GET,POST 2.0/mlflow/webhooks
DELETE,GET,PATCH 2.0/mlflow/webhooks/{webhook_id}
POST 2.0/mlflow/webhooks/{webhook_id}/test
POST 3.0/mlflow/gateway/budgets/create
DELETE 3.0/mlflow/gateway/budgets/delete
GET 3.0/mlflow/gateway/budgets/get
GET 3.0/mlflow/gateway/budgets/list
POST 3.0/mlflow/gateway/budgets/update
GET 3.0/mlflow/gateway/budgets/windows
POST 3.0/mlflow/gateway/endpoints/bindings/create
DELETE 3.0/mlflow/gateway/endpoints/bindings/delete
GET 3.0/mlflow/gateway/endpoints/bindings/list
POST 3.0/mlflow/gateway/endpoints/create
DELETE 3.0/mlflow/gateway/endpoints/delete
DELETE 3.0/mlflow/gateway/endpoints/delete-tag
GET 3.0/mlflow/gateway/endpoints/get
GET 3.0/mlflow/gateway/endpoints/list
POST 3.0/mlflow/gateway/endpoints/models/attach
POST 3.0/mlflow/gateway/endpoints/models/detach
POST 3.0/mlflow/gateway/endpoints/set-tag
POST 3.0/mlflow/gateway/endpoints/update
POST 3.0/mlflow/gateway/guardrails/add-to-endpoint
POST 3.0/mlflow/gateway/guardrails/create
DELETE 3.0/mlflow/gateway/guardrails/delete
GET 3.0/mlflow/gateway/guardrails/get
GET 3.0/mlflow/gateway/guardrails/list
GET 3.0/mlflow/gateway/guardrails/list-for-endpoint
DELETE 3.0/mlflow/gateway/guardrails/remove-from-endpoint
PATCH 3.0/mlflow/gateway/guardrails/update-config
POST 3.0/mlflow/gateway/model-definitions/create
DELETE 3.0/mlflow/gateway/model-definitions/delete
GET 3.0/mlflow/gateway/model-definitions/get
GET 3.0/mlflow/gateway/model-definitions/list
POST 3.0/mlflow/gateway/model-definitions/update
POST 3.0/mlflow/gateway/secrets/create
DELETE 3.0/mlflow/gateway/secrets/delete
GET 3.0/mlflow/gateway/secrets/get
GET 3.0/mlflow/gateway/secrets/list
POST 3.0/mlflow/gateway/secrets/update
GET,POST 3.0/mlflow/workspaces
DELETE,GET,PATCH 3.0/mlflow/workspaces/{workspace_name}
GET,POST /graphql
"""
"""Webhooks, a gateway to other models, workspaces, GraphQL."""


def listed(group: str) -> list[tuple[str, str]]:
    """Each method with its path."""
    pairs = (line.split(" ", 1) for line in group.split("\n") if line)
    return [(method, path) for methods, path in pairs for method in methods.split(",")]
