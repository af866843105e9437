"""What patterns and scores choose, how layers compete, and which linears of a graph are pruned."""

from __future__ import annotations

import numpy as np
import pytest

from fastcpu import GraphError, InputError
from fastcpu.prune import (
    encoder_linears,
    keep_mask,
    keep_masks,
    prune_graph,
    prune_weight,
)
from tests.reference import graphs


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((24, 18)).astype(np.float32)


def test_evidence_decides() -> None:
    weight = np.ones((4, 3), np.float32)
    gradient = np.array([[3, 1, 2]] * 4, np.float32)
    assert keep_mask(weight, 1 / 3, "4x1", "snip_momentum", gradient)[0].tolist() == [True, False, True]
    assert keep_mask(weight, 2 / 3, "4x1", "wanda", np.array([1.0, 9.0, 4.0]))[0].tolist() == [False, True, False]


def test_a_weight_is_pruned_and_otherwise_unchanged(weight: np.ndarray) -> None:
    pruned = prune_weight(weight, 0.5)
    kept = pruned != 0
    assert pruned.dtype == weight.dtype
    assert np.array_equal(pruned[kept], weight[kept])


def test_the_layer_that_does_not_fit_is_named(weight: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"linear 'narrow': a weight of shape \[6, 4\] does not divide into 4x1"):
        keep_masks({"wide": weight, "narrow": np.ones((6, 4), np.float32)}, 0.5)


def test_layers_compete_in_global_scope(weight: np.ndarray) -> None:
    flat = np.full((8, 8), 100.0, np.float32) + np.arange(8, dtype=np.float32)
    weights = {"varied": weight, "flat": flat}
    masks = keep_masks(weights, 0.25, "4x1", scope="global")
    blocks = {name: (~mask[::4]).sum() for name, mask in masks.items()}
    assert sum(blocks.values()) == round(0.25 * (6 * 18 + 2 * 8))
    assert blocks["flat"] == 0  # the scale of a layer does not matter, and none of its blocks is far below the mean
    by_layer = keep_masks(weights, 0.25, "4x1", scope="layer")
    assert [(~mask[::4]).sum() for mask in by_layer.values()] == [27, 4]


def test_ties_go_in_order() -> None:
    assert keep_mask(np.ones((8, 4), np.float32), 0.5, "4x1").all(axis=1).tolist() == [False] * 4 + [True] * 4


def test_4x1_blocks_are_four_outputs_of_one_input() -> None:
    weight = np.ones((8, 3), np.float32)
    weight[4:, 1] = 0.5
    assert (prune_weight(weight, 1 / 6) == 0).nonzero()[0].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("array", "sparsity", "pattern", "message"),
    [
        (np.ones((6, 4)), 0.5, "4x1", r"\[6, 4\] does not divide into 4x1"),
        (np.ones(8), 0.5, "4x1", "does not divide"),
        (np.ones((8, 4)), 1.5, "4x1", r"in \[0, 1\]"),
        (np.ones((8, 4)), float("nan"), "4x1", r"in \[0, 1\]"),
        (np.full((8, 4), np.nan), 0.5, "4x1", "NaN"),
        (np.ones((8, 4)), 0.5, "3x3", "4x1, unstructured"),
    ],
)
def test_bad_arguments_are_typed_errors(array: np.ndarray, sparsity: float, pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prune_weight(array, sparsity, pattern)


def test_an_unknown_score_is_a_typed_error() -> None:
    with pytest.raises(InputError, match="magnitude"):
        prune_weight(np.ones((8, 4)), 0.5, score="luck")


@pytest.mark.parametrize("head", ["hidden", "qa", "classifier", "embedding"])
def test_encoder_linears_are_found_by_structure(head: graphs.Head) -> None:
    graph = graphs.encoder(head=head)
    for i, node in enumerate(graph.nodes):
        node.name = f"n{i}"
    weights = [node.tensors["weight"].removesuffix(".weight") for node in encoder_linears(graph)]
    assert weights == [f"layer{i}.{role}" for i in range(2) for role in ("q", "k", "v", "o", "fc1", "fc2")]


def test_a_graph_without_layernorm_has_no_encoder() -> None:
    builder = graphs.Builder("bare")
    builder.linear("projection", builder.embedding(builder.unpad(False), [9, 9], 8), 8)
    assert encoder_linears(builder.graph) == []
    with pytest.raises(InputError, match="no encoder linear"):
        prune_graph(builder.graph, 0.5)


def test_prune_graph_prunes_each_encoder_linear_exactly_and_nothing_else() -> None:
    graph = graphs.encoder(head="classifier")
    before = {name: tensor.data.copy() for name, tensor in graph.tensors.items()}
    layers = prune_graph(graph, 0.8)
    assert len(layers) == 12
    for layer in layers:
        blocks = layer.shape[0] // 4 * layer.shape[1]
        assert (layer.sparsity.blocks, layer.sparsity.zero_blocks) == (blocks, round(0.8 * blocks))
    pruned = {f"{layer.name}.weight" for layer in layers}
    assert all(np.array_equal(graph.tensors[name].data, data) != (name in pruned) for name, data in before.items())


def test_prune_graph_obeys_globs() -> None:
    graph = graphs.encoder()
    layers = prune_graph(graph, 0.5, only=["layer0.*"], ignore=["*.fc?"])
    assert [layer.name for layer in layers] == ["layer0.q", "layer0.k", "layer0.v", "layer0.o"]
    with pytest.raises(InputError, match="globs"):
        prune_graph(graph, 0.5, only=["nothing*"])


def test_prune_graph_names_the_layer_that_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"linear 'layer0.fc1'.*\[30, 16\]"):
        prune_graph(graphs.encoder(inner=30), 0.5)


def test_a_quantized_graph_is_not_pruned() -> None:
    graph = graphs.encoder()
    graph.tensors["layer0.q.weight"].data = graph.tensors["layer0.q.weight"].data.astype(np.int8)
    with pytest.raises(GraphError, match="prune before quantization"):
        prune_graph(graph, 0.5)
