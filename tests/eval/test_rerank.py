"""Reranking of given candidates and of what BM25 finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fastcpu import InputError
from fastcpu.eval import rerank, retrieval

TABLE = """query,passage,label
who?,a dog,0
who?,a red cat,2
who?,red red,1
where?,nowhere,0
where?,in London,1
why?,for nothing,0
"""


class Reds:
    """Scores by how often a pair says red."""

    def __init__(self, sign: float = 1.0) -> None:
        self._sign = sign
        self.pairs: list[tuple[str, str]] = []

    def scores(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        self.pairs += pairs
        return np.array([self._sign * " ".join(pair).split().count("red") for pair in pairs], np.float32)


def test_given_candidates(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(TABLE)
    data = rerank.load(tmp_path, "test")
    assert data.queries == ["who?", "where?"], "a query without a relevant passage is left out"
    assert data.candidates == [["a dog", "a red cat", "red red"], ["nowhere", "in London"]]
    result = rerank.evaluate(Reds(), data)
    first = (1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3))
    second = (1 + 1 / np.log2(3)) / 2  # equal scores: the mean over both orders
    assert result.samples["ndcg@10"].tolist() == pytest.approx([first, second])
    assert result.samples["mrr@10"].tolist() == pytest.approx([1.0, 0.75])
    worse = rerank.evaluate(Reds(-1.0), data)
    assert rerank.compare(worse, result)["mrr@10"].value == pytest.approx((0.5 - 1.0) / 2)
    assert rerank.inputs(data)[0] == ("who?", "a dog")
    assert len(rerank.inputs(data)) == sum(map(len, data.candidates))


def test_candidates_from_a_corpus(tmp_path: Path) -> None:
    documents = [f"red word{i}" for i in range(150)] + ["something else"]
    corpus = retrieval.RetrievalData(documents, ["red", "word7"], [{150: 1.0, 0: 1.0}, {7: 1.0}])
    retrieval.save(corpus, tmp_path, "test")
    data = rerank.load(tmp_path, "test")
    assert [len(own) for own in data.candidates] == [100, 100]
    assert data.candidates[1][0] == "red word7"
    assert data.gains[0] == {0: 1.0, 100: 1.0}, "what BM25 misses stands after all candidates"
    model = Reds()
    result = rerank.evaluate(model, data)
    assert len(model.pairs) == 200
    assert result.samples["mrr@10"][0] > 0
    assert result.samples["ndcg@10"][0] < 0.5, "a document that was missed cannot be found"


def test_rows_of_judgements_make_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(TABLE)
    data = retrieval.load(tmp_path, "test")
    assert data.documents == ["a dog", "a red cat", "red red", "nowhere", "in London", "for nothing"]
    assert (data.queries, data.relevant) == (["who?", "where?"], [{1: 2.0, 2: 1.0}, {4: 1.0}])


@pytest.mark.parametrize("gains", [(1, 3), (3, 1), (3, 0)])
def test_the_highest_gain_of_equal_rows_counts(gains: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("query,passage,label\n" + "".join(f"q,p,{gain}\n" for gain in gains))
    highest = {0: float(max(gains))}
    assert rerank.load(tmp_path, "test").gains == [highest]
    assert retrieval.load(tmp_path, "test").relevant == [highest]


@pytest.mark.parametrize("task", [rerank, retrieval])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("query,passage,label\nq,p,-1\n", "test.csv:2: column 'label' is -1, but a gain is at least 0"),
        ("query,passage,label\nq,p,0\n", "no query has a relevant"),
        ("query,passage,label\nq,,1\n", "test.csv:2: column 'passage' is '' and not a text"),
        ("query,p,label\nq,p,1\n", "no column 'passage' or 'document' or 'text' for passage"),
    ],
)
def test_broken_judgements(task: object, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        task.load(tmp_path, "test")  # type: ignore[attr-defined]


def test_columns_of_a_corpus_have_names_of_their_own(tmp_path: Path) -> None:
    retrieval.save(retrieval.RetrievalData(["a"], ["b"], [{0: 1.0}]), tmp_path, "test")
    with pytest.raises(InputError, match="layout of BEIR has no columns to name"):
        retrieval.load(tmp_path, "test", {"query": "q"})
