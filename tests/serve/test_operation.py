"""What every request goes through, without sockets: body, headers, limits, keys, errors."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import time
import tracemalloc
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
import pytest

from fastcpu.errors import FileFormatError, InputError
from fastcpu.serve.app import App, application
from fastcpu.serve.config import make_config
from fastcpu.serve.operation import Bodies, Call, Endpoint, Operation, Protocol, Reply, decode, json_reply
from fastcpu.serve.problems import Gone, Problem
from fastcpu.serve.protocols import operations
from fastcpu.serve.request import QueueFull, TooLate
from fastcpu.serve.serving import Serving

LIMIT = 1000
PROTOCOL = Protocol("test", lambda problem: {"code": problem.code, "message": problem.message}, dict, 422)
Headers = Mapping[str, str | bytes]


class Body(msgspec.Struct):
    text: str
    count: Annotated[int, msgspec.Meta(ge=1)] = 1
    parts: list[list[str]] = []


async def _echo(serving: Serving, call: Call) -> Reply:
    return json_reply({"text": call.request.text, "held": serving.bodies.size})


ECHO = Operation("POST", "/echo", _echo, PROTOCOL, "", request=Body)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(path: str, method: str, headers: Headers) -> dict[str, Any]:
    values = {name.encode(): value.encode() if isinstance(value, str) else value for name, value in headers.items()}
    return {
        "type": "http",
        "method": method,
        "path": path,
        "headers": list(values.items()),
        "client": ("192.0.2.1", 1),
        "root_path": "",
    }


class Sent:
    """The pieces of a body, and whether they were read."""

    def __init__(self, pieces: Sequence[bytes], leaves: bool = False) -> None:
        self._pieces = list(pieces) or [b""]
        self._leaves = leaves
        self.read = 0

    async def __call__(self) -> dict[str, Any]:
        if self.read == len(self._pieces):
            return {"type": "http.disconnect"}
        self.read += 1
        last = self.read == len(self._pieces)
        if last and self._leaves:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._pieces[self.read - 1], "more_body": not last}


def ask(
    app: Any, body: Any = b"", headers: Headers | None = None, path: str = "/echo", method: str = "POST"
) -> Answer | None:
    """The answer of an ASGI application; None if it gives none."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    receive = body if isinstance(body, Sent) else Sent([body if isinstance(body, bytes) else json.dumps(body).encode()])
    asyncio.run(app(scope_of(path, method, headers or {}), receive, send))
    if not sent:
        return None
    start, content = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    assert int(found["content-length"]) == len(content["body"])
    return Answer(start["status"], found, content["body"])


@pytest.fixture
def serving() -> Iterator[Serving]:
    yield from made()


def made(**settings: Any) -> Iterator[Serving]:
    config = make_config({"models": {"m": "nowhere"}, "max_body_bytes": LIMIT, "access_log": False, **settings}, "test")
    found = Serving(config)
    yield found
    found.executor.close()
    assert found.in_flight == 0
    assert found.bodies.size == 0


@pytest.fixture
def echo(serving: Serving) -> Endpoint:
    return Endpoint(serving, ECHO)


def raising(serving: Serving, error: BaseException) -> Endpoint:
    async def fail(_: Serving, __: Call) -> Reply:
        raise error

    return Endpoint(serving, replace(ECHO, handler=fail))


def refused(answer: Answer | None, status: int, *words: str) -> None:
    assert answer is not None
    assert answer.status == status
    for word in words:
        assert word in answer.json["message"]


def test_a_body_is_decoded_and_forgotten(echo: Endpoint) -> None:
    answer = ask(echo, {"text": "hallo"})
    assert answer is not None
    assert (answer.status, answer.json) == (200, {"text": "hallo", "held": 17})


def test_a_body_may_come_in_pieces(echo: Endpoint) -> None:
    content = json.dumps({"text": "ä" * 100}).encode()
    answer = ask(echo, Sent([content[i : i + 7] for i in range(0, len(content), 7)] + [b""]))
    assert answer is not None
    assert answer.json["text"] == "ä" * 100


def test_a_length_over_the_limit_is_refused_unread(echo: Endpoint) -> None:
    for length in (str(LIMIT + 1), "9" * 19, "9" * 5000):
        body = Sent([b"x" * LIMIT])
        refused(ask(echo, body, {"content-length": length}), 413, "larger than 1000 bytes")
        assert body.read == 0


def test_pieces_over_the_limit_are_not_read_on(echo: Endpoint) -> None:
    body = Sent([b"x" * 400] * 10)
    refused(ask(echo, body, {"transfer-encoding": "chunked"}), 413)
    assert body.read == 3


