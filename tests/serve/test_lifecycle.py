"""The life of a server: start, signals, reload, drain, and clients that leave, wait or hurry."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.serve.live import LiveServer, model_directory
from tests.serve.wire import Wire, head, request, until
from tests.tasks.models import compiled

EMBED = {"inputs": "a red house", "model": "embed"}
HELD = {"path": "", "max_delay_ms": 120_000, "batch_tokens": 8192}
"""Settings with which requests wait for others for so long that no test sees them run."""


@pytest.fixture
def replaceable(tiny_models: Path, tmp_path: Path) -> Path:
    """A copy of the embedding model, to be changed."""
    return Path(shutil.copytree(model_directory(tiny_models, "embed"), tmp_path / "model"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedding model with other weights."""
    return compiled("embed", tmp_path_factory.mktemp("other") / "embed", seed=1)


def written(folder: Path, **settings: Any) -> list[str]:
    """The arguments for a configuration file."""
    path = folder / "serve.yaml"
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(settings))
    fresh.rename(path)
    return ["--config", str(path)]


def replace(directory: Path, by: Path) -> None:
    """Puts another model in the place of a directory."""
    fresh = directory.with_name("fresh")
    shutil.copytree(by, fresh)
    directory.rename(directory.with_name(f"old-{time.monotonic_ns()}"))
    fresh.rename(directory)


def waiting(server: LiveServer) -> int:
    return sum(model["waiting"]["requests"] for model in server.get("/status").json["models"])


def logged(server: LiveServer, message: str, **fields: Any) -> list[dict[str, Any]]:
    """The events with this message and fields."""
    return [
        event
        for event in server.events
        if event["message"] == message and all(event.get(name) == value for name, value in fields.items())
    ]


class Clients:
    """Threads that ask again and again on connections that they keep, until the block ends.

    Attributes:
        answers: the statuses of all answers.
        failures: what went wrong on the way.
    """

    def __init__(self, server: LiveServer, bodies: Sequence[Any], threads: int = 4) -> None:
        self._server = server
        self._bodies = bodies
        self._over = threading.Event()
        self.answers: list[int] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Clients:  # noqa: PYI034  (Self is new in Python 3.11)
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.answers) > 3 * len(self._threads))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _ask(self, number: int) -> None:
        """Until the server does not take connections any more."""
        while not self._over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
            try:
                connection.connect()
            except ConnectionError:
                return
            try:
                self._use(connection, number)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                return
            finally:
                connection.close()

    def _use(self, connection: http.client.HTTPConnection, number: int) -> None:
        """A connection, until the server says that it was the last answer on it."""
        fresh = True
        while not self._over.is_set():
            body = json.dumps(self._bodies[(number + len(self.answers)) % len(self._bodies)])
            try:
                connection.request("POST", "/embed", body, {"content-type": "application/json"})
                response = connection.getresponse()
            except ConnectionError:
                if fresh:  # it was in the queue of the operating system: nobody has accepted it
                    return
                raise
            fresh = False
            content = response.read()
            self.answers.append(response.status)
            if response.status != 200:
                self.failures.append(f"{response.status} {content!r:.300}")
            if response.getheader("connection") == "close":
                return


# ---- start ----


