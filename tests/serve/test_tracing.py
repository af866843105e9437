"""Spans of requests: what they say, where they hang, and how they come to a collector."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import fastcpu
from fastcpu.errors import InputError, MissingPackageError
from fastcpu.serve import tracing
from fastcpu.serve.app import App
from fastcpu.serve.config import Config
from fastcpu.serve.serving import Serving
from tests.serve.live import LiveServer, model_directory

VARIABLES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


# ---- off ----


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": NOWHERE, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_off(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.from_environment() is None


def test_a_server_without_it_loads_none_of_it() -> None:
    code = (
        "import sys\n"
        "from fastcpu.serve.config import Config\n"
        "from fastcpu.serve.server import Server, Serving\n"
        "assert Serving(Config(models={'none': 'nowhere'})).tracing is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, NOWHERE)
    for module in [module for module in sys.modules if module.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingPackageError, match=rf"{name} asks for traces.*pip install fastcpu\[tracing\]"):
        tracing.from_environment()


def test_another_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOWHERE)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(InputError, match="OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'; spans are sent as http/protobuf"):
        tracing.from_environment()


# ---- spans ----


@pytest.fixture
def exported() -> tuple[Any, Any]:
    """A provider, and the exporter with the spans that went there."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = sdk.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def answered(
    provider: Any,
    model: Path,
    requests: Sequence[tuple[str, str, Any, Mapping[str, str]]],
    **settings: Any,
) -> list[int]:
    """The statuses of requests, one after the other, to a server that makes spans."""

    async def ask() -> list[int]:
        config = Config(models={"embed": str(model)}, access_log=False, threads=1, **settings)
        serving = Serving(config)
        serving.tracing = tracing.Tracing(provider)
        await serving.start()
        statuses = []

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        for method, path, body, headers in requests:

            async def receive(content: bytes = b"" if body is None else json.dumps(body).encode()) -> dict[str, Any]:
                return {"type": "http.request", "body": content, "more_body": False}

            lines = [(name.encode(), value.encode()) for name, value in headers.items()]
            scope = {"type": "http", "method": method, "path": path, "headers": lines, "client": ("127.0.0.1", 1)}
            await App(serving)(scope, receive, send)
        await serving.stop()
        return statuses

    return asyncio.run(ask())


