"""Our server as servers usually are: batches of 8 in the order of arrival, each padded to its longest text.

    python -m bench.serve.padded MODEL_DIR PORT

All else is as in `fastcpu serve`: what differs in a benchmark is how batches are made.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.serve.own import MODEL, Fastcpu
from fastcpu.serve import model as served
from fastcpu.serve.config import Config, ModelConfig
from fastcpu.serve.server import serve
from fastcpu.tasks.engine import FloatArray, SessionEngine
from fastcpu.tasks.tokenizer import Encoded

ROWS = 8


class PaddedEngine(SessionEngine):
    """Computes padding as if it were text, as engines do that have no use for the mask."""

    def run(self, batch: Sequence[Encoded], outputs: Sequence[str] | None = None) -> Mapping[str, FloatArray]:
        longest = max(len(each.ids) for each in batch)

        def filled(values: np.ndarray) -> np.ndarray:
            return np.pad(values, (0, longest - len(values)))

        return super().run([Encoded(filled(each.ids), filled(each.types)) for each in batch], outputs)


class Padded(Fastcpu):
    """That server."""

    name = "padded"

    def command(self, model_dir: Path, port: int, threads: int) -> list[str]:
        return [self.python, "-m", "bench.serve.padded", str(model_dir), str(port), str(threads)]


def main() -> int:
    """Command line."""
    directory, port, threads = sys.argv[1:]
    served.SessionEngine = PaddedEngine  # type: ignore[misc]
    model = ModelConfig(path=directory, batch_rows=ROWS, batch_tokens=1 << 20, max_wait_ms=0, max_queue_tokens=1 << 24)
    return serve(
        Config(
            models={MODEL: model},
            port=int(port),
            threads=int(threads),
            access_log=False,
            log="text",
            max_requests=65536,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
