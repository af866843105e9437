"""The OpenAPI document of a server, made from its operations and its models."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

import fastcpu
from fastcpu.serve.operation import Operation
from fastcpu.serve.problems import REFUSED
from fastcpu.tasks import TASKS

if TYPE_CHECKING:
    from fastcpu.serve.model import Model
    from fastcpu.serve.serving import Serving

_PARAMETER = re.compile(r"\{([a-z_]+)(?::path)?\}")
_SCHEMAS = "#/components/schemas/"
_BINARY = "application/octet-stream"
_ABOUT = (
    "Every answer has an X-Request-Id, which is that of the request if it has one. Bodies may be packed with gzip or "
    "deflate and say so in Content-Encoding. HEAD is answered wherever GET is."
)
_REQUEST_HEADERS = {
    "X-Request-Id": "Names the request in the answer and in the log; up to 128 letters, digits and marks.",
    "Priority": "RFC 9218: `u=0` is the most urgent, `u=7` the least, `u=3` the default.",
}
_TIMEOUT = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "description": "Milliseconds after which the answer is of no use: the status is 504 then.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
}
_ANSWER_HEADERS = {"X-Request-Id": {"description": "The name of the request in the log.", "schema": {"type": "string"}}}
_RETRY = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}},
    "Retry-After-Ms": {"description": "The same in milliseconds.", "schema": {"type": "integer", "minimum": 1}},
}
_CHALLENGE = {"WWW-Authenticate": {"description": "Bearer.", "schema": {"const": "Bearer"}}}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
}

_Names = tuple[str, ...]


@dataclass(frozen=True)
class _Server:
    """What the document says of a server.

    Attributes:
        keyed: whether clients need a key.
        single: whether there is only one model.
        versions: of the models.
        fits: for each operation the names of the models that it can use.
        mains: names of models by their main task; a model that is not loaded may have any.
    """

    keyed: bool
    single: bool
    versions: _Names
    fits: tuple[_Names, ...]
    mains: tuple[tuple[str, _Names], ...]


def document(serving: Serving) -> bytes:
    """The document, JSON. Operations that no model of the server fits are not in it."""
    from fastcpu.serve.protocols import operations

    repository = serving.repository
    slots = {name: repository.slot(known) for name, known in repository.known().items()}

    def those(fits: Callable[[Model], bool]) -> _Names:
        return tuple(name for name, slot in slots.items() if slot.model is None or fits(slot.model))

    return _document(
        _Server(
            keyed=serving.keyed,
            single=len(repository.names()) == 1,
            versions=tuple(sorted({slot.config.version for slot in slots.values()})),
            fits=tuple(those(operation.fits) for operation in operations()),
            mains=tuple((task, those(lambda model, task=task: model.main == task)) for task in TASKS),  # type: ignore[misc]
        )
    )


@functools.lru_cache(maxsize=4)
def _document(server: _Server) -> bytes:
    from fastcpu.serve.protocols import operations

    described = [(each, names) for each, names in zip(operations(), server.fits, strict=True) if each.shown and names]
    kinds = list(dict.fromkeys(kind for operation, _ in described for kind in _kinds(operation)))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS + "{name}")
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation, names in described:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        found = paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, schema_of, names, server)
        if "requestBody" in found and "{model" not in path:
            _name_models(found["requestBody"]["content"]["application/json"]["schema"], components, names, server)
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "fastcpu serve", "version": fastcpu.__version__, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": components},
    }
    if server.keyed:
        whole["components"]["securitySchemes"] = _SECURITY
    return orjson.dumps(_renamed(_tidied(whole)))


def _kinds(operation: Operation) -> list[Any]:
    """The types that an operation's schemas need."""
    found = [kind for kind in (operation.request, operation.response) if kind is not None and kind is not bytes]
    return [*found, operation.protocol.error_type]


