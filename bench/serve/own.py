"""Our server, as one more that the benchmark starts."""

from __future__ import annotations

import base64
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.serve.peers.protocol import HOST, JSON, Peer, Request
from bench.serve.peers.server import Server
from bench.serve.served import CACHE

MODEL = "model"


class Fastcpu(Peer):
    """`fastcpu serve` of one model, with the settings of `options` as its command line has them."""

    name: ClassVar[str] = "fastcpu"
    variants: ClassVar[tuple[str, ...]] = ("serve",)
    defaults: ClassVar[Mapping[str, str]] = {"log": "text", "access": "off"}

    @property
    def environment(self) -> str:
        return "this one"

    @property
    def python(self) -> str:
        return sys.executable

    def command(self, model_dir: Path, port: int, threads: int) -> list[str]:
        command = [self.python, "-m", "fastcpu", "serve", f"{MODEL}={model_dir}"]
        command += ["--port", str(port), "--threads", str(threads), "--log", self.options["log"]]
        return command if self.options["access"] == "on" else [*command, "--no-access-log"]

    def body(self, texts: Sequence[str]) -> Request:
        content = {"model": MODEL, "input": list(texts), "encoding_format": "base64"}
        return Request("/v1/embeddings", JSON, json.dumps(content).encode())

    def vectors(self, response: bytes) -> NDArray[np.float32]:
        rows = [np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in json.loads(response)["data"]]
        return np.stack(rows)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def start(model: Path, cpus: Sequence[int], threads: int = 1, peer: Peer | None = None) -> Server:
    """A server for `model` on `cpus`; to be entered."""
    peer = peer or Fastcpu()
    log = CACHE / "logs" / f"{peer.name}-{peer.variant}.log"
    return Server(peer, model, free_port(), threads, cpus, CACHE, log)
