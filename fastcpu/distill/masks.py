"""Pruning while training: masks on the encoder linears of a torch module."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastcpu.distill.sparse_linear import Blocks, blocks_of, leave_out_zeros, restore
from fastcpu.errors import InputError
from fastcpu.prune import PATTERNS, SCORES, keep_masks
from fastcpu.prune.graph import selected
from fastcpu.recipe import Prune

if TYPE_CHECKING:
    import torch

_IN_A_LAYER = re.compile(r"\.\d+\.")
_MOMENTUM = 0.9


def encoder_linears(module: torch.nn.Module, only: Sequence[str], ignore: Sequence[str]) -> dict[str, torch.nn.Linear]:
    """The linears inside the numbered layers of a transformer, by name, filtered by globs."""
    import torch

    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.Linear) and _IN_A_LAYER.search(name) and selected(name, only, ignore)
    }


class Masks:
    """Keeps the pruned weights of some linears at zero, and chooses which these are.

    Attributes:
        layers: the linears by name.
        keep: f32 masks [N, K] of ones and zeros, one per layer.
        evidence: what the score needs beside the weights, a running mean per layer (``snip_momentum``: |w dL/dw|
            [N, K]; ``wanda``: squared inputs [K]); empty if it needs nothing.
    """

    def __init__(self, module: torch.nn.Module, config: Prune, only: Sequence[str], ignore: Sequence[str]) -> None:
        import torch

        self.config = config
        self.layers = encoder_linears(module, only, ignore)
        frozen = [name for name, layer in self.layers.items() if not layer.weight.requires_grad]
        if frozen:
            raise InputError(
                f"linear '{frozen[0]}' is to be pruned and frozen at once: name it in `ignore`, or do not freeze it"
            )
        if not self.layers:
            raise InputError("no encoder linear to prune: the model has none, or the globs exclude them all")
        self.keep = {name: torch.ones_like(layer.weight) for name, layer in self.layers.items()}
        self.needs = SCORES[config.score].needs
        shape = {"gradient": lambda layer: layer.weight.shape, "input": lambda layer: layer.weight.shape[1:]}
        self.evidence = (
            {} if self.needs is None else {n: x.weight.new_zeros(shape[self.needs](x)) for n, x in self.layers.items()}
        )
        if self.needs == "input":
            for name, layer in self.layers.items():
                layer.register_forward_pre_hook(self._observer(name))
        if config.reconstruct:
            self._keep_zeros()

    def _keep_zeros(self) -> None:
        """Takes the blocks that are zero now as those that stay so."""
        import torch

        pattern = PATTERNS[self.config.pattern]
        for name, layer in self.layers.items():
            weight = _array(layer.weight)
            if pattern.fits(weight.shape):
                kept = pattern.expand(~pattern.zero_blocks(weight))
                self.keep[name].copy_(torch.from_numpy(kept))
        self.leave_out_zeros()

    def leave_out_zeros(self) -> None:
        """Lets the linears compute with what is kept alone, where that pays; until `release`."""
        for name, layer in self.layers.items():
            leave_out_zeros(layer, self.keep[name].cpu().numpy() != 0)

    def blocks(self) -> dict[str, Blocks | None]:
        """By name of a weight that is pruned, the blocks that are trained in its place, if they are."""
        return {f"{name}.weight": blocks_of(layer) for name, layer in self.layers.items()}

    def release(self) -> None:
        """Makes the linears what they were, with their weights of now; the masks are not applied any more."""
        for layer in self.layers.values():
            restore(layer)

    def _observer(self, name: str):  # type: ignore[no-untyped-def]
        def observe(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
            squares = inputs[0].detach().float().flatten(0, -2).square().mean(dim=0)
            self.evidence[name].mul_(_MOMENTUM).add_(squares, alpha=1 - _MOMENTUM)

        return observe

    def observe_gradients(self) -> None:
        """Takes note of the gradients of this step, before the optimizer moves the weights."""
        if self.needs != "gradient":
            return
        for name, layer in self.layers.items():
            blocks = blocks_of(layer)
            trained = layer.weight if blocks is None else blocks.values
            assert trained.grad is not None
            product = (trained.detach() * trained.grad).abs()
            product = product if blocks is None else blocks.scatter(product)
            self.evidence[name].mul_(_MOMENTUM).add_(product, alpha=1 - _MOMENTUM)

    def update(self, sparsity: float) -> None:
        """Chooses masks of this sparsity; blocks that are zero already stay so."""
        import torch

        self.release()
        weights = {name: _array(layer.weight) for name, layer in self.layers.items()}
        evidence = {name: _array(tensor) for name, tensor in self.evidence.items()}
        masks = keep_masks(weights, sparsity, self.config.pattern, self.config.score, evidence, self.config.scope)
        for name, mask in masks.items():
            self.keep[name].copy_(torch.from_numpy(mask))
        self.leave_out_zeros()

    def apply(self) -> None:
        """Sets pruned weights to zero."""
        import torch

        with torch.no_grad():
            for name, layer in self.layers.items():
                blocks = blocks_of(layer)
                if blocks is None:
                    layer.weight.mul_(self.keep[name])
                else:
                    blocks.apply()


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array
