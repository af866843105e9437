"""The order of passages by the logits of a cross-encoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastcpu import InputError
from fastcpu.tasks import Reranker
from fastcpu.tasks.rerank import Ranked
from tests.tasks.models import WORDS, FakeEngine, save_tokenizer

QUERIES = [("who?", ["a dog", "the red red house", "a cat"]), ("where?", ["red", "in London"])]


def reds(folder: Path, channels: int) -> Reranker:
    """Scores a pair by how often it says red."""
    save_tokenizer(folder)
    factors = {1: [2.0], 2: [-1.0, 1.0], 3: [0.0, 0.0, 0.0]}[channels]
    red = WORDS.index("red")
    return Reranker(
        FakeEngine(
            folder, {"logits": ("batch", channels)}, lambda ids: {"logits": [f * (ids == red).sum() for f in factors]}
        )
    )


@pytest.mark.parametrize("channels", [1, 2])
def test_the_best_come_first_and_equal_ones_keep_their_order(channels: int, tmp_path: Path) -> None:
    first, second = reds(tmp_path, channels)(QUERIES)
    assert first == [Ranked(1, 4.0), Ranked(0, 0.0), Ranked(2, 0.0)]
    assert second == [Ranked(0, 2.0), Ranked(1, 0.0)]


def test_scores_of_pairs(tmp_path: Path) -> None:
    assert reds(tmp_path, 1).scores([("red", "red car"), ("who?", "Anna")]).tolist() == [4.0, 0.0]


def test_classifiers_with_more_labels_are_no_cross_encoders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"logits \[batch, 3\], not logits \[batch, 1\] or \[batch, 2\]"):
        reds(tmp_path, 3)
