"""Running an f32 graph to see the values inside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastcpu.graph.ir import Graph

Feeds = Mapping[str, NDArray[Any]]


class Executor(Protocol):
    """Runs a graph on batches; yields, for each batch, the tapped values as f32 ``[tokens or sequences, channels]``."""

    def __call__(
        self, graph: Graph, batches: Iterable[Feeds], taps: Sequence[str]
    ) -> Iterator[dict[str, NDArray[np.float32]]]: ...


@dataclass(frozen=True)
class RuntimeExecutor:
    """The executor of production: the C++ runtime on a temporary model directory."""

    threads: int = 0
    """0: all CPUs available to this process."""

    def __call__(
        self, graph: Graph, batches: Iterable[Feeds], taps: Sequence[str]
    ) -> Iterator[dict[str, NDArray[np.float32]]]:
        from fastcpu.export.writer import write_model
        from fastcpu.runtime import Session

        with tempfile.TemporaryDirectory(prefix="fastcpu-calibration-") as parent:
            directory = Path(parent) / "model"
            write_model(graph, directory)
            session = Session(directory, threads=self.threads, keep=taps)
            for feeds in batches:
                yield session.run_kept(dict(feeds), taps)[1]
