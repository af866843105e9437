"""Data sets are read as documented, broken ones are named, and evaluation ranks what the engine says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fastcpu import InputError, OutputError
from fastcpu.eval import retrieval, sts
from fastcpu.eval.engine import open_engine


class WordEngine:
    """Embeds a text as its normalized word counts over a fixed vocabulary."""

    def __init__(self, *vocabulary: str) -> None:
        self.vocabulary = vocabulary
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        counts = np.array([[text.split().count(word) for word in self.vocabulary] for text in texts], np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)


STS_ROWS = [
    "news\tfile\t2012\t1\t5.0\ta b\ta b",
    "news\tfile\t2012\t2\t3.0\ta b\ta c",
    "news\tfile\t2012\t3\t0.0\ta\tb\tlicence\tsource",
]


def sts_folder(folder: Path, rows: Sequence[str]) -> Path:
    (folder / "sts-test.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_sts(tmp_path: Path) -> None:
    engine = WordEngine("a", "b", "c")
    data = sts.load(sts_folder(tmp_path, STS_ROWS), "test")
    assert data.gold == [5.0, 3.0, 0.0]
    result = sts.evaluate(engine, data)
    assert result.values["spearman"].value == pytest.approx(1.0)
    assert engine.calls == [["a", "a b", "a c", "b"]], "every sentence is embedded once"
    assert sts.compare(result, result)["spearman"].high == 0.0


def test_a_model_that_finds_all_pairs_alike(tmp_path: Path) -> None:
    data = sts.load(sts_folder(tmp_path, STS_ROWS), "test")
    with pytest.raises(InputError, match=r"the model gives all 3 pairs the cosine 0: .* not defined"):
        sts.evaluate(WordEngine("nothing"), data)


def test_sts_data_is_found_through_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stsb").mkdir()
    sts_folder(tmp_path / "stsb", STS_ROWS)
    monkeypatch.setenv("FASTCPU_DATA", str(tmp_path))
    assert len(sts.load(None, "test").gold) == 3
    monkeypatch.delenv("FASTCPU_DATA")
    with pytest.raises(InputError, match="give --data, or set FASTCPU_DATA"):
        sts.load(None, "test")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a\tb\tc"], r"sts-test.csv:1: 3 tab-separated columns instead of at least 7"),
        ([*STS_ROWS, "n\tf\t2\t3\thigh\ta\tb"], r"sts-test.csv:4: the 5th column, the gold score, is 'high'"),
        (["n\tf\t2\t3\tnan\ta\tb"], r"sts-test.csv:1: the 5th column"),
        (STS_ROWS[:1], "at least two pairs"),
        (STS_ROWS[:1] * 3, r"sts-test.csv: all 3 pairs have the score 5: a correlation is not defined"),
    ],
)
def test_broken_sts_data(tmp_path: Path, rows: Sequence[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sts.load(sts_folder(tmp_path, rows), "test")


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere' does not exist"):
        sts.load(tmp_path / "nowhere", "test")
    sts_folder(tmp_path, STS_ROWS)
    with pytest.raises(InputError, match=r"no file of the split 'dev'; there are sts-test.csv"):
        sts.load(tmp_path, "dev")


DATA = retrieval.RetrievalData(["a a b", "b c", "c"], ["a", "c b"], [{0: 1.0}, {1: 2.0, 2: 1.0}])


def test_retrieval_round_trip_and_metrics(tmp_path: Path) -> None:
    retrieval.save(DATA, tmp_path, "test")
    data = retrieval.load(tmp_path, "test")
    assert data == DATA
    result = retrieval.evaluate(WordEngine("a", "b", "c"), data)
    assert result.values["ndcg@10"].value == pytest.approx(1.0)
    assert result.values["mrr@10"].value == pytest.approx(1.0)
    worse = retrieval.evaluate(WordEngine("b"), data)
    assert retrieval.compare(worse, result)["mrr@10"].value < 0


def test_a_task_that_cannot_be_saved(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"corpus\.jsonl: "):
        retrieval.save(DATA, tmp_path / "file" / "task", "test")


def test_titles_are_part_of_documents(tmp_path: Path) -> None:
    retrieval.save(DATA, tmp_path, "test")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace('"_id": "d0"', '"title": "T", "_id": "d0"'))
    assert retrieval.load(tmp_path, "test").documents[0] == "T a a b"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("corpus.jsonl", '{"_id": "d0"}\n', r'corpus.jsonl:1: not a JSON object with "_id" and "text"'),
        ("corpus.jsonl", '{"_id": 3, "text": "a"}\n', r"corpus.jsonl:1: .* must be strings"),
        ("corpus.jsonl", '{"_id": "a", "text": "a"}\n' * 2, r"corpus.jsonl:2: 'a' occurs twice"),
        ("queries.jsonl", "\n", r"queries.jsonl: holds no text"),
        ("qrels/test.tsv", "q0\td9\t1\n", r"test.tsv:1: document 'd9' is not in the data set"),
        ("qrels/test.tsv", "q7\td0\t1\n", r"test.tsv:1: query 'q7' is not"),
        ("qrels/test.tsv", "q0\td0\tyes\n", r"test.tsv:1: the score is 'yes'"),
        ("qrels/test.tsv", "q0\t0\td0\t1\n", r"test.tsv:1: 4 tab-separated columns instead of 3"),
        ("qrels/test.tsv", "q0\td0\t0\n", r"no query has a relevant document"),
    ],
)
def test_broken_retrieval_data(tmp_path: Path, name: str, text: str, message: str) -> None:
    retrieval.save(DATA, tmp_path, "test")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        retrieval.load(tmp_path, "test")


def test_unknown_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_engine(tmp_path / "missing", 1, "Model")
    with pytest.raises(InputError, match=r"no compressed directory \(graph.json\)"):
        open_engine(tmp_path, 1, "Model")
