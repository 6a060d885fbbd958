"""What a project's modules say: inert declarations. They hold values only; nothing is registered anywhere.

A decorated function is still the plain function; the declaration hangs on it as ``__noria__``.
"""

from __future__ import annotations

from noria.pipelines.declare.assets import (
    Command,
    Declaration,
    Endpoint,
    Secret,
    Source,
    check,
    command,
    dataset,
    declaration_of,
    endpoint,
    features,
    labels,
    model,
    report,
    secret,
    source,
)
from noria.pipelines.declare.hooks import hook

__all__ = [
    "Command",
    "Declaration",
    "Endpoint",
    "Secret",
    "Source",
    "check",
    "command",
    "dataset",
    "declaration_of",
    "endpoint",
    "features",
    "hook",
    "labels",
    "model",
    "report",
    "secret",
    "source",
]
