"""MLServer with a runtime that embeds by ONNX Runtime: python -m bench.serve.peers.mlserver_server MODEL OPTION...

Its own Hugging Face runtime gives vectors of tokens, not of texts. Runs with the Python of its environment.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlserver import MLModel, MLServer
from mlserver.settings import ModelParameters, ModelSettings, Settings
from mlserver.types import Datatype, InferenceRequest, InferenceResponse, Parameters, ResponseOutput, TensorData

from bench.serve.peers.ort_embedder import OrtEmbedder, warm_up
from bench.serve.peers.protocol import HOST

MODEL = "minilm"


class Embedder(MLModel):  # type: ignore[misc]  # the package is not in the environment of type checks
    """Takes BYTES `text` [N], gives FP32 `embedding` [N, H]."""

    async def load(self) -> bool:
        """Opens the model."""
        self._embedder = OrtEmbedder(Path(self.settings.parameters.uri), int(os.environ["OMP_NUM_THREADS"]))
        self._thread = ThreadPoolExecutor(1, "encode")
        warm_up(self._embedder)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Embeds a request, or several that adaptive batching has joined."""
        data = payload.inputs[0].data.root
        texts = [text.decode() if isinstance(text, bytes) else text for text in data]
        vectors = await asyncio.get_running_loop().run_in_executor(self._thread, self._embedder.encode, texts)
        output = ResponseOutput(
            name="embedding",
            shape=list(vectors.shape),
            datatype=Datatype.FP32,
            parameters=Parameters(content_type="np"),
            data=TensorData(root=vectors.ravel().tolist()),
        )
        return InferenceResponse(model_name=self.name, outputs=[output])


async def serve(model: Path, port: int, max_batch: int, wait: float) -> None:
    """Serves until it is terminated."""
    settings = Settings(
        debug=False,
        host=HOST,
        http_port=port,
        grpc_port=port + 1,
        metrics_endpoint=None,
        parallel_workers=0,
        gzip_enabled=False,
    )
    batching = {"max_batch_size": max_batch, "max_batch_time": wait} if max_batch > 1 else {}
    embedder = ModelSettings(
        name=MODEL,
        implementation="bench.serve.peers.mlserver_server.Embedder",
        parameters=ModelParameters(uri=str(model)),
        **batching,
    )
    await MLServer(settings).start([embedder])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.peers.mlserver_server")
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--wait-ms", type=float, default=10)
    args = parser.parse_args()
    import uvloop

    uvloop.install()
    asyncio.run(serve(args.model, args.port, args.max_batch, args.wait_ms / 1e3))


if __name__ == "__main__":
    main()
