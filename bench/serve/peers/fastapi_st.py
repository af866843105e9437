"""FastAPI with sentence-transformers and micro-batching: the service that an engineer writes without fastcpu.

The variants are the backends of sentence-transformers, and `ort-*` ONNX Runtime without it. Backends but torch have an
environment of their own, since their exporters need an older transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.serve.peers.artifacts import artifact
from bench.serve.peers.protocol import JSON, Peer, Request


class FastapiSt(Peer):
    """`fastapi_st_server` and its JSON."""

    name: ClassVar[str] = "fastapi_st"
    variants: ClassVar[tuple[str, ...]] = (
        "torch-fp32",
        "torch-bf16",
        "onnx-fp32",
        "onnx-int8",
        "openvino-fp32",
        "openvino-bf16",
        "openvino-int8",
        "ort-fp32",
        "ort-int8",
    )
    defaults: ClassVar[Mapping[str, str]] = {"max_texts": "32", "wait_ms": "10"}

    @property
    def _family(self) -> str:
        return self.variant.split("-")[0]

    @property
    def environment(self) -> str:
        return "fastapi_st" if self._family == "torch" else "fastapi_st_exported"

    def prepare(self, model_dir: Path, cache: Path) -> Path:
        if self._family == "torch":
            return model_dir
        kind = self.variant.replace("ort-", "onnx-").replace("openvino-bf16", "openvino-fp32")
        return artifact(model_dir, cache, kind)

    def command(self, model_dir: Path, port: int, threads: int) -> list[str]:
        options = [
            f"--backend={self.variant}",
            f"--port={port}",
            f"--threads={threads}",
            f"--max-texts={self.options['max_texts']}",
            f"--wait-ms={self.options['wait_ms']}",
        ]
        return [self.python, "-m", "bench.serve.peers.fastapi_st_server", str(model_dir), *options]

    def body(self, texts: Sequence[str]) -> Request:
        return Request("/embed", dict(JSON), json.dumps({"inputs": list(texts)}).encode())

    def vectors(self, response: bytes) -> NDArray[np.float32]:
        return np.array(json.loads(response), np.float32)