def test_a_broken_model_at_the_start_ends_in_status_2_and_one_line(tiny_models: Path, replaceable: Path) -> None:
    (replaceable / "graph.json").write_text("{")
    good = str(model_directory(tiny_models, "embed"))
    for arguments in ([str(replaceable)], [f"good={good}", f"bad={replaceable}"]):
        command = [sys.executable, "-m", "fastcpu", "serve", *arguments, "--port", "0"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        errors = [line for line in done.stderr.splitlines() if '"level":"info"' not in line]
        assert len(errors) == 1
        assert errors[0].startswith("fastcpu: error: ")
        assert str(replaceable / "graph.json") in errors[0]


def test_it_listens_only_when_all_models_are_warm(server: LiveServer) -> None:
    states = [(event["message"], event.get("state")) for event in server.events]
    first = states.index(("listening", None))
    assert states[:first] == [("model", "ready")] * 6
    assert server.get("/health").json == {"status": "ok"}


def test_a_signal_while_models_are_loaded_ends_it_in_order(tiny_models: Path) -> None:
    models = [f"m{number}={model_directory(tiny_models, 'embed')}" for number in range(60)]
    live = LiveServer(models)
    until(lambda: bool(logged(live, "model", state="ready")))
    assert live.stop() == 0
    assert not logged(live, "listening")
    assert not [line for line in live.lines if not line.startswith("{")]


# ---- signals ----


def test_all_requests_that_were_accepted_before_sigterm_are_answered(tiny_models: Path, tmp_path: Path) -> None:
    model = {"path": str(model_directory(tiny_models, "embed")), "max_delay_ms": 20}
    bodies = [{"inputs": ["a red house"] * count} for count in (1, 7, 40)]
    with LiveServer([*written(tmp_path, models={"embed": model}), "--threads", "1"]) as live:
        with Clients(live, bodies, 6) as clients:
            live.process.send_signal(signal.SIGTERM)
            clients.join()
        assert live.process.wait(60) == 0
        assert clients.failures == []
        assert set(clients.answers) == {200}
        answered = len(logged(live, "request", status=200))
        assert answered == len(clients.answers)
        assert logged(live, "draining")
        assert logged(live, "stopped")
        print(f"{answered} requests")


def test_requests_on_idle_connections_are_answered_while_draining(tiny_models: Path) -> None:
    with LiveServer([f"embed={model_directory(tiny_models, 'embed')}"]) as live:
        with Wire(live) as idle, Wire(live) as fresh:
            assert idle.ask("GET", "/health").status == 200
            live.process.send_signal(signal.SIGTERM)
            until(lambda: bool(logged(live, "draining")))
            answer = idle.ask("POST", "/embed", EMBED)
            assert answer.status == 200
            assert answer.headers["connection"] == "close"
            assert idle.ended()
            health = fresh.ask("GET", "/health")
            assert (health.status, health.headers["retry-after"]) == (503, "1")
        assert live.process.wait(60) == 0


def test_what_runs_longer_than_draining_may_last_is_told_so(tiny_models: Path, tmp_path: Path) -> None:
    model = {**HELD, "path": str(model_directory(tiny_models, "embed"))}
    with LiveServer(written(tmp_path, models={"embed": model}, drain_seconds=0.2)) as live, Wire(live) as wire:
        wire.send(request("POST", "/embed", EMBED, {"x-request-id": "slow"}))
        until(lambda: waiting(live) == 1)
        live.process.send_signal(signal.SIGTERM)
        answer = wire.answer()
        assert (answer.status, answer.headers["x-request-id"]) == (503, "slow")
        assert "stopping" in answer.json["error"]
        assert live.process.wait(60) == 0
        assert [event for event in live.events if "trace" in event] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tiny_models: Path, tmp_path: Path, number: signal.Signals) -> None:
    model = {**HELD, "path": str(model_directory(tiny_models, "embed"))}
    with LiveServer(written(tmp_path, models={"embed": model}, drain_seconds=600)) as live, Wire(live) as wire:
        wire.send(request("POST", "/embed", EMBED))
        until(lambda: waiting(live) == 1)
        live.process.send_signal(number)
        until(lambda: bool(logged(live, "draining")))
        live.process.send_signal(number)
        assert live.process.wait(60) == 128 + number
        assert wire.ended()
        until(lambda: bool(logged(live, "stopped at once", unanswered=1)))


# ---- reload ----


