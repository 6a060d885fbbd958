"""Moving in: what an MLflow server, folder or database holds becomes part of a workspace (``noria import mlflow``)."""

from __future__ import annotations

from noria.gateways.mlflow.moving.records import Left, Moved
from noria.gateways.mlflow.moving.verb import MoveIn, open_source

__all__ = ["Left", "MoveIn", "Moved", "open_source"]
