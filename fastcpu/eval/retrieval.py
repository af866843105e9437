"""Retrieval: nDCG@10 and MRR@10 of ranking a corpus by cosine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastcpu.data.splits import data_files
from fastcpu.errors import InputError
from fastcpu.eval.bootstrap import Interval, mean_interval
from fastcpu.eval.data import Column, Table, data_folder, read_lines, read_table
from fastcpu.eval.engine import EmbeddingEngine, Evaluation, FloatArray
from fastcpu.eval.metrics import rank_metrics
from fastcpu.files import write_text
from fastcpu.tasks.embed import Embedder
from fastcpu.tasks.tokenizer import Text

MODEL = Embedder
MAX_LENGTH = 128
OPTIONS = ()
COLUMNS = {
    "query": Column(("query",)),
    "passage": Column(("passage", "document", "text")),
    "label": Column(("label", "score", "relevance")),
}
DEPTH = 10
METRICS = (f"ndcg@{DEPTH}", f"mrr@{DEPTH}")
_BLOCK = 256  # queries ranked at once; bounds the memory of their scores


@dataclass(frozen=True)
class RetrievalData:
    """A corpus and queries.

    Attributes:
        documents, queries: their texts.
        relevant: per query, the index of each relevant document and its gain.
    """

    documents: list[str]
    queries: list[str]
    relevant: list[Mapping[int, float]]


def files(path: Path | None, split: str) -> Sequence[Path]:
    """The files of a split."""
    folder = data_folder(path, "retrieval")
    if is_corpus(folder):
        return [folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / f"{split}.tsv"]
    return data_files(folder, split)


def is_corpus(folder: Path) -> bool:
    """Whether a data set has the layout of the BEIR benchmark."""
    return (folder / "corpus.jsonl").is_file() or (folder / "qrels").is_dir()


def load(path: Path | None, split: str, columns: Mapping[str, str] | None = None) -> RetrievalData:
    """Reads a folder in the layout of the BEIR benchmark, or rows with a query, a passage and a label.

    Such a folder has `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`. Lines of the first two are objects with
    "_id", "text" and optionally "title"; those of the last are query, document and gain, after an optional header.
    In rows, a label is a gain, 0 for a passage that is not relevant; the passages of all queries are the corpus. Of
    rows with the same query and passage, the highest gain counts.
    """
    folder = data_folder(path, "retrieval")
    if is_corpus(folder):
        if columns:
            raise InputError(f"{folder}: a data set in the layout of BEIR has no columns to name")
        return _corpus(folder, split)
    table = read_table(files(path, split), COLUMNS, columns or {})
    documents: dict[str, int] = {}
    relevant: dict[str, dict[int, float]] = {}
    for query, passage, gain in judgements(table):
        place = documents.setdefault(passage, len(documents))
        gains = relevant.setdefault(query, {})
        if gain > 0:
            gains[place] = max(gain, gains.get(place, 0.0))
    return _judged(list(documents), relevant, str(table.rows[0].place))


def judgements(table: Table) -> Iterator[tuple[str, str, float]]:
    """Query, passage and gain of every row; InputError for a gain below 0."""
    for row in table.rows:
        gain = table.number(row, "label")
        if gain < 0:
            raise table.error(row, "label", f"is {gain:g}, but a gain is at least 0")
        yield table.text(row, "query"), table.text(row, "passage"), gain


def _judged(documents: list[str], relevant: Mapping[str, Mapping[int, float]], where: str) -> RetrievalData:
    """The queries that have a relevant document; InputError if none has."""
    kept = {query: gains for query, gains in relevant.items() if gains}
    if not kept:
        raise InputError(f"{where}: no query has a relevant document")
    return RetrievalData(documents, list(kept), list(kept.values()))


def _corpus(folder: Path, split: str) -> RetrievalData:
    documents, queries = (_read_texts(folder / name) for name in ("corpus.jsonl", "queries.jsonl"))
    document_place = {key: index for index, key in enumerate(documents)}
    relevant: dict[str, dict[int, float]] = {}
    qrels = folder / "qrels" / f"{split}.tsv"
    for number, line in read_lines(qrels):
        cells = line.split("\t")
        if number == 1 and cells[-1] == "score":
            continue
        if len(cells) != 3:
            raise InputError(
                f"{qrels}:{number}: {len(cells)} tab-separated columns instead of 3 (query, document, score)"
            )
        query, document, score = cells
        if query not in queries or document not in document_place:
            unknown = f"query {query!r}" if query not in queries else f"document {document!r}"
            raise InputError(f"{qrels}:{number}: {unknown} is not in the data set")
        try:
            gain = float(score)
        except ValueError:
            raise InputError(f"{qrels}:{number}: the score is {score!r} and not a number") from None
        if gain > 0:
            relevant.setdefault(query, {})[document_place[document]] = gain
    judged = _judged(list(documents.values()), relevant, str(qrels))
    return replace(judged, queries=[queries[key] for key in judged.queries])


def save(data: RetrievalData, folder: Path, split: str) -> None:
    """Writes `data` in the layout that `load` reads; OutputError names what cannot be written."""
    for name, prefix, texts in (("corpus.jsonl", "d", data.documents), ("queries.jsonl", "q", data.queries)):
        lines = (
            json.dumps({"_id": f"{prefix}{index}", "text": text}, ensure_ascii=False)
            for index, text in enumerate(texts)
        )
        write_text(folder / name, "".join(f"{line}\n" for line in lines))
    rows = [
        f"q{query}\td{document}\t{gain:g}\n"
        for query, gains in enumerate(data.relevant)
        for document, gain in gains.items()
    ]
    write_text(folder / "qrels" / f"{split}.tsv", "query-id\tcorpus-id\tscore\n" + "".join(rows))


def _read_texts(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, line in read_lines(path):
        try:
            entry = json.loads(line)
            key, text = entry["_id"], entry["text"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f'{path}:{number}: not a JSON object with "_id" and "text"') from None
        if not isinstance(key, str) or not isinstance(text, str):
            raise InputError(f'{path}:{number}: "_id" and "text" must be strings')
        if key in texts:
            raise InputError(f"{path}:{number}: {key!r} occurs twice")
        title = entry.get("title") or ""
        texts[key] = f"{title} {text}".strip()
    if not texts:
        raise InputError(f"{path}: holds no text")
    return texts


def inputs(data: RetrievalData) -> list[Text]:
    """The queries and the documents."""
    return [*data.queries, *data.documents]


def evaluate(engine: EmbeddingEngine, data: RetrievalData) -> Evaluation:
    """Embeds the corpus and the queries and ranks by cosine."""
    return evaluate_vectors(engine.embed(data.documents), engine.embed(data.queries), data)


def evaluate_vectors(documents: FloatArray, queries: FloatArray, data: RetrievalData) -> Evaluation:
    """The metrics of L2-normalized vectors [documents, channels] and [queries, channels]."""
    return evaluate_scores(lambda rows: queries[rows.start : rows.stop] @ documents.T, data)


def evaluate_scores(
    score: Callable[[range], npt.NDArray[np.floating] | Sequence[npt.NDArray[np.floating]]], data: RetrievalData
) -> Evaluation:
    """The metrics of any scores; `score(range of queries)` gives one row [documents] per query."""
    ndcg, reciprocal = np.zeros(len(data.queries)), np.zeros(len(data.queries))
    for start in range(0, len(data.queries), _BLOCK):
        rows = range(start, min(start + _BLOCK, len(data.queries)))
        for query, scores in zip(rows, score(rows), strict=True):
            result = rank_metrics(scores, data.relevant[query], DEPTH)
            ndcg[query], reciprocal[query] = result.ndcg, result.reciprocal_rank
    samples = dict(zip(METRICS, (ndcg, reciprocal), strict=True))
    return Evaluation(METRICS[0], len(ndcg), {name: mean_interval(values) for name, values in samples.items()}, samples)


def compare(a: Evaluation, b: Evaluation) -> Mapping[str, Interval]:
    """The mean difference of `a` and `b` per query."""
    return {name: mean_interval(a.samples[name] - b.samples[name]) for name in METRICS}
