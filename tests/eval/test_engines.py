"""The reference engine and the tokenizer on a tiny model made here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu import FileFormatError, GraphError, InputError, OutputError
from fastcpu.eval.engine import open_engine
from fastcpu.eval.onnx_export import export_encoder, optimize_for_ort
from fastcpu.tasks.tokenizer import Tokenizer, length_limit

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "small", "large")
CONFIG = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with random weights whose tokenizer.json pads to a fixed length."""
    torch = pytest.importorskip("torch")
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: index for index, word in enumerate(WORDS)}, "[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.enable_padding(length=20)
    tokenizer.enable_truncation(20)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.BertConfig(intermediate_size=32, max_position_embeddings=24, **CONFIG)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_tokenizer_neither_pads_nor_cuts_as_its_file_says(encoder_dir: Path) -> None:
    tokenizer = Tokenizer(encoder_dir)
    assert tokenizer.max_length == 24
    short, long = tokenizer.encode(["red", "blue " * 40])
    assert short.ids.tolist() == [2, 4, 3]
    assert len(long.ids) == 24
    assert long.ids[-1] == 3
    (pair,) = Tokenizer(encoder_dir, 6).encode(["red green"], ["blue small large"])
    assert pair.ids.tolist() == [2, 4, 3, 6, 7, 3] or len(pair.ids) == 6
    assert pair.types.tolist().count(1) == 3


def test_length_limit_is_the_smallest_named(tmp_path: Path) -> None:
    assert length_limit(tmp_path) == 512
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 300}')
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    assert length_limit(tmp_path) == 256
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(FileFormatError, match=r"config.json: not a JSON object"):
        length_limit(tmp_path)


def test_tokenizer_errors(encoder_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no tokenizer.json"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FileFormatError, match=r"tokenizer.json"):
        Tokenizer(tmp_path)
    with pytest.raises(InputError, match="max_length 2 leaves no room"):
        Tokenizer(encoder_dir, 2)
    tokenizer = Tokenizer(encoder_dir)
    with pytest.raises(InputError, match="not one string"):
        tokenizer.encode("red")
    with pytest.raises(InputError, match="text 1 is of type int"):
        tokenizer.encode(["red", 3])  # type: ignore[list-item]
    with pytest.raises(InputError, match="2 texts but 1 pairs"):
        tokenizer.encode(["red", "blue"], ["green"])


def mean_pooled(model: Any, tokenizer_dir: Path, texts: list[str]) -> list[np.ndarray]:
    """Unit vectors of texts, one by one through transformers."""
    import torch

    vectors = []
    with torch.no_grad():
        for encoded in Tokenizer(tokenizer_dir).encode(texts):
            hidden = model(torch.from_numpy(encoded.ids)[None]).last_hidden_state[0].mean(0).numpy()
            vectors.append(hidden / np.linalg.norm(hidden))
    return vectors


def test_reference_engine_equals_transformers(encoder_dir: Path) -> None:
    pytest.importorskip("onnxruntime")
    from transformers import BertModel

    texts = ["red", "small blue green large red", "large " * 30, "green blue"]
    model = BertModel.from_pretrained(encoder_dir).eval()
    expected = mean_pooled(model, encoder_dir, texts)
    np.testing.assert_allclose(open_engine(encoder_dir, 1, 128).embed(texts), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "max"}, "max"),
    ],
)
def test_reference_engine_pools_as_sentence_transformers(
    encoder_dir: Path, config: dict[str, Any], mode: str, tmp_path: Path
) -> None:
    """The folders have the names that modules.json gives them."""
    pytest.importorskip("onnxruntime")
    import torch
    from transformers import BertModel

    folder = Path(shutil.copytree(encoder_dir, tmp_path / "encoder"))
    kinds = {"": "Transformer", "2_Pool": "Pooling"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Pool").mkdir()
    (folder / "2_Pool" / "config.json").write_text(json.dumps(config))
    texts = ["red", "small blue green large red", "green blue"]
    expected = []
    with torch.no_grad():
        for encoded in Tokenizer(folder).encode(texts):
            hidden = BertModel.from_pretrained(folder).eval()(torch.from_numpy(encoded.ids)[None]).last_hidden_state[0]
            pooled = {"cls": hidden[0], "mean": hidden.mean(0), "max": hidden.amax(0)}[mode].numpy()
            expected.append(pooled / np.linalg.norm(pooled))
    np.testing.assert_allclose(open_engine(folder, 1, 128).embed(texts), expected, atol=1e-5)

    (folder / "2_Pool" / "config.json").write_text(json.dumps({"pooling_mode": "weightedmean"}))
    with pytest.raises(GraphError, match="pooling weightedmean is not supported"):
        open_engine(folder, 1, 128)


def test_reference_engine_takes_models_without_token_types(encoder_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=len(WORDS), dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=24
    )
    model = DistilBertModel(config).eval()
    model.save_pretrained(tmp_path)
    shutil.copy(encoder_dir / "tokenizer.json", tmp_path)
    texts = ["red", "small blue green large red", "green blue"]
    expected = mean_pooled(model, tmp_path, texts)
    np.testing.assert_allclose(open_engine(tmp_path, 1, 128).embed(texts), expected, atol=1e-5)

    export_encoder(tmp_path, tmp_path / "model.onnx")
    optimize_for_ort(tmp_path / "model.onnx", tmp_path / "optimized.onnx", tmp_path)
    np.testing.assert_allclose(open_engine(tmp_path / "optimized.onnx", 1, 128).embed(texts), expected, atol=1e-5)


def test_encoders_that_cannot_be_loaded_or_written(encoder_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((encoder_dir / "config.json").read_bytes())
    with pytest.raises(FileFormatError, match="the model cannot be loaded"):
        export_encoder(tmp_path, tmp_path / "model.onnx")
    weights = (encoder_dir / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:-1])
    with pytest.raises(FileFormatError, match="the model cannot be loaded"):
        export_encoder(tmp_path, tmp_path / "model.onnx")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OutputError, match=r"config\.json/model\.onnx: "):
        export_encoder(encoder_dir, tmp_path / "config.json" / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_broken_onnx_file_is_named(encoder_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "tokenizer.json").write_bytes((encoder_dir / "tokenizer.json").read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(FileFormatError, match=r"model.onnx"):
        open_engine(tmp_path / "model.onnx", 1, 128)
