"""The OpenAPI document of the declared routes. Schemas are msgspec's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from noria.http.content import Content
from noria.http.errors import ErrorAnswer
from noria.http.routes import Route

_REF = "#/components/schemas/{name}"


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    routes = sorted(routes, key=lambda r: (r.path, r.method))
    types = [ErrorAnswer]
    for route in routes:
        types += [kind for kind in (route.answer, route.body, route.query) if kind not in (None, Content)]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, by_type, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "noria", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, by_type: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)(?::\w+)?\}", route.path)
    ]
    if route.query is not None:
        schema = by_type[id(route.query)]
        schema = components.get(schema.get("$ref", "").rsplit("/", 1)[-1], schema)
        required = set(schema.get("required", ()))
        parameters += [
            {"name": name, "in": "query", "required": name in required, "schema": part}
            for name, part in schema.get("properties", {}).items()
        ]
    if route.method != "GET":
        parameters.append({"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string"}})
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "security": [{}, {"token": []}],
        "x-permission": route.permission,
        "responses": {
            str(route.status): {
                "description": "Done.",
                "content": _answer(route, by_type),
            },
            "default": {
                "description": "What went wrong.",
                "content": {"application/json": {"schema": {"$ref": _REF.format(name="ErrorAnswer")}}},
            },
        },
    }
    if route.cli:
        operation["x-cli"] = route.cli
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        content = {"application/json": {"schema": by_type[id(route.body)]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _answer(route: Route, by_type: dict[int, Any]) -> dict[str, Any]:
    if route.answer is Content:
        return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {"application/json": {"schema": by_type[id(route.answer)]}}
