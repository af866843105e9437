"""PyTriton: NVIDIA's Triton Inference Server and its dynamic batcher, with ONNX Runtime in a Python function."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.serve.peers.artifacts import artifact
from bench.serve.peers.protocol import Peer, Request

LENGTH = "Inference-Header-Content-Length"
"""Triton's header for the length of the JSON that stands before binary data."""


class PyTriton(Peer):
    """`pytriton_server`, asked in JSON and answering in binary. It also takes the port after its own, for gRPC."""

    name: ClassVar[str] = "pytriton"
    variants: ClassVar[tuple[str, ...]] = ("ort-int8", "ort-fp32")
    ready_path: ClassVar[str] = "/v2/models/minilm/ready"
    defaults: ClassVar[Mapping[str, str]] = {"max_batch": "64", "wait_ms": "10"}

    def prepare(self, model_dir: Path, cache: Path) -> Path:
        return artifact(model_dir, cache, self.variant.replace("ort-", "onnx-"))

    def command(self, model_dir: Path, port: int, threads: int) -> list[str]:
        options = [
            f"--port={port}",
            f"--threads={threads}",
            f"--max-batch={self.options['max_batch']}",
            f"--wait-ms={self.options['wait_ms']}",
        ]
        return [self.python, "-m", "bench.serve.peers.pytriton_server", str(model_dir), *options]

    def body(self, texts: Sequence[str]) -> Request:
        tensor = {"name": "text", "shape": [len(texts), 1], "datatype": "BYTES", "data": list(texts)}
        output = {"name": "embedding", "parameters": {"binary_data": True}}
        content = {"inputs": [tensor], "outputs": [output]}
        return Request("/v2/models/minilm/infer", {"Content-Type": "application/json"}, json.dumps(content).encode())

    def vectors(self, response: bytes) -> NDArray[np.float32]:
        # The JSON names the size of the binary part, which is the rest.
        head, _ = json.JSONDecoder().raw_decode(response.decode("latin-1"))
        tensor = head["outputs"][0]
        size = tensor["parameters"]["binary_data_size"]
        return np.frombuffer(response[-size:], np.float32).reshape(tensor["shape"])