def test_sighup_changes_adds_removes_and_keeps_models_while_requests_run(
    tiny_models: Path, replaceable: Path, other: Path, tmp_path: Path
) -> None:
    embed, classify = (str(model_directory(tiny_models, task)) for task in ("embed", "classify"))
    models: dict[str, Any] = {"embed": str(replaceable), "gone": embed}
    keys = {"ann": "key-of-ann-1"}
    bodies = [{"inputs": ["a red house"] * count, "model": "embed"} for count in (1, 9)]
    with LiveServer([*written(tmp_path, models=models), "--threads", "1"]) as live, Clients(live, bodies, 3) as clients:
        before = live.post("/embed", EMBED).json

        def reloaded(**settings: Any) -> dict[str, Any]:
            count = len(logged(live, "the configuration was read again"))
            written(tmp_path, **settings)
            live.process.send_signal(signal.SIGHUP)
            until(lambda: len(logged(live, "the configuration was read again")) > count)
            return logged(live, "the configuration was read again")[-1]

        assert live.post("/embed", {**EMBED, "model": "gone"}).status == 200
        replace(replaceable, other)
        models |= {"new": {"path": classify, "aliases": ["fresh"]}, "bad": str(tmp_path / "nothing")}
        del models["gone"]
        event = reloaded(models=models)
        assert [failed.partition(":")[0] for failed in event["failed"]] == ["bad"]
        assert live.post("/embed", EMBED).json != before
        assert live.post("/embed", {**EMBED, "model": "gone"}).status == 404
        assert live.post("/predict", {"inputs": "a dog", "model": "fresh"}).status == 200
        assert live.post("/embed", {**EMBED, "model": "bad"}).status == 503
        assert live.get("/health").status == 200

        changed = live.post("/embed", EMBED).json
        (replaceable / "graph.json").write_text("{")
        assert sorted(failed.partition(":")[0] for failed in reloaded(models=models)["failed"]) == ["bad", "embed"]
        assert live.post("/embed", EMBED).json == changed
        failed = logged(live, "model", model="embed", state="failed")[-1]
        assert "graph.json" in failed["reason"]
        assert failed["answers"] == "1"

        del models["bad"]
        event = reloaded(models=models, max_inputs=50, port=1, cache_mb=7)
        assert event["needs_restart"] == ["cache_mb"]
        assert live.post("/embed", {**EMBED, "inputs": ["a"] * 51}).status == 413

        (tmp_path / "serve.yaml").write_text("models: [")
        live.process.send_signal(signal.SIGHUP)
        until(lambda: bool(logged(live, "the configuration cannot be read; nothing changed")))
        assert live.post("/embed", EMBED).json == changed
        assert len(clients.answers) > 20
    assert clients.failures == []
    assert set(clients.answers) == {200}
    with LiveServer(written(tmp_path, models={"embed": embed}, api_keys=keys)) as live:
        assert live.post("/embed", EMBED, {"x-api-key": "key-of-ann-1"}).status == 200
        written(tmp_path, models={"embed": embed}, api_keys={"ann": "key-of-ann-2"})
        live.process.send_signal(signal.SIGHUP)
        until(lambda: live.post("/embed", EMBED, {"x-api-key": "key-of-ann-2"}).status == 200)
        assert live.post("/embed", EMBED, {"x-api-key": "key-of-ann-1"}).status == 401


def test_a_directory_that_is_replaced_is_noticed(replaceable: Path, other: Path) -> None:
    arguments = [f"embed={replaceable}", "--watch-seconds", "0.05", "--threads", "1"]
    with LiveServer(arguments) as live, Clients(live, [EMBED], 2) as clients:
        before = live.post("/embed", EMBED).json
        replace(replaceable, other)
        until(lambda: live.post("/embed", EMBED).json != before)
        changed = live.post("/embed", EMBED).json

        whole = (replaceable / "graph.json").read_bytes()
        (replaceable / "graph.json").write_bytes(whole[:100])
        until(lambda: bool(logged(live, "model", model="embed", state="failed")))
        assert live.post("/embed", EMBED).json == changed
        assert "graph.json" in logged(live, "model", model="embed", state="failed")[0]["reason"]
        ready = len(logged(live, "model", model="embed", state="ready"))
        (replaceable / "graph.json").write_bytes(whole)
        until(lambda: len(logged(live, "model", model="embed", state="ready")) > ready)
        assert live.post("/embed", EMBED).json == changed
        shutil.rmtree(replaceable)
        time.sleep(0.2)
        assert live.post("/embed", EMBED).json == changed
    assert clients.failures == []
    assert set(clients.answers) == {200}


