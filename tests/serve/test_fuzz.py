"""Bytes that no client should send: the server refuses them or ends the connection, and goes on as if nothing was."""

from __future__ import annotations

import gzip
import json
import os
import random
import select
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.serve.conftest import TASKS
from tests.serve.live import LiveServer, model_directory
from tests.serve.wire import Wire, head, request, until

SHOTS = int(os.environ.get("FASTCPU_FUZZ_SHOTS", "800"))
MOST_GROWTH = 256 << 20
"""Bytes that the process may grow by in all: the memory of large answers is kept for others."""
MOST_BODY = 200_000
EMBED = {"inputs": "a red house", "model": "embed"}
BODIES: dict[str, Any] = {
    "/embed": EMBED,
    "/v1/embeddings": {"input": ["a", "b"], "model": "embed", "encoding_format": "base64", "dimensions": 3},
    "/predict": {"inputs": [["a", "b"], ["c"]], "model": "classify", "raw_scores": True},
    "/rerank": {"query": "who", "texts": ["a", "b"], "model": "rerank", "return_text": True},
    "/v2/rerank": {"query": "who", "documents": ["a", {"text": "b"}], "model": "rerank", "top_n": 1},
    "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "model": "embed"},
    "/tokenize": {"inputs": "a dog", "model": "embed"},
    "/decode": {"ids": [[2, 5, 3]], "model": "embed"},
    "/qa": {"question": "who", "context": "Anna is a cat", "model": "qa"},
    "/tag": {"text": ["Anna works", ["in", "Paris"]], "model": "tag"},
    "/fill": {"text": "a [MASK] house", "model": "fill_mask"},
    "/models/embed": {"inputs": "a", "parameters": {"normalize": False}},
    "/v2/models/embed/infer": {
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}],
        "parameters": {"binary_data_output": True},
    },
    "/v2/repository/index": {"ready": True},
}
HEADERS = (
    "x-request-id", "priority", "x-request-timeout-ms", "content-encoding", "content-type", "expect", "connection",
    "upgrade", "transfer-encoding", "authorization", "accept-encoding", "inference-header-content-length", "host",
    "content-length", "range", "cookie", "origin", "sec-fetch-site", "traceparent",
)  # fmt: skip
VALUES = (
    b"", b" ", b"0", b"-1", b"1", b"18446744073709551616", b"9" * 400, b"gzip", b"chunked", b"gzip, chunked", b"close",
    b"keep-alive, upgrade", b"h2c", b"websocket", b"100-continue", b"application/json", b"text/plain", b"\xff\xfe",
    b"u=0, u=9;;;", b"%00", b"\t", b"a" * 5000, b"{}", b"*", b"\xe2\x82\xac",
    b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
)  # fmt: skip
_BOMBS = (
    gzip.compress(b"\0" * 50_000_000),
    gzip.compress(gzip.compress(b"\0" * 5_000_000)),
    zlib.compress(b" " * MOST_BODY * 2),
)
_TLS = bytes.fromhex("16030100d8010000d40303") + bytes(range(200))
_HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\x12\4\0\0\0\0\0" + bytes(18)

_LARGE = (
    {"inputs": ["a"] * 30_000, "model": "embed"},
    {"inputs": "a " * 90_000, "model": "embed"},
    {"inputs": "\u0301" * 30_000, "model": "embed"},
    {"text": "[MASK] " * 5000, "model": "fill_mask"},
    {"text": "a " * 90_000, "model": "tag"},
    {"question": "who", "context": "a " * 90_000, "model": "qa"},
)

Shot = Callable[[random.Random], bytes]


