"""The Open Inference Protocol, version 2, of KServe and Triton: tensors in, tensors out.

Names of models may have a slash. Where a path could be read in two ways, its last word is the operation: of a model
called ``a/ready``, ``/v2/models/a/ready`` asks for the state of ``a``.
"""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

import fastcpu
from fastcpu.errors import FastcpuError
from fastcpu.serve.model import Model
from fastcpu.serve.operation import Call, Operation, Protocol, Reply, decode, json_reply
from fastcpu.serve.problems import Problem, invalid
from fastcpu.serve.protocols.messages import (
    Error,
    IndexEntry,
    IndexRequest,
    InferRequest,
    InferResponse,
    Live,
    LoadRequest,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
    UnloadRequest,
)
from fastcpu.serve.protocols.signature import Spec, checked_size, read_texts, signature_of
from fastcpu.serve.protocols.tensors import (
    BINARY,
    LENGTH_HEADER,
    Input,
    Output,
    assigned,
    reply,
    split,
)
from fastcpu.serve.request import PRIORITIES
from fastcpu.serve.serving import Serving
from fastcpu.tasks.engine import FloatArray
from fastcpu.tasks.task import Work

_PLATFORM = "fastcpu"
_EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
)
_LEAST_COMPRESSED, _MOST_INLINE = 1024, 1 << 16
"""Bytes of an answer from which on it is compressed, and up to which that is done at once and not in a thread."""

PROTOCOL = Protocol("Open Inference Protocol", lambda problem: {"error": problem.message}, Error)


