"""Batches of similar length, and engines that do not know their axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu import InputError
from fastcpu.tasks import TASKS, Classifier, Embedder
from fastcpu.tasks.engine import batches, padded, probed_axes
from fastcpu.tasks.task import AnyTask
from fastcpu.tasks.tokenizer import Encoded
from tests.tasks.models import FakeEngine, save_tokenizer


def test_batches_hold_every_sequence_once_and_are_bounded(rng: np.random.Generator) -> None:
    lengths = rng.integers(1, 60, 200).tolist()
    found = list(batches(lengths, max_rows=16, tokens=256))
    assert sorted(index for batch in found for index in batch) == list(range(200))
    for batch in found:
        own = [lengths[index] for index in batch]
        assert len(own) <= 16
        assert len(own) * max(own) <= 256
    longest = [max(lengths[index] for index in batch) for batch in found]
    assert longest == sorted(longest, reverse=True)
    assert sum(len(batch) * length for batch, length in zip(found, longest, strict=True)) < 1.2 * sum(lengths)


def test_a_sequence_beyond_the_bound_runs_alone() -> None:
    assert list(batches([5, 900, 3], None, tokens=10)) == [[1], [0, 2]]
    assert list(batches([], None)) == []


def test_padding_is_zero_and_masked() -> None:
    rows = [Encoded(np.array([5, 6]), np.array([0, 1])), Encoded(np.array([7]), np.array([1]))]
    arrays = padded(rows)
    assert arrays["ids"].tolist() == [[5, 6], [7, 0]]
    assert arrays["mask"].tolist() == [[1, 1], [1, 0]]
    assert arrays["types"].tolist() == [[0, 1], [1, 0]]


def test_axes_are_found_by_running(tmp_path: Path) -> None:
    outputs = {"start": ("batch", "sequence"), "hidden": ("batch", "sequence", 4), "logits": ("batch", 3)}
    zeros = FakeEngine(
        tmp_path, outputs, lambda ids: {"start": ids * 0, "hidden": np.zeros((len(ids), 4)), "logits": np.zeros(3)}
    )
    assert probed_axes(zeros.run) == outputs


def test_batches_go_to_the_engine_and_padding_is_cut_off(tmp_path: Path) -> None:
    """The mean over the tokens sees none of the padding, which FakeEngine fills with 1e9."""
    save_tokenizer(tmp_path)
    engine = FakeEngine(
        tmp_path,
        {"last_hidden_state": ("batch", "sequence", 2)},
        lambda ids: {"last_hidden_state": np.stack([ids, np.full(len(ids), 3)], axis=1)},
        max_rows=2,
    )
    vectors = Embedder(engine).embed(["red", "red green blue", "the small house is red"])
    assert engine.batches == [[7, 5], [3]]
    means = [np.mean([2, 7, 3]), np.mean([2, 7, 8, 9, 3]), np.mean([2, 5, 10, 12, 16, 7, 3])]
    expected = np.array([[mean, 3] for mean in means])
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)


def test_the_only_output_may_have_any_name_that_says_nothing_else(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    engine = FakeEngine(tmp_path, {"output_0": ("batch", 2)}, lambda _: {"output_0": [0.0, 1.0]})
    assert Classifier(engine)(["red"])[0].label == "LABEL_1"
    engine.outputs = {"sentence_embedding": ("batch", 2)}
    with pytest.raises(InputError, match=r"has the outputs sentence_embedding \[batch, 2\], not logits"):
        Classifier(engine)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_what_is_not_finite_is_no_result(value: float, tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    engine = FakeEngine(tmp_path, {"logits": ("batch", 2)}, lambda _: {"logits": [0.0, value]})
    with pytest.raises(InputError, match="computes values of logits that are not finite"):
        Classifier(engine)(["red"])


@pytest.mark.parametrize("task", TASKS.values())
@pytest.mark.parametrize("model", [None, 5, ["model"], object])
def test_what_is_no_model(task: type[AnyTask], model: Any) -> None:
    with pytest.raises(InputError, match=r"model must be a directory, a Session or an Engine, not "):
        task(model)