# ---- clients that leave, wait or hurry ----


@contextmanager
def holding(
    tiny_models: Path, folder: Path, model: dict[str, Any] | None = None, **settings: Any
) -> Iterator[LiveServer]:
    """A server in which requests wait until it is ended."""
    path = str(model_directory(tiny_models, "embed"))
    with LiveServer(
        written(folder, models={"embed": {**HELD, **(model or {}), "path": path}}, drain_seconds=0.1, **settings)
    ) as live:
        yield live


@pytest.mark.parametrize("way", ["close", "reset", "half"])
def test_a_client_that_leaves_frees_its_place(tiny_models: Path, tmp_path: Path, way: str) -> None:
    with holding(tiny_models, tmp_path) as live:
        with Wire(live) as wire:
            wire.send(request("POST", "/embed", EMBED, {"x-request-id": "left"}))
            until(lambda: waiting(live) == 1)
            time.sleep(0.1)
            if way == "reset":
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if way == "half":
                wire.socket.shutdown(socket.SHUT_WR)
            else:
                wire.socket.close()
            seconds = until(lambda: waiting(live) == 0, seconds=1)
        print(f"a client that left ({way}) freed its place after {1e3 * seconds:.0f} ms")
        until(lambda: bool(logged(live, "request", id="left", status=499)))
        assert live.get("/status").json["requests"] == 0


def test_a_client_that_leaves_frees_the_places_of_requests_that_it_sent_ahead(
    tiny_models: Path, tmp_path: Path
) -> None:
    with holding(tiny_models, tmp_path) as live:
        with Wire(live) as wire:
            wire.send(request("POST", "/embed", EMBED) * 3)
            until(lambda: waiting(live) == 1)
            time.sleep(0.1)
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        until(lambda: waiting(live) == 0)
        until(lambda: live.get("/status").json["requests"] == 0)
        assert not [event for event in live.events if event["level"] == "error"]


def test_a_client_that_leaves_within_its_body_frees_its_place(tiny_models: Path, tmp_path: Path) -> None:
    with holding(tiny_models, tmp_path) as live:
        with Wire(live) as wire:
            wire.send(head("POST", "/embed", {"content-length": 1000}) + b"{")
            until(lambda: live.get("/status").json["requests"] == 1)
        until(lambda: live.get("/status").json["requests"] == 0)


def test_a_full_queue_says_when_to_come_again(tiny_models: Path, tmp_path: Path) -> None:
    with holding(tiny_models, tmp_path, {"max_queue_tokens": 7}) as live, Wire(live) as wire:
        wire.send(request("POST", "/embed", EMBED))
        until(lambda: waiting(live) == 1)
        for path, body in (("/embed", EMBED), ("/v1/embeddings", {"input": "a red house", "model": "embed"})):
            refused = live.post(path, body)
            assert refused.status == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert int(refused.headers["retry-after-ms"]) >= 1
        assert waiting(live) == 1
        assert live.get("/metrics").body.count(b'fastcpu_rejected_total{model="embed",reason="queue"} 2.0') == 1


