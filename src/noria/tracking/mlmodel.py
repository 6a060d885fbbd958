"""What the file ``MLmodel`` of a package says: flavors, signature, input example.

MLflow writes it as YAML. It is read here part by part, so that what nobody asks for is never looked at; a part that
cannot be read is left out. Noria's own packages write it as JSON.
"""

from __future__ import annotations

import json
from typing import Any, Final, cast

from noria.tracking.yamltext import Unreadable, read, sections

DESCRIPTION: Final = "MLmodel"
_PARTS: Final = ("flavors", "signature", "saved_input_example_info", "mlflow_version", "model_size_bytes")
_SCHEMAS: Final = ("inputs", "outputs", "params")


def facts_of(data: bytes) -> dict[str, Any]:
    """Facts for the version of the package: ``flavors`` (names), ``signature``, ``input_example`` (its path), and
    which MLflow wrote it.
    """
    said = _said(data.decode("utf-8", "replace"))
    facts: dict[str, Any] = {}
    flavors, signature = said.get("flavors"), said.get("signature")
    if isinstance(flavors, dict):
        facts["flavors"] = sorted(map(str, cast("dict[Any, Any]", flavors)))
    if isinstance(signature, dict):
        found = {name: _schema(cast("dict[str, Any]", signature).get(name)) for name in _SCHEMAS}
        facts["signature"] = {name: schema for name, schema in found.items() if schema is not None}
    example = said.get("saved_input_example_info")
    if isinstance(example, dict) and isinstance(cast("dict[str, Any]", example).get("artifact_path"), str):
        facts["input_example"] = cast("dict[str, Any]", example)["artifact_path"]
    if isinstance(said.get("mlflow_version"), str):
        facts["mlflow"] = said["mlflow_version"]
    return facts


def _said(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return told if isinstance(told, dict) else {}
    found, made = sections(text), dict[str, Any]()
    for name in _PARTS:
        try:
            part = read(found.get(name, ""))
        except Unreadable:
            continue
        if isinstance(part, dict):
            made[name] = cast("dict[str, Any]", part).get(name)
    return made


def _schema(value: Any) -> Any:
    """Columns of a signature: JSON in a text."""
    if not isinstance(value, str):
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