def test_a_body_as_large_as_the_limit_is_taken(echo: Endpoint) -> None:
    empty = len(json.dumps({"text": ""}))
    answer = ask(echo, {"text": "x" * (LIMIT - empty)})
    assert answer is not None
    assert answer.status == 200
    refused(ask(echo, {"text": "x" * (LIMIT - empty + 1)}), 413)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", " gzip "])
def test_gzip(echo: Endpoint, encoding: str) -> None:
    answer = ask(echo, gzip.compress(b'{"text": "packed"}', mtime=0), {"content-encoding": encoding})
    assert answer is not None
    assert answer.json["text"] == "packed"


def test_deflate_and_identity(echo: Endpoint) -> None:
    for encoding, pack in (("deflate", zlib.compress), ("identity", bytes)):
        answer = ask(echo, pack(b'{"text": "packed"}'), {"content-encoding": encoding})
        assert answer is not None
        assert answer.json["text"] == "packed"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not one whole"),
        (b"plain", "not gzip"),
        (gzip.compress(b'{"text": "a"}', mtime=0)[:-1], "not one whole"),
        (gzip.compress(b'{"text": "a"}', mtime=0)[:-8], "not one whole"),
        (gzip.compress(b'{"text": "a"}', mtime=0) + b"x", "not one whole"),
        (gzip.compress(b'{"text": "a"}', mtime=0)[:-4] + b"\0\0\0\0", "not gzip"),
        (zlib.compress(b'{"text": "a"}'), "not gzip"),
    ],
)
def test_damaged_gzip(echo: Endpoint, content: bytes, words: str) -> None:
    refused(ask(echo, content, {"content-encoding": "gzip"}), 422, words)


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "gzip,identity", "", "zstd", "\x00"])
def test_other_encodings(echo: Endpoint, encoding: str) -> None:
    refused(ask(echo, b"x", {"content-encoding": encoding}), 415, "none of gzip")


def test_what_unpacks_to_more_than_the_limit_is_not_unpacked(serving: Serving) -> None:
    serving.config = msgspec.structs.replace(serving.config, max_body_bytes=200_000)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        for _ in range(100):
            file.write(b"\0" * 1_000_000)
    tracemalloc.start()
    refused(ask(Endpoint(serving, ECHO), packed.getvalue(), {"content-encoding": "gzip"}), 413)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"text": "a"} x', "not JSON"),
        (b'{"text": "\xff"}', "not JSON"),
        (b'{"text": "\\ud800"}', "not JSON"),
        (b'{"text": "a", "count": NaN}', "not JSON"),
        (b"[" * 900, "Expected `object`"),
        (b"null", "Expected `object`"),
        (b"{}", "missing required field `text`"),
        (b'{"text": 1}', "$.text"),
        (b'{"text": "a", "count": 0}', "$.count"),
        (b'{"text": "a", "count": 1.5}', "$.count"),
        (b'{"text": "a", "count": 1e999}', "out of range"),
        (b'{"text": "a", "parts": [["x"], [1]]}', "$.parts[1][0]"),
    ],
)
def test_wrong_bodies_say_what_is_wrong(echo: Endpoint, content: bytes, words: str) -> None:
    refused(ask(echo, content), 422, words)


def test_the_wrong_field_is_named() -> None:
    with pytest.raises(Problem) as caught:
        decode(b'{"text": "a", "parts": [["x"], [1]]}', Body)
    assert caught.value.param == "parts[1][0]"
    with pytest.raises(Problem) as caught:
        decode(b"{", Body)
    assert caught.value.param is None
    with pytest.raises(Problem, match="out of range"):
        decode(b'{"text": "a", "count": ' + b"9" * 5000 + b"}", Body)
    with pytest.raises(Problem, match="not JSON"):
        decode(b"[" * 100_000, Any)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"content-type": "application/json"}, 200),
        ({"content-type": "Application/JSON; charset=utf-8"}, 200),
        ({"content-type": "application/vnd.api+json"}, 200),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": ""}, 415),
        ({"content-type": b"\xff\x00"}, 415),
        ({"origin": "http://localhost"}, 415),
        ({"origin": "http://localhost", "content-type": "application/json"}, 200),
    ],
)
def test_media_types(echo: Endpoint, headers: Headers, status: int) -> None:
    answer = ask(echo, {"text": "a"}, headers)
    assert answer is not None
    assert answer.status == status


@pytest.mark.parametrize(
    ("site", "origins", "status"),
    [
        ("cross-site", (), 403),
        ("same-site", (), 403),
        ("same-origin", (), 200),
        ("none", (), 200),
        ("cross-site", ("http://page",), 200),
        ("cross-site", ("*",), 200),
        ("cross-site", ("http://other",), 403),
    ],
)
def test_pages_of_other_origins_need_permission(site: str, origins: tuple[str, ...], status: int) -> None:
    for serving in made(cors_origins=origins):
        headers = {"sec-fetch-site": site, "origin": "http://page", "content-type": "application/json"}
        answer = ask(Endpoint(serving, ECHO), {"text": "a"}, headers)
        assert answer is not None
        assert answer.status == status


