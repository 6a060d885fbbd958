"""The variables by which MLflow's clients find a server and a run."""

from __future__ import annotations

from typing import Final

URI: Final = "MLFLOW_TRACKING_URI"
TOKEN: Final = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 - a name
RUN: Final = "MLFLOW_RUN_ID"
EXPERIMENT: Final = "MLFLOW_EXPERIMENT_ID"
OWN: Final = (URI, TOKEN, RUN, EXPERIMENT)
TOKEN_BEGINS: Final = "noria-step-"  # noqa: S105 - how one begins