def test_a_request_is_a_span_with_its_stages(exported: tuple[Any, Any], tiny_models: Path) -> None:
    provider, exporter = exported
    headers = {"x-request-id": "mine", "traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    request = ("POST", "/v1/embeddings", {"input": ["a red house", "the dog"], "model": "embed"}, headers)
    assert answered(provider, model_directory(tiny_models, "embed"), [request]) == [200]
    *stages, span = exporter.get_finished_spans()
    assert span.name == "POST /v1/embeddings"
    assert span.kind.name == "SERVER"
    assert span.status.status_code.name == "UNSET"
    assert dict(span.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/embeddings",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/v1/embeddings",
        "fastcpu.request.id": "mine",
        "fastcpu.model": "embed",
        "fastcpu.tokens": 9,
    }
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.context.trace_state.get("vendor") == "1"
    assert [each.name for each in stages] == ["tokenize", "queue", "infer"]
    assert {each.parent.span_id for each in stages} == {span.context.span_id}
    assert {each.context.trace_id for each in stages} == {span.context.trace_id}
    moments = [span.start_time]
    for each in stages:
        moments += [each.start_time, each.end_time]
    moments.append(span.end_time)
    assert moments == sorted(moments)
    assert stages[0].end_time <= stages[1].start_time
    assert stages[1].end_time == stages[2].start_time


@pytest.mark.parametrize("header", [None, "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
def test_without_a_parent_a_trace_begins(exported: tuple[Any, Any], tiny_models: Path, header: str | None) -> None:
    provider, exporter = exported
    headers = {} if header is None else {"traceparent": header}
    request = ("POST", "/embed", {"inputs": "a"}, headers)
    answered(provider, model_directory(tiny_models, "embed"), [request, request])
    spans = [span for span in exporter.get_finished_spans() if span.parent is None]
    assert len({span.context.trace_id for span in spans}) == 2
    assert TRACE not in {f"{span.context.trace_id:032x}" for span in spans}


def test_what_the_caller_does_not_sample_is_not_recorded(exported: tuple[Any, Any], tiny_models: Path) -> None:
    provider, exporter = exported
    request = ("POST", "/embed", {"inputs": "a"}, {"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert answered(provider, model_directory(tiny_models, "embed"), [request]) == [200]
    assert not exporter.get_finished_spans()


def test_refusals_are_spans_and_light_answers_are_none(exported: tuple[Any, Any], tiny_models: Path) -> None:
    provider, exporter = exported
    requests = [
        ("GET", "/health", None, {}),
        ("GET", "/metrics", None, {}),
        ("GET", "/v1/models/none", None, {}),
        ("POST", "/v1/embeddings", {"input": [], "model": "embed"}, {}),
    ]
    statuses = answered(provider, model_directory(tiny_models, "embed"), requests)
    found = exporter.get_finished_spans()
    assert statuses == [200, 200, 404, 400]
    assert [span.name for span in found] == ["GET /v1/models/{model:path}", "POST /v1/embeddings"]
    refused = found[0]
    assert refused.attributes["url.path"] == "/v1/models/none"
    assert refused.attributes["http.response.status_code"] == 404
    assert refused.status.status_code.name == "UNSET"  # whose mistake it was is in the status of HTTP
    assert "fastcpu.model" not in refused.attributes


def test_failures_of_the_server_are_errors(exported: tuple[Any, Any], tiny_models: Path) -> None:
    provider, exporter = exported
    model = tiny_models / "embed" / "embed"
    requests = [
        ("POST", "/v2/repository/models/embed/unload", None, {}),
        ("POST", "/v1/embeddings", {"input": "a", "model": "embed"}, {}),
    ]
    assert answered(provider, model, requests) == [200, 503]
    span = exporter.get_finished_spans()[-1]
    assert span.status.status_code.name == "ERROR"
    assert span.attributes["error.type"] == "503"


# ---- the way to a collector ----


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """The address of something that takes spans, and what it was sent."""
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = service.ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
            received.append((self.path, request))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}", received
        found.shutdown()
        thread.join()


def test_spans_come_to_the_collector(collector: tuple[str, list[Any]], tiny_models: Path) -> None:
    address, received = collector
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_RESOURCE_ATTRIBUTES": "service.version=7,team=search"}
    model = model_directory(tiny_models, "embed")
    with LiveServer([f"embed={model}", "--threads", "1"], variables) as live:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert live.post("/embed", {"inputs": "a red house"}, headers).status == 200
        assert live.stop() == 0  # what was not sent yet is sent then
    ((path, request),) = received
    assert path == "/v1/traces"
    (resource,) = request.resource_spans
    attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert attributes["service.name"] == "fastcpu"
    assert attributes["service.version"] == "7"
    assert attributes["team"] == "search"
    (scope,) = resource.scope_spans
    assert (scope.scope.name, scope.scope.version) == ("fastcpu.serve", fastcpu.__version__)
    assert sorted(span.name for span in scope.spans) == ["POST /embed", "infer", "queue", "tokenize"]
    assert {span.trace_id.hex() for span in scope.spans} == {TRACE}


def test_a_collector_that_is_gone_neither_fails_requests_nor_holds_up_the_end(tiny_models: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    model = model_directory(tiny_models, "embed")
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_SERVICE_NAME": "mine", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with LiveServer([f"embed={model}", "--threads", "1"], variables) as live:
        assert live.post("/embed", {"inputs": "a red house"}).status == 200
        assert live.stop() == 0
    told = [event for event in live.events if event.get("logger", "").startswith("opentelemetry")]
    assert told
    assert all(event["level"] in ("warning", "error") for event in told)
    assert len(live.events) == len(live.lines)  # nothing is written past the log
