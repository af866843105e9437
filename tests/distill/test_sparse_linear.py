"""Linears that leave out their zeros give what dense ones give, forwards and backwards."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcpu import InputError, _core
from fastcpu.prune import keep_mask

torch = pytest.importorskip("torch")

from fastcpu.distill import sparse_linear  # noqa: E402  (needs torch)
from fastcpu.distill.masks import Masks  # noqa: E402  (needs torch)
from fastcpu.distill.sparse_linear import blocks_of, leave_out_zeros, restore  # noqa: E402
from fastcpu.recipe import Prune  # noqa: E402
from tests.frontend import tiny  # noqa: E402


def pruned(rng: np.random.Generator, n: int, k: int, sparsity: float = 0.75, bias: bool = True) -> torch.nn.Linear:
    """A linear with random weights, of which this share of blocks is zero."""
    layer = torch.nn.Linear(k, n, bias=bias)
    weight = rng.normal(size=(n, k)).astype(np.float32)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight * keep_mask(weight, sparsity)))
    return layer


def kept(layer: torch.nn.Linear) -> NDArray[np.bool_]:
    return keep_mask(layer.weight.detach().numpy(), float((layer.weight == 0).float().mean()))


def gradients(layer: torch.nn.Linear, x: torch.Tensor, dy: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients of the input, the weight and the bias."""
    x = x.detach().requires_grad_()
    blocks = blocks_of(layer)
    trained = layer.weight if blocks is None else blocks.values
    layer.zero_grad()
    trained.grad = None
    y = layer(x)
    y.backward(dy.to(y.dtype))
    weight = trained.grad if blocks is None else blocks.scatter(trained.grad)
    return [y.detach(), x.grad, weight, *([] if layer.bias is None else [layer.bias.grad])]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("outputs", "shape"), [(24, (7, 40)), (24, (2, 3, 40)), (24, (5, 300, 40)), (392, (100, 1800)), (772, (600, 90))]
)
def test_it_is_the_dense_linear(rng: np.random.Generator, outputs: int, shape: tuple[int, ...], bias: bool) -> None:
    """Also with more channels than a kernel takes at once, and more tokens than a panel has."""
    layer = pruned(rng, outputs, shape[-1], bias=bias)
    x = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    dy = torch.from_numpy(rng.normal(size=(*shape[:-1], outputs)).astype(np.float32))
    dense = gradients(layer, x, dy)
    keep = kept(layer)
    assert leave_out_zeros(layer, keep)
    sparse = gradients(layer, x, dy)
    dense[2] = dense[2] * torch.from_numpy(keep)
    for mine, theirs in zip(sparse, dense, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4 * max(1.0, float(theirs.abs().max()) / 10))
    restore(layer)
    assert gradients(layer, x, dy)[2].count_nonzero() > sparse[2].count_nonzero()


def test_what_is_trained_is_in_the_weight_afterwards(rng: np.random.Generator) -> None:
    layer = pruned(rng, 24, 40)
    keep, was = kept(layer), layer.weight.detach().clone()
    assert leave_out_zeros(layer, keep)
    blocks = blocks_of(layer)
    assert blocks is not None
    assert blocks.values.shape == (keep.sum() // 4, 4)
    assert blocks.inside is None
    blocks.values.data.mul_(2)
    assert torch.equal(blocks.gather(was) * 2, blocks.values)
    restore(layer)
    assert blocks_of(layer) is None
    assert torch.equal(layer.weight, 2 * was)


def test_values_inside_blocks_that_are_not_kept_stay_zero(rng: np.random.Generator) -> None:
    layer = pruned(rng, 24, 40, 0.0)
    keep = rng.random((24, 40)) < 0.1
    layer.weight.data.mul_(torch.from_numpy(keep))
    assert leave_out_zeros(layer, keep)
    blocks = blocks_of(layer)
    assert blocks is not None
    assert keep.sum() < blocks.values.numel() < keep.size * 0.55
    blocks.values.data.add_(1)
    blocks.apply()
    restore(layer)
    np.testing.assert_array_equal(layer.weight.detach().numpy() != 0, keep)


@pytest.mark.parametrize("tiles", [False, True])
def test_autocast_decides_the_format(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, tiles: bool) -> None:
    """By the kernels for blocks, and by whole weights as on CPUs with matrix instructions."""
    monkeypatch.setattr(sparse_linear, "has_tiles", lambda: tiles)
    layer = pruned(rng, 16, 24)
    x = torch.from_numpy(rng.normal(size=(2, 9, 24)).astype(np.float32)).bfloat16()
    dy = torch.from_numpy(rng.normal(size=(2, 9, 16)).astype(np.float32)).bfloat16()
    wanted = [t.float() for t in gradients(layer.bfloat16(), x, dy)]
    layer = layer.float()
    keep = kept(layer)
    assert leave_out_zeros(layer, keep)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(layer, x, dy)
    assert [t.dtype for t in found] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    wanted[2] = wanted[2] * torch.from_numpy(keep)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.float(), theirs, rtol=3e-2, atol=6e-2)