def _operation(operation: Operation, schema_of: dict[Any, Any], names: _Names, server: _Server) -> dict[str, Any]:
    headers = [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in _REQUEST_HEADERS.items()
        if name != "Priority" or 504 in operation.statuses
    ]
    known = {"model": {"enum": names}, "version": {"enum": server.versions}}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.protocol.name],
        "operationId": re.sub(r"\W+", "_", f"{operation.method} {operation.path}").strip("_").lower(),
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string", **known.get(name, {})}}
                for name in _PARAMETER.findall(operation.path)
            ),
            *headers,
            *([_TIMEOUT] if 504 in operation.statuses else []),
            *operation.parameters,
        ],
        "responses": {"200": _answer(operation, schema_of)},
    }
    if operation.request is not None:
        content: dict[str, Any] = {"application/json": {"schema": copy.deepcopy(schema_of[operation.request])}}
        if operation.binary:
            content[_BINARY] = {}
        found["requestBody"] = {"required": not operation.bodiless, "content": content}
    for status in _statuses(operation, server.keyed):
        own = _CHALLENGE if status == 401 else _RETRY if status in (429, 503) else {}
        found["responses"][str(status)] = {
            "description": REFUSED[status],
            "headers": {**_ANSWER_HEADERS, **own},
            "content": {"application/json": {"schema": schema_of[operation.protocol.error_type]}},
        }
    if server.keyed and not operation.public:
        found["security"] = [{name: []} for name in _SECURITY]
    return found


def _answer(operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": operation.summary, "headers": _ANSWER_HEADERS}
    if operation.response is bytes:
        found["content"] = {operation.media: {"schema": {"type": "string"}}}
    elif operation.response is not None:
        found["content"] = {operation.media: {"schema": schema_of[operation.response]}}
        if operation.binary:
            found["content"][_BINARY] = {}
    return found


def _statuses(operation: Operation, keyed: bool) -> list[int]:
    """Of the refusals that an operation may answer with."""
    found = set(operation.statuses)
    if operation.request is not None:
        found |= {operation.protocol.invalid_status, 413, 415}
    if operation.method != "GET":
        found.add(403)
    if "{" in operation.path:
        found.add(404)
    if not operation.light:
        found |= {429, 503}
    if keyed and not operation.public:
        found.add(401)
    return sorted(found)


# ---- schemas ----


def _name_models(schema: dict[str, Any], components: dict[str, Any], names: _Names, server: _Server) -> None:
    """Says which models a body may name, and that it must if there are several."""
    if "$ref" in schema:
        schema = components[schema["$ref"].removeprefix(_SCHEMAS)]
    for part in schema.get("anyOf", ()):
        own = dict(server.mains).get(part.pop("x-main", ""))
        _name_models(part, components, names if own is None else own, server)
    if "model" not in schema.get("properties", ()):
        return
    if server.single and "model" not in schema["required"]:
        schema["properties"]["model"] = {"enum": [*names, None]}
    else:
        schema["properties"]["model"] = {"type": "string", "enum": list(names)}
        schema["required"] = list(dict.fromkeys([*schema["required"], "model"]))


def _tidied(schema: Any) -> Any:
    """The same, where what docstrings say of attributes is said of properties, and schemas written by hand replace
    those that msgspec has made of types.
    """
    if isinstance(schema, list):
        return [_tidied(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: _tidied(each) for name, each in (schema.get("x-schema") or schema).items() if name != "x-main"}
    text, mark, attributes = str(schema.get("description", "")).partition("Attributes:\n")
    if mark and "properties" in schema:
        schema["description"] = text.strip()
        for entry in re.split(r"\n(?=    \S)", attributes):
            names, _, meaning = entry.partition(":")
            for name in names.split(","):
                if name.strip() in schema["properties"]:
                    schema["properties"][name.strip()]["description"] = " ".join(meaning.split())
    return schema


def _renamed(found: dict[str, Any]) -> Any:
    """The same with short names of schemas: those of equal name have that of their module in front."""
    components = found["components"]["schemas"]
    short = {}
    for name in components:
        *modules, own = name.split(".")
        short[name] = "".join(module.capitalize() for module in modules[-1:]) + own
    found["components"]["schemas"] = {short[name]: schema for name, schema in components.items()}

    def replaced(schema: Any) -> Any:
        if isinstance(schema, list):
            return [replaced(each) for each in schema]
        if not isinstance(schema, dict):
            return schema
        if isinstance(reference := schema.get("$ref"), str):
            return {**schema, "$ref": _SCHEMAS + short[reference.removeprefix(_SCHEMAS)]}
        return {name: replaced(each) for name, each in schema.items()}

    return replaced(found)
