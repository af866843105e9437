"""Health, metrics, and what the page shows of a running server."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

import fastcpu
from fastcpu.serve import openapi
from fastcpu.serve.operation import Call, Operation, Reply, json_reply
from fastcpu.serve.problems import Problem
from fastcpu.serve.protocols.tei import PROTOCOL as ERRORS
from fastcpu.serve.repository import settings
from fastcpu.serve.serving import Serving

PROTOCOL = ERRORS
_diagnosing = asyncio.Lock()


class Health(msgspec.Struct):
    """Answer of GET /health."""

    status: str


class Status(msgspec.Struct):
    """Answer of GET /status: what the page shows."""

    version: str
    started: float
    requests: int
    draining: bool
    models: list[dict[str, Any]]
    seconds: list[dict[str, Any]]


async def _health(serving: Serving, call: Call) -> Reply:
    if serving.draining:
        raise Problem(503, "not_ready", "the server is stopping", retry_after=1.0)
    if not serving.repository.ready:
        raise Problem(503, "not_ready", "no model is loaded", retry_after=1.0)
    return json_reply({"status": "ok"})


async def _metrics(serving: Serving, call: Call) -> Reply:
    for model in serving.repository.models():
        waiting = serving.executor.waiting(model.lane)
        serving.metrics.queued.labels(model.name).set(waiting.tokens)
    serving.metrics.running.set(serving.in_flight)
    return Reply(serving.metrics.exposition(), media=b"text/plain; version=0.0.4; charset=utf-8")


async def _status(serving: Serving, call: Call) -> Reply:
    models = []
    for name in serving.repository.names():
        slot = serving.repository.slot(name)
        found: dict[str, Any] = {"name": name, "state": slot.state, "reason": slot.reason}
        model = slot.model
        if model is not None:
            waiting = serving.executor.waiting(model.lane)
            found |= {
                "version": model.version,
                "tasks": list(model.tasks),
                "max_length": model.max_length,
                "isa": model.session.isa,
                "threads": model.session.threads,
                "loaded": model.loaded,
                "settings": settings(model),
                "waiting": {
                    "requests": waiting.requests,
                    "sequences": waiting.sequences,
                    "tokens": waiting.tokens,
                    "seconds": waiting.seconds,
                },
            }
        models.append(found)
    return json_reply(
        {
            "version": fastcpu.__version__,
            "started": serving.started,
            "requests": serving.in_flight,
            "draining": serving.draining,
            "models": models,
            "seconds": serving.metrics.history(),
        }
    )


async def _ops(serving: Serving, call: Call) -> Reply:
    from fastcpu.doctor import diagnose

    model = serving.repository.find(call.parameters["model"])
    if _diagnosing.locked():
        raise Problem(429, "overloaded", "another model is being looked at", retry_after=2.0)
    async with _diagnosing:
        with serving.repository.held(model):
            found = await asyncio.get_running_loop().run_in_executor(
                None, lambda: diagnose(model.directory, batch=1, threads=model.session.threads, seconds=0.2)
            )
    return json_reply(found)


async def _document(serving: Serving, call: Call) -> Reply:
    return Reply(openapi.document(serving))


OPERATIONS = (
    Operation(
        "GET",
        "/health",
        _health,
        PROTOCOL,
        "Whether the server answers: it is not about to stop, and has a model",
        response=Health,
        public=True,
        light=True,
        statuses=(503,),
    ),
    Operation(
        "GET",
        "/metrics",
        _metrics,
        PROTOCOL,
        "Measurements for Prometheus",
        response=bytes,
        media="text/plain",
        light=True,
    ),
    Operation("GET", "/status", _status, PROTOCOL, "Models, queues and the last minutes", response=Status, light=True),
    Operation(
        "GET",
        "/doctor/{model:path}",
        _ops,
        PROTOCOL,
        "Where the time of a model goes",
        response=dict[str, Any],
    ),
    Operation(
        "GET", "/openapi.json", _document, PROTOCOL, "This document", response=dict[str, Any], public=True, light=True
    ),
)
