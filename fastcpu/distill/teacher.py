"""Where the targets of distillation come from."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastcpu.distill.losses.loss import Outputs, Part
from fastcpu.distill.model import choose_attention, open_directory, outputs

if TYPE_CHECKING:
    import torch


class NoTeacher:
    """For losses whose targets are in the data."""

    def __call__(self, indices: NDArray[np.int64], ids: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """Nothing but the mask."""
        del indices, ids
        return Outputs(mask)


class CachedEmbeddings:
    """Embeddings [N, D], f32 and of unit length, from a .npy file that is mapped."""

    def __init__(self, path: Path) -> None:
        self._vectors: NDArray[np.float32] = np.load(path, mmap_mode="r")

    def __call__(self, indices: NDArray[np.int64], ids: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """The embeddings of some texts."""
        import torch

        del ids
        return Outputs(mask, torch.from_numpy(np.array(self._vectors[indices])).to(mask.device))


class LiveTeacher:
    """A model that runs on every batch of sequences of up to ``max_length`` tokens, on a torch device."""

    def __init__(self, path: Path, parts: AbstractSet[Part], device: str, max_length: int) -> None:
        module, self._pooling = open_directory(path)
        self._module = module.to(device)
        choose_attention(self._module, device, max_length)
        self._parts = parts

    def __call__(self, indices: NDArray[np.int64], ids: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """What the teacher makes of a batch."""
        import torch

        from fastcpu.distill.trainer import has_bf16

        del indices
        device = ids.device.type
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=has_bf16(device)):
            return outputs(self._module, self._pooling, ids, mask, self._parts)
