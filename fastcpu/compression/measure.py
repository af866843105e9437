"""Figures of a finished model beside its teacher and other engines, for its report.

Times are rough: a few seconds, on the machine that has just compressed the model and with whatever else runs there.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu import _core
from fastcpu.compression.gate import Gate
from fastcpu.doctor import diagnose, random_feeds
from fastcpu.errors import FastcpuError
from fastcpu.eval.log import EvaluationLog, now
from fastcpu.eval.task import find_task
from fastcpu.export.writer import WEIGHTS_FILE
from fastcpu.peers import Engine, PeerEngine, compare, peer_engines, write_files
from fastcpu.runtime import Session
from fastcpu.worker import Worker

SEQUENCES = (32, 128)
"""Tokens of the single sequence that is timed, where the models take so many."""
_ROUNDS = 7
_ROUND_SECONDS = 0.1
_ROUND_RUNS = 20
_PROFILE_SECONDS = 0.3
_QUALITY_SECONDS = 3600.0
"""A peer that takes longer for the examples of a task hangs."""

Json = dict[str, Any]
Feeds = dict[str, NDArray[np.int64]]


def latencies(models: Mapping[str, Path], threads: int) -> list[Json]:
    """Milliseconds of a batch of one sequence, in turns so that all models see the same load of the machine.

    Args:
        models: compiled directories by name.
        threads: of the runtime.

    Returns:
        A dict per length with ``sequence`` and, per model, ``median``, ``low`` and ``high`` (quartiles of the rounds'
        medians).
    """
    headers = {name: _core.read_model(os.fspath(path)) for name, path in models.items()}
    sessions = {name: Session(path, threads=threads) for name, path in models.items()}
    longest = min(_length(random_feeds(header, 1)) for header in headers.values())
    rows: list[Json] = []
    for sequence in sorted({min(each, longest) for each in SEQUENCES}):
        feeds = {name: random_feeds(header, 1, sequence) for name, header in headers.items()}
        rounds: dict[str, list[float]] = {name: [] for name in models}
        for name, session in sessions.items():
            session.run(feeds[name])
        for _ in range(_ROUNDS):
            for name, session in sessions.items():
                rounds[name].append(_median_run(session, feeds[name]))
        rows.append({"sequence": sequence} | {name: _quartiles(times) for name, times in rounds.items()})
    return rows


def beside_engines(
    model: Path,
    peers: Sequence[str],
    threads: int,
    gate: Gate | None,
    max_length: int | None,
    log: EvaluationLog | None = None,
) -> list[Json]:
    """fastcpu and other engines on the files that `fastcpu export` writes of the model: latency, in turns, and quality.

    Args:
        model: compiled directory.
        peers: names of `fastcpu.peers.PEERS`.
        threads: of each engine.
        gate: what it was accepted by; None: the quality of peers is not measured.
        max_length: longest sequence of the gate in tokens, by default that of its task.
        log: where the quality of peers is noted, if the gate's data is for the final evaluation.

    Returns:
        A dict per engine and file with ``engine``, ``sequence``, ``bytes``, ``cosine`` of its answers to ours and
        ``median``, ``low`` and ``high``; or with ``engine`` and the ``problem`` that it has, which for all peers may
        be that there is no such file. With a gate, peers without a problem have their metrics in ``accuracy``, or
        ``accuracy_problem`` says why not.
    """
    feeds = random_feeds(_core.read_model(os.fspath(model)), 1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            files = write_files(model, Path(folder))
            engines = peer_engines(files, peers)
            sizes = [(model / WEIGHTS_FILE).stat().st_size, *(Path(engine.path).stat().st_size for engine in engines)]
            found = compare(model, files, peers, feeds, threads, _ROUNDS, _ROUND_SECONDS)
            rows = [_engine(row, size, _length(feeds)) for row, size in zip(found, sizes, strict=True)]
            for row, engine in zip(rows[1:], engines, strict=True):
                if gate is not None and "problem" not in row:
                    row |= _quality(engine, model, threads, gate, max_length)
                    if log is not None and "accuracy" in row:
                        log.append(_log_entry(engine, gate, row["accuracy"]))
    except (FastcpuError, OSError) as error:
        return [{"engine": peer, "problem": str(error)} for peer in peers]
    return rows


def _engine(row: Json, size: int, sequence: int) -> Json:
    if row["problem"]:
        return {"engine": row["engine"], "problem": row["problem"]}
    described = {"engine": row["engine"], "sequence": sequence, "bytes": size}
    return described | {"cosine": _rounded(row["cosine_to_fastcpu"])} | _quartiles([1 / rate for rate in row["rounds"]])


def _quality(engine: Engine, model: Path, threads: int, gate: Gate, max_length: int | None) -> Json:
    """In a process of its own, since nothing that happens to a peer may harm the model."""
    worker = Worker(engine.name, _Examinee, engine, model, threads, gate, max_length)
    try:
        worker.wait_ready(_QUALITY_SECONDS)
        return {"accuracy": worker.call("metrics", timeout=_QUALITY_SECONDS)}
    except FastcpuError as error:
        return {"accuracy_problem": engine.problem(error)}
    finally:
        worker.close()


def _log_entry(engine: Engine, gate: Gate, accuracy: Mapping[str, Json]) -> Json:
    data = [str(file.resolve()) for file in gate.files]
    metrics = {name: each["value"] for name, each in accuracy.items()}
    return {
        "time": now(),
        "model": engine.name,
        "task": gate.task,
        "data": data,
        "split": gate.split,
        "metrics": metrics,
    }


class _Examinee:
    """What runs in that process."""

    def __init__(self, engine: Engine, model: Path, threads: int, gate: Gate, max_length: int | None) -> None:
        self._task, self._data = find_task(gate.task), gate.load()
        peer = PeerEngine(engine, model, threads)
        self._model = self._task.MODEL(peer, max_length=max_length or self._task.MAX_LENGTH)

    def metrics(self) -> dict[str, Json]:
        values = self._task.evaluate(self._model, self._data).values
        return {name: interval.to_json() for name, interval in values.items()}


def op_times(model: Path, threads: int) -> Json:
    """What `fastcpu doctor` finds for a batch of one sequence: ``kinds`` and ``ops``, times in milliseconds.

    Times are sums over threads, divided by the number of threads.
    """
    found = diagnose(model, batch=1, threads=threads, seconds=_PROFILE_SECONDS)

    def row(entry: Json, *keys: str) -> Json:
        rounded = {key: _rounded(entry[key]) for key in ("share", "gops", "peak_share")}
        return (
            {key: entry[key] for key in keys} | {"milliseconds": _rounded(1e3 * entry["seconds"] / threads)} | rounded
        )

    return {
        "sequence": found["sequence"],
        "kinds": [row(kind, "name", "ops") for kind in sorted(found["kinds"], key=lambda kind: -kind["seconds"])],
        "ops": [row(op, "name", "kernel", "density") for op in found["ops"]],
        "verdicts": found["verdicts"],
    }


def _length(feeds: Feeds) -> int:
    length: int = next(iter(feeds.values())).shape[1]
    return length


def _median_run(session: Session, feeds: Feeds) -> float:
    """Seconds of a run, the median over as many as there is time for."""
    times: list[float] = []
    end = time.perf_counter() + _ROUND_SECONDS
    while not times or (len(times) < _ROUND_RUNS and time.perf_counter() < end):
        begin = time.perf_counter()
        session.run(feeds)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def _quartiles(seconds: list[float]) -> dict[str, float]:
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return {"median": _rounded(1e3 * median), "low": _rounded(1e3 * low), "high": _rounded(1e3 * high)}


def _rounded(value: Any) -> Any:
    """Four digits, which is more than these figures are worth."""
    return None if value is None else float(f"{value:.4g}")