# ---- inference ----


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
        request: its JSON.
        inputs: with their data, by name.
        outputs: those it names, and whether their data are to stand behind the JSON.
    """

    request: InferRequest
    inputs: dict[str, Input]
    outputs: dict[str, bool]

    def is_binary(self, name: str) -> bool:
        """Whether the data of an output are to stand behind the JSON."""
        return self.outputs.get(name, self.request.parameters.binary_data_output)

    def urgency(self) -> dict[str, Any]:
        """Priority and deadline for `Serving.infer`, None where the request says nothing."""
        parameters = self.request.parameters
        return {
            "priority": min(parameters.priority, PRIORITIES) - 1 if parameters.priority else None,
            "deadline": time.monotonic() + parameters.timeout / 1e6 if parameters.timeout else None,
        }


async def _infer(serving: Serving, call: Call) -> Reply:
    _check_media(call)
    head, rest = split(await call.body(serving.config.max_body_bytes), call.headers.get(LENGTH_HEADER))
    request: InferRequest = decode(head, InferRequest)
    model = _found(serving, call)
    asked = Asked(request, assigned(request.inputs, rest), _requested(request))
    run = _infer_texts if signature_of(model).takes_texts(asked.inputs) else _infer_ids
    outputs = await run(serving, call, model, asked)
    described = {"model_name": model.name, "model_version": model.version}
    if request.id is not None:
        described["id"] = request.id
    return await _compressed(call, reply(described, outputs))


def _check_media(call: Call) -> None:
    """Problem for what may be no JSON and no tensors; what pages of other sites cannot send unasked passes."""
    if LENGTH_HEADER not in call.headers and call.headers.get(b"content-type") != BINARY:
        call.check_media()


def _found(serving: Serving, call: Call) -> Model:
    model = serving.repository.find(call.parameters["model"], call.parameters.get("version"))
    call.model = model.name
    return model


def _requested(request: InferRequest) -> dict[str, bool]:
    """The outputs that a request names, and whether their data are to stand behind the JSON."""
    if request.parameters.sequence_id:
        raise invalid("parameters: sequence_id is not supported", "parameters")
    found: dict[str, bool] = {}
    for output in request.outputs or ():
        if output.name in found:
            raise invalid(f"output {output.name!r:.100} is there twice", "outputs")
        parameters = output.parameters
        if parameters.classification or parameters.shared_memory_region is not None:
            raise invalid(f"output {output.name!r:.100}: classification and shared memory are not supported", "outputs")
        binary = parameters.binary_data
        found[output.name] = request.parameters.binary_data_output if binary is None else binary
    return found


async def _infer_texts(serving: Serving, call: Call, model: Model, asked: Asked) -> list[Output]:
    texts = read_texts(asked.inputs, lambda rows: _check_rows(serving, rows))
    name, form, names = signature_of(model).task(texts.paired, list(asked.outputs))
    prepare = form.prepare(model.tasks[name])
    results = await serving.infer_texts(call, model, form.key, texts.inputs, prepare, **asked.urgency())
    tensors = form.tensors(results)
    outputs = []
    for output in names:
        values = tensors[output]
        shape = values.shape if isinstance(values, np.ndarray) and values.ndim == 2 else texts.shape
        outputs.append(Output(output, shape, values, asked.is_binary(output)))
    return outputs


async def _infer_ids(serving: Serving, call: Call, model: Model, asked: Asked) -> list[Output]:
    signature = signature_of(model)
    names = signature.raw_outputs(list(asked.outputs))
    binary = [asked.is_binary(name) for name in names]
    shapes = signature.raw_shapes(names, signature.shape_of_ids(asked.inputs, lambda rows: _check_rows(serving, rows)))
    call.hold(checked_size(shapes, binary, serving.bodies.limit))

    def prepare() -> Work[FloatArray]:
        return signature.raw_work(signature.read_ids(asked.inputs), names, shapes)

    arrays = await serving.infer(call, model, _effort(asked), prepare, **asked.urgency())
    return [Output(name, array.shape, array, each) for name, array, each in zip(names, arrays, binary, strict=True)]


def _effort(asked: Asked) -> int:
    """How much work it is to read token ids, as characters of a text that take as long to tokenize."""
    return sum(len(each.content) // (16 if each.binary else 1) for each in asked.inputs.values())


def _check_rows(serving: Serving, rows: int) -> None:
    serving.check_inputs(range(rows), "inputs")


async def _compressed(call: Call, plain: Reply) -> Reply:
    """A reply in the encoding that the client likes best, where that is worth the time."""
    encoding = _encoding(call.headers.get(b"accept-encoding", b""))
    if encoding is None or len(plain.body) < _LEAST_COMPRESSED:
        return plain

    def compress() -> bytes:
        # Level 1: numbers hardly get smaller at higher ones.
        return gzip.compress(plain.body, 1, mtime=0) if encoding == b"gzip" else zlib.compress(plain.body, 1)

    if len(plain.body) <= _MOST_INLINE:
        body = compress()
    else:
        body = await asyncio.get_running_loop().run_in_executor(None, compress)
    headers = (*plain.headers, (b"content-encoding", encoding), (b"vary", b"accept-encoding"))
    return Reply(body, plain.status, plain.media, headers)


def _encoding(accepted: bytes) -> bytes | None:
    """gzip or deflate, by the header Accept-Encoding; None if it names neither, or likes identity better."""
    if not accepted:
        return None
    weights = {b"identity": 0.0}
    for part in accepted.lower().split(b","):
        name, _, parameter = part.partition(b";")
        key, _, value = parameter.strip().partition(b"=")
        try:
            weights[name.strip()] = float(value) if key == b"q" else 1.0
        except ValueError:
            continue
    best = max((b"gzip", b"deflate"), key=lambda name: weights.get(name, 0.0))
    return best if weights.get(best, 0.0) > weights[b"identity"] else None


# ---- metadata ----


async def _server(serving: Serving, call: Call) -> Reply:
    return json_reply({"name": "fastcpu", "version": fastcpu.__version__, "extensions": _EXTENSIONS})


async def _live(serving: Serving, call: Call) -> Reply:
    return json_reply({"live": True})


async def _ready(serving: Serving, call: Call) -> Reply:
    if serving.draining or not all(serving.repository.slot(name).model for name in serving.repository.names()):
        raise Problem(503, "not_ready", "the server is stopping, or a model does not answer", retry_after=1.0)
    return json_reply({"ready": True})


async def _model_ready(serving: Serving, call: Call) -> Reply:
    return json_reply({"name": _found(serving, call).name, "ready": True})


async def _model(serving: Serving, call: Call) -> Reply:
    model = _found(serving, call)
    signature = signature_of(model)
    return json_reply(
        {
            "name": model.name,
            "versions": [model.version],
            "platform": _PLATFORM,
            "inputs": [_described(spec) for spec in signature.inputs],
            "outputs": [_described(spec) for spec in signature.outputs],
        }
    )


def _described(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
    return found | ({"labels": spec.labels} if spec.labels else {})


async def _config(serving: Serving, call: Call) -> Reply:
    model = _found(serving, call)
    signature = signature_of(model)

    def tensor(spec: Spec) -> dict[str, Any]:
        kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
        return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": spec.shape[1:]}

    return json_reply(
        {
            "name": model.name,
            "platform": _PLATFORM,
            "backend": _PLATFORM,
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": serving.config.max_inputs,
            "input": [tensor(spec) | {"optional": True} for spec in signature.inputs],
            "output": [tensor(spec) for spec in signature.outputs],
            "dynamic_batching": {
                "max_queue_delay_microseconds": round(1e3 * model.config.max_delay_ms),
                "priority_levels": PRIORITIES,
            },
            "model_transaction_policy": {"decoupled": False},
        }
    )


_MEASURED = {
    "fastcpu_queue_seconds": "queue",
    "fastcpu_tokenize_seconds": "compute_input",
    "fastcpu_infer_seconds": "compute_infer",
}
"""Histograms, and what the statistics call them."""


async def _statistics(serving: Serving, call: Call) -> Reply:
    models = [_found(serving, call)] if "model" in call.parameters else serving.repository.models()
    measured = _samples(serving.metrics.exposition().decode())
    found = []
    for model in models:
        values = measured[model.name]
        durations: dict[str, Any] = {
            name: {"count": int(values[f"{metric}_count"]), "ns": round(1e9 * values[f"{metric}_sum"])}
            for metric, name in _MEASURED.items()
        }
        found.append(
            {
                "name": model.name,
                "version": model.version,
                "inference_count": int(values["fastcpu_batch_sequences_sum"]),
                "execution_count": int(values["fastcpu_infer_seconds_count"]),
                "inference_stats": {
                    "success": {"count": durations["queue"]["count"]},
                    **durations,
                    "cache_hit": {"count": int(values["fastcpu_cache_hits_total"])},
                },
            }
        )
    return json_reply({"model_stats": found})


def _samples(exposition: str) -> dict[str, dict[str, float]]:
    """What is measured of each model: the values by the names of samples."""
    found: defaultdict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.labels.keys() == {"model"}:
                found[sample.labels["model"]][sample.name] = sample.value
    return found


# ---- repository ----


async def _body(serving: Serving, call: Call, kind: Any) -> Any:
    """The body of a call, which may be empty."""
    _check_media(call)
    body = await call.body(serving.config.max_body_bytes)
    return decode(body, kind) if body.strip() else kind()


async def _index(serving: Serving, call: Call) -> Reply:
    request: IndexRequest = await _body(serving, call, IndexRequest)
    found = []
    for name in serving.repository.names():
        slot = serving.repository.slot(name)
        if request.ready and slot.model is None:
            continue
        version = slot.config.version if slot.model is None else slot.model.version
        found.append({"name": name, "version": version, "state": slot.state.upper(), "reason": slot.reason})
    return json_reply(found)


async def _load(serving: Serving, call: Call) -> Reply:
    request: LoadRequest = await _body(serving, call, LoadRequest)
    if request.parameters:
        strange = next(iter(request.parameters))
        raise invalid(
            f"parameters: {strange!r:.100} is not supported: a model is loaded as it is configured", "parameters"
        )
    try:
        await serving.repository.load(call.parameters["model"])
    except FastcpuError as error:
        raise Problem(400, "load_failed", f"failed to load {call.parameters['model']!r:.200}: {error}") from error
    return Reply(b"")


async def _unload(serving: Serving, call: Call) -> Reply:
    await _body(serving, call, UnloadRequest)
    await serving.repository.unload(call.parameters["model"])
    return Reply(b"")


_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "How many bytes of the body are JSON; behind them are the data of tensors.",
    "schema": {"type": "integer", "minimum": 1},
}


def _operations() -> Iterator[Operation]:
    """Those of one model are twice: without a version and with one. A path takes the first that fits."""
    own: list[tuple[str, str, Any, str, dict[str, Any]]] = [
        (
            "POST",
            "/infer",
            _infer,
            "Runs a model",
            {
                "request": InferRequest,
                "response": InferResponse,
                "raw": True,
                "binary": True,
                "parameters": (_LENGTH,),
                "statuses": (504,),
            },
        ),
        (
            "GET",
            "/ready",
            _model_ready,
            "Whether a model answers",
            {"response": ModelReady, "light": True, "public": True, "statuses": (503,)},
        ),
        (
            "GET",
            "/config",
            _config,
            "A model as Triton would configure it",
            {"response": dict[str, Any], "light": True, "statuses": (503,)},
        ),
        (
            "GET",
            "/stats",
            _statistics,
            "How much a model has computed",
            {"response": dict[str, Any], "light": True, "statuses": (503,)},
        ),
        (
            "GET",
            "",
            _model,
            "Inputs and outputs of a model",
            {"response": ModelMetadata, "light": True, "statuses": (503,)},
        ),
    ]
    for method, ending, handler, summary, options in own:
        for middle, suffix in (("/versions/{version}", " in one version"), ("", "")):
            path = f"/v2/models/{{model:path}}{middle}{ending}"
            yield Operation(method, path, handler, PROTOCOL, summary + suffix, **options)


OPERATIONS: tuple[Operation, ...] = (
    *_operations(),
    Operation("GET", "/v2", _server, PROTOCOL, "The server", response=ServerMetadata, light=True),
    Operation(
        "GET",
        "/v2/health/live",
        _live,
        PROTOCOL,
        "Whether the server runs",
        response=Live,
        public=True,
        light=True,
    ),
    Operation(
        "GET",
        "/v2/health/ready",
        _ready,
        PROTOCOL,
        "Whether all models answer",
        response=Ready,
        public=True,
        light=True,
        statuses=(503,),
    ),
    Operation(
        "GET",
        "/v2/models/stats",
        _statistics,
        PROTOCOL,
        "How much all models have computed",
        response=dict[str, Any],
        light=True,
    ),
    Operation(
        "POST",
        "/v2/repository/index",
        _index,
        PROTOCOL,
        "All models, whether they answer or not",
        request=IndexRequest,
        response=list[IndexEntry],
        raw=True,
        light=True,
        bodiless=True,
    ),
    Operation(
        "POST",
        "/v2/repository/models/{model:path}/load",
        _load,
        PROTOCOL,
        "Opens a model again, and lets it take the place of the open one",
        request=LoadRequest,
        raw=True,
        bodiless=True,
    ),
    Operation(
        "POST",
        "/v2/repository/models/{model:path}/unload",
        _unload,
        PROTOCOL,
        "Takes a model out of service",
        request=UnloadRequest,
        raw=True,
        bodiless=True,
    ),
)
