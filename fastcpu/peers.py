"""A quick comparison of a model directory with other engines on the files that `fastcpu export` writes of it.

Each engine is a process of its own. In every round each takes its turn, and ratios are taken per round, so that what
slows the machine for a while slows all of them. It says what to expect; figures for publication come from a
benchmark that also checks for other load and tunes each peer. `PeerEngine` lets a task ask an engine, as it is timed.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import FastcpuError, InputError
from fastcpu.worker import Worker

if TYPE_CHECKING:
    from fastcpu.tasks.tokenizer import Encoded

ROUNDS = 7
ROUND_SECONDS = 0.4
_ANSWER_SECONDS = 300.0

Precision = Literal["fp32", "int8"]
Arrays = dict[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Engine:
    """An engine and the file that it runs."""

    name: str
    package: str
    precision: Precision
    path: str

    def problem(self, error: FastcpuError) -> str:
        """An error of its `Worker` as its result."""
        return " ".join(str(error).split()).removeprefix(f"{self.name}: ")


# ---- engines, opened in their own process ----


def _open_fastcpu(path: str, threads: int, _precision: str) -> Run:
    from fastcpu.runtime import Session

    session = Session(path, threads=threads)
    return lambda feeds: dict(session.run(feeds))


def _open_onnxruntime(path: str, threads: int, _precision: str) -> Run:
    from fastcpu.eval.ort import open_ort

    session = open_ort(path, threads)
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


def _open_openvino(path: str, threads: int, precision: str) -> Run:
    import openvino

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision == "fp32":
        settings["INFERENCE_PRECISION_HINT"] = "f32"  # it would take bf16 where the CPU has it
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    request = compiled.create_infer_request()

    def run(feeds: Arrays) -> Arrays:
        request.infer(feeds, share_inputs=True)
        arrays = [(port.names, request.get_tensor(port).data.copy()) for port in compiled.outputs]
        return {name: array for names, array in arrays for name in names}  # an output may have several names

    return run


_OPENERS = {"fastcpu": _open_fastcpu, "onnxruntime": _open_onnxruntime, "openvino": _open_openvino}
PEERS = tuple(name for name in _OPENERS if name != "fastcpu")


class PeerEngine:
    """An engine as tasks take it (`fastcpu.tasks.engine.Engine`), in batches that are padded to their longest sequence.

    Args:
        engine: one of `peer_engines`; it runs in this process.
        model: the directory that its file was written of.
        threads: as it is timed with.
    """

    def __init__(self, engine: Engine, model: Path, threads: int) -> None:
        from fastcpu import _core
        from fastcpu.tasks.engine import probed_axes

        self.directory = model
        self._roles = {name: role for name, role, _ in _core.read_model(os.fspath(model))["inputs"]}
        self.max_rows = 32 if "mask" in self._roles.values() else 1  # without a mask, padding is read
        self._run = _OPENERS[engine.package](engine.path, threads, engine.precision)
        self.outputs = probed_axes(self.run)

    def run(self, batch: Sequence[Encoded], outputs: Sequence[str] | None = None) -> Arrays:
        from fastcpu.tasks.engine import padded

        del outputs  # it gives all
        arrays = padded(batch)
        return self._run({name: arrays[role] for name, role in self._roles.items()})


class _Runner:
    """What runs in the process of an engine."""

    def __init__(self, engine: Engine, threads: int, feeds: Arrays) -> None:
        self._run = _OPENERS[engine.package](engine.path, threads, engine.precision)
        self._feeds = feeds

    def answers(self) -> Arrays:
        return {name: np.array(array, np.float32) for name, array in self._run(self._feeds).items()}

    def rate(self, seconds: float) -> float:
        """Runs per second, over at least ``seconds`` after a run for warming up."""
        self._run(self._feeds)
        runs, begin = 0, time.perf_counter()
        while runs == 0 or time.perf_counter() - begin < seconds:
            self._run(self._feeds)
            runs += 1
        return runs / (time.perf_counter() - begin)


class _Contestant:
    """An engine, its answers and the rate of each round; or the ``problem`` that it has instead."""

    def __init__(self, engine: Engine, threads: int, feeds: Arrays) -> None:
        self.engine = engine
        self.problem = ""
        self.rates: list[float] = []
        self.worker = Worker(engine.name, _Runner, engine, threads, feeds)
        self.answers: Arrays = {}
        with self._noting_problems():
            self.worker.wait_ready(_ANSWER_SECONDS)
            self.answers = self.worker.call("answers", timeout=_ANSWER_SECONDS)

    @contextmanager
    def _noting_problems(self) -> Iterator[None]:
        try:
            yield
        except FastcpuError as error:  # whatever happens to a peer is its result
            self.problem = self.engine.problem(error)

    def time(self, seconds: float) -> None:
        """One more round."""
        if not self.problem:
            with self._noting_problems():
                self.rates.append(self.worker.call("rate", seconds, timeout=_ANSWER_SECONDS))


# ---- comparison ----


def missing(names: Sequence[str]) -> list[str]:
    """Those of the named peers that are not installed; InputError for a name that is none."""
    for name in names:
        if name not in PEERS:
            raise InputError(f"unknown engine '{name}'; there are {', '.join(PEERS)}")
    return [name for name in names if importlib.util.find_spec(name) is None]


def write_files(model: str | os.PathLike[str], folder: Path) -> dict[Precision, Path]:
    """The ONNX files for the peers: fp32, and int8 where the directory is quantized."""
    try:
        from fastcpu.export.onnx import export_onnx, has_quantization_points
        from fastcpu.export.reader import read_graph
    except ModuleNotFoundError as error:
        raise InputError(f"the package '{error.name}' is not installed (pip install fastcpu[compress])") from error
    graph = read_graph(model)
    files: dict[Precision, Path] = {"fp32": export_onnx(graph, folder / "fp32.onnx", "fp32")}
    if has_quantization_points(graph):
        dynamic = any(value.dynamic_scale is not None for value in graph.values.values())
        files["int8"] = export_onnx(graph, folder / "int8.onnx", "matmulinteger" if dynamic else "qdq")
    return files


def peer_engines(files: Mapping[Precision, Path], peers: Sequence[str]) -> list[Engine]:
    """The named peers, each with every file."""
    return [
        Engine(f"{peer} {precision}", peer, precision, str(path)) for peer in peers for precision, path in files.items()
    ]


def compare(
    model: str | os.PathLike[str],
    files: Mapping[Precision, Path],
    peers: Sequence[str],
    feeds: Arrays,
    threads: int,
    rounds: int = ROUNDS,
    seconds: float = ROUND_SECONDS,
) -> list[dict[str, Any]]:
    """One row per engine, ours first: rates, ratios to us and the cosine of its answers with ours.

    A peer that cannot run a file has a ``problem`` and no rates.
    """
    ours: Precision = "int8" if "int8" in files else "fp32"
    engines = [Engine("fastcpu", "fastcpu", ours, os.fspath(model)), *peer_engines(files, peers)]
    batch = len(next(iter(feeds.values())))
    with ExitStack() as stack:
        contestants = []
        for engine in engines:
            contestants.append(_Contestant(engine, threads, feeds))
            stack.callback(contestants[-1].worker.close)
        fastcpu = contestants[0]
        for number in range(rounds):
            if fastcpu.problem:
                break
            for turn in range(len(contestants)):
                contestants[(number + turn) % len(contestants)].time(seconds)
        if fastcpu.problem:
            raise FastcpuError(f"fastcpu cannot run {os.fspath(model)}: {fastcpu.problem}")
        return [_row(contestant, fastcpu, batch) for contestant in contestants]


def _row(contestant: _Contestant, ours: _Contestant, batch: int) -> dict[str, Any]:
    absent = set(ours.answers) - set(contestant.answers)
    if absent and not contestant.problem:
        contestant.problem = f"it has no output named {min(absent)}"
    row: dict[str, Any] = {
        "engine": contestant.engine.name,
        "precision": contestant.engine.precision,
        "problem": contestant.problem or None,
    }
    if contestant.problem:
        return row
    ratios = [mine / theirs for mine, theirs in zip(ours.rates, contestant.rates, strict=True)]
    return row | {
        "sequences_per_second": batch * float(np.median(contestant.rates)),
        "milliseconds": 1e3 / float(np.median(contestant.rates)),
        "fastcpu_is_faster_by": float(np.median(ratios)),
        "rounds": contestant.rates,
        "cosine_to_fastcpu": min(_cosine(contestant.answers[name], array) for name, array in ours.answers.items()),
    }


def _cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norms if norms else float(np.array_equal(x, y))
