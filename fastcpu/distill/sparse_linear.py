"""Linears whose pruned weights do not change any more: their products leave out the blocks that are zero.

The values of the 4x1 blocks that are kept take the place of the weight as what is trained: forward and backward
(kernels/sparse_linear) are three products of ``density`` times the work, and gradients, moments and means are as small.
A CPU that multiplies tiles of bf16 is faster with products of the whole weight, which it is given anew in every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from fastcpu import _core
from fastcpu.distill.arrays import as_rows, in_place
from fastcpu.distill.hardware import has_tiles
from fastcpu.prune import PATTERNS

if TYPE_CHECKING:
    import torch

MOST_DENSITY = 0.55
"""Above this share of blocks, dense products in bf16 take less time (measured on Zen 4, 384 to 1,536 channels)."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of a weight [N, K] that are kept.

    Attributes:
        values: of these blocks, f32 [blocks, 4], a parameter.
        inside: 1 for a value that is kept and 0 for one that is not, [blocks, 4]; None if all of them are.
    """

    product: _core.SparseProduct
    shape: tuple[int, int]
    values: torch.nn.Parameter
    inside: torch.Tensor | None

    def gather(self, dense: torch.Tensor) -> torch.Tensor:
        """The values of these blocks in a tensor f32 [N, K]."""
        return _gather(self.product, dense)

    def scatter(self, values: torch.Tensor) -> torch.Tensor:
        """The tensor f32 [N, K] with such values, and zeros elsewhere."""
        import torch

        dense = torch.empty(self.shape)
        self.product.scatter(in_place(values), in_place(dense), torch.get_num_threads())
        return dense

    def apply(self) -> None:
        """Sets the values that are not kept to zero."""
        if self.inside is not None:
            self.values.data.mul_(self.inside)


def _gather(product: _core.SparseProduct, dense: torch.Tensor) -> torch.Tensor:
    import torch

    values = torch.empty(product.blocks, 4)
    product.gather(in_place(dense.contiguous()), in_place(values), torch.get_num_threads())
    return values


def leave_out_zeros(layer: torch.nn.Linear, keep: NDArray[np.bool_]) -> bool:
    """Lets a linear train the blocks inside a mask bool [N, K] alone, if that pays. Its weight is zero elsewhere.

    The weight itself is out of date then, until `restore`. Returns False, with the linear as it was made, on devices
    other than the CPU, for weights that are not f32 or do not divide into 4x1 blocks, and for masks that keep too much.
    """
    import torch

    restore(layer)
    pattern = PATTERNS["4x1"]
    weight = layer.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not pattern.fits(keep.shape):
        return False
    if (~pattern.zero_blocks(keep)).mean() > MOST_DENSITY:
        return False
    product = _core.SparseProduct(keep)
    inside = _gather(product, torch.from_numpy(keep).float())
    values = torch.nn.Parameter(_gather(product, weight))
    function = _function()

    def forward(x: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", function.apply(x, values, layer.bias, product, keep.shape[0]))

    vars(layer)["forward"] = forward
    vars(layer)[_BLOCKS] = Blocks(product, (keep.shape[0], keep.shape[1]), values, None if inside.all() else inside)
    return True


_BLOCKS = "_fastcpu_blocks"


def blocks_of(layer: torch.nn.Linear) -> Blocks | None:
    """What is trained in the place of the weight of a linear that leaves out zeros."""
    blocks: Blocks | None = vars(layer).get(_BLOCKS)
    return blocks


def restore(layer: torch.nn.Linear) -> None:
    """Takes back `leave_out_zeros`: the weight is what its blocks are by now."""
    vars(layer).pop("forward", None)
    blocks: Blocks | None = vars(layer).pop(_BLOCKS, None)
    if blocks is not None:
        layer.weight.data.copy_(blocks.scatter(blocks.values))


@cache
def _function() -> Any:
    """The autograd function; a class that cannot be made before torch is there."""
    import torch

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, x: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None, product: Any, outputs: int
        ) -> Any:
            rows = as_rows(x)
            half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
            ctx.product, ctx.bias, ctx.shape, ctx.dtype = product, bias is not None, x.shape, x.dtype
            if half and has_tiles():
                rows = rows.bfloat16()
                weight = torch.empty(outputs, rows.shape[1], dtype=torch.bfloat16)
                product.scatter(in_place(values), in_place(weight), torch.get_num_threads())
                ctx.save_for_backward(rows, values, weight)
                y = torch.nn.functional.linear(rows, weight, None if bias is None else bias.bfloat16())
                return y.view(*x.shape[:-1], outputs)
            given = values.new_zeros(outputs) if bias is None else bias
            y = torch.empty(rows.shape[0], outputs, dtype=torch.bfloat16 if half else torch.float32)
            arrays = in_place(values), in_place(given)[None], in_place(rows), in_place(y)
            product.forward(*arrays, torch.get_num_threads())
            ctx.save_for_backward(rows, values, None)
            return y.view(*x.shape[:-1], outputs)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            rows, values, weight = ctx.saved_tensors
            dy = as_rows(gradients[0])
            dv = torch.empty_like(values)
            if weight is None:
                dx = torch.empty_like(rows)
                arrays = in_place(values), in_place(rows), in_place(dy), in_place(dx), in_place(dv)
                ctx.product.backward(*arrays, torch.get_num_threads())
            else:
                dx, dw = dy @ weight, dy.t() @ rows
                ctx.product.gather(in_place(dw), in_place(dv), torch.get_num_threads())
            db = dy.sum(dim=0, dtype=torch.float32) if ctx.bias else None
            return dx.view(ctx.shape).to(ctx.dtype), dv, db, None, None

    return Product
