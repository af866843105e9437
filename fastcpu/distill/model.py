"""A torch Transformer as teacher or student: token ids in, the outputs that losses read out."""

from __future__ import annotations

import copy
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcpu.distill.losses.loss import Outputs, Part
from fastcpu.errors import GraphError, InputError
from fastcpu.recipe import Student

if TYPE_CHECKING:
    import torch

    from fastcpu.distill.corpus import Batch
    from fastcpu.frontend.sentence_transformers import Pooling

_LOGITS = ("logits", "start_logits", "end_logits")


def outputs(module: torch.nn.Module, pooling: Pooling | None, batch: Batch, parts: AbstractSet[Part]) -> Outputs:
    """Runs a module of transformers on a batch."""
    from fastcpu.distill.projections import last_projections

    mask = batch.mask
    with last_projections(module) if "projections" in parts else nullcontext() as projected:
        result: Any = module(**arguments(module, batch), output_hidden_states="hidden" in parts, return_dict=True)
    embedding = None
    if "embedding" in parts:
        if pooling is None:
            raise InputError("a loss on embeddings needs a sentence-transformers model: this one has no pooling")
        embedding = _pooled(result.last_hidden_state.float(), mask, pooling)
    logits = None
    if "logits" in parts:
        logits = {name: result[name].float() for name in _LOGITS if name in result}
        if not logits:
            raise InputError(f"a loss on logits needs a model with a head: {type(module).__name__} has none")
    hidden = tuple(state.float() for state in result.hidden_states) if "hidden" in parts else None
    return Outputs(mask, embedding, logits, hidden, projected() if projected else None)


def arguments(module: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """What a module of transformers is called with for a batch: segments, too, where its family reads them."""
    from fastcpu.frontend.torch_export import class_of

    named = {"input_ids": batch.ids, "attention_mask": batch.mask.long()}
    if batch.types is not None and "token_type_ids" in class_of(module)[0].inputs(module.config):
        named["token_type_ids"] = batch.types
    return named


def _pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """[B, D] of unit length from [B, S, C]."""
    import torch

    from fastcpu.frontend.torch_pooling import pool

    with torch.autocast(hidden.device.type, enabled=False):  # embeddings are f32
        return torch.nn.functional.normalize(pool(hidden, mask, pooling), dim=-1)


def chosen_layers(config: Student, layers: int) -> list[int]:
    """Which of the teacher's layers 0 .. layers - 1 the student starts with."""
    if config.layers > layers:
        raise InputError(f"a student of {config.layers} layers from a teacher that has {layers}")
    if config.select == "first":
        return list(range(config.layers))
    if config.select == "last":
        return list(range(layers - config.layers, layers))
    return [round((i + 1) * layers / config.layers) - 1 for i in range(config.layers)]


def make_student(teacher: torch.nn.Module, config: Student | None, dropout: float = 0.0) -> torch.nn.Module:
    """A copy of the teacher that can be trained, with some of its layers and this probability of dropout."""
    import torch

    from fastcpu.frontend.torch_export import class_of

    student = copy.deepcopy(teacher).train()
    for part in student.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = dropout
    if config is not None:
        family, ending = class_of(student)
        if not family.layers:
            raise InputError(f"the layers of {family.name} share their weights: a student cannot have some of them")
        parent, _, name = family.layers.rpartition(".")
        encoder = family.base(student, ending).get_submodule(parent)
        layers = getattr(encoder, name)
        keep = chosen_layers(config, len(layers))
        setattr(encoder, name, torch.nn.ModuleList(layers[i] for i in keep))
        setattr(student.config, family.depth, len(keep))
    return student


def depths(module: torch.nn.Module) -> dict[str, int]:
    """By name of a parameter, how many layers are above it: 0 for heads, one more than there are for embeddings.

    Layers that share their weights count as one.
    """
    from fastcpu.frontend.torch_export import class_of

    family, ending = class_of(module)
    base = family.base(module, ending)
    layers = list(base.get_submodule(family.layers)) if family.layers else [base.encoder]
    count = len(layers)
    above = {id(p): count - i for i, layer in enumerate(layers) for p in layer.parameters()}
    above |= {id(p): count + 1 for p in base.embeddings.parameters()}
    return {name: above.get(id(parameter), 0) for name, parameter in module.named_parameters()}


def choose_attention(module: torch.nn.Module, device: str) -> None:
    """How a module computes attention where it trains or teaches: on CPUs by our kernel, elsewhere by torch."""
    from fastcpu.distill.attention import register
    from fastcpu.frontend.torch_export import set_attention

    set_attention(module, register() if device == "cpu" else "sdpa")


def open_directory(path: Path) -> tuple[torch.nn.Module, Pooling | None]:
    """The module of a Hugging Face directory in evaluation mode, and its pooling if sentence-transformers wrote it.

    Raises:
        GraphError: a weight is not finite, or a Dense module does not fit. What opening raises, too.
    """
    from fastcpu.frontend import torch_export

    module, pooling = torch_export.open_module(path)
    for name, parameter in module.named_parameters():
        if not parameter.isfinite().all():
            raise GraphError(f"{path}: weight '{name}' contains NaN or infinite values")
    if pooling is not None:
        pooling.channels(module.config.hidden_size)  # type: ignore[union-attr, arg-type]
    return module, pooling


def transformer_folder(path: Path) -> Path:
    """Where the configuration and weights of a model directory lie: the directory, or its first module's folder."""
    from fastcpu.frontend.sentence_transformers import read_pooling

    found = read_pooling(path)
    return path if found is None else found[1]
