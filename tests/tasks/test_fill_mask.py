"""Tokens for gaps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastcpu import InputError
from fastcpu.tasks import MaskFiller
from fastcpu.tasks.fill_mask import Fill
from tests.tasks.models import WORDS, FakeEngine

SPARE = 3  # logits beyond the vocabulary, as models that pad it have


def filler(folder: Path, **options: int) -> MaskFiller:
    """Prefers `red` at every second token and `blue` between them."""

    def answer(ids: np.ndarray) -> dict[str, np.ndarray]:
        logits = np.zeros((len(ids), len(WORDS) + SPARE))
        logits[::2, WORDS.index("red")] = logits[1::2, WORDS.index("blue")] = 2.0
        logits[:, -1] = 9.0
        return {"logits": logits}

    outputs = {"logits": ("batch", "sequence", len(WORDS) + SPARE)}
    return MaskFiller(FakeEngine(folder, outputs, answer), **options)  # type: ignore[arg-type]


def test_every_gap_is_filled(tokenizer_dir: Path) -> None:
    (found,) = filler(tokenizer_dir, top_k=2)(["the [MASK] house is [MASK]."])
    total = np.exp(2.0) + len(WORDS) - 1
    best = Fill("red", WORDS.index("red"), pytest.approx(np.exp(2.0) / total))  # type: ignore[arg-type]
    assert found[0] == [best, Fill("[PAD]", 0, pytest.approx(1 / total))]  # type: ignore[arg-type]
    assert [[each.token for each in gap] for gap in found] == [["red", "[PAD]"], ["blue", "[PAD]"]]


def test_options_of_a_call(tokenizer_dir: Path) -> None:
    model, texts = filler(tokenizer_dir), ["the [MASK] house is [MASK]."]
    assert model.run(model.prepare(texts, top_k=2)) == filler(tokenizer_dir, top_k=2)(texts)
    every = model.run(model.prepare(texts, top_k=1000))
    assert [len(gap) for gap in every[0]] == [len(WORDS)] * 2
    chosen = model.run(model.prepare(texts, targets=["blue", "red", "red", "Anna"]))
    assert chosen == [[[each for each in gap if each.token in ("red", "blue", "Anna")] for gap in every[0]]]
    for wrong in (["red", "nobody"], []):
        with pytest.raises(InputError, match="targets: "):
            model.prepare(texts, targets=wrong)
    with pytest.raises(InputError, match="top_k must be at least 1, not 0"):
        model.prepare(texts, top_k=0)


def test_the_mask_is_what_the_configuration_names(tokenizer_dir: Path) -> None:
    assert filler(tokenizer_dir).mask == "[MASK]"
    (tokenizer_dir / "tokenizer_config.json").write_text(json.dumps({"mask_token": {"content": "where"}}))
    model = filler(tokenizer_dir)
    assert model.mask == "where"
    assert len(model(["where lives Anna"])[0]) == 1


def test_gaps_that_are_cut_off(tokenizer_dir: Path) -> None:
    with pytest.raises(InputError, match=r"input 1 has no \[MASK\] in its first 8 tokens"):
        filler(tokenizer_dir, max_length=8)(["[MASK]", "red " * 10 + "[MASK]"])


def test_some_gaps_that_are_cut_off(tokenizer_dir: Path) -> None:
    model = filler(tokenizer_dir, max_length=8)
    with pytest.raises(InputError, match=r"input 1 has a \[MASK\] after its first 8 tokens"):
        model(["[MASK]", "[MASK] " + "red " * 10 + "[MASK]"])
    assert len(model(["[MASK] " + "red " * 10])[0]) == 1


def test_tokenizers_without_a_mask(tokenizer_dir: Path) -> None:
    path = tokenizer_dir / "tokenizer.json"
    path.write_text(path.read_text().replace("[MASK]", "[GAP]"))
    with pytest.raises(InputError, match="has no mask token"):
        filler(tokenizer_dir)


def test_top_k_must_be_positive(tokenizer_dir: Path) -> None:
    with pytest.raises(InputError, match="top_k must be at least 1, not 0"):
        filler(tokenizer_dir, top_k=0)