@pytest.fixture(scope="module")
def live(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    path = tmp_path_factory.mktemp("fuzz") / "serve.yaml"
    models = {
        task: {"path": str(model_directory(tiny_models, task)), "task": task} for task in TASKS if task != "rerank"
    }
    models["rerank"] = {"path": str(model_directory(tiny_models, "rerank"))}
    settings = {"models": models, "threads": 1, "max_body_bytes": MOST_BODY, "read_seconds": 5, "cache_mb": 4}
    path.write_text(yaml.safe_dump(settings))
    with LiveServer(["--config", str(path)]) as found:
        is_well(found)
        before = resident(found)
        yield found
        grown = resident(found) - before
        print(f"the process has grown by {grown >> 20} MiB")
        assert grown < MOST_GROWTH


def noise(rng: random.Random, most: int = 300) -> bytes:
    return rng.randbytes(rng.randrange(most))


def valid(rng: random.Random) -> bytes:
    """A good request to any path."""
    path = rng.choice(sorted(BODIES))
    return request("POST", path, BODIES[path], {"content-type": "application/json"})


def packed(rng: random.Random, body: bytes, **headers: Any) -> bytes:
    path = rng.choice(sorted(BODIES))
    return request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})


# ---- shots ----


def _noise(rng: random.Random) -> bytes:
    return rng.choice((noise(rng), noise(rng) + b"\r\n\r\n", b"\0" * 5000 + b"\r\n\r\n", _TLS, _HTTP_2, b"\r\n" * 2000))


def _line(rng: random.Random) -> bytes:
    methods = (b"GET", b"get", b"POST", b"FOO", b"G\0T", b"", b"CONNECT", b"OPTIONS", b"PRI", b"M-SEARCH", b"\xff")
    paths = (
        b"/", b"", b"*", b"//", b"/../../etc/passwd", b"/%00", b"/%ff%fe", b"/%zz", b"/\xff", b"http://[::1", b"/a b",
        b"http://x:99999999/", b"host:80", b"/" + b"a" * 100_000, b"/?" + b"q=1&" * 5000,
        b"/v1/models/" + b"%2f" * 3000, b"/page/../app", b"/health#x", b"/models/" + "ü".encode() * 50,
        b"/v2/models//infer", b"?",
    )  # fmt: skip
    versions = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/9.9", b"HTTP/1.", b"http/1.1", b"", b"ICY", b"HTTP/1.1 x")
    line = b" ".join((rng.choice(methods), rng.choice(paths), rng.choice(versions)))
    return line + rng.choice((b"\r\n", b"\n", b"\r", b"\r\r\n")) + b"host: x\r\n\r\n"


def _headers(rng: random.Random) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:
        lines = b"x: " + b"y" * rng.choice((1000, 100_000, 1_000_000)) + b"\r\n"
    elif kind == 1:
        lines = b"".join(b"h%d: v\r\n" % number for number in range(rng.choice((100, 20_000))))
    elif kind == 2:
        lines = b"n" * 200_000 + b": v\r\n"
    elif kind == 3:
        lines = rng.choice(
            (
                b"no colon\r\n",
                b": v\r\n",
                b"a b: v\r\n",
                b"x: \0\r\n",
                b" folded: v\r\n",
                b"x:\r\n y\r\n",
                b"\xff: v\r\n",
            )
        )
    else:
        some = rng.sample(HEADERS, rng.randrange(1, 5))
        lines = b"".join(name.encode() + b": " + rng.choice(VALUES) + b"\r\n" for name in some)
    body = json.dumps(EMBED).encode()
    length = b"content-length: %d\r\n" % len(body) if rng.random() < 0.7 else b""
    return b"POST /embed HTTP/1.1\r\nhost: x\r\n" + length + lines + b"\r\n" + body


def _chunks(rng: random.Random) -> bytes:
    body = json.dumps(BODIES["/rerank"]).encode()
    size = b"%x" % len(body)
    chunks = (
        size + b"\r\n" + body + b"\r\n0\r\n\r\n", b"-1\r\n" + body, b"g\r\n", b"ffffffffffffffff\r\n" + body,
        b"fffffffffffffffffffff\r\n", b"\r\n\r\n", size + b";" + b"x" * 100_000 + b"\r\n" + body + b"\r\n0\r\n\r\n",
        size + b"\r\n" + body + b"x\r\n0\r\n\r\n", size + b"\n" + body + b"\n0\n\n",
        b"0\r\n" + b"t: v\r\n" * 5000 + b"\r\n",
        b"0\r\ncontent-length: 5\r\n\r\n", b"1\r\n{\r\n" * 5000 + b"0\r\n\r\n",
        b"0x10\r\n", b"1 \r\n{\r\n0\r\n\r\n",
        b"0\r\n" + b"t: " + b"v" * 300_000, size + b"\r\n" + body[:20],
    )  # fmt: skip
    twice = {"content-length": 5} if rng.random() < 0.2 else {}
    return head("POST", "/rerank", {"transfer-encoding": "chunked", **twice}) + rng.choice(chunks)


