"""One engine in one case, in a process of its own."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.dropins.cases import find_case, open_case
from bench.dropins.optimum import NAME as OPTIMUM
from bench.dropins.optimum import open_optimum
from bench.dropins.peer import PeerSession
from bench.e2e import find_engine
from bench.e2e.onnxruntime_int8 import OnnxRuntimeInt8
from bench.inputs import Shape
from bench.models import find_spec, load_prepared

OURS = "fastcpu"


class Contestant:
    """Runs a case.

    Args:
        engine: ``fastcpu``; an engine of `bench.e2e` and its variant in our classes: ``onnxruntime_int8:dynamic``; or a
            variant of its int8 files in those of Optimum: ``optimum:dynamic``.
        case: of `CASES`.
        compiled: our directory, where the peer finds configuration and tokenizer.
        model: the directory of a `PreparedModel`.
        cache: where the peer keeps what it derives from the model.
        threads: per run.
        texts: what is run, in this order.
    """

    def __init__(
        self, engine: str, case: str, compiled: str, model: str, cache: str, threads: int, texts: Sequence[str]
    ) -> None:
        self._texts = list(texts)
        found = find_case(case)
        name, _, variant = engine.partition(":")
        prepared = load_prepared(Path(model))
        if engine == OURS:
            from fastcpu import Session

            self._opened = open_case(found, Session(compiled, threads=threads))
        elif name == OPTIMUM:
            int8 = OnnxRuntimeInt8({})
            int8.prepare(prepared, Path(cache))
            folder = Path(cache) / f"{OPTIMUM}-{found.task}-{variant}"
            self._opened = open_optimum(found, int8.file(variant), Path(compiled), folder, threads)
        else:
            peer = find_engine(name)({})
            peer.prepare(prepared, Path(cache))
            peer.load(threads)
            peer.use(variant or peer.variants(Shape(1, 32))[0], Shape(1, 32))
            per_token = find_spec(prepared.name).per_token
            session = PeerSession(peer, prepared, Path(compiled), found.channels, per_token, found.task == "encode")
            self._opened = open_case(found, session)
        self._seconds = dict.fromkeys(self._opened.stages, 0.0)
        for stage, (owner, method) in self._opened.stages.items():
            setattr(owner, method, self._timed(stage, getattr(owner, method)))

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._seconds[stage] += time.perf_counter() - began

        return timed

    def values(self, count: int) -> NDArray[np.float32]:
        """What the model says of the first texts, f32 [count, channels]."""
        return np.asarray(self._opened.values(self._texts[:count]), np.float32)

    def rate(self, batch: int, chunk: int, seconds: float) -> dict[str, Any]:
        """Run chunks of texts in rotation for at least ``seconds`` after one that is not counted.

        Returns:
            ``texts_per_second``, and ``microseconds`` per text of each stage and of the ``rest``.
        """
        chunks = [self._texts[start : start + chunk] for start in range(0, len(self._texts), chunk)]
        self._opened.run(chunks[0], batch)
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        done, began = 0, time.perf_counter()
        for texts in itertools.cycle(chunks):
            self._opened.run(texts, batch)
            done += len(texts)
            elapsed = time.perf_counter() - began
            if elapsed >= seconds:
                break
        stages = self._seconds | {"rest": elapsed - sum(self._seconds.values())}
        return {
            "texts_per_second": done / elapsed,
            "microseconds": {stage: 1e6 * spent / done for stage, spent in stages.items()},
        }
