"""Self-attention of models that train or teach on a CPU, on a kernel of its own (kernels/attention_training).

It is registered with transformers under `NAME`. The kernel keeps nothing between the passes but its inputs, works
sequence by sequence without their padding, and takes masks that keep the first tokens of each sequence.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcpu import _core
from fastcpu.distill.arrays import as_rows, in_place
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch

NAME = "fastcpu_training"


@cache
def register() -> str:
    """Makes the attention known to transformers, once, and returns its name there."""
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _lengths)
    return NAME


def _lengths(batch_size: int, kv_length: int, attention_mask: torch.Tensor | None = None, **_: object) -> torch.Tensor:
    """What layers get as their mask: the number of tokens of each sequence, int64 [B].

    Raises:
        InputError: a mask that leaves out a token in front of one that it keeps, or all of a sequence.
    """
    import torch

    if attention_mask is None:
        return torch.full((batch_size,), kv_length)
    lengths = attention_mask.long().sum(dim=1)
    kept = torch.arange(attention_mask.shape[1]) < lengths.unsqueeze(1)
    if not torch.equal(kept, attention_mask.bool()) or not lengths.all():
        raise InputError("attention while training takes sequences that are padded at their end, of at least one token")
    return lengths


def _attention(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """[B, S, H, D] of queries, keys and values [B, H, S, D], as transformers asks for it."""
    import torch

    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    lengths = torch.full((query.shape[0],), query.shape[2]) if attention_mask is None else attention_mask
    if dropout:
        return _plain(query, key, value, lengths, scale, dropout), None
    result = _function().apply(*(each.transpose(1, 2) for each in (query, key, value)), lengths, scale)
    return result, None


def _plain(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor, scale: float, dropout: float
) -> torch.Tensor:
    """The same by torch, and some probabilities left out at random."""
    import torch

    left_out = torch.arange(query.shape[2]) >= lengths.view(-1, 1, 1, 1)
    scores = (query * scale) @ key.transpose(2, 3)
    probabilities = scores.float().masked_fill(left_out, -torch.inf).softmax(dim=-1)
    probabilities = torch.nn.functional.dropout(probabilities, dropout).to(value.dtype)
    return (probabilities @ value).transpose(1, 2).contiguous()


@cache
def _function() -> Any:
    """The autograd function; a class that cannot be made before torch is there."""
    import torch

    class Attention(torch.autograd.Function):
        """o [B, S, H, D] of q, k and v of that shape."""

        @staticmethod
        def forward(ctx: Any, *given: Any) -> Any:
            *inputs, lengths, scale = given
            batch, _, heads, _ = inputs[0].shape
            dtype = torch.bfloat16 if all(each.dtype == torch.bfloat16 for each in inputs) else torch.float32
            q, k, v = (as_rows(each.to(dtype).flatten(2)) for each in inputs)
            numbers = np.ascontiguousarray(lengths.numpy())
            if len(numbers) != batch:
                raise InputError("attention: there must be one length per sequence")
            o, threads = torch.empty_like(q), torch.get_num_threads()
            arrays = in_place(q), in_place(k), in_place(v)
            _core.attention_forward(*arrays, numbers, heads, scale, in_place(o), threads)
            ctx.save_for_backward(q, k, v)
            ctx.lengths, ctx.heads, ctx.scale = numbers, heads, scale
            ctx.dtypes = [each.dtype for each in inputs]
            return o.view(inputs[0].shape)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            q, k, v = ctx.saved_tensors
            gradient = as_rows(gradients[0].flatten(2)).to(q.dtype)
            dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
            inputs = in_place(q), in_place(k), in_place(v), ctx.lengths, ctx.heads, ctx.scale, in_place(gradient)
            _core.attention_backward(*inputs, in_place(dq), in_place(dk), in_place(dv), torch.get_num_threads())
            shape = gradients[0].shape
            found = (each.view(shape).to(dtype) for each, dtype in zip((dq, dk, dv), ctx.dtypes, strict=True))
            return *found, None, None

    return Attention