def _bodies(rng: random.Random) -> bytes:
    path = rng.choice(sorted(BODIES))
    text = json.dumps(BODIES[path])
    deep = rng.choice((100, 1000, 90_000))
    digits = b"9" * rng.choice((20, 400, 4301, 190_000))
    bodies = (
        b"[" * deep, b"[" * deep + b"]" * deep, b'{"inputs":' * (deep // 10),
        b'{"a":' * (deep // 5) + b"1" + b"}" * (deep // 5), digits, b"-" + digits, b"0." + digits,
        b'{"inputs": ' + digits + b"}", b'{"ids": [' + digits + b"]}", b'{"inputs": 1e' + digits[:400] + b"}",
        b'{"inputs": "a", "dimensions": ' + digits[:4301] + b', "model": "embed"}',
        b'{"input": [' + digits[:4301] + b'], "model": "embed"}',
        text.replace('"a', '"\\u0000a').encode(), text.replace('"a', '"\\ud800a').encode(), text.encode("utf-16"),
        text.encode().replace(b"a", b"\xff"), text.encode() + b"\0", b"\xef\xbb\xbf" + text.encode(), noise(rng, 3000),
        b"", b" ", b"null", b"true", b"NaN", b'"' + b"a" * 199_000 + b'"', b"x" * (MOST_BODY + 1),
        b'{"model": "embed", "model": "tag", "inputs": "a"}',
        b'{"text": [[' + b'"",' * 40_000 + b'""]], "model": "tag"}',
        *(json.dumps(large).encode() for large in _LARGE),
    )  # fmt: skip
    return request("POST", path, rng.choice(bodies), {"content-type": "application/json"})


def _encodings(rng: random.Random) -> bytes:
    plain = json.dumps(EMBED).encode()
    good = gzip.compress(plain)
    broken = bytearray(good)
    broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
    contents = (
        *(bytes(broken), good[: rng.randrange(len(good))], good + good, good + noise(rng), noise(rng)),
        *_BOMBS,
    )
    encoding = rng.choice(("gzip", "deflate", "x-gzip", "br", "gzip,gzip"))
    return packed(rng, rng.choice(contents), content_encoding=encoding)


def _tensors(rng: random.Random) -> bytes:
    shape = rng.choice(([1, 3], [2**31 - 1, 2**31 - 1], [0], [], [-1], [1] * 9, [2**40], [1, 0], [3]))
    tensor: dict[str, Any] = {
        "name": rng.choice(("input_ids", "text", "x")),
        "shape": shape,
        "datatype": rng.choice(("INT64", "BYTES", "FP16", "BOOL", "UINT8")),
    }
    if rng.random() < 0.5:
        tensor["data"] = rng.choice(([1, 2, 3], [[1, 2, 3]], [], "a", [None], [2**70], ["a"], [[[]]]))
        rest = b""
    else:
        tensor["parameters"] = {"binary_data_size": rng.choice((0, 24, 2**40, -1))}
        rest = rng.choice((struct.pack("<3q", 2, 5, 3), struct.pack("<I", 2**32 - 1) + b"a", b"", noise(rng)))
    body = json.dumps({"inputs": [tensor] * rng.randrange(1, 3)}).encode()
    length = rng.choice((len(body), len(body) - 1, 0, -1, 10**9, len(body) + len(rest)))
    headers = {"inference-header-content-length": length} if rest or rng.random() < 0.3 else {}
    return request("POST", "/v2/models/embed/infer", body + rest, headers)


def _mutated(rng: random.Random) -> bytes:
    """A good request with some bytes changed, removed or repeated."""
    data = bytearray(valid(rng))
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[place] = rng.randrange(256)
        elif kind == 1:
            del data[place : place + rng.randrange(20)]
        elif kind == 2:
            data[place:place] = data[place : place + rng.randrange(40)]
        else:
            data[place:place] = noise(rng, 8)
        if not data:
            break
    return bytes(data)


def _pipelined(rng: random.Random) -> bytes:
    """Several requests at once, and something behind them."""
    return b"".join(valid(rng) for _ in range(rng.randrange(2, 6))) + rng.choice((b"", noise(rng), _mutated(rng)))


def _cut(rng: random.Random) -> bytes:
    data = rng.choice((valid, _chunks, _encodings))(rng)
    return data[: rng.randrange(len(data))]


KINDS: tuple[Shot, ...] = (_noise, _line, _headers, _chunks, _bodies, _encodings, _tensors, _mutated, _pipelined, _cut)


# ---- what is seen of the server ----


def resident(server: LiveServer) -> int:
    """Bytes of memory that the process has."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) << 10


def open_files(server: LiveServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def is_well(server: LiveServer) -> None:
    """It answers good requests, and has nothing left of others."""
    assert server.post("/embed", EMBED).status == 200
    until(lambda: server.get("/status").json["requests"] == 0, "a request is not answered")
    status = server.get("/status").json
    assert all(model["waiting"]["requests"] == 0 for model in status["models"])
    log = [json.loads(line) for line in list(server.lines)]
    traces = [event.get("trace", event["message"]) for event in log if event["level"] == "error"]
    assert not traces, "\n".join(traces)


def fire(server: LiveServer, data: bytes, patience: float) -> bytes:
    """Sends bytes and gives what comes back until the connection ends or nothing comes for `patience` seconds."""
    found = b""
    with Wire(server) as wire:
        try:
            wire.send(data)
            while select.select([wire.socket], [], [], patience)[0]:
                more = wire.socket.recv(1 << 16)
                if not more:
                    break
                found += more
        except ConnectionError:
            pass
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_strange_bytes(live: LiveServer, kind: Shot, seed: int) -> None:
    rng = random.Random(f"{seed} {kind.__name__}")
    statuses: dict[bytes, int] = {}
    for number in range(max(1, SHOTS // len(KINDS))):
        found = fire(live, kind(rng), rng.choice((0.0, 0.02, 0.05)))
        assert not found or found.startswith(b"HTTP/1.1 "), found[:200]
        statuses[found[9:12]] = statuses.get(found[9:12], 0) + 1
        if number % 20 == 0:
            is_well(live)
    is_well(live)
    print(f"statuses: {statuses}")
    assert not {status for status in statuses if status.startswith(b"5")} - {b"503", b"504"}


def test_what_is_whole_is_answered(live: LiveServer, seed: int) -> None:
    """No request that is complete, however strange, is left without an answer or an end."""
    rng = random.Random(seed)
    for kind in (_bodies, _encodings, _tensors):
        for _ in range(40):
            with Wire(live) as wire:
                wire.send(kind(rng))
                assert 200 <= wire.answer().status < 500


def test_a_flood_of_connections(live: LiveServer, seed: int) -> None:
    rng = random.Random(seed)
    is_well(live)
    files = open_files(live)
    for _ in range(3):
        wires = [Wire(live) for _ in range(300)]
        try:
            for wire in wires:
                wire.send(
                    rng.choice(
                        (b"", b"POST /embed HTTP/1.1\r\n", head("POST", "/embed", {"content-length": 99}), valid(rng))
                    )
                )
            assert live.get("/health").status == 200
            for wire in rng.sample(wires, 100):
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            for wire in wires:
                wire.socket.close()
    until(lambda: open_files(live) <= files + 2, "connections are left")
    is_well(live)


def test_requests_that_are_never_finished_do_not_stay(live: LiveServer) -> None:
    is_well(live)
    files = open_files(live)
    wires = [Wire(live) for _ in range(50)]
    for wire in wires:
        wire.send(head("POST", "/embed", {"transfer-encoding": "chunked"}) + b"1\r\n{\r\n")
    until(lambda: live.get("/status").json["requests"] == 50)
    until(lambda: open_files(live) <= files + 2, "connections are left")
    for wire in wires:
        assert wire.ended()
        wire.socket.close()
    is_well(live)
