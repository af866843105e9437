"""PyTriton around ONNX Runtime: python -m bench.serve.peers.pytriton_server MODEL OPTION...

Runs with the Python of its environment.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.serve.peers.ort_embedder import OrtEmbedder, warm_up
from bench.serve.peers.protocol import HOST

DIMENSION = 384
MODEL = "minilm"


def main() -> None:
    """Serves until it is terminated."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.peers.pytriton_server")
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--wait-ms", type=float, default=10)
    args = parser.parse_args()
    # Triton's own process loads libpython; it must be the one that the standard library here belongs to.
    folders = (sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH"))
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, folders))
    embedder = OrtEmbedder(args.model, args.threads)
    warm_up(embedder)

    @batch  # type: ignore[untyped-decorator]  # the package is not in the environment of type checks
    def embed(text: NDArray[np.bytes_]) -> dict[str, NDArray[np.float32]]:
        return {"embedding": embedder.encode([row[0].decode() for row in text])}

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that Triton's own processes end with this one
    config = TritonConfig(
        http_address=HOST,
        http_port=args.port,
        grpc_address=HOST,
        grpc_port=args.port + 1,
        allow_metrics=False,
        allow_gpu_metrics=False,
        log_verbose=0,
    )
    with tempfile.TemporaryDirectory() as folder, Triton(config=config, workspace=Path(folder) / "workspace") as triton:
        triton.bind(
            model_name=MODEL,
            infer_func=embed,
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="embedding", dtype=np.float32, shape=(DIMENSION,))],
            config=ModelConfig(
                max_batch_size=args.max_batch,
                batcher=DynamicBatcher(max_queue_delay_microseconds=int(args.wait_ms * 1e3)),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
