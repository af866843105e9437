"""Measures engines side by side: in every round each engine in turn does the same work; ratios are taken per round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastcpu.demo.workers import EngineProcess
from fastcpu.eval.engine import FloatArray
from fastcpu.eval.retrieval import RetrievalData

CORPUS_ROUNDS = 8
LATENCY_ROUNDS = 9
LATENCY_QUERIES = 20  # per round
_WARM_UP = 64

Log = Callable[[str], None]


@dataclass(frozen=True)
class Measurement:
    """What one engine did.

    Attributes:
        documents, queries: its vectors.
        rates: documents per second, [rounds].
        latencies: seconds per query embedded alone, [rounds, queries].
    """

    documents: FloatArray
    queries: FloatArray
    rates: npt.NDArray[np.float64]
    latencies: npt.NDArray[np.float64]

    def round_latencies(self) -> npt.NDArray[np.float64]:
        """Median seconds of each round."""
        medians: npt.NDArray[np.float64] = np.median(self.latencies, axis=1)
        return medians


def measure(engines: Sequence[EngineProcess], data: RetrievalData, log: Log) -> list[Measurement]:
    """Embeds the corpus and the queries with every engine; quality and speed come from the same passes."""
    first = [engine.embed(data.documents[:_WARM_UP])[0] for engine in engines]
    log("cosine to the teacher: " + ", ".join(f"{cosine(vectors, first[0]):.4f}" for vectors in first))
    documents, rates = _corpus_rounds(engines, data.documents, log)
    queries = [engine.embed(data.queries)[0] for engine in engines]
    latencies = _latency_rounds(engines, data.queries)
    log("alone: " + ", ".join(f"{np.median(each) * 1e3:.2f} ms/query" for each in latencies))
    return [Measurement(*each) for each in zip(documents, queries, rates, latencies, strict=True)]


def cosine(a: FloatArray, b: FloatArray) -> float:
    """Mean cosine of the L2-normalized vectors [texts, channels] of two engines."""
    return float((a.astype(np.float64) * b).sum(axis=1).mean())


def _turns(engines: Sequence[EngineProcess], number: int) -> list[int]:
    """The order of the engines in a round: another one begins each time."""
    return [(number + turn) % len(engines) for turn in range(len(engines))]


def _corpus_rounds(
    engines: Sequence[EngineProcess], documents: Sequence[str], log: Log
) -> tuple[list[FloatArray], list[npt.NDArray[np.float64]]]:
    """Per engine, the vectors of all documents and the documents per second of each round."""
    vectors: list[list[FloatArray]] = [[] for _ in engines]
    rates = np.zeros((len(engines), CORPUS_ROUNDS))
    bounds = np.linspace(0, len(documents), CORPUS_ROUNDS + 1).astype(int)
    for number in range(CORPUS_ROUNDS):
        texts = documents[bounds[number] : bounds[number + 1]]
        for turn in _turns(engines, number):
            part, seconds = engines[turn].embed(texts)
            vectors[turn].append(part)
            rates[turn, number] = len(texts) / seconds
        speeds = ", ".join(f"{rate:.0f}" for rate in rates[:, number])
        log(f"round {number + 1} of {CORPUS_ROUNDS}: {speeds} documents/s")
    return [np.concatenate(parts) for parts in vectors], list(rates)


def _latency_rounds(engines: Sequence[EngineProcess], queries: Sequence[str]) -> list[npt.NDArray[np.float64]]:
    """Per engine, the seconds [rounds, queries] of single queries, others in each round."""
    seconds = np.zeros((len(engines), LATENCY_ROUNDS, LATENCY_QUERIES))
    for number in range(LATENCY_ROUNDS):
        texts = queries[number * LATENCY_QUERIES : (number + 1) * LATENCY_QUERIES]
        for turn in _turns(engines, number):
            seconds[turn, number] = engines[turn].latencies(texts)
    return list(seconds)
