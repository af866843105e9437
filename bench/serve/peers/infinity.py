"""Infinity (infinity-emb), with its engines."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.environments import ROOT
from bench.serve.peers.artifacts import CT2_HUB, artifact
from bench.serve.peers.protocol import HOST, JSON, Peer, Request

SERVED = "minilm"


class Infinity(Peer):
    """`infinity_emb v2`; responses are base64, as OpenAI's client asks for them, unless `encoding` is float."""

    name: ClassVar[str] = "infinity"
    variants: ClassVar[tuple[str, ...]] = (
        "optimum-int8",
        "optimum-fp32",
        "torch-fp32",
        "torch-fp32-bettertransformer",
        "torch-bf16",
        "torch-bf16-bettertransformer",
        "ctranslate2-fp32",
        "ctranslate2-int8",
    )
    defaults: ClassVar[Mapping[str, str]] = {"batch_size": "32", "encoding": "base64"}

    def prepare(self, model_dir: Path, cache: Path) -> Path:
        family, precision = self.variant.split("-")[:2]
        if family == "optimum":
            return artifact(model_dir, cache, f"onnx-{precision}")
        if family == "ctranslate2":
            return artifact(model_dir, cache, f"ct2-{precision}")
        return model_dir

    def command(self, model_dir: Path, port: int, threads: int) -> list[str]:
        family, precision, *more = self.variant.split("-")
        # Optimum takes the ONNX file by a name without folders only, as Infinity finds it in the current one.
        folder, model = (model_dir, ".") if family == "optimum" else (ROOT, str(model_dir.resolve()))
        types = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}
        return [
            self.python,
            "-m",
            "bench.serve.peers.infinity_server",
            str(threads),
            str(folder),
            "v2",
            f"--model-id={model}",
            f"--served-model-name={SERVED}",
            f"--engine={family}",
            f"--dtype={types[precision] if family == 'torch' else 'auto'}",
            "--bettertransformer" if "bettertransformer" in more else "--no-bettertransformer",
            "--device=cpu",
            "--pooling-method=mean",
            "--onnx-disable-optimize",  # the file is the optimizer's already
            f"--batch-size={self.options['batch_size']}",
            f"--host={HOST}",
            f"--port={port}",
            "--url-prefix=/v1",
            "--log-level=warning",
        ]

    def environ(self, model_dir: Path, threads: int) -> dict[str, str]:
        more = {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "INFINITY_HOME": tempfile.gettempdir()}
        if self.variant.startswith("ctranslate2"):
            more["HUGGINGFACE_HUB_CACHE"] = str(model_dir / CT2_HUB)  # it looks for its conversion there
        return super().environ(model_dir, threads) | more

    def body(self, texts: Sequence[str]) -> Request:
        content = {"model": SERVED, "input": list(texts), "encoding_format": self.options["encoding"]}
        return Request("/v1/embeddings", dict(JSON), json.dumps(content).encode())

    def vectors(self, response: bytes) -> NDArray[np.float32]:
        rows = sorted(json.loads(response)["data"], key=lambda row: row["index"])
        vectors = [row["embedding"] for row in rows]
        if vectors and isinstance(vectors[0], str):
            return np.array([np.frombuffer(base64.b64decode(vector), np.float32) for vector in vectors])
        return np.array(vectors, np.float32)
