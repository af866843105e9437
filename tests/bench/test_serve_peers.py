"""Peers of the serving benchmark: registry, requests, responses and micro-batching; none of their servers runs."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import environments
from bench.serve.peers import PEERS, artifacts, find_peer
from bench.serve.peers.__main__ import cosines
from bench.serve.peers.microbatch import MicroBatcher
from bench.serve.peers.ort_embedder import mean_pooled
from bench.serve.peers.protocol import Peer, Request
from bench.serve.peers.server import Server, ServerFailure, is_running
from bench.serve.peers.texts import BUILT_IN, check_texts

TEXTS = ["A cat sits.", 'She said "ünïcode".']
VECTORS = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)
ALL = [(peer.name, variant) for peer in PEERS for variant in peer.variants]


# ---- registry ----


def test_names_are_unique_and_found() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    for name, variant in ALL:
        peer = find_peer(name, variant)
        assert (peer.name, peer.variant) == (name, variant)
        assert find_peer(name).variant == peer.variants[0]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no peer 'nothing'; there are fastapi_st"):
        find_peer("nothing")
    with pytest.raises(ValueError, match="no variant 'torch-fp64'"):
        find_peer("fastapi_st", "torch-fp64")
    with pytest.raises(ValueError, match=r"no option \['speed'\]"):
        find_peer("infinity", options={"speed": "9"})


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_every_variant_has_an_environment_and_a_command(
    name: str, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Peer, "python", "PYTHON")
    peer = find_peer(name, variant)
    assert peer.environment in environments.names()
    command = peer.command(Path("/model"), 8123, 3)
    assert command[0] == "PYTHON"
    assert "--port=8123" in command
    assert all(isinstance(part, str) for part in command)
    variables = peer.environ(Path("/model"), 3)
    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("name", environments.names())
def test_requirements_are_pinned(name: str) -> None:
    lines = (environments.REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert packages
    assert all(line.count("==") == 1 for line in packages)
    assert not any(line.lower().startswith(("nvidia-cu", "triton==")) for line in packages)


def test_options_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peer, "python", "PYTHON")
    command = find_peer("fastapi_st", options={"wait_ms": "0"}).command(Path("/model"), 1, 1)
    assert {"--wait-ms=0", "--max-texts=32", "--backend=torch-fp32"} <= set(command)
    command = find_peer("infinity", "torch-bf16-bettertransformer").command(Path("/model"), 1, 1)
    assert {"--engine=torch", "--dtype=bfloat16", "--bettertransformer", "--model-id=/model"} <= set(command)
    # Optimum finds its file in the current folder only.
    command = find_peer("infinity", "optimum-int8").command(Path("/model"), 1, 1)
    assert {"--engine=optimum", "/model", "--model-id=."} <= set(command)


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_what_a_variant_loads_can_be_made(
    name: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def artifact(_model: Path, cache: Path, kind: str) -> Path:
        made.append(kind)
        return cache / kind

    peer = find_peer(name, variant)
    module = sys.modules[type(peer).__module__]
    monkeypatch.setattr(module, "artifact", artifact)
    path = peer.prepare(tmp_path / "model", tmp_path)
    if made:
        assert made[0] in artifacts.KINDS
        assert path == tmp_path / made[0]
        assert made[0].split("-")[0] in artifacts.MAKERS
    else:
        assert path == tmp_path / "model"


# ---- requests and responses ----


def _sent(request: Request) -> object:
    assert request.path.startswith("/")
    assert request.headers["Content-Type"] == "application/json"
    return json.loads(request.body)


def test_fastapi_st() -> None:
    peer = find_peer("fastapi_st")
    assert _sent(peer.body(TEXTS)) == {"inputs": TEXTS}
    np.testing.assert_array_equal(peer.vectors(json.dumps(VECTORS.tolist()).encode()), VECTORS)


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_infinity(encoding: str) -> None:
    peer = find_peer("infinity", options={"encoding": encoding})
    assert _sent(peer.body(TEXTS)) == {"model": "minilm", "input": TEXTS, "encoding_format": encoding}
    rows = [
        base64.b64encode(row.tobytes()).decode() if encoding == "base64" else [float(value) for value in row]
        for row in VECTORS
    ]
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    vectors = peer.vectors(json.dumps({"data": data[::-1]}).encode())
    np.testing.assert_array_equal(vectors, VECTORS)
    assert vectors.dtype == np.float32


def test_mlserver() -> None:
    peer = find_peer("mlserver")
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": TEXTS}
    assert _sent(peer.body(TEXTS)) == {"inputs": [tensor]}
    output = {"name": "embedding", "shape": [2, 2], "datatype": "FP32", "data": VECTORS.ravel().tolist()}
    np.testing.assert_array_equal(peer.vectors(json.dumps({"outputs": [output]}).encode()), VECTORS)


def test_pytriton() -> None:
    peer = find_peer("pytriton")
    sent = _sent(peer.body(TEXTS))
    assert isinstance(sent, dict)
    assert sent["inputs"] == [{"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": TEXTS}]
    output = {"name": "embedding", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    response = json.dumps({"outputs": [output]}).encode() + VECTORS.tobytes()
    np.testing.assert_array_equal(peer.vectors(response), VECTORS)


# ---- embeddings ----


def test_mean_pooling_leaves_padding_out() -> None:
    hidden = np.array([[[3, 0], [0, 4], [9, 9]], [[0, 2], [7, 7], [7, 7]]], np.float32)
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(mean_pooled(hidden, mask), [[0.6, 0.8], [0, 1]], rtol=1e-6)


def test_cosines_of_wrong_answers_fail() -> None:
    np.testing.assert_allclose(cosines(VECTORS, VECTORS), 1)
    np.testing.assert_allclose(cosines(VECTORS[::-1], VECTORS), 0.6, rtol=1e-6)
    assert (cosines(VECTORS[:1], VECTORS) == -1).all()
    assert (cosines(np.full_like(VECTORS, np.nan), VECTORS) == -1).all()
    assert (cosines(2 * VECTORS, VECTORS) == -1).all()  # no unit vectors


def test_built_in_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTCPU_DATA", raising=False)
    assert len(set(BUILT_IN)) == len(BUILT_IN)
    assert check_texts() == list(BUILT_IN)[:64]
    assert len(check_texts()) == 64


def test_a_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.json").write_text("1")
    first = artifacts.fingerprint(tmp_path)
    (tmp_path / "a" / "x.json").write_text("2")
    second = artifacts.fingerprint(tmp_path)
    (tmp_path / "a" / "x.json").rename(tmp_path / "a" / "y.json")
    assert len({first, second, artifacts.fingerprint(tmp_path)}) == 3


def test_settings_are_copied_and_weights_are_not(tmp_path: Path) -> None:
    (tmp_path / "model" / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json"):
        (tmp_path / "model" / name).write_text("{}")
    artifacts.copy_settings(tmp_path / "model", tmp_path / "copy")
    copied = sorted(str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*.*"))
    assert copied == ["1_Pooling/config.json", "config.json"]


# ---- micro-batcher ----


class FakeEncoder:
    """The length of each text; remembers its batches."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[list[str]] = []
        self._seconds = seconds

    def __call__(self, texts: list[str]) -> NDArray[np.int64]:
        self.batches.append(texts)
        time.sleep(self._seconds)
        if "bad" in texts:
            raise ValueError("a bad text")
        return np.array([len(text) for text in texts])


