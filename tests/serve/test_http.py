"""HTTP as clients speak it: keys, ids, origins, bodies, connections that are kept, and what they offer."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.serve.live import Answer, LiveServer, model_directory
from tests.serve.wire import Wire, head, request, until

EMBED = {"inputs": "a red house", "model": "embed"}


def written(folder: Path, **settings: Any) -> list[str]:
    """The arguments for a configuration file."""
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(settings))
    return ["--config", str(path)]


def test_keys_name_clients_and_ids_are_echoed_in_a_log_of_json(tiny_models: Path) -> None:
    environment = {"FASTCPU_API_KEYS": "ann=key-of-ann-1,bob=key-of-bob-1"}
    with LiveServer([f"embed={model_directory(tiny_models, 'embed')}"], environment) as live:
        refused = live.post("/embed", EMBED)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert live.post("/v1/embeddings", {}).status == 401
        assert live.get("/v1/models").status == 401
        assert live.get("/health").status == 200
        for name, header in (("ann", "authorization"), ("bob", "x-api-key")):
            prefix = "Bearer " if header == "authorization" else ""
            headers = {header: f"{prefix}key-of-{name}-1", "x-request-id": f"of-{name}"}
            answer = live.post("/embed", EMBED, headers)
            assert (answer.status, answer.headers["x-request-id"]) == (200, f"of-{name}")
        given = live.post("/nothing", EMBED, {"x-request-id": "not found"}).headers["x-request-id"]
        live.get("/embed")
        live.stop()
        requests = {event["id"]: event for event in live.events if event["message"] == "request"}
        assert requests["of-ann"]["client"] == "ann"
        assert requests["of-bob"]["client"] == "bob"
        assert requests["of-bob"]["model"] == "embed"
        assert requests["of-bob"]["tokens"] == 5
        assert requests["of-bob"]["queue_ms"] >= 0
        assert requests[given]["status"] == 404
        assert {event["status"] for event in requests.values()} == {200, 401, 404, 405}
        assert len(live.events) == len(live.lines)
        assert not any("key-of" in line for line in live.lines)


def test_pages_of_allowed_origins_may_call(tiny_models: Path, tmp_path: Path) -> None:
    path = str(model_directory(tiny_models, "embed"))
    page = {"origin": "http://page", "sec-fetch-site": "cross-site", "content-type": "application/json"}
    with LiveServer(written(tmp_path, models={"embed": path}, cors_origins=["http://page"])) as live:
        preflight = live.request(
            "OPTIONS",
            "/embed",
            headers={
                "origin": "http://page",
                "access-control-request-method": "POST",
                "access-control-request-headers": "content-type,authorization",
            },
        )
        assert preflight.status == 200
        assert preflight.headers["access-control-allow-origin"] == "http://page"
        assert "POST" in preflight.headers["access-control-allow-methods"]
        answer = live.post("/embed", EMBED, page)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "http://page")
        foreign = live.post("/embed", EMBED, {**page, "origin": "http://other"})
        assert foreign.status == 403
        assert "access-control-allow-origin" not in foreign.headers


def test_pages_may_not_call_if_no_origin_is_allowed(server: LiveServer) -> None:
    assert server.request("OPTIONS", "/embed", headers={"origin": "http://page"}).status == 405
    refused = server.post("/embed", EMBED, {"origin": "http://page", "sec-fetch-site": "cross-site"})
    assert refused.status == 403
    assert server.post("/embed", EMBED, {"origin": "http://page", "content-type": "text/plain"}).status == 415


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: LiveServer) -> None:
    with Wire(server) as wire:
        wire.send(head("POST", "/embed", {"content-length": 20_000_000}))
        assert wire.answer().status == 413
    with Wire(server) as wire:
        wire.send(head("POST", "/embed", {"content-length": 20_000_000, "expect": "100-continue"}))
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert wire.ended()


@pytest.mark.parametrize("chunked", [True, False])
def test_a_client_that_goes_on_sending_is_cut_off(tiny_models: Path, tmp_path: Path, chunked: bool) -> None:
    path = str(model_directory(tiny_models, "embed"))
    with LiveServer(written(tmp_path, models={"embed": path}, max_body_bytes=1000)) as live, Wire(live) as wire:
        headers = {"transfer-encoding": "chunked"} if chunked else {"content-length": 10**12}
        wire.send(head("POST", "/embed", headers))
        part = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        assert wire.flood(part, 4096)
        assert live.post("/embed", EMBED).status == 200


def test_chunks_over_the_limit_are_refused_while_they_come(server: LiveServer) -> None:
    with Wire(server) as wire:
        wire.send(head("POST", "/embed", {"transfer-encoding": "chunked"}))
        for _ in range(17):
            wire.send(b"f4240\r\n" + b" " * 1_000_000 + b"\r\n")
        assert wire.answer().status == 413


def test_expect_100_continue(server: LiveServer) -> None:
    content = json.dumps(EMBED).encode()
    with Wire(server) as wire:
        wire.send(head("POST", "/embed", {"content-length": len(content), "expect": "100-continue"}))
        assert wire.answer().status == 100
        wire.send(content)
        assert wire.answer().status == 200


def test_connections_are_kept_and_requests_may_be_sent_ahead(server: LiveServer) -> None:
    bodies = [{"inputs": ["a red house"] * count, "model": "embed"} for count in (1, 30, 2, 5)]
    with Wire(server) as wire:
        wire.send(b"".join(request("POST", "/embed", body, {"x-request-id": len(body["inputs"])}) for body in bodies))
        wire.send(request("GET", "/health"))
        for body in bodies:
            answer = wire.answer()
            assert (answer.status, answer.headers["x-request-id"]) == (200, str(len(body["inputs"])))
            assert len(answer.json) == len(body["inputs"])
        assert wire.answer().json == {"status": "ok"}
        assert wire.ask("GET", "/health").status == 200


def test_head_is_get_without_a_body(server: LiveServer) -> None:
    with Wire(server) as wire:
        for path in ("/health", "/v1/models", "/openapi.json"):
            length = wire.ask("GET", path).headers["content-length"]
            answer = wire.ask("HEAD", path)
            assert (answer.status, answer.headers["content-length"]) == (200, length)
        refused = wire.ask("HEAD", "/embed")
        assert (refused.status, refused.headers["allow"]) == (405, "POST")
        assert wire.ask("HEAD", "/nothing").status == 404
        assert wire.ask("GET", "/health").json == {"status": "ok"}


def test_http_1_0_and_close(server: LiveServer) -> None:
    with Wire(server) as wire:
        wire.send(b"GET /health HTTP/1.0\r\n\r\n")
        assert wire.answer().json == {"status": "ok"}
        assert wire.ended()
    with Wire(server) as wire:
        assert wire.ask("GET", "/health", headers={"connection": "close"}).headers["connection"] == "close"
        assert wire.ended()


def test_clients_that_offer_another_protocol_are_answered_in_http_1(server: LiveServer) -> None:
    offers = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    with Wire(server) as wire:
        for _ in range(2):
            assert wire.ask("POST", "/embed", EMBED, offers).status == 200
        text = {"inputs": "Upgrade: h2c\r\nupgrade: x", "model": "embed"}
        assert wire.ask("POST", "/tokenize", json.dumps(text, indent=0).encode()).json[0][1]["text"] == "Upgrade"
    with Wire(server) as wire:
        assert wire.ask("GET", "/health", headers={"connection": "Upgrade", "upgrade": "websocket"}).status == 200


def test_more_connections_than_files_do_not_end_it(tiny_models: Path) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
        "from fastcpu.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    live = LiveServer([f"embed={model_directory(tiny_models, 'embed')}"], command=[sys.executable, "-c", code, "serve"])
    with live:
        connections = [Wire(live) for _ in range(120)]
        try:
            assert connections[0].ask("GET", "/health").status == 200
        finally:
            for each in connections:
                each.socket.close()
        until(lambda: answered(lambda: live.get("/health")))


def answered(ask: Callable[[], Answer]) -> bool:
    try:
        return ask().status == 200
    except (OSError, http.client.HTTPException):
        return False
