"""The reference itself, against exact rational arithmetic and the float64 oracles."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcpu.graph.ir import Graph
from tests.reference import executor, graphs, oracle
from tests.reference import numerics as n
from tests.reference.pointwise import POINTWISE, exp2, parse


def nearest_f32(exact: Fraction) -> np.float32:
    """The f32 nearest to a rational number, ties to even, by comparing neighbours."""
    guess = np.float32(float(exact))
    candidates = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - exact), int(c.view(np.int32)) & 1))


def test_fma_rounds_once() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 2000)).astype(np.float32)
    c = (-a.astype(np.float64) * b * rng.choice([1, 1 + 2**-23, 2**-30, 2**20], 2000)).astype(np.float32)
    got = n.fma(a, b, c)
    for x, y, z, r in zip(a, b, c, got, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        assert r == nearest_f32(exact), (x, y, z)


def test_fma_where_a_sum_in_double_rounds_twice() -> None:
    a, b, c = np.float32(1 + 2.0**-15), np.float32(1 - 2.0**-15), np.float32(2**24 + 2)
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(c)) == 2**24 + 4
    assert n.fma(a, b, c) == 2**24 + 2


def test_constants_of_the_specification() -> None:
    assert n.LOG2_E == 1.4426950408889634


@pytest.mark.parametrize(
    ("name", "ulp", "absolute"),
    [("gelu", 2, 2**-22), ("gelu_tanh", 2, 2**-22), ("tanh", 2, 2**-22), ("relu", 0, 0)],
)
def test_pointwise_bounds(name: str, ulp: float, absolute: float) -> None:
    x = np.concatenate([np.linspace(-15, 15, 100_001), np.geomspace(1e-30, 1e30, 1001), [0, 1e38]]).astype(np.float32)
    exact = oracle.FUNCTIONS[name](x)
    assert (np.abs(POINTWISE[name](x) - exact) <= ulp * oracle.spacing(exact) + absolute).all()


def test_exp2_bound() -> None:
    x = np.linspace(-126, 0, 200_001).astype(np.float32)
    exact = np.exp2(x.astype(np.float64))
    assert (np.abs(exp2(x) - exact) <= 4 * oracle.spacing(exact)).all()
    assert exp2(np.float32([0, -500]))[0] == 1


def test_a_statement_that_the_header_reader_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot read 'if"):
        parse("template <class V>\ninline V f(V x) {\n  if (x) return x;\n  return x;\n}\n")


def test_quantize_rounds_to_even_and_maps_nan_to_the_zero_point() -> None:
    x = np.float32([[0.5, 1.5, 2.5, -1e30, 1e30, np.nan, np.inf, -np.inf]])
    assert n.quantize(x, 1.0, 7).tolist() == [[7, 9, 9, 0, 255, 7, 255, 0]]


def test_quantize_dynamic_of_ordinary_zero_and_broken_tokens() -> None:
    x = np.float32([[1, 0, np.nan, np.inf], [-2, 0, 3, 1], [0.5, 0, -1.5, -4]])
    q, scale = n.quantize_dynamic(x)
    assert scale.tolist() == [np.float32(2) / np.float32(127), 1, np.float32(3) / np.float32(127), 1]
    assert q.T.tolist() == [[192, 1, 160], [128, 128, 128], [128, 255, 64], [255, 129, 124]]


def test_u8_linear_is_exact_up_to_ties() -> None:
    rng = np.random.default_rng(1)
    w = rng.integers(-127, 128, (12, 40)).astype(np.int8)
    x = rng.integers(0, 256, (40, 50)).astype(np.uint8)
    w_scale, bias = rng.random(12).astype(np.float32) / 100, rng.standard_normal(12).astype(np.float32)
    acc = n.accumulate(w, x, 93, None)
    assert (acc == w.astype(np.int64) @ (x.astype(np.int64) - 93)).all()
    mul, add = n.linear_constants(w_scale, bias, 0.02, 0.05, 131)
    exact = oracle.linear(w, w_scale, oracle.dequantize(x, 0.02, 93), bias)
    assert oracle.u8_mismatches(n.to_u8(n.epilogue(acc, mul, add), 0), oracle.quantize(exact, 0.05, 131)) == 0


@pytest.mark.parametrize("causal", [False, True])
def test_attention_f32_is_softmax(causal: bool) -> None:
    q, k, v = np.random.default_rng(2).standard_normal((3, 2, 4, 8, 11)).astype(np.float32)
    exact = oracle.attention(*(x.astype(np.float64) for x in (q, k, v)), 8**-0.5, causal)
    for exactly in (True, False):
        got = n.attention_f32(q, k, v, n.exponent_scale(8**-0.5), causal, exp2, exactly)
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_u8_is_near_softmax(causal: bool) -> None:
    q, k, v = np.random.default_rng(3).integers(40, 216, (3, 2, 4, 8, 11)).astype(np.uint8)
    scales = (0.02, 0.03, 0.01)
    exact = oracle.attention(
        *(oracle.dequantize(x, s, z) for x, s, z in zip((q, k, v), scales, (120, 128, 128), strict=True)),
        8**-0.5,
        causal,
    )
    got = n.attention_u8(
        q, k, v, 120, n.exponent_scale(8**-0.5, *scales[:2]), np.float32(scales[2]), None, causal, exp2
    )
    np.testing.assert_allclose(got, exact, atol=0.01)
    y = n.attention_u8(
        q, k, v, 120, n.exponent_scale(8**-0.5, *scales[:2]), np.float32(scales[2] / 0.008), 131, causal, exp2
    )
    assert np.abs(y - np.clip(exact / 0.008 + 131, 0, 255)).max() < 2
    if not causal:
        centred = k.astype(np.int64) - 128
        scores = np.swapaxes(centred, -1, -2) @ (q.astype(np.int64) - 120)
        rounded = oracle.attention_u8(
            scores, n.exponent_scale(8**-0.5, *scales[:2]), v, np.float32(scales[2] / 0.008), 131
        )
        assert oracle.u8_mismatches(y, rounded) == 0


def encoder_in_float64(graph: Graph, feeds: dict[str, NDArray[np.int64]], row: int) -> NDArray[np.float64]:
    """The hidden state of one row of an `encoder` graph, op by op in float64."""
    length = int(feeds["attention_mask"][row].sum())
    data = {name: tensor.data.astype(np.float64) for name, tensor in graph.tensors.items()}

    def norm(name: str, a: NDArray[np.float64], b: NDArray[np.float64] | None) -> NDArray[np.float64]:
        return oracle.layernorm(a, b, data[f"{name}.gamma"], data[f"{name}.beta"], 1e-12)

    def linear(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return oracle.linear(data[f"{name}.weight"], None, x, data[f"{name}.bias"])

    h = data["embeddings.ids"][feeds["input_ids"][row, :length]] + data["embeddings.positions"][:length]
    h = norm("embeddings.norm", (h + data["embeddings.types"][feeds["token_type_ids"][row, :length]]).T, None)
    for i in range(2):
        q, k, v = (linear(f"layer{i}.{role}", h).reshape(2, 8, length) for role in "qkv")
        context = oracle.attention(q, k, v, 8**-0.5, causal=False).reshape(16, length)
        h = norm(f"layer{i}.norm1", linear(f"layer{i}.o", context), h)
        h = norm(f"layer{i}.norm2", linear(f"layer{i}.fc2", oracle.gelu(linear(f"layer{i}.fc1", h))), h)
    return h.T


@pytest.mark.parametrize("exact", [True, False])
def test_encoder_agrees_with_float64(exact: bool) -> None:
    graph, feeds = graphs.encoder(), graphs.batch()
    hidden = executor.run(graph, feeds, exact)["last_hidden_state"]
    for row, mask in enumerate(feeds["attention_mask"]):
        np.testing.assert_allclose(hidden[row, : mask.sum()], encoder_in_float64(graph, feeds, row), atol=3e-5)
        assert (hidden[row, mask.sum() :] == 0).all()


@pytest.mark.parametrize("head", ["hidden", "qa", "classifier", "embedding"])
def test_a_row_gives_the_same_bits_alone_and_in_a_batch(head: graphs.Head) -> None:
    graph, feeds = graphs.encoder(head=head, causal=head == "hidden"), graphs.batch(4)
    together = executor.run(graph, feeds)
    for row, mask in enumerate(feeds["attention_mask"]):
        length = int(mask.sum())
        alone = executor.run(graph, {name: array[row : row + 1, :length] for name, array in feeds.items()})
        for name, array in alone.items():
            whole = together[name][row]
            part = whole[:length] if "sequence" in next(o.dims for o in graph.outputs if o.name == name) else whole
            assert np.array_equal(part, array[0]), name


def test_a_hole_in_the_mask_keeps_the_positions() -> None:
    graph, feeds = graphs.encoder(), graphs.batch(2)
    feeds["attention_mask"][0, 3] = 0
    run = executor.Run(graph, feeds)
    assert run.values["positions"][0, : run.ragged.lengths[0]].tolist() == [0, 1, 2, 4, 5, 6, 7, 8]


def test_an_empty_row_pools_to_zero() -> None:
    graph, feeds = graphs.encoder(head="embedding"), graphs.batch(2)
    feeds["attention_mask"][1] = 0
    assert (executor.run(graph, feeds)["sentence_embedding"][1] == 0).all()
