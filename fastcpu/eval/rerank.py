"""Reranking: nDCG@10 and MRR@10 of the order in which a cross-encoder puts the candidates of each query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from fastcpu.eval import retrieval
from fastcpu.eval.bm25 import BM25
from fastcpu.eval.bootstrap import mean_interval
from fastcpu.eval.data import data_folder, read_table
from fastcpu.eval.engine import Evaluation, FloatArray
from fastcpu.eval.metrics import rank_metrics
from fastcpu.tasks.rerank import Reranker

MODEL = Reranker
MAX_LENGTH = 128
OPTIONS = ()
COLUMNS = retrieval.COLUMNS
CANDIDATES = 100
"""How many documents of a corpus BM25 finds for each query."""

METRICS = retrieval.METRICS
files = retrieval.files
compare = retrieval.compare


@dataclass(frozen=True)
class RerankData:
    """Queries with the passages to sort.

    Attributes:
        queries: their texts.
        candidates: per query, the passages.
        gains: per query, the gain of each relevant candidate by its index. A relevant document that is no candidate has
            an index after all of them: it can be missed, but not found.
    """

    queries: list[str]
    candidates: list[list[str]]
    gains: list[Mapping[int, float]]


class RerankModel(Protocol):
    """What is evaluated: `Reranker`, or anything like it."""

    def scores(self, pairs: Sequence[tuple[str, str]]) -> FloatArray: ...


def load(path: Path | None, split: str, columns: Mapping[str, str] | None = None) -> RerankData:
    """Reads rows with a query, a passage and a label, or a corpus in the layout of BEIR, from which BM25 chooses.

    The rows with the same query are its candidates; a label is a gain, 0 for a passage that is not relevant. Of rows
    with the same query and passage, the highest gain counts.
    """
    folder = data_folder(path, "retrieval")
    if retrieval.is_corpus(folder):
        return _from_corpus(retrieval.load(path, split, columns))
    table = read_table(files(path, split), COLUMNS, columns or {})
    found: dict[str, dict[str, float]] = {}
    for query, passage, gain in retrieval.judgements(table):
        gains_of = found.setdefault(query, {})
        gains_of[passage] = max(gain, gains_of.get(passage, 0.0))
    judged = {query: gains for query, gains in found.items() if any(gains.values())}
    if not judged:
        raise table.error(table.rows[0], "label", "and all below are 0: no query has a relevant passage")
    gains = [{i: gain for i, gain in enumerate(own.values()) if gain > 0} for own in judged.values()]
    return RerankData(list(judged), [list(own) for own in judged.values()], list(gains))


def _from_corpus(data: retrieval.RetrievalData) -> RerankData:
    bm25 = BM25(data.documents)
    result = RerankData(data.queries, [], [])
    for query, relevant in zip(data.queries, data.relevant, strict=True):
        best = np.argsort(-bm25.scores(query), kind="stable")[:CANDIDATES].tolist()
        place = {document: index for index, document in enumerate(best)}
        missed = [document for document in relevant if document not in place]
        place |= {document: len(best) + index for index, document in enumerate(missed)}
        result.candidates.append([data.documents[document] for document in best])
        result.gains.append({place[document]: gain for document, gain in relevant.items()})
    return result


def inputs(data: RerankData) -> list[tuple[str, str]]:
    """The queries, each with all of its passages."""
    return [(query, passage) for query, own in zip(data.queries, data.candidates, strict=True) for passage in own]


def evaluate(model: RerankModel, data: RerankData) -> Evaluation:
    """Scores every candidate once and ranks those of each query."""
    scores = model.scores(inputs(data))
    samples = {name: np.zeros(len(data.queries)) for name in METRICS}
    start = 0
    for index, (own, gains) in enumerate(zip(data.candidates, data.gains, strict=True)):
        mine = scores[start : start + len(own)].astype(np.float64)
        start += len(own)
        missed = max(len(own), max(gains) + 1) - len(own)
        below = np.full(max(missed, 0), mine.min() - 1)
        result = rank_metrics(np.concatenate([mine, below]), gains, retrieval.DEPTH)
        samples[METRICS[0]][index], samples[METRICS[1]][index] = result.ndcg, result.reciprocal_rank
    values = {name: mean_interval(each) for name, each in samples.items()}
    return Evaluation(METRICS[0], len(data.queries), values, samples)
