"""FastAPI, sentence-transformers and a micro-batcher, as one writes an embedding service by hand.

    python -m bench.serve.peers.fastapi_st_server MODEL --backend torch-fp32 --port 8000 --threads 1

POST /embed {"inputs": [TEXT, ...]} or {"inputs": TEXT} gives [[float, ...], ...], unit vectors. Runs with the Python of
its environment.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.serve.peers.microbatch import MicroBatcher
from bench.serve.peers.ort_embedder import BATCH, OrtEmbedder, warm_up
from bench.serve.peers.protocol import HOST


class Encoder:
    """A SentenceTransformer, in one of its backends."""

    def __init__(self, directory: Path, backend: str, threads: int) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        family, _, precision = backend.partition("-")
        settings: dict[str, Any] = {}
        if family == "onnx":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            (path,) = sorted(directory.rglob("*.onnx"))
            settings = {
                "file_name": str(path.relative_to(directory)),
                "provider": "CPUExecutionProvider",
                "session_options": options,
            }
        elif family == "openvino":
            hints = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}
            settings["ov_config"] = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": hints[precision],
            }
        elif precision == "bf16":
            settings["dtype"] = torch.bfloat16
        self._model = SentenceTransformer(
            str(directory), backend=family, device="cpu", local_files_only=True, model_kwargs=settings
        )
        self._mode = torch.inference_mode

    def encode(self, texts: list[str]) -> Any:
        """Unit vectors [texts, H]; encode() sorts by length."""
        with self._mode():
            return self._model.encode(
                texts, batch_size=BATCH, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
            )


def application(encoder: Any, max_texts: int, max_wait: float) -> Any:
    """The FastAPI application around `encoder.encode`."""
    import orjson
    from fastapi import FastAPI, Request, Response

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with MicroBatcher(encoder.encode, max_texts, max_wait) as batcher:
            app.state.batcher = batcher
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    async def health() -> Response:
        return Response()

    async def embed(request: Any) -> Response:
        try:
            texts = orjson.loads(await request.body())["inputs"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return Response(status_code=422)
        if isinstance(texts, str):
            texts = [texts]
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return Response(status_code=422)
        rows = await app.state.batcher.submit(texts)
        return Response(orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    embed.__annotations__["request"] = Request  # the class is only known here, which FastAPI looks for in the module
    app.get("/health")(health)
    app.post("/embed")(embed)
    return app


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.peers.fastapi_st_server")
    parser.add_argument("model", type=Path)
    parser.add_argument("--backend", default="torch-fp32")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-texts", type=int, default=32)
    parser.add_argument("--wait-ms", type=float, default=10)
    args = parser.parse_args()
    import uvicorn

    if args.backend.startswith("ort-"):
        encoder: Any = OrtEmbedder(args.model, args.threads)
    else:
        encoder = Encoder(args.model, args.backend, args.threads)
    warm_up(encoder)
    uvicorn.run(
        application(encoder, args.max_texts, args.wait_ms / 1e3),
        host=HOST,
        port=args.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
