"""Every family with every head: f32 like ONNX Runtime, int8 close to it, and the same bits on every instruction set."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import fastcpu
from fastcpu import _core, frontend
from fastcpu.doctor import random_feeds
from fastcpu.errors import GraphError, UnsupportedOpError
from fastcpu.export.reader import read_graph
from fastcpu.frontend import families, onnx_import, torch_export
from fastcpu.frontend.families import FAMILIES
from fastcpu.prune.graph import encoder_linears
from tests.frontend import tiny
from tests.reference import executor

LENGTHS = (17, 1, tiny.POSITIONS, 6)


@cache
def _proto(architecture: str) -> onnx.ModelProto:
    return torch_export.to_onnx(tiny.model(architecture))


def _cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def _real(array: NDArray[Any], mask: NDArray[Any]) -> NDArray[Any]:
    return array[mask != 0] if array.shape[:2] == mask.shape else array


def _known(feeds: tiny.Feeds, session: fastcpu.Session) -> tiny.Feeds:
    names = {graph_input.name for graph_input in session.inputs}
    return {name: array for name, array in feeds.items() if name in names}


@pytest.mark.parametrize("source", ["directory", "onnx"])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_f32_answers_like_onnxruntime(architecture: str, source: str, tmp_path: Path, rng: np.random.Generator) -> None:
    model = tmp_path / ("saved.onnx" if source == "onnx" else "saved")
    if source == "onnx":
        onnx.save(_proto(architecture), model)
    else:
        tiny.model(architecture).save_pretrained(model)
    session = fastcpu.Session(fastcpu.compile(model, tmp_path / "out"), threads=2)
    for holes in (True, False):
        feeds = _known(tiny.feeds(rng, LENGTHS, holes), session)
        expected = tiny.run_onnx(_proto(architecture), feeds)
        tiny.assert_same(session.run(feeds), expected, feeds["attention_mask"], 1e-4)
    # Without holes, rows are what lists are.
    rows = {name: [row[:n] for row, n in zip(array, LENGTHS, strict=True)] for name, array in feeds.items()}
    del rows["attention_mask"]
    for name, array in session.run(rows).items():
        np.testing.assert_array_equal(array, session.run(feeds)[name])


@pytest.mark.parametrize("scheme", ["dynamic", "static"])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_int8_is_close_and_the_same_everywhere(
    architecture: str, scheme: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    names = {value.name for value in _proto(architecture).graph.input}
    batches = [{k: v for k, v in tiny.feeds(rng, LENGTHS).items() if k in names} for _ in range(4)]
    feeds, calibration = batches[0], batches[1:] if scheme == "static" else None
    source = tiny.model(architecture)
    if scheme == "dynamic":
        source = tmp_path / "saved.onnx"
        onnx.save(_proto(architecture), source)
    compiled = fastcpu.compile(source, tmp_path / "out", quantize=scheme, calibration=calibration)
    assert {layer["storage"] for layer in compiled.report["layers"]} == {"s8"}
    expected = executor.run(read_graph(compiled.directory), feeds)
    before = _core.selected_isa()
    try:
        for isa in _core.supported_isas():
            _core.force_isa_for_testing(isa)
            for name, array in fastcpu.Session(compiled, threads=2).run(feeds).items():
                np.testing.assert_array_equal(array, expected[name], err_msg=f"{name}, {isa}")
    finally:
        _core.force_isa_for_testing(before)
    for name, array in tiny.run_onnx(_proto(architecture), feeds).items():
        mask = feeds["attention_mask"]
        assert _cosine(_real(expected[name], mask), _real(array, mask)) > 0.99, name


@pytest.mark.parametrize("mode", ["mean", "cls"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_sentence_embeddings(family: families.Family, mode: str, tmp_path: Path, rng: np.random.Generator) -> None:
    architecture = f"{family.name}Model"
    tiny.sentence_transformer(tmp_path, {"pooling_mode": mode}, ("Transformer", "Pooling"), architecture)
    feeds = tiny.feeds(rng, LENGTHS, holes=False)
    session = fastcpu.Session(fastcpu.compile(tmp_path, tmp_path / "out"))
    answer = session.run(_known(feeds, session))["sentence_embedding"]
    hidden = tiny.run_onnx(_proto(architecture), feeds)["last_hidden_state"]
    rows = [row[:length] for row, length in zip(hidden, LENGTHS, strict=True)]
    expected = np.stack([row.mean(axis=0) if mode == "mean" else row[0] for row in rows])
    np.testing.assert_allclose(answer, expected, atol=1e-4)


# ---- what a family has of its own ----


def test_token_types_are_an_input_where_there_are_several() -> None:
    roles = {family.name: family.inputs(tiny.model(f"{family.name}Model").config)[2:] for family in FAMILIES}
    types = ("token_type_ids",)
    assert roles == {
        "Albert": types, "Bert": types, "Camembert": (), "DistilBert": (), "Electra": types, "MPNet": (),
        "Roberta": types, "XLMRoberta": (),
    }  # fmt: skip


@pytest.mark.parametrize("architecture", ["RobertaModel", "MPNetModel", "BertModel"])
def test_the_longest_sequence(architecture: str, tmp_path: Path) -> None:
    """Rows of the position table up to the padding token's are of no token."""
    directory = fastcpu.compile(tiny.model(architecture), tmp_path / "out").directory
    session = fastcpu.Session(directory)
    longest = np.full(tiny.POSITIONS, 7)
    assert session.run({"input_ids": [longest]})["last_hidden_state"].shape == (1, tiny.POSITIONS, 32)
    message = f"a sequence of length {tiny.POSITIONS + 1} is too long: the model has {tiny.POSITIONS} positions"
    with pytest.raises(fastcpu.InputError, match=message):
        session.run({"input_ids": [np.append(longest, 7)]})
    model = _core.read_model(str(directory))
    assert session.run(random_feeds(model, 2, tiny.POSITIONS))
    with pytest.raises(fastcpu.InputError, match=message):
        random_feeds(model, 2, tiny.POSITIONS + 1)


