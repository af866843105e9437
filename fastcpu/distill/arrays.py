"""Tensors as the arrays that kernels for training read and write in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def in_place(tensor: torch.Tensor) -> NDArray[Any]:
    """The elements of a contiguous tensor on the CPU, without a copy; of bf16 the bits, as uint16."""
    import torch

    if tensor.dtype == torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(np.uint16)
    return tensor.detach().numpy()


def as_rows(tensor: torch.Tensor) -> torch.Tensor:
    """[..., C] as contiguous [T, C], f32 or bf16 as it is, any other dtype as f32."""
    import torch

    if tensor.dtype not in (torch.float32, torch.bfloat16):
        tensor = tensor.float()
    return tensor.reshape(-1, tensor.shape[-1]).contiguous()
