"""The variables by which MLflow's clients find a server and a run."""

from __future__ import annotations

from typing import Final

URI: Final = "MLFLOW_TRACKING_URI"
TOKEN: Final = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 - a name
RUN: Final = "MLFLOW_RUN_ID"
EXPERIMENT: Final = "MLFLOW_EXPERIMENT_ID"
USER: Final = "MLFLOW_TRACKING_USERNAME"
PASSWORD: Final = "MLFLOW_TRACKING_PASSWORD"  # noqa: S105 - a name
OWN: Final = (URI, TOKEN, RUN, EXPERIMENT)
TOKEN_BEGINS: Final = "noria-step-"  # noqa: S105 - how one begins
HIDDEN: Final = (
    USER, PASSWORD, "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_AUTH", "MLFLOW_WORKSPACE", "MLFLOW_ACTIVE_MODEL_ID",
    "_MLFLOW_ACTIVE_MODEL_ID",
)  # fmt: skip
"""Variables that would lead a client away from the step's run, or are secrets for another server."""