def test_requests_are_joined_and_taken_apart() -> None:
    encoder = FakeEncoder()

    async def run() -> list[list[int]]:
        async with MicroBatcher(encoder, max_texts=32, max_wait=0.05) as batcher:
            answers = await asyncio.gather(*(batcher.submit(texts) for texts in (["a", "bb"], ["ccc"], [], ["dddd"])))
            return [list(rows) for rows in answers]

    assert asyncio.run(run()) == [[1, 2], [3], [], [4]]
    assert encoder.batches == [["a", "bb", "ccc", "dddd"]]


def test_a_full_batch_does_not_wait() -> None:
    encoder = FakeEncoder()

    async def run() -> float:
        async with MicroBatcher(encoder, max_texts=4, max_wait=60) as batcher:
            begin = time.monotonic()
            await asyncio.gather(*(batcher.submit([str(number)]) for number in range(8)))
            return time.monotonic() - begin

    assert asyncio.run(run()) < 10
    assert encoder.batches == [["0", "1", "2", "3"], ["4", "5", "6", "7"]]


def test_a_batch_that_is_not_full_goes_after_the_wait() -> None:
    encoder = FakeEncoder()

    async def run() -> float:
        async with MicroBatcher(encoder, max_texts=4, max_wait=0.05) as batcher:
            begin = time.monotonic()
            await batcher.submit(["a"])
            return time.monotonic() - begin

    assert 0.05 <= asyncio.run(run()) < 10


