"""What sentence-transformers does with hidden states, in torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from fastcpu.frontend.sentence_transformers import Pooling


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """[B, N], not normalized, of hidden states f32 [B, S, C] and a mask [B, S] that is 0 for padding."""
    import torch

    if pooling.mode == "cls":
        pooled = hidden[:, 0]
    elif pooling.mode == "max":
        pooled = hidden.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(1)
    else:
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
    for dense in pooling.dense:
        weight, bias = (torch.from_numpy(each).to(pooled.device) for each in (dense.weight, dense.bias))
        pooled = torch.nn.functional.linear(pooled, weight, bias)
        pooled = pooled.tanh() if dense.activation == "tanh" else pooled
    return pooled
