"""The OpenAPI document of a server, made from its operations."""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec
import orjson

import fastcpu
from fastcpu.serve.config import Config
from fastcpu.serve.operation import Operation
from fastcpu.serve.problems import REFUSED

_PARAMETER = re.compile(r"\{([a-z_]+)(?::path)?\}")
_REFERENCE = "#/components/schemas/{name}"


def document(config: Config) -> bytes:
    """The document, JSON."""
    return _document(bool(config.keys()))


@functools.cache
def _document(keyed: bool) -> bytes:
    from fastcpu.serve.protocols import operations

    described = list(operations())
    kinds = list(dict.fromkeys(kind for operation in described for kind in _kinds(operation)))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in described:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, schema_of, keyed)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "fastcpu serve", "version": fastcpu.__version__},
        "paths": paths,
        "components": {"schemas": components},
    }
    if keyed:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return orjson.dumps(found)


def _kinds(operation: Operation) -> list[Any]:
    """The types that an operation's schemas need."""
    found = [kind for kind in (operation.request, operation.response) if kind is not None and kind is not bytes]
    return [*found, operation.protocol.error_type]


def _operation(operation: Operation, schema_of: dict[Any, Any], keyed: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.protocol.name],
        "operationId": re.sub(r"\W+", "_", f"{operation.method} {operation.path}").strip("_").lower(),
        "responses": {"200": _answer(operation, schema_of)},
    }
    names = _PARAMETER.findall(operation.path)
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if operation.request is not None:
        content = {"application/json": {"schema": schema_of[operation.request]}}
        found["requestBody"] = {"required": True, "content": content}
    for status in _statuses(operation, keyed):
        found["responses"][str(status)] = {
            "description": REFUSED[status],
            "content": {"application/json": {"schema": schema_of[operation.protocol.error_type]}},
        }
    if keyed and not operation.public:
        found["security"] = [{"key": []}]
    return found


def _answer(operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": operation.summary}
    if operation.response is bytes:
        found["content"] = {operation.media: {"schema": {"type": "string"}}}
    elif operation.response is not None:
        found["content"] = {operation.media: {"schema": schema_of[operation.response]}}
    return found


def _statuses(operation: Operation, keyed: bool) -> list[int]:
    """Of the refusals that an operation may answer with."""
    found = set(operation.statuses)
    if operation.request is not None:
        found |= {operation.protocol.invalid_status, 413, 415}
    if operation.statuses and operation.request is None and "{" in operation.path:
        found.add(404)
    if keyed and not operation.public:
        found.add(401)
    return sorted(found)