def test_requests_stay_whole_and_large_ones_go_alone() -> None:
    encoder = FakeEncoder()

    async def run() -> None:
        async with MicroBatcher(encoder, max_texts=4, max_wait=0.01) as batcher:
            await asyncio.gather(batcher.submit(["a"] * 3), batcher.submit(["b"] * 2), batcher.submit(["c"] * 9))

    asyncio.run(run())
    assert [len(batch) for batch in encoder.batches] == [3, 2, 9]


def test_an_error_is_told_to_its_batch_only() -> None:
    encoder = FakeEncoder()

    async def run() -> list[object]:
        async with MicroBatcher(encoder, max_texts=2, max_wait=0.01) as batcher:
            tasks = [batcher.submit([text]) for text in ("a", "bad", "ccc", "dd")]
            return list(await asyncio.gather(*tasks, return_exceptions=True))

    first, second, *rest = asyncio.run(run())
    assert isinstance(first, ValueError)
    assert isinstance(second, ValueError)
    assert rest == [[3], [2]]


def test_a_client_that_has_gone_is_not_encoded() -> None:
    encoder = FakeEncoder(seconds=0.1)

    async def run() -> list[int]:
        async with MicroBatcher(encoder, max_texts=1, max_wait=0.01) as batcher:
            tasks = [asyncio.create_task(batcher.submit([text])) for text in ("a", "bb", "ccc")]
            await asyncio.sleep(0.03)
            tasks[1].cancel()
            rows = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(rows[1], asyncio.CancelledError)
            return [int(rows[0][0]), int(rows[2][0])]  # type: ignore[index]

    assert asyncio.run(run()) == [1, 3]
    assert encoder.batches == [["a"], ["ccc"]]


def test_closing_cancels_who_still_waits() -> None:
    async def run() -> bool:
        async with MicroBatcher(FakeEncoder(), max_texts=32, max_wait=60) as batcher:
            task = asyncio.create_task(batcher.submit(["a"]))
            await asyncio.sleep(0.01)
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled()

    assert asyncio.run(run())


# ---- processes ----

SERVER = """
import http.server, json, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, content):
        self.send_response(200); self.send_header("Content-Length", str(len(content))); self.end_headers()
        self.wfile.write(content)
    def do_GET(self): self.answer(b"")
    def do_POST(self):
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        self.answer(json.dumps([[len(text), 0.0] for text in texts]).encode())
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class FakePeer(Peer):
    """A server of the standard library that starts a process in a session of its own."""

    name = "fake"
    variants = ("only",)
    code = SERVER

    def command(self, model_dir: Path, port: int, threads: int) -> list[str]:  # noqa: ARG002  (it needs no more)
        return [sys.executable, "-c", self.code, str(port)]

    def body(self, texts: object) -> Request:
        return Request("/embed", {"Content-Type": "application/json"}, json.dumps({"inputs": texts}).encode())

    def vectors(self, response: bytes) -> NDArray[np.float32]:
        return np.array(json.loads(response), np.float32)


def _port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_server_leaves_nothing_behind(tmp_path: Path) -> None:
    with Server(FakePeer(), tmp_path, _port(), 1, [], tmp_path, tmp_path / "logs" / "fake.log") as server:
        np.testing.assert_array_equal(server.embed(["a", "bbb"]), [[1, 0], [3, 0]])
        pids = server.pids
        assert len(pids) == 2
        assert all(map(is_running, pids))
    assert not any(map(is_running, pids))
    server.close()  # again does no harm


def test_a_server_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    class Broken(FakePeer):
        code = "import sys; sys.exit('no such model')"

    with (
        pytest.raises(ServerFailure, match="fake only ended with status 1; no such model"),
        Server(Broken(), tmp_path, _port(), 1, [], tmp_path, tmp_path / "fake.log"),
    ):
        pass


def test_the_registry_imports_nothing_heavy() -> None:
    code = "import sys, bench.serve.peers; print([m for m in ('torch', 'fastapi', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=environments.ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
