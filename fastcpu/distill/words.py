"""Word embeddings of a corpus: only the rows of tokens that occur in it are trained.

Half of a small model's parameters are its word embeddings, and a corpus has a part of the vocabulary. Gradients,
moments and norms are of that part; the other rows stay as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Words:
    """The rows of a word embedding that are trained in its place.

    Attributes:
        name: of the weight, a parameter of the module.
        layer: the embedding [V, D].
        tokens: int64 [U], the ids that occur, in order.
        rows: f32 [U, D], a parameter.
    """

    name: str
    layer: torch.nn.Embedding
    tokens: torch.Tensor
    rows: torch.nn.Parameter

    def restore(self) -> None:
        """Puts what was trained into the weight, and lets the embedding be what it was."""
        vars(self.layer).pop("forward", None)
        self.layer.weight.data[self.tokens] = self.rows.data


def train_rows(module: torch.nn.Module, ids: NDArray[np.int32]) -> Words | None:
    """Lets a module of transformers train the rows of these token ids [N] alone.

    Returns None, with the module as it was, where its word embedding is frozen, or the weight of something else, too.
    """
    import torch

    layer = cast("Any", module).get_input_embeddings()
    if type(layer) is not torch.nn.Embedding or not layer.weight.requires_grad:
        return None
    names = [name for name, each in module.named_parameters(remove_duplicate=False) if each is layer.weight]
    if len(names) > 1:
        return None
    occurs = np.zeros(layer.num_embeddings, np.bool_)
    occurs[ids] = True
    occurs[[0, layer.padding_idx or 0]] = True  # a batch is padded with the first, whatever the model calls padding
    device = layer.weight.device
    tokens = torch.from_numpy(np.flatnonzero(occurs)).to(device)
    places = torch.from_numpy(np.cumsum(occurs) - 1).to(device)
    rows = torch.nn.Parameter(layer.weight.detach()[tokens])
    padding = None if layer.padding_idx is None else int(places[layer.padding_idx])

    def forward(ids: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.embedding(places[ids], rows, padding)

    vars(layer)["forward"] = forward
    return Words(names[0], layer, tokens, rows)