def test_inputs_of_any_layout_are_read(rng: np.random.Generator) -> None:
    layer = pruned(rng, 8, 20)
    x = torch.from_numpy(rng.normal(size=(20, 6)).astype(np.float32)).T
    want = layer(x).detach()
    assert leave_out_zeros(layer, kept(layer))
    torch.testing.assert_close(layer(x).detach(), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer(x.double()).detach(), want, rtol=1e-5, atol=1e-5)
    assert layer(x[:0]).shape == (0, 8)


def test_many_blocks_stay_dense(rng: np.random.Generator) -> None:
    many, odd = pruned(rng, 16, 16, 0.25), torch.nn.Linear(8, 6)
    assert not leave_out_zeros(many, kept(many))
    assert not leave_out_zeros(odd, np.zeros((6, 8), np.bool_))
    assert not leave_out_zeros(pruned(rng, 16, 16).double(), np.zeros((16, 16), np.bool_))
    for layer in (many, odd):
        assert "forward" not in vars(layer)


def test_masks_let_linears_leave_out_zeros_until_they_are_released() -> None:
    module = copy.deepcopy(tiny.model("BertModel"))
    masks = Masks(module, Prune(sparsity=0.8), (), ())
    assert not any("forward" in vars(layer) for layer in masks.layers.values())
    masks.update(0.3)
    assert not any("forward" in vars(layer) for layer in masks.layers.values())
    masks.update(0.8)
    assert all("forward" in vars(layer) for layer in masks.layers.values())
    masks.release()
    assert not any("forward" in vars(layer) for layer in masks.layers.values())


KEEP = np.ones((8, 12), np.bool_)
GOOD = {"values": np.zeros((24, 4), np.float32), "bias": np.zeros((1, 8), np.float32)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _core.SparseProduct(np.ones(8, np.bool_)), "'keep' must be a matrix"),
        (lambda: _core.SparseProduct(np.ones((6, 8), np.bool_)), "a multiple of 4 rows"),
        (lambda: _core.SparseProduct(np.ones((0, 8), np.bool_)), "at least one column|a multiple of 4 rows"),
        (lambda: forward(y=np.zeros((5, 8))), "'y' must be float32, or uint16"),
        (lambda: forward(y=np.zeros((4, 8), np.float32)), r"'y' must be of shape \[5, 8\]"),
        (lambda: forward(x=np.zeros((12, 5), np.float32).T), "'x' must be contiguous"),
        (lambda: forward(x=np.zeros(12, np.float32)), r"'x' must be of shape \[12, 12\]"),
        (lambda: forward(values=np.zeros((24, 4))), "'values' must be float32"),
        (lambda: forward(values=np.zeros((23, 4), np.float32)), r"'values' must be of shape \[24, 4\]"),
        (lambda: forward(y=read_only()), "'y' must be writeable"),
        (lambda: forward(threads=0), "'threads' must be at least 1"),
        (
            lambda: _core.SparseProduct(KEEP).scatter(GOOD["values"], np.zeros((8, 11), np.float32), 1),
            r"'weight' must be of shape \[8, 12\]",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def read_only() -> NDArray[np.float32]:
    array = np.zeros((5, 8), np.float32)
    array.flags.writeable = False
    return array


def forward(threads: int = 1, **changes: NDArray[np.generic]) -> None:
    arrays = GOOD | {"x": np.zeros((5, 12), np.float32), "y": np.zeros((5, 8), np.float32)} | changes
    _core.SparseProduct(KEEP).forward(**arrays, threads=threads)
