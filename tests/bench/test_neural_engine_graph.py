"""The ONNX graph that the Neural Engine is given: checked in ONNX Runtime, without its package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.e2e.neural_engine import NeuralEngine
from bench.e2e.neural_engine_graph import distilbert_qa, quantized_products
from bench.inputs import Shape
from bench.models import PreparedModel

HEADS, LAYERS, VOCAB = 4, 2, 50


@pytest.fixture(scope="module")
def tiny() -> Any:
    """A torch DistilBertForQuestionAnswering whose LayerNorms and biases are not the trivial ones."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "max_position_embeddings": 24, "dim": 32, "hidden_dim": 48}
    config = transformers.DistilBertConfig(**sizes, n_heads=HEADS, n_layers=LAYERS, attn_implementation="eager")
    model = transformers.DistilBertForQuestionAnswering(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def _graph(model: Any) -> Any:
    return distilbert_qa({name: value.detach().numpy() for name, value in model.named_parameters()}, HEADS)


def test_it_answers_as_the_model_does(tiny: Any) -> None:
    onnx = pytest.importorskip("onnx")
    import onnxruntime
    import torch

    graph = _graph(tiny)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for batch, length in ((1, 5), (3, 24)):
        ids = random.integers(0, VOCAB, (batch, length))
        mask = np.ones_like(ids)
        mask[-1, length // 2 :] = 0
        answers = session.run(
            ["start_logits", "end_logits"],
            {"input_ids": ids.astype(np.int32), "attention_mask": mask.astype(np.int32)},
        )
        with torch.inference_mode():
            expected = tiny(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        for answer, want in zip(answers, (expected.start_logits, expected.end_logits), strict=True):
            np.testing.assert_allclose(answer, want.numpy(), atol=1e-4)


def test_linears_and_the_product_with_v_are_quantized(tiny: Any) -> None:
    graph = _graph(tiny)
    products = [node.name for node in graph.graph.node if node.op_type == "MatMul"]
    names = quantized_products(graph)
    assert len(names) == len(set(names)) == 7 * LAYERS
    left = set(products) - set(names)
    assert len(left) == LAYERS + 1
    assert all(".scores" in name or name.startswith("qa_outputs") for name in left)


def test_sparse_linears_are_tried_only_where_they_do_not_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = NeuralEngine({})
    monkeypatch.setattr(engine, "_sparse_linears", 36, raising=False)
    assert [len(engine.variants(Shape(batch, length))) for batch, length in ((1, 96), (2, 16), (4, 48))] == [2, 1, 1]
    monkeypatch.setattr(engine, "_sparse_linears", 0)
    assert engine.variants(Shape(1, 96)) == ("dense-linears",)


def test_another_model_is_refused(tmp_path: Path) -> None:
    model = PreparedModel("minilm", 0.0, (), (), 1, "", tmp_path)
    with pytest.raises(ValueError, match="distilbert-qa only, not minilm"):
        NeuralEngine({}).prepare(model, tmp_path)
