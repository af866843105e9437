"""The batches of bench.ragged, and one measurement on a small model."""

from __future__ import annotations

from pathlib import Path

import transformers

import fastcpu
from bench import ragged


def test_batches_are_full_shuffled_and_the_same_each_time() -> None:
    lengths = list(range(1, 3 * ragged.BATCH + 5))
    batches = ragged.batches_of(lengths, 10)
    assert [len(batch) for batch in batches] == [ragged.BATCH] * 3
    used = [length for batch in batches for length in batch]
    assert len(set(used)) == len(used)
    assert set(used) <= set(lengths)
    assert used != sorted(used)
    assert ragged.batches_of(lengths, 2) == batches[:2]


def test_equal_lengths_have_as_many_tokens() -> None:
    for batch in ([5, 1, 9, 2], [7, 7], [1, 2, 2]):
        equal = ragged.equal_lengths(batch)
        assert sum(equal) == sum(batch)
        assert len(equal) == len(batch)
        assert max(equal) - min(equal) <= 1


def test_the_three_forms_are_measured(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=2 * ragged.FIRST_TOKEN,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    fastcpu.compile(transformers.BertModel(config, add_pooling_layer=False).eval(), tmp_path / "m", quantize="none")
    session = fastcpu.Session(tmp_path / "m", threads=1)
    result = ragged.measure(session, [[3, 9], [5, 5]], rounds=2)
    assert result["tokens"] == 22
    assert result["padded_over_real"] == 28 / 22
    assert set(result["tokens_per_second"]) == {"ragged", "padded", "equal"}
    assert result["over_padded"]["median"] > 0
