"""MLServer (Seldon) with ONNX Runtime in a custom runtime and its adaptive batching."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.serve.peers.artifacts import artifact
from bench.serve.peers.protocol import JSON, Peer, Request


class MlServer(Peer):
    """`mlserver_server`; the Open Inference Protocol in JSON. It also takes the port after its own, for gRPC."""

    name: ClassVar[str] = "mlserver"
    variants: ClassVar[tuple[str, ...]] = ("ort-int8", "ort-fp32")
    ready_path: ClassVar[str] = "/v2/health/ready"
    defaults: ClassVar[Mapping[str, str]] = {"max_batch": "32", "wait_ms": "10"}

    def prepare(self, model_dir: Path, cache: Path) -> Path:
        return artifact(model_dir, cache, self.variant.replace("ort-", "onnx-"))

    def command(self, model_dir: Path, port: int, threads: int) -> list[str]:  # noqa: ARG002  (threads by `environ`)
        options = [
            f"--port={port}",
            f"--max-batch={self.options['max_batch']}",
            f"--wait-ms={self.options['wait_ms']}",
        ]
        return [self.python, "-m", "bench.serve.peers.mlserver_server", str(model_dir), *options]

    def body(self, texts: Sequence[str]) -> Request:
        tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
        return Request("/v2/models/minilm/infer", dict(JSON), json.dumps({"inputs": [tensor]}).encode())

    def vectors(self, response: bytes) -> NDArray[np.float32]:
        tensor = json.loads(response)["outputs"][0]
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])
