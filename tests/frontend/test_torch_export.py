"""Torch modules and directories -> Graph, compared with ONNX Runtime and torch."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from fastcpu import frontend
from fastcpu.errors import FileFormatError, GraphError, InputError
from fastcpu.frontend import families, onnx_import, torch_export
from tests.frontend import tiny
from tests.reference import executor

# Every head of two families, and the model without head of all: test_families.py has the rest.
SOME = [name for name in tiny.ARCHITECTURES if name.startswith(("Bert", "DistilBert")) or name.endswith("Model")]


@pytest.mark.parametrize("architecture", SOME)
def test_tasks_match_onnxruntime(architecture: str, rng: np.random.Generator) -> None:
    proto = torch_export.to_onnx(tiny.model(architecture), 13)
    graph = onnx_import.import_proto(proto, architecture, torch_export.PREFIX)
    feeds = tiny.feeds(rng)
    tiny.assert_same(executor.run(graph, feeds), tiny.run_onnx(proto, feeds), feeds["attention_mask"])


@pytest.mark.parametrize("architecture", SOME)
def test_module_matches_torch(architecture: str, rng: np.random.Generator) -> None:
    module = tiny.model(architecture)
    feeds = tiny.feeds(rng)
    split = families.split(architecture)
    assert split is not None
    inputs = {name: torch.tensor(feeds[name]) for name in split[0].inputs(module.config)}
    with torch.no_grad():
        answer = module(**inputs)
    graph = frontend.load(module)
    expected = {output.name: answer[output.name].numpy() for output in graph.outputs}
    tiny.assert_same(executor.run(graph, feeds), expected, feeds["attention_mask"])


@pytest.mark.parametrize("architecture", ["BertModel", "DistilBertForQuestionAnswering"])
def test_left_padding(architecture: str, rng: np.random.Generator) -> None:
    proto = torch_export.to_onnx(tiny.model(architecture))
    graph = onnx_import.import_proto(proto, architecture)
    feeds = tiny.feeds(rng, holes=False)
    feeds["attention_mask"] = np.ascontiguousarray(feeds["attention_mask"][:, ::-1])
    tiny.assert_same(executor.run(graph, feeds), tiny.run_onnx(proto, feeds), feeds["attention_mask"])


def test_distilbert_qa_nodes() -> None:
    graph = frontend.load(tiny.model("DistilBertForQuestionAnswering"))
    layer = ["linear", "linear", "linear", "attention", "linear", "layernorm", "linear", "linear", "layernorm"]
    ops = [node.op for node in graph.nodes]
    assert ops == ["unpad", "embedding", "layernorm", *layer, *layer, "linear", "repad", "repad"]
    names = [node.name for node in graph.nodes if node.op == "linear"]
    assert names[0] == "distilbert.transformer.layer.0.attention.q_lin"
    assert names[-1] == "qa_outputs"
    activations = [node.attrs["activation"] for node in graph.nodes if node.op == "linear"]
    assert activations == ["none", "none", "none", "none", "gelu", "none"] * 2 + ["none"]
    assert [node.attrs["residual"] for node in graph.nodes if node.op == "layernorm"] == [False] + [True] * 4
    assert [node.attrs for node in graph.nodes if node.op == "repad"] == [
        {"begin": 0, "end": 1, "squeeze": True, "fill": -1e4},
        {"begin": 1, "end": 2, "squeeze": True, "fill": -1e4},
    ]


def test_inputs_and_fills() -> None:
    bert = frontend.load(tiny.model("BertModel"))
    assert [(i.name, i.role, i.optional) for i in bert.inputs] == [
        ("input_ids", "ids", False),
        ("attention_mask", "mask", False),
        ("token_type_ids", "types", True),
    ]
    assert bert.nodes[-1].attrs["fill"] == 0.0
    assert bert.outputs[0].dims == ("batch", "sequence", 32)
    assert frontend.load(tiny.model("BertForSequenceClassification")).outputs[0].dims == ("batch", 3)


def test_module_is_left_as_it_was() -> None:
    module = copy.deepcopy(tiny.model("BertModel"))
    module.train()
    module.encoder.eval()
    module.set_attn_implementation("sdpa")
    frontend.load(module)
    assert module.training
    assert not module.encoder.training
    assert module.config._attn_implementation == "sdpa"


def test_half_precision_module_gives_an_f32_graph() -> None:
    module = copy.deepcopy(tiny.model("DistilBertModel")).to(torch.bfloat16)
    graph = frontend.load(module)
    assert {tensor.data.dtype.name for tensor in graph.tensors.values()} == {"float32"}
    assert next(module.parameters()).dtype == torch.bfloat16


def test_half_precision_module_is_exported_with_eager_attention() -> None:
    module = copy.deepcopy(tiny.model("BertModel"))
    module.set_attn_implementation("sdpa")
    expected, found = (torch_export.to_onnx(part) for part in (module, copy.deepcopy(module).to(torch.bfloat16)))
    assert [node.op_type for node in found.graph.node] == [node.op_type for node in expected.graph.node]


def test_subclass_counts_as_its_base() -> None:
    module = copy.deepcopy(tiny.model("BertModel"))
    module.__class__ = type("PrunedModel", (type(module),), {})
    assert frontend.load(module).outputs[0].name == "last_hidden_state"


def test_nan_weight_is_named() -> None:
    module = copy.deepcopy(tiny.model("DistilBertModel"))
    with torch.no_grad():
        module.transformer.layer[1].ffn.lin1.bias[5] = float("nan")
    with pytest.raises(GraphError, match=r"layer\.1\.ffn\.lin1\.bias.*NaN"):
        frontend.load(module)


def test_import_is_light() -> None:
    code = (
        "import sys, fastcpu.frontend, fastcpu.export, fastcpu.graph.passes\n"
        "assert not {'torch', 'transformers', 'onnx', 'onnx_ir'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- directories ----


@pytest.mark.parametrize("architecture", ["BertForSequenceClassification", "DistilBertForTokenClassification"])
def test_directory(architecture: str, tmp_path: Path, rng: np.random.Generator) -> None:
    module = tiny.model(architecture)
    module.save_pretrained(tmp_path / "saved")
    graph = frontend.load(tmp_path / "saved")
    assert graph.name == "saved"
    feeds = tiny.feeds(rng)
    expected = executor.run(frontend.load(module), feeds)
    for name, array in executor.run(graph, feeds).items():
        np.testing.assert_array_equal(array, expected[name])


def _pooled(hidden: NDArray[Any], mask: NDArray[Any], mode: str) -> NDArray[Any]:
    rows = [row[real.astype(bool)] for row, real in zip(hidden, mask, strict=True)]
    how = {"mean": lambda row: row.mean(axis=0), "max": lambda row: row.max(axis=0), "cls": lambda row: row[0]}
    return np.stack([how[mode](row) for row in rows])


@pytest.mark.parametrize("architecture", ["BertModel", "DistilBertModel"])
@pytest.mark.parametrize(
    ("mode", "config", "normalize"),
    [
        ("mean", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, True),
        ("cls", {"pooling_mode_cls_token": True}, False),
        ("max", {"pooling_mode": "max"}, True),
    ],
)
def test_sentence_transformers_directory(
    mode: str, config: dict[str, Any], normalize: bool, architecture: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    modules = ("Transformer", "Pooling", "Normalize") if normalize else ("Transformer", "Pooling")
    tiny.sentence_transformer(tmp_path, config, modules, architecture)
    feeds = tiny.feeds(rng)
    answer = executor.run(frontend.load(tmp_path), feeds)
    expected = _pooled(answer["last_hidden_state"], feeds["attention_mask"], mode)
    if normalize:
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(answer["sentence_embedding"], expected, atol=1e-5)


def test_all_minilm(minilm_dir: Path, rng: np.random.Generator) -> None:
    graph = frontend.load(minilm_dir)
    assert [output.name for output in graph.outputs] == ["last_hidden_state", "sentence_embedding"]
    assert [node.op for node in graph.nodes[-4:]] == ["repad", "pool", "l2norm", "repad"]
    feeds = tiny.feeds(rng)
    proto = torch_export.to_onnx(torch_export._from_directory(minilm_dir, bare=True))
    answer = executor.run(graph, feeds, exact=False)
    expected = tiny.run_onnx(proto, feeds)
    tiny.assert_same({"last_hidden_state": answer["last_hidden_state"]}, expected, feeds["attention_mask"])


@pytest.mark.parametrize(
    ("pooling", "modules", "message"),
    [
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ("Transformer", "Pooling"), "mean_sqrt_len"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, ("Transformer", "Pooling"), "max, mean"),
        ({"pooling_mode": "mean"}, ("Transformer", "Dense", "Pooling"), "Transformer, Dense, Pooling"),
    ],
)
def test_unsupported_sentence_transformers(
    pooling: dict[str, Any], modules: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    tiny.sentence_transformer(tmp_path, pooling, modules, "BertModel")
    with pytest.raises(GraphError, match=message):
        frontend.load(tmp_path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    tiny.model("DistilBertModel").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["DistilBertForTokenClassification"]}))
    with pytest.raises(GraphError, match=r"classifier\.bias, classifier\.weight"):
        frontend.load(tmp_path)


def _configure(path: Path, **settings: Any) -> None:
    """Change settings of a config.json; None drops one."""
    config = json.loads((path / "config.json").read_text()) | settings
    (path / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("architecture", "held", "remedy"),
    [
        ("BertForSequenceClassification", "classifier.bias, classifier.weight", "BertForSequenceClassification"),
        ("BertForTokenClassification", "classifier.bias, classifier.weight", "BertForTokenClassification"),
        ("BertForQuestionAnswering", "qa_outputs.bias, qa_outputs.weight", "BertForQuestionAnswering"),
        ("DistilBertForSequenceClassification", "classifier.bias", "DistilBertForSequenceClassification"),
        ("DistilBertForQuestionAnswering", "qa_outputs.bias", "DistilBertForQuestionAnswering"),
    ],
)
def test_a_head_that_is_not_used(architecture: str, held: str, remedy: str, named: bool, tmp_path: Path) -> None:
    tiny.model(architecture).save_pretrained(tmp_path)
    base = f"{architecture.partition('For')[0]}Model"
    _configure(tmp_path, architectures=[base] if named else None)
    with pytest.raises(
        GraphError, match=rf"hold {held}.*which {base} does not use.*\"architectures\": \[\"{remedy}\"\]"
    ):
        frontend.load(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "setting", "held"),
    [
        ("BertModel", "num_hidden_layers", r"encoder\.layer\.1\."),
        ("BertForTokenClassification", "num_hidden_layers", r"bert\.encoder\.layer\.1\."),
        ("DistilBertModel", "n_layers", r"transformer\.layer\.1\."),
        ("DistilBertForTokenClassification", "n_layers", r"distilbert\.transformer\.layer\.1\."),
    ],
)
def test_layers_that_are_not_used(architecture: str, setting: str, held: str, tmp_path: Path) -> None:
    tiny.model(architecture).save_pretrained(tmp_path)
    _configure(tmp_path, **{setting: 1})
    with pytest.raises(
        GraphError, match=rf"hold {held}.* and more, which {architecture} does not use: config\.json is"
    ):
        frontend.load(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "setting"), [("BertModel", "num_hidden_layers"), ("DistilBertModel", "n_layers")]
)
def test_more_layers_than_any_model_has(architecture: str, setting: str, tmp_path: Path) -> None:
    tiny.model(architecture).save_pretrained(tmp_path)
    _configure(tmp_path, **{setting: 1_000_000_000})
    with pytest.raises(FileFormatError, match=r"config\.json: describes no model: 1000000000 layers"):
        frontend.load(tmp_path)


@pytest.mark.parametrize(
    ("pretrained", "prefix", "architecture"),
    [
        ("BertForPreTraining", "bert", "BertModel"),
        ("BertForMaskedLM", "bert", "BertModel"),
        ("DistilBertForMaskedLM", "distilbert", "DistilBertModel"),
    ],
)
def test_heads_of_pretraining_are_left_out(pretrained: str, prefix: str, architecture: str, tmp_path: Path) -> None:
    config = tiny.model(architecture).config
    module = getattr(transformers, pretrained)(config)
    module.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    names = f"{prefix}.embeddings.position_ids"
    torch.save(module.state_dict() | {names: torch.arange(40)[None]}, tmp_path / "pytorch_model.bin")
    _configure(tmp_path, architectures=[architecture])
    loaded = frontend.load(tmp_path)
    expected = frontend.load(getattr(module, prefix))
    assert list(loaded.tensors) == list(expected.tensors)
    assert all(np.array_equal(loaded.tensors[key].data, expected.tensors[key].data) for key in expected.tensors)


def test_a_pooler_that_nothing_reads_is_left_out(tmp_path: Path) -> None:
    module, donor = tiny.model("BertForTokenClassification"), tiny.model("BertModel")
    module.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    pooler = {f"bert.{name}": tensor for name, tensor in donor.state_dict().items() if name.startswith("pooler.")}
    assert pooler
    torch.save(module.state_dict() | pooler, tmp_path / "pytorch_model.bin")
    assert frontend.load(tmp_path).outputs[0].name == "logits"


def test_a_sentence_transformer_may_hold_a_head(tmp_path: Path) -> None:
    tiny.sentence_transformer(
        tmp_path, {"pooling_mode": "cls"}, ("Transformer", "Pooling"), "DistilBertForSequenceClassification"
    )
    assert [output.name for output in frontend.load(tmp_path).outputs] == ["last_hidden_state", "sentence_embedding"]


def test_shapes_that_differ_are_named(tmp_path: Path) -> None:
    tiny.model("BertModel").save_pretrained(tmp_path)
    _configure(tmp_path, max_position_embeddings=48)
    named = r"embeddings\.position_embeddings\.weight is \[40, 32\] in the weights but \[48, 32\] by config\.json$"
    with pytest.raises(GraphError, match=named):
        frontend.load(tmp_path)
    _configure(tmp_path, hidden_size=64)
    with pytest.raises(
        GraphError, match=r"LayerNorm\.bias is \[32\] .* but \[64\] by config\.json \(and \d+ more differ\)"
    ):
        frontend.load(tmp_path)


def test_a_config_that_describes_no_model(tmp_path: Path) -> None:
    tiny.model("BertModel").save_pretrained(tmp_path)
    _configure(tmp_path, num_attention_heads=3)
    with pytest.raises(FileFormatError, match=r"config\.json: describes no model: .*multiple"):
        frontend.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "short", "random", "empty", "pointer"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_weights(name: str, damage: str, tmp_path: Path, rng: np.random.Generator) -> None:
    module = tiny.model("BertModel")
    module.save_pretrained(tmp_path)
    path = tmp_path / name
    if name.endswith(".bin"):
        (tmp_path / "model.safetensors").unlink()
        torch.save(module.state_dict(), path)
    data = path.read_bytes()
    damaged = {
        "cut": data[:5000],
        "short": data[:-100],
        "random": rng.bytes(5000),
        "empty": b"",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(FileFormatError) as info:
        frontend.load(tmp_path)
    assert str(info.value).startswith(f"{path}: the weights cannot be loaded: ")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("content", [[1, 2], None, {"a": slice(3)}, "old"])
def test_checkpoints_of_something_else(content: Any, tmp_path: Path) -> None:
    module = tiny.model("BertModel")
    module.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    path = tmp_path / "pytorch_model.bin"
    if content == "old":  # the format before torch 1.6, cut short
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[:5000])
    else:
        torch.save(content, path)
    with pytest.raises(FileFormatError, match=r"pytorch_model\.bin: the weights cannot be loaded: "):
        frontend.load(tmp_path)


def test_unsupported_architecture(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    with pytest.raises(GraphError, match=r"GPT2LMHeadModel is not supported; supported are Albert, "):
        frontend.load(tmp_path)
    with pytest.raises(GraphError, match=r"Linear is not supported"):
        frontend.load(torch.nn.Linear(2, 2))


def test_unusable_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="never downloaded"):
        frontend.load("bert-base-uncased")
    with pytest.raises(FileFormatError, match=r"no config\.json"):
        frontend.load(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="neither a directory nor"):
        frontend.load(tmp_path / "model.bin")
    with pytest.raises(InputError, match="not int"):
        frontend.load(3)  # type: ignore[arg-type]
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    with pytest.raises(FileFormatError, match="the weights cannot be loaded"):
        frontend.load(tmp_path)
