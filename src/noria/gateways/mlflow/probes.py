"""What clients and load balancers ask first: is it there, which version, what can it do."""

from __future__ import annotations

from typing import Final

from starlette.responses import PlainTextResponse, Response

from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow.routes import Asked, Route

SPOKEN: Final = "3.17.2"
"""The version of MLflow whose protocol this is; clients compare it with their own."""


def health(_: Asked) -> Response:
    return PlainTextResponse("OK")


def version(_: Asked) -> Response:
    return PlainTextResponse(SPOKEN)


def server_info(_: Asked) -> w.Json:
    """What there is, honestly: a store in SQL, uploads in parts, no presigned addresses."""
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": True,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": [],
    }


def routes() -> list[Route]:
    return [
        Route(method="GET", path="/health", handler=health),
        Route(method="GET", path="/version", handler=version),
        Route(method="GET", path="3.0/mlflow/server-info", handler=server_info),
    ]
