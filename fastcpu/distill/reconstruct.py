"""Prunes a Transformer layer by layer so that each linear still gives nearly the outputs of the dense one.

Layer by layer, and within it in the order of execution: a linear is pruned and solved for its dense outputs on the
inputs that it gets from what is pruned already, so that it makes up for the errors before it. Nothing is trained.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from fastcpu.distill.masks import encoder_linears
from fastcpu.distill.model import arguments
from fastcpu.errors import InputError
from fastcpu.prune import PATTERNS
from fastcpu.prune.least_squares import Normal, prune_and_solve
from fastcpu.recipe import Prune

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from fastcpu.distill.corpus import Corpus

_BATCH = 64


class _SeenAll(Exception):
    """Ends a run of a layer whose rest is of no use."""


@dataclass
class _Call:
    """One call of a layer, without its hidden states, and the mask [B, S] of its real tokens."""

    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    mask: torch.Tensor

    def __call__(self, layer: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """What a layer makes of hidden states [B, S, D]."""
        result = layer(hidden, *self.arguments, **self.named)
        output: torch.Tensor = result[0] if isinstance(result, tuple) else result
        return output


def reconstruct(
    student: torch.nn.Module,
    config: Prune,
    corpus: Corpus,
    rows: NDArray[np.int64],
    only: Sequence[str],
    ignore: Sequence[str],
) -> None:
    """Prunes the encoder linears of a student in place.

    Args:
        config: sparsity and pattern.
        corpus, rows: the sequences that outputs are compared on.
        only, ignore: globs of linears.

    Raises:
        InputError: a model whose layers share their weights, nothing to prune, or a linear that does not divide into
            blocks.
    """
    import torch

    layers = separate_layers(student)
    chosen = set(encoder_linears(student, only, ignore).values())
    if not chosen:
        raise InputError("no encoder linear to prune: the model has none, or the globs exclude them all")
    training = student.training
    student.eval()
    with torch.no_grad():
        calls, hidden = _calls(student, layers, corpus, rows)
        dense = list(hidden)
        for number, layer in enumerate(layers):
            original = copy.deepcopy(layer)
            names = [name for name, part in layer.named_modules() if part in chosen]
            wanted, following = _outputs(original, names, calls[number], dense)
            for group in _groups(layer, names, calls[number][0], hidden[0]):
                _prune(layer, group, wanted, calls[number], hidden, config)
            hidden = [call(layer, each) for call, each in zip(calls[number], hidden, strict=True)]
            dense = following
    student.train(training)


def separate_layers(student: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers of a Transformer; InputError if they share their weights."""
    from fastcpu.frontend.torch_export import class_of

    family, ending = class_of(student)
    if not family.layers:
        raise InputError(f"prune: reconstruct goes from layer to layer, but those of {family.name} share their weights")
    return list(family.base(student, ending).get_submodule(family.layers))


def _calls(
    student: torch.nn.Module, layers: Sequence[torch.nn.Module], corpus: Corpus, rows: NDArray[np.int64]
) -> tuple[list[list[_Call]], list[torch.Tensor]]:
    """The calls of each layer, one per batch, and the hidden states that the first one gets."""
    calls: list[list[_Call]] = [[] for _ in layers]
    first: list[torch.Tensor] = []
    mask: torch.Tensor

    def hook(number: int) -> Callable[..., None]:
        def keep(_: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            if number == 0:
                first.append(given[0])
            calls[number].append(_Call(given[1:], named, mask))

        return keep

    handles = [layer.register_forward_pre_hook(hook(number), with_kwargs=True) for number, layer in enumerate(layers)]
    try:
        ordered = rows[np.argsort(corpus.lengths[rows], kind="stable")]
        for start in range(0, len(ordered), _BATCH):
            batch = corpus.batch(ordered[start : start + _BATCH])
            mask = batch.mask
            student(**arguments(student, batch))
    finally:
        for handle in handles:
            handle.remove()
    return calls, first


@contextmanager
def _watched(layer: torch.nn.Module, names: Sequence[str], see: Callable[..., None]) -> Iterator[None]:
    """``see`` is called with name, input and output of some linears whenever they run."""
    with _hooked(layer, names, lambda part, hook: part.register_forward_hook(hook), see):
        yield


@contextmanager
def _entered(layer: torch.nn.Module, names: Sequence[str], see: Callable[..., None]) -> Iterator[None]:
    """``see`` is called with name and input of some linears, of one input, before they run; nothing runs after them."""
    left = set(names)

    def enter(name: str, x: torch.Tensor) -> None:
        see(name, x)
        left.discard(name)
        if not left:
            raise _SeenAll

    with suppress(_SeenAll), _hooked(layer, names, lambda part, hook: part.register_forward_pre_hook(hook), enter):
        yield


@contextmanager
def _hooked(
    layer: torch.nn.Module, names: Sequence[str], register: Callable[..., Any], see: Callable[..., None]
) -> Iterator[None]:
    handles = []
    for name in names:

        def hook(_: object, inputs: tuple[Any, ...], *output: Any, name: str = name) -> None:
            see(name, inputs[0], *output)

        handles.append(register(layer.get_submodule(name), hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _outputs(
    layer: torch.nn.Module, names: Sequence[str], calls: Sequence[_Call], hidden: Sequence[torch.Tensor]
) -> tuple[dict[str, list[torch.Tensor]], list[torch.Tensor]]:
    """Per linear, its outputs [T, N] for the real tokens of each batch, and what the layer makes of each batch."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    following = []
    for call, each in zip(calls, hidden, strict=True):

        def see(name: str, _: torch.Tensor, output: torch.Tensor, mask: torch.Tensor = call.mask) -> None:
            found[name].append(output[mask])

        with _watched(layer, names, see):
            following.append(call(layer, each))
    return found, following


def _groups(layer: torch.nn.Module, names: Sequence[str], call: _Call, hidden: torch.Tensor) -> list[list[str]]:
    """The linears in the order in which they run, those of one input together."""
    groups: list[tuple[torch.Tensor, list[str]]] = []

    def see(name: str, x: torch.Tensor, _: torch.Tensor) -> None:
        if groups and groups[-1][0].data_ptr() == x.data_ptr() and groups[-1][0].shape == x.shape:
            groups[-1][1].append(name)
        else:
            groups.append((x, [name]))

    with _watched(layer, names, see):
        call(layer, hidden)
    return [group for _, group in groups]


def _prune(
    layer: torch.nn.Module,
    group: Sequence[str],
    wanted: Mapping[str, Sequence[torch.Tensor]],
    calls: Sequence[_Call],
    hidden: Sequence[torch.Tensor],
    config: Prune,
) -> None:
    """Prunes the linears of one input to give what is wanted for the inputs that they get now."""
    linears = {name: cast("torch.nn.Linear", layer.get_submodule(name)) for name in group}
    normal = {name: Normal(part.in_features, part.out_features) for name, part in linears.items()}
    for number, (call, each) in enumerate(zip(calls, hidden, strict=True)):

        def see(name: str, x: torch.Tensor, number: int = number, call: _Call = call) -> None:
            normal[name].add(x[call.mask], wanted[name][number])

        with _entered(layer, group, see):
            call(layer, each)
    for name, part in linears.items():
        products = normal[name].products(part.bias is not None)
        try:
            weight = prune_and_solve(*products, part.weight, config.sparsity, PATTERNS[config.pattern])
        except InputError as error:
            raise InputError(f"linear '{name}': {error}") from None
        part.weight.copy_(weight)
        if part.bias is not None:
            part.bias.copy_(normal[name].bias(weight))
