"""Linears whose pruned weights do not change any more: their products leave out the blocks that are zero.

The weight stays a dense parameter, so optimizers, averages and checkpoints need not know. Forward and backward read and
write its 4x1 blocks alone (kernels/sparse_linear): three products of ``density`` times the work, and a gradient that is
zero where the weight is.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from fastcpu import _core
from fastcpu.distill.arrays import as_rows, in_place
from fastcpu.prune import PATTERNS

if TYPE_CHECKING:
    import torch

MOST_DENSITY = 0.55
"""Above this share of blocks, dense products in bf16 take less time (measured on Zen 4, 384 to 1,536 channels)."""


def leave_out_zeros(layer: torch.nn.Linear, keep: NDArray[np.bool_]) -> bool:
    """Lets a linear leave out the blocks outside a mask bool [N, K], whose weights must be zero, if that pays.

    Returns False, with the linear as it was made, on devices other than the CPU, for weights that are not f32 or do not
    divide into 4x1 blocks, and for masks that keep too much.
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
    function = _function()

    def forward(x: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", function.apply(x, layer.weight, layer.bias, product))

    vars(layer)["forward"] = forward
    return True


def restore(layer: torch.nn.Linear) -> None:
    """Takes back `leave_out_zeros`."""
    vars(layer).pop("forward", None)


@cache
def _function() -> Any:
    """The autograd function; a class that cannot be made before torch is there."""
    import torch

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, product: Any) -> Any:
            rows, threads = as_rows(x), torch.get_num_threads()
            half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
            values = np.empty((product.blocks, 4), np.float32)
            product.gather(in_place(weight), values, threads)
            given = weight.new_zeros(weight.shape[0]) if bias is None else bias
            y = torch.empty(rows.shape[0], weight.shape[0], dtype=torch.bfloat16 if half else torch.float32)
            product.forward(values, in_place(given)[None], in_place(rows), in_place(y), threads)
            ctx.save_for_backward(rows)
            ctx.product, ctx.values, ctx.bias = product, values, bias is not None
            ctx.shape, ctx.dtype = x.shape, x.dtype
            return y.view(*x.shape[:-1], y.shape[1])

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            (rows,) = ctx.saved_tensors
            dy = as_rows(gradients[0])
            dx, dw = torch.empty_like(rows), torch.empty(dy.shape[1], rows.shape[1])
            ctx.product.backward(
                ctx.values, in_place(rows), in_place(dy), in_place(dx), in_place(dw), torch.get_num_threads()
            )
            db = dy.sum(dim=0, dtype=torch.float32) if ctx.bias else None
            return dx.view(ctx.shape).to(ctx.dtype), dw, db, None

    return Product