def test_a_full_queue_refuses_a_request_before_its_body_and_reads_on_behind_it(
    tiny_models: Path, tmp_path: Path
) -> None:
    with holding(tiny_models, tmp_path, {"max_queue_tokens": 5}) as live, Wire(live) as first, Wire(live) as wire:
        first.send(request("POST", "/embed", EMBED))
        until(lambda: waiting(live) == 1)
        wire.send(head("POST", "/v1/embeddings", {"content-length": 1000}))
        refused = wire.answer()
        assert (refused.status, refused.json["error"]["code"]) == (429, "rate_limit_exceeded")
        wire.send(b"{" * 1000)
        assert wire.ask("POST", "/tokenize", EMBED).status == 200, "this needs no queue"
        assert wire.ask("POST", "/embed", b"no JSON").status == 429
        wire.send(request("POST", "/embed", EMBED) * 3 + request("GET", "/health"))
        assert [wire.answer().status for _ in range(4)] == [429, 429, 429, 200]
        assert live.get("/metrics").body.count(b'fastcpu_rejected_total{model="embed",reason="queue"} 5.0') == 1
        assert waiting(live) == 1


def test_a_full_queue_refuses_nobody_who_asks_another_model(tiny_models: Path, tmp_path: Path) -> None:
    path = str(model_directory(tiny_models, "embed"))
    models = {"embed": {**HELD, "path": path, "max_queue_tokens": 5}, "other": {"path": path}}
    with LiveServer(written(tmp_path, models=models, drain_seconds=0.1)) as live, Wire(live) as wire:
        wire.send(request("POST", "/embed", EMBED))
        until(lambda: waiting(live) == 1)
        assert live.post("/embed", EMBED).status == 429
        assert live.post("/embed", {**EMBED, "model": "other"}).status == 200


def test_when_all_models_are_full_a_body_is_not_waited_for(tiny_models: Path, tmp_path: Path) -> None:
    held = {**HELD, "path": str(model_directory(tiny_models, "embed")), "max_queue_tokens": 5}
    arguments = written(tmp_path, models={"embed": held, "other": held}, drain_seconds=0.1)
    with LiveServer(arguments) as live, Wire(live) as first, Wire(live) as second, Wire(live) as third:
        first.send(request("POST", "/embed", EMBED))
        second.send(request("POST", "/embed", {**EMBED, "model": "other"}))
        until(lambda: waiting(live) == 2)
        third.send(head("POST", "/embed", {"content-length": 1000, "priority": "u=0"}))
        assert third.answer().status == 429
        # of which model cannot be known
        assert b'fastcpu_rejected_total{model="",reason="queue"} 1.0' in live.get("/metrics").body


def test_a_full_queue_of_the_model_in_the_path_is_enough(tiny_models: Path, tmp_path: Path) -> None:
    path = str(model_directory(tiny_models, "embed"))
    models = {"embed": {**HELD, "path": path, "max_queue_tokens": 5}, "other": {"path": path}}
    arguments = written(tmp_path, models=models, drain_seconds=0.1)
    with LiveServer(arguments) as live, Wire(live) as first, Wire(live) as second:
        first.send(request("POST", "/embed", EMBED))
        until(lambda: waiting(live) == 1)
        second.send(head("POST", "/models/embed", {"content-length": 1000}))
        assert second.answer().status == 429
        assert live.get("/metrics").body.count(b'fastcpu_rejected_total{model="embed",reason="queue"} 1.0') == 1
        assert live.post("/models/other", {"inputs": "a red house"}).status == 200
        assert live.post("/models/absent", {"inputs": "a red house"}).status == 404


def test_the_queue_may_be_full_for_one_client_alone(tiny_models: Path, tmp_path: Path) -> None:
    keys = {"ann": {"authorization": "Bearer key-of-ann-1"}, "bob": {"authorization": "Bearer key-of-bob-1"}}
    settings = {"client_share": 0.25, "api_keys": {"ann": "key-of-ann-1", "bob": "key-of-bob-1"}}
    body = json.dumps(EMBED).encode()
    with holding(tiny_models, tmp_path, {"max_queue_tokens": 20}, **settings) as live, Wire(live) as ann:
        ann.send(request("POST", "/embed", EMBED, keys["ann"]))
        until(lambda: live.get("/status", keys["ann"]).json["models"][0]["waiting"]["requests"] == 1)
        with Wire(live) as again, Wire(live) as bob:
            for wire, client in ((bob, "bob"), (again, "ann")):
                wire.send(head("POST", "/embed", {"content-length": len(body), **keys[client]}))
            assert again.answer().status == 429
            bob.send(body)
            until(lambda: live.get("/status", keys["ann"]).json["models"][0]["waiting"]["requests"] == 2)