def test_a_client_that_leaves_gets_no_answer(echo: Endpoint) -> None:
    assert ask(echo, Sent([b'{"text":', b'"a"}'], leaves=True)) is None
    assert ask(echo, Sent([b""], leaves=True)) is None


def test_the_bodies_of_all_requests_are_bounded(serving: Serving) -> None:
    serving.bodies.limit = 100
    echo = Endpoint(serving, ECHO)
    body = Sent([b"x" * 60] * 10)
    answer = ask(echo, body)
    refused(answer, 429, "memory")
    assert answer is not None
    assert answer.headers["retry-after"] == "1"
    assert body.read == 2
    refused(ask(echo, gzip.compress(json.dumps({"text": "a" * 200}).encode()), {"content-encoding": "gzip"}), 429)
    answer = ask(echo, {"text": "a"})
    assert answer is not None
    assert answer.status == 200


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InputError("text 3 is wrong"), 422, "invalid_request"),
        (FileFormatError("a file is damaged"), 500, "internal_error"),
        (Problem(404, "model_not_found", "no such model"), 404, "model_not_found"),
        (QueueFull("full", 2.4), 429, "overloaded"),
        (TooLate("late"), 504, "deadline_exceeded"),
        (ZeroDivisionError("secret"), 500, "internal_error"),
        (MemoryError(), 500, "internal_error"),
    ],
)
def test_errors_are_answers(
    serving: Serving, error: Exception, status: int, code: str, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = ask(raising(serving, error), {"text": "a"}, {"x-request-id": "abc"})
    assert answer is not None
    assert (answer.status, answer.json["code"]) == (status, code)
    assert "secret" not in answer.json["message"]
    if isinstance(error, QueueFull):
        assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("3", "2400")
    log = capfd.readouterr().err
    assert (status == 500) == ("trace" in log)
    if status == 500:
        event = json.loads(log)
        assert event["id"] == "abc"
        assert type(error).__name__ in event["message"]


def test_what_is_cut_off_while_draining_is_told_so(serving: Serving) -> None:
    serving.draining = True
    answer = ask(raising(serving, asyncio.CancelledError()), {"text": "a"})
    refused(answer, 503, "stopping")
    assert answer is not None
    assert answer.headers["connection"] == "close"


def test_a_cancelled_request_is_cancelled(serving: Serving) -> None:
    with pytest.raises(asyncio.CancelledError):
        ask(raising(serving, asyncio.CancelledError()), {"text": "a"})
    assert ask(raising(serving, Gone()), {"text": "a"}) is None


def test_more_requests_than_allowed_are_refused(serving: Serving) -> None:
    serving.config = msgspec.structs.replace(serving.config, max_requests=1)
    serving.enter()
    answer = ask(Endpoint(serving, ECHO), Sent([b"unread"]))
    refused(answer, 429, "1 requests")
    light = ask(Endpoint(serving, replace(ECHO, light=True)), {"text": "a"})
    assert light is not None
    assert light.status == 200
    serving.leave()


# ---- headers ----


def call_with(**headers: str | bytes) -> Call:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call(scope_of("/", "POST", named), Sent([b""]), "id", Bodies(0))


@pytest.mark.parametrize(
    ("given", "urgency"),
    [
        (None, 3), ("u=0", 0), ("u=7", 7), ("u=5, i", 5), ("i, u=1", 1), ("i,u=2", 2), ("u=1;x=y", 1), ("u=1, u=2", 2),
        ("u=8", 3), ("u=-1", 3), ("u=10", 3), ("u=", 3), ("u", 3), ("", 3), ("u=1.5", 3), ("U=1", 3), ("u = 1", 3),
        (b"u=\xb2", 3), ("x" * 10000, 3), (",,,", 3),
    ],
)  # fmt: skip
def test_priorities(given: str | bytes | None, urgency: int) -> None:
    call = call_with() if given is None else call_with(priority=given)
    assert call.priority() == urgency


def test_deadlines() -> None:
    assert call_with().deadline() is None
    call = call_with(x_request_timeout_ms="1500")
    assert call.deadline() == pytest.approx(call.began + 1.5)
    assert call.began <= time.monotonic()
    for given in ("0", "-1", "1.5", "1e3", "abc", "", " ", "9" * 10, b"\xb2"):
        with pytest.raises(Problem, match="X-Request-Timeout-Ms"):
            call_with(x_request_timeout_ms=given).deadline()


def test_request_ids_are_echoed_if_they_are_plain_words(serving: Serving, echo: Endpoint) -> None:
    for given in ("abc", "a" * 128, "f0e1:2/3+4=5.6_7-8"):
        answer = ask(echo, {"text": "a"}, {"x-request-id": given})
        assert answer is not None
        assert answer.headers["x-request-id"] == given
    seen = set()
    for given in ("", "a" * 129, "a b", "a\r\nx: y", b"\xff", '"'):
        answer = ask(echo, {"text": "a"}, {"x-request-id": given})
        assert answer is not None
        seen.add(answer.headers["x-request-id"])
    assert len(seen) == 6
    assert all(serving.identify({"headers": [(b"x-request-id", each.encode())]}) == each for each in seen)


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({"authorization": "Bearer key-of-ann"}, "ann"),
        ({"authorization": "bearer  key-of-bob "}, "bob"),
        ({"x-api-key": "key-of-bob"}, "bob"),
        ({"authorization": "Basic abc", "x-api-key": "key-of-bob"}, "bob"),
        ({}, None),
        ({"authorization": "Bearer"}, None),
        ({"authorization": "Bearer "}, None),
        ({"authorization": "key-of-ann"}, None),
        ({"authorization": "Bearer key-of-an"}, None),
        ({"authorization": "Bearer key-of-anna"}, None),
        ({"authorization": b"Bearer \xff"}, None),
        ({"authorization": "Bearer wrong", "x-api-key": "key-of-bob"}, None),
    ],
)
def test_keys(headers: Headers, client: str | None) -> None:
    async def who(_: Serving, call: Call) -> Reply:
        return json_reply({"client": call.client})

    for serving in made(api_keys={"ann": "key-of-ann", "bob": "key-of-bob"}):
        body = Sent([b'{"text": "a"}'])
        answer = ask(Endpoint(serving, replace(ECHO, handler=who)), body, headers)
        assert answer is not None
        if client is None:
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert body.read == 0
        else:
            assert answer.json == {"client": client}
        public = ask(Endpoint(serving, replace(ECHO, handler=who, public=True)), {"text": "a"})
        assert public is not None
        assert public.json == {"client": "192.0.2.1"}


