"""The queries, keys and values of a transformer's last layer, caught while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from fastcpu.distill.losses.loss import Projections
from fastcpu.frontend.torch_export import class_of

if TYPE_CHECKING:
    import torch


@contextmanager
def last_projections(module: torch.nn.Module) -> Iterator[Callable[[], Projections]]:
    """While the block runs, a module of transformers notes what its last layer projects; the call gives it, in f32.

    Where layers share their weights, and so are one module, what the last of its runs gave is kept.

    Raises:
        GraphError: a family that is not supported.
    """
    family, _ = class_of(module)
    heads: int = cast("Any", module).config.num_attention_heads
    caught: dict[str, torch.Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: object, __: object, output: torch.Tensor) -> None:
            caught[name] = output

        return hook

    handles = [_last(module, name).register_forward_hook(note(name)) for name in family.projections]
    try:
        query, key, value = family.projections
        yield lambda: Projections(caught[query].float(), caught[key].float(), caught[value].float(), heads)
    finally:
        for handle in handles:
            handle.remove()


def _last(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """The last submodule that is called so by its parent."""
    found: torch.nn.Module = [part for path, part in module.named_modules() if path.rpartition(".")[2] == name][-1]
    return found
