"""Benchmark models: exact sparsity, shapes, inputs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.inputs import Shape, bench_feeds, calibration_feeds, token_feeds
from bench.models import (
    MODELS,
    encoder_linears,
    find_spec,
    model_label,
    onnx_zero_blocks,
    prepare_model,
    prune_encoder,
)
from bench.sparsity import zero_block_target, zero_blocks

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def test_blocks_are_four_outputs_of_one_input() -> None:
    weight = np.ones((8, 3), np.float32)
    weight[4:8, 1] = 0
    weight[0:3, 0] = 0
    weight[2:6, 2] = 0
    assert zero_blocks(weight) == 1


def test_negative_zero_is_zero() -> None:
    assert zero_blocks(np.full((4, 2), -0.0)) == 2


def test_outputs_must_divide_into_blocks() -> None:
    with pytest.raises(ValueError, match="divisible by 4"):
        zero_blocks(np.zeros((6, 4)))


@pytest.mark.parametrize(("shape", "blocks"), [((768, 768), 117_965), ((3072, 768), 471_859), ((768, 3072), 471_859)])
def test_target_is_rounded_to_whole_blocks(shape: tuple[int, int], blocks: int) -> None:
    assert zero_block_target(shape, 0.8) == blocks


@pytest.mark.parametrize("name", [spec.name for spec in MODELS])
def test_every_encoder_linear_is_pruned_exactly_and_nothing_else(name: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import transformers
    from transformers import BertConfig, BertModel, DistilBertConfig

    spec = find_spec(name)
    torch.manual_seed(0)
    model: Any
    if name.startswith("distilbert"):
        head = "QuestionAnswering" if spec.per_token else "SequenceClassification"
        kind = getattr(transformers, f"DistilBertFor{head}")
        model = kind(DistilBertConfig(vocab_size=50, dim=16, hidden_dim=36, n_layers=2, n_heads=2))
    else:
        config = BertConfig(
            vocab_size=50, hidden_size=16, intermediate_size=36, num_hidden_layers=2, num_attention_heads=2
        )
        model = BertModel(config)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    prune_encoder(model, spec, 0.8)
    pruned = {f"{key}.weight" for key in encoder_linears(model, spec)}
    assert len(pruned) == 12
    for key, value in model.state_dict().items():
        if key in pruned:
            assert zero_blocks(value.numpy()) == round(0.8 * value.numel() / 4)
        else:
            assert torch.equal(value, before[key])


def test_an_unexpected_architecture_is_an_error() -> None:
    model = SimpleNamespace(named_modules=lambda: iter([]), config=SimpleNamespace(num_hidden_layers=6))
    with pytest.raises(RuntimeError, match="6 linears"):
        encoder_linears(model, find_spec("minilm"))


def test_labels_and_unknown_names() -> None:
    assert model_label("minilm", 0.0) == "minilm-dense"
    assert model_label("minilm", 0.8) == "minilm-sparse80"
    with pytest.raises(ValueError, match="distilbert-qa"):
        find_spec("gpt")


@pytest.mark.parametrize("text", ["b8s128", "b8 s128", "b8_s128"])
def test_shapes_are_read(text: str) -> None:
    assert Shape.parse(text) == Shape(8, 128)
    assert str(Shape(8, 128)) == "b8s128"


@pytest.mark.parametrize("text", ["8s128", "b0s128", "b8", "b8s1", ""])
def test_wrong_shapes_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match="not of the form"):
        Shape.parse(text)


def test_model_shapes_are_readable() -> None:
    for spec in MODELS:
        assert all(str(Shape.parse(text)) == text for text in spec.shapes)


def test_feeds_are_seeded_and_without_padding() -> None:
    feeds = token_feeds(NAMES, Shape(2, 16), 30522, 3)
    again = token_feeds(NAMES, Shape(2, 16), 30522, 3)
    other = token_feeds(NAMES, Shape(2, 16), 30522, 4)
    assert all(feeds[name].dtype == np.int64 and feeds[name].shape == (2, 16) for name in NAMES)
    assert np.array_equal(feeds["input_ids"], again["input_ids"])
    assert not np.array_equal(feeds["input_ids"], other["input_ids"])
    assert feeds["attention_mask"].all()
    assert 0 <= feeds["input_ids"].min() <= feeds["input_ids"].max() < 30522


def test_answers_are_compared_on_at_least_eight_sequences_of_two_inputs() -> None:
    for shape in (Shape(1, 16), Shape(8, 128), Shape(32, 128)):
        feeds = bench_feeds(("input_ids",), shape, 100, 0)
        assert len(feeds) >= 2
        assert len(feeds) * shape.batch >= 8


def test_calibration_is_not_the_benchmark() -> None:
    bench = {feeds["input_ids"].tobytes() for feeds in bench_feeds(("input_ids",), Shape(1, 128), 30522, 0)}
    calibration = {feeds["input_ids"].tobytes() for feeds in calibration_feeds(("input_ids",), 30522, 8)}
    assert len(calibration) == 8
    assert not bench & calibration


def test_feeds_of_text_are_parts_of_it() -> None:
    text = np.arange(2000, 2300)
    feeds = token_feeds(NAMES, Shape(5, 16), 30522, 3, text)
    for row in feeds["input_ids"]:
        assert row[0] == 101
        assert row[-1] == 102
        assert np.array_equal(row[1:-1], np.arange(row[1], row[1] + 14))
    assert feeds["input_ids"].shape == (5, 16)
    assert feeds["attention_mask"].all()
    assert len(set(feeds["input_ids"][:, 1])) > 1


def test_unknown_inputs_are_errors() -> None:
    with pytest.raises(ValueError, match="pixel_values"):
        token_feeds(("pixel_values",), Shape(1, 16), 10, 0)


def test_a_model_is_exported_with_its_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole recipe on a small DistilBERT: ONNX answers those of torch, zeros counted in the ONNX file."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from dataclasses import replace

    from transformers import DistilBertConfig, DistilBertForQuestionAnswering

    from bench import models

    def build() -> Any:
        torch.manual_seed(0)
        settings: dict[str, Any] = {"attn_implementation": "eager"}
        config = DistilBertConfig(vocab_size=50, dim=16, hidden_dim=36, n_layers=2, n_heads=2, **settings)
        return DistilBertForQuestionAnswering(config).eval()

    spec = replace(find_spec("distilbert-qa"), vocab=50, build=build)
    monkeypatch.setattr(models, "MODELS", (spec,))
    model = prepare_model("distilbert-qa", 0.8, tmp_path)
    counted = onnx_zero_blocks(model.onnx)
    encoder = [item for item in counted if item[0] != (2, 16)]
    assert len(encoder) == 12
    assert all(zero == zero_block_target(shape, 0.8) for shape, zero in encoder)

    feeds = token_feeds(model.inputs, Shape(3, 7), model.vocab, 0)
    session = onnxruntime.InferenceSession(str(model.onnx), providers=["CPUExecutionProvider"])
    start, end = session.run(list(model.outputs), feeds)
    reloaded = DistilBertForQuestionAnswering.from_pretrained(model.hf).eval()
    with torch.no_grad():
        expected = reloaded(**{name: torch.from_numpy(value) for name, value in feeds.items()})
    np.testing.assert_allclose(start, expected.start_logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(end, expected.end_logits.numpy(), atol=1e-5)

    made = model.onnx.stat().st_mtime_ns
    assert prepare_model("distilbert-qa", 0.8, tmp_path) == model
    assert model.onnx.stat().st_mtime_ns == made


def test_a_model_with_a_tokenizer_has_the_tokens_of_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("onnx")
    from dataclasses import replace

    from bench import models

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "data" / "wikitext2").mkdir(parents=True)
    (tmp_path / "data" / "wikitext2" / "test.txt").write_text("One two\n\n three\n")
    (tmp_path / "data" / "wikitext2" / "valid.txt").write_text("two two\n")

    def build() -> Any:
        torch.manual_seed(0)
        settings: dict[str, Any] = {"attn_implementation": "eager"}
        config = transformers.DistilBertConfig(vocab_size=8, dim=16, hidden_dim=36, n_layers=1, n_heads=2, **settings)
        return transformers.DistilBertForQuestionAnswering(config).eval()

    spec = replace(find_spec("distilbert-qa"), vocab=8, build=build, tokenizer=lambda: tmp_path / "tokenizer")
    monkeypatch.setattr(models, "MODELS", (spec,))
    monkeypatch.setenv("FASTCPU_DATA", str(tmp_path / "data"))
    with_text = prepare_model("distilbert-qa", 0, tmp_path)
    bench, calibration = with_text.text("bench"), with_text.text("calibration")
    assert bench is not None
    assert bench.tolist() == [5, 6, 7]
    assert calibration is not None
    assert calibration.tolist() == [6, 6]
    monkeypatch.delenv("FASTCPU_DATA")
    without = prepare_model("distilbert-qa", 0, tmp_path)
    assert without.text("bench") is None
    assert without.fingerprint != with_text.fingerprint


def test_a_data_folder_without_the_text_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench import models

    monkeypatch.setenv("FASTCPU_DATA", str(tmp_path))
    assert models.main(["minilm", "--cache", str(tmp_path / "cache")]) == 1
    assert "minilm takes text from" in capsys.readouterr().err