def test_new_keys_and_limits_are_taken_over_and_the_rest_is_named() -> None:
    for serving in made(api_keys={"ann": "key-of-ann"}):
        renewed = msgspec.structs.replace(serving.config, api_keys={"ann": "new-key-of-ann"}, max_inputs=7, threads=3)
        assert serving.reconfigure(renewed) == ["threads"]
        assert serving.config.max_inputs == 7
        assert serving.config.threads == 0
        for key, status in (("key-of-ann", 401), ("new-key-of-ann", 200)):
            answer = ask(Endpoint(serving, ECHO), {"text": "a"}, {"x-api-key": key})
            assert answer is not None
            assert answer.status == status


# ---- paths ----


def test_every_operation_has_its_path(serving: Serving) -> None:
    app = App(serving)
    for operation in operations():
        path = operation.path.replace("{model:path}", "a/b").replace("{", "").replace("}", "")
        answer = ask(app, b"", path=path, method="DELETE")
        assert answer is not None
        assert answer.status == 405
        assert operation.method in answer.headers["allow"]
        assert "x-request-id" in answer.headers


@pytest.mark.parametrize("path", ["/nothing", "//", "/v1/nothing", "/" + "x" * 5000, "/v1/models/" + "x" * 5000, "/ä"])
def test_other_paths_are_not_found(serving: Serving, path: str) -> None:
    answer = ask(App(serving), b"", path=path, method="GET")
    assert answer is not None
    assert answer.status == 404
    assert ("type" in answer.json["error"]) == path.startswith("/v1/")


def test_web_sockets_are_closed(serving: Serving) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(App(serving)({"type": "websocket"}, Sent([b""]), send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_cors_headers_are_there_if_origins_are() -> None:
    for serving in made(cors_origins=["http://page"]):
        preflight = {"origin": "http://page", "access-control-request-method": "POST",
                     "access-control-request-headers": "authorization, content-type"}  # fmt: skip
        answer = ask(application(serving), headers=preflight, path="/embed", method="OPTIONS")
        assert answer is not None
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "http://page"
        assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
        answer = ask(application(serving), path="/health", method="GET", headers={"origin": "http://page"})
        assert answer is not None
        assert answer.headers["access-control-allow-origin"] == "http://page"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        answer = ask(application(serving), path="/health", method="GET", headers={"origin": "http://other"})
        assert answer is not None
        assert "access-control-allow-origin" not in answer.headers