def test_the_cache_answers_while_the_queue_is_full(tiny_models: Path, tmp_path: Path) -> None:
    limits = {"max_queue_tokens": 5, "batch_rows": 2}
    with holding(tiny_models, tmp_path, limits, cache_mb=1) as live, Wire(live) as wire:
        assert live.post("/embed", {**EMBED, "inputs": ["a red house", "a cat"]}).status == 200
        wire.send(request("POST", "/embed", {**EMBED, "inputs": "the car is red"}))
        until(lambda: waiting(live) == 1)
        assert live.post("/embed", EMBED).status == 200
        assert live.post("/embed", {**EMBED, "inputs": "the dog"}).status == 429


def test_more_requests_than_allowed_are_refused_but_health_answers(tiny_models: Path, tmp_path: Path) -> None:
    with holding(tiny_models, tmp_path, max_requests=2) as live, Wire(live) as first, Wire(live) as second:
        for wire in (first, second):
            wire.send(request("POST", "/embed", EMBED))
        until(lambda: waiting(live) == 2)
        refused = live.post("/embed", EMBED)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert live.get("/health").status == 200
        second.socket.close()
        until(lambda: waiting(live) == 1)
        with Wire(live) as third:
            third.send(request("POST", "/embed", EMBED))
            until(lambda: waiting(live) == 2)


def test_a_deadline_that_has_passed_is_told(server: LiveServer) -> None:
    content = json.dumps(EMBED).encode()
    with Wire(server) as wire:
        wire.send(head("POST", "/embed", {"content-length": len(content), "x-request-timeout-ms": 20}))
        time.sleep(0.1)
        wire.send(content)
        late = wire.answer()
        assert late.status == 504
        assert wire.ask("POST", "/embed", EMBED, {"x-request-timeout-ms": 60_000}).status == 200
        assert wire.ask("POST", "/embed", EMBED, {"x-request-timeout-ms": "soon"}).status == 422


def test_clients_that_are_too_slow_are_cut_off(tiny_models: Path, tmp_path: Path) -> None:
    with holding(tiny_models, tmp_path, read_seconds=0.5, max_requests=5) as live:
        with Wire(live) as silent, Wire(live) as slow, Wire(live) as body, Wire(live) as again, Wire(live) as waits:
            slow.send(b"GET /health HTTP/1.1\r\nhost: te")
            body.send(head("POST", "/embed", {"content-length": 100, "x-request-id": "slow"}) + b'{"inputs"')
            assert again.ask("GET", "/health").status == 200
            again.send(b"GET /hea")
            waits.send(request("POST", "/embed", EMBED))
            until(lambda: slow.flood(b"x", 1) and body.flood(b"x", 1), "it may go on for ever")
            assert silent.ended()
            assert again.ended()
            assert waiting(live) == 1, "one that only waits for its answer was cut off, too"
        until(lambda: live.get("/status").json["requests"] == 0)
        assert logged(live, "request", id="slow", status=499)
        assert sum(event["connections"] for event in logged(live, "clients were too slow")) == 4


def test_a_client_that_does_not_read_is_cut_off(tiny_models: Path, tmp_path: Path) -> None:
    path = str(model_directory(tiny_models, "embed"))
    with LiveServer(written(tmp_path, models={"embed": path}, read_seconds=0.5)) as live, Wire(live) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        many = request("POST", "/embed_all", {"inputs": ["a red house"] * 2000})
        wire.socket.settimeout(0.2)
        assert wire.flood(many, 1000)
        until(lambda: bool(logged(live, "clients were too slow")))