def test_padding_on_the_left_does_not_move_positions(tmp_path: Path, rng: np.random.Generator) -> None:
    session = fastcpu.Session(fastcpu.compile(tiny.model("RobertaModel"), tmp_path / "out"))
    row = rng.integers(5, tiny.VOCABULARY, 7)
    padded = {
        "input_ids": np.concatenate([[1, 1, 1], row])[None],
        "attention_mask": np.array([[0, 0, 0] + [1] * 7]),
    }
    expected = session.run({"input_ids": [row]})["last_hidden_state"]
    np.testing.assert_array_equal(session.run(padded)["last_hidden_state"][:, 3:], expected)


def test_a_padding_token_among_the_others(tmp_path: Path, rng: np.random.Generator) -> None:
    """It is at no position, and those behind it count on."""
    proto = _proto("RobertaModel")
    session = fastcpu.Session(fastcpu.compile(tiny.model("RobertaModel"), tmp_path / "out"))
    feeds = tiny.feeds(rng, (9, 9), holes=False)
    feeds["input_ids"][0, [0, 4, 5]] = 1
    tiny.assert_same(session.run(feeds), tiny.run_onnx(proto, feeds), feeds["attention_mask"], 1e-4)


def test_the_bias_by_position_is_stored_once() -> None:
    graph = frontend.load(tiny.model("MPNetModel"))
    biases = {node.tensors["bias"] for node in graph.nodes if node.op == "attention"}
    assert len(biases) == 1
    table = graph.tensors[biases.pop()].data
    expected = tiny.model("MPNetModel").encoder.relative_attention_bias.weight.detach().numpy()
    assert table.shape[0] == 2
    assert set(table[0]) <= set(expected[:, 0])
    assert table[1, table.shape[1] // 2] == expected[0, 1], "a token and itself are in bucket 0"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_tied_decoder_is_the_table_of_words(family: families.Family) -> None:
    graph = frontend.load(tiny.model(f"{family.name}ForMaskedLM"))
    decoder = [node for node in graph.nodes if node.op == "linear"][-1]
    embedding = next(node for node in graph.nodes if node.op == "embedding")
    assert decoder.tensors["weight"] in embedding.tensors.values()


@pytest.mark.parametrize("ending", ["Model", "ForMaskedLM", "ForSequenceClassification"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_linears_of_layers_are_found(family: families.Family, ending: str) -> None:
    nodes = encoder_linears(frontend.load(tiny.model(f"{family.name}{ending}")))
    prefix = f"{family.layers}." if ending == "Model" else f"{family.prefix}.{family.layers}."
    assert len(nodes) == 2 * 6
    if family.layers:
        assert all(node.name.startswith((f"{prefix}0.", f"{prefix}1.")) for node in nodes)
    weights = {node.tensors["weight"] for node in nodes}
    assert len(weights) == (12 if family.layers else 6), "what layers share is stored once"


def test_electra_projects_its_embeddings() -> None:
    graph = frontend.load(tiny.model("ElectraModel"))
    names = [node.name for node in graph.nodes if node.op in ("embedding", "layernorm", "linear")][:3]
    assert names == ["embeddings", "embeddings.LayerNorm", "embeddings_project"]
    assert [graph.values[node.outputs[0]].channels for node in graph.nodes[1:4]] == [16, 16, 32]


@pytest.mark.parametrize("architecture", ["DebertaModel", "DebertaV2ForSequenceClassification"])
def test_deberta_is_refused_with_the_reason(architecture: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"architectures": ["{architecture}"]}}')
    message = (
        rf"{architecture} is not supported \(its attention adds .* relative positions .*\); supported are Albert, .*"
    )
    with pytest.raises(GraphError, match=message):
        frontend.load(tmp_path)


def test_deberta_is_refused_as_onnx() -> None:
    import transformers

    config = transformers.DebertaV2Config(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        relative_attention=True, pos_att_type=["p2c", "c2p"], max_position_embeddings=20,
    )  # fmt: skip

    class Exported(transformers.DebertaV2Model):
        def forward(self, *tensors: Any) -> Any:
            return super().forward(*tensors)[0]

    proto = tiny.export(Exported(config).eval(), ("input_ids", "attention_mask"), ("last_hidden_state",))
    with pytest.raises(UnsupportedOpError) as info:
        onnx_import.import_proto(proto, "deberta")
    assert "attention/self" in info.value.node
