"""The reference engines, torch and ONNX Runtime, on tiny models made here."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu import FileFormatError, GraphError, InputError, MissingPackageError, OutputError
from fastcpu.eval.engine import open_engine
from fastcpu.eval.onnx_export import export_encoder, optimize_for_ort
from fastcpu.tasks import Classifier, Embedder
from fastcpu.tasks.tokenizer import Tokenizer

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


def vectors(path: Path, texts: list[str]) -> np.ndarray:
    """Embeddings by the engine that a path gets."""
    return Embedder(open_engine(path, 1, "Model"), max_length=128).embed(texts)


def mean_pooled(model: Any, tokenizer_dir: Path, texts: list[str]) -> list[np.ndarray]:
    """Unit vectors of texts, one by one through transformers."""
    import torch

    found = []
    with torch.no_grad():
        for encoded in Tokenizer(tokenizer_dir).encode(texts):
            hidden = model(torch.from_numpy(encoded.ids)[None]).last_hidden_state[0].mean(0).numpy()
            found.append(hidden / np.linalg.norm(hidden))
    return found


def test_torch_equals_transformers(encoder_dir: Path) -> None:
    from transformers import BertModel

    texts = ["red", "small blue green large red", "large " * 30, "green blue"]
    model = BertModel.from_pretrained(encoder_dir).eval()
    np.testing.assert_allclose(vectors(encoder_dir, texts), mean_pooled(model, encoder_dir, texts), atol=1e-5)


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "max"}, "max"),
    ],
)
def test_pooling_is_that_of_sentence_transformers(
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
    np.testing.assert_allclose(vectors(folder, texts), expected, atol=1e-5)
    export_encoder(folder, folder / "model.onnx")
    np.testing.assert_allclose(vectors(folder / "model.onnx", texts), expected, atol=1e-5)

    (folder / "2_Pool" / "config.json").write_text(json.dumps({"pooling_mode": "weightedmean"}))
    with pytest.raises(GraphError, match="pooling weightedmean is not supported"):
        vectors(folder, texts)


def test_pooling_with_the_tokenizer_in_a_folder_of_its_own(encoder_dir: Path, tmp_path: Path) -> None:
    pooled = {}
    for mode in ("cls", "mean"):
        folder = tmp_path / mode
        shutil.copytree(encoder_dir, folder / "0_Transformer")
        kinds = {"0_Transformer": "Transformer", "1_Pooling": "Pooling"}
        modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
        pooled[mode] = vectors(folder, ["red small blue"])
    np.testing.assert_allclose(pooled["mean"], vectors(encoder_dir, ["red small blue"]), atol=1e-6)
    assert np.abs(pooled["cls"] - pooled["mean"]).max() > 1e-3


def test_texts_are_in_lower_case_where_the_files_say_so(encoder_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(encoder_dir, tmp_path / "encoder"))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    np.testing.assert_array_equal(vectors(folder, ["RED small"]), vectors(encoder_dir, ["red small"]))
    pair, lower = Tokenizer(folder).encode([("RED", "Blue"), ("red", "blue")])
    assert pair.ids.tolist() == lower.ids.tolist()


def test_models_without_token_types(encoder_dir: Path, tmp_path: Path) -> None:
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
    np.testing.assert_allclose(vectors(tmp_path, texts), expected, atol=1e-5)

    export_encoder(tmp_path, tmp_path / "model.onnx")
    optimize_for_ort(tmp_path / "model.onnx", tmp_path / "optimized.onnx", tmp_path)
    np.testing.assert_allclose(vectors(tmp_path / "optimized.onnx", texts), expected, atol=1e-5)


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
        open_engine(tmp_path / "model.onnx", 1, "Model")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [(("ids", "attention_mask"), r"not \['attention_mask', 'ids'\]"), (("input_ids",), r"not \['input_ids'\]")],
)
def test_onnx_files_with_other_inputs(inputs: tuple[str, ...], message: str, encoder_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in inputs]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "s"])
    cast = helper.make_node("Cast", [inputs[0]], ["logits"], to=TensorProto.FLOAT)
    graph = helper.make_graph([cast], "g", values, [logits])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(InputError, match=message):
        open_engine(tmp_path / "m.onnx", 1, "Model")


def test_onnx_files_of_one_shape_do_not_run(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import onnx
    from onnx import TensorProto, helper

    names = ("input_ids", "attention_mask")
    values = [helper.make_tensor_value_info(name, TensorProto.INT32, [1, 3]) for name in names]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])
    nodes = [
        helper.make_node("Mul", names, ["product"]),
        helper.make_node("Cast", ["product"], ["logits"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(nodes, "g", values, [logits])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"m.onnx: does not run with inputs \[2, 5\]"):
        open_engine(tmp_path / "m.onnx", 1, "Model")


def test_weights_without_the_head_are_refused(encoder_dir: Path) -> None:
    with pytest.raises(
        GraphError, match=r"the weights lack classifier.bias, classifier.weight of a BertForSequenceCla"
    ):
        open_engine(encoder_dir, 1, "ForSequenceClassification")


def test_directories_that_torch_cannot_load(encoder_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder_dir, tmp_path / "encoder")
    weights = tmp_path / "encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(FileFormatError, match=r"encoder: the model cannot be loaded: SafetensorError"):
        open_engine(tmp_path / "encoder", 1, "Model")


def test_a_module_in_training_stays_in_training(encoder_dir: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    from fastcpu.eval.torch_engine import TorchEngine

    config = BertConfig(intermediate_size=32, max_position_embeddings=24, hidden_dropout_prob=0.5, **CONFIG)
    module = BertForSequenceClassification(config).train()
    module.bert.embeddings.eval()
    modes = [part.training for part in module.modules()]
    model = Classifier(TorchEngine(module, encoder_dir))
    assert model(["red green"]) == model(["red green"]), "without dropout"
    assert [part.training for part in module.modules()] == modes


def test_packages_that_are_not_installed(encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("torch", "onnxruntime", "tokenizers"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingPackageError, match=r"runs in torch and transformers \(pip install fastcpu\[compress\]\)"
    ):
        open_engine(encoder_dir, 1, "Model")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(MissingPackageError, match=r"pip install onnxruntime"):
        open_engine(tmp_path / "m.onnx", 1, "Model")
    with pytest.raises(MissingPackageError, match=r"pip install tokenizers"):
        Tokenizer(encoder_dir)
