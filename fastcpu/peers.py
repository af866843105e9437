"""A quick comparison of a model directory with other engines on the files that `fastcpu export` writes of it.

Each engine is a process of its own. In every round each takes its turn, and ratios are taken per round, so that what
slows the machine for a while slows all of them. It says what to expect; figures for publication come from a
benchmark that also checks for other load and tunes each peer.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import FastcpuError, InputError

ROUNDS = 7
ROUND_SECONDS = 0.4
_SETTLE_SECONDS = 0.05  # threads of the engine before stop spinning
_START_SECONDS = 300.0

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


# ---- engines, opened in their own process ----


def _open_fastcpu(path: str, threads: int, _precision: str) -> Run:
    from fastcpu.runtime import Session

    session = Session(path, threads=threads)
    return lambda feeds: dict(session.run(feeds))


def _open_onnxruntime(path: str, threads: int, _precision: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
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


def _serve(connection: Connection, engine: Engine, threads: int, feeds: Arrays) -> None:
    """Main function of an engine's process: sends its answers, then the rate of each round it is asked for."""
    try:
        run = _OPENERS[engine.package](engine.path, threads, engine.precision)
        answers = {name: np.array(array, np.float32) for name, array in run(feeds).items()}
    except Exception as error:  # noqa: BLE001  (any failure of a peer is its result)
        connection.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")
        return
    connection.send(answers)
    with suppress(EOFError, KeyboardInterrupt):
        while (seconds := connection.recv()) is not None:
            run(feeds)
            runs, begin = 0, time.perf_counter()
            while runs == 0 or time.perf_counter() - begin < seconds:
                run(feeds)
                runs += 1
            connection.send(runs / (time.perf_counter() - begin))


class _Process:
    """A running engine. ``problem`` says why it has no answers."""

    def __init__(self, engine: Engine, threads: int, feeds: Arrays) -> None:
        context = multiprocessing.get_context("spawn")
        self.engine = engine
        self.problem = ""
        self.answers: Arrays = {}
        self.rates: list[float] = []
        self._connection, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, engine, threads, feeds), daemon=True)
        self._process.start()
        child.close()
        first = self._receive(_START_SECONDS)
        if isinstance(first, dict):
            self.answers = first
        elif not self.problem:
            self.problem = str(first)

    def __enter__(self) -> _Process:  # noqa: PYI034  (typing.Self is newer than Python 3.10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _receive(self, timeout: float) -> Any:
        try:
            if self._connection.poll(timeout):
                return self._connection.recv()
            self.problem = f"no answer in {timeout:.0f} s"
        except EOFError:
            self._process.join()
            self.problem = f"its process ended with status {self._process.exitcode}"
        return None

    def time(self, seconds: float) -> None:
        """One more round."""
        if self.problem:
            return
        try:
            self._connection.send(seconds)
        except OSError:
            self.problem = "its process ended"
            return
        rate = self._receive(_START_SECONDS)
        if rate is not None:
            self.rates.append(float(rate))


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
    engines = [Engine("fastcpu", "fastcpu", ours, os.fspath(model))]
    engines += [
        Engine(f"{peer} {precision}", peer, precision, str(path)) for peer in peers for precision, path in files.items()
    ]
    batch = len(next(iter(feeds.values())))
    with ExitStack() as stack:
        processes = [stack.enter_context(_Process(engine, threads, feeds)) for engine in engines]
        if processes[0].problem:
            raise FastcpuError(f"fastcpu cannot run {os.fspath(model)}: {processes[0].problem}")
        for number in range(rounds):
            for turn in range(len(processes)):
                time.sleep(_SETTLE_SECONDS)
                processes[(number + turn) % len(processes)].time(seconds)
        return [_row(process, processes[0], batch) for process in processes]


def _row(process: _Process, ours: _Process, batch: int) -> dict[str, Any]:
    absent = set(ours.answers) - set(process.answers)
    if absent and not process.problem:
        process.problem = f"it has no output named {min(absent)}"
    row: dict[str, Any] = {
        "engine": process.engine.name,
        "precision": process.engine.precision,
        "problem": process.problem or None,
    }
    if process.problem:
        return row
    ratios = [mine / theirs for mine, theirs in zip(ours.rates, process.rates, strict=True)]
    return row | {
        "sequences_per_second": batch * float(np.median(process.rates)),
        "milliseconds": 1e3 / float(np.median(process.rates)),
        "fastcpu_is_faster_by": float(np.median(ratios)),
        "rounds": process.rates,
        "cosine_to_fastcpu": min(_cosine(process.answers[name], array) for name, array in ours.answers.items()),
    }


def _cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norms if norms else float(np.array_equal(x, y))
