"""What a compression refuses before it has cost anything: paths that are in each other's way, unlike teachers, and
training that cannot be."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastcpu.compression.candidate import Candidate, recipe_for
from fastcpu.compression.examples import labels_of
from fastcpu.compression.plan import Plan
from fastcpu.distill.losses import teacher_parts
from fastcpu.errors import InputError
from fastcpu.export.writer import check_replaceable
from fastcpu.frontend import families
from fastcpu.recipe import Recipe
from fastcpu.tasks.tokenizer import Text, Tokenizer, read_config

_COMPARED_TEXTS = 64


def check_model(name: str, model: object) -> None:
    """InputError, which calls the argument ``name``, unless ``model`` is the path of a directory."""
    if not isinstance(model, (str, os.PathLike)):
        raise InputError(f"{name} must be the path of a directory, not {model!r}")
    if not Path(model).is_dir():
        raise InputError(f"{os.fspath(model)!r} is not a model directory")


def check_out(out: Path, plan: Plan) -> None:
    """InputError where writing ``out`` would change what the plan reads; OutputError if it must not be replaced."""
    place = Path(os.path.realpath(out))
    read = [("the model", plan.model), *(("a teacher", path) for path in (plan.teacher, *plan.assistants))]
    if plan.gate is not None and plan.gate.data is not None:
        read.append(("the evaluation data", plan.gate.data))
    for name, path in read:
        if place.is_relative_to(os.path.realpath(path)):
            raise InputError(f"{out}: is {name}, or lies within it; choose another directory to write")
    check_replaceable(place)


def check_tokens(plan: Plan, texts: Sequence[Text]) -> None:
    """InputError unless teachers give every token the id, and texts the tokens, that the model gives them.

    A teacher that runs on every batch reads the token ids of the model.
    """
    assert plan.recipe.distill is not None
    sample = texts[:_COMPARED_TEXTS]
    for teacher in (plan.teacher, *plan.assistants):
        if os.path.realpath(teacher) == os.path.realpath(plan.model):
            continue
        mine, theirs = (Tokenizer(each, plan.recipe.distill.max_length) for each in (plan.model, teacher))
        if mine.max_length > theirs.max_length:
            raise InputError(
                f"teacher {teacher}: takes {theirs.max_length} tokens, but training has up to {mine.max_length} "
                "(distill: max_length)"
            )
        tokens = list(zip(mine.encode(sample), theirs.encode(sample), strict=True))
        if mine.vocabulary != theirs.vocabulary or not all(np.array_equal(a.ids, b.ids) for a, b in tokens):
            raise InputError(
                f"teacher {teacher}: has another vocabulary than {plan.model}; only losses on embeddings allow that"
            )
        if _reads_segments(Path(teacher)) and not all(np.array_equal(a.types, b.types) for a, b in tokens):
            raise InputError(f"teacher {teacher}: its tokenizer gives pairs other segments than that of {plan.model}")


def _reads_segments(model: Path) -> bool:
    """Whether a model is given the segments of tokens."""
    config = {"type_vocab_size": 2} | read_config(model / "config.json")
    family = families.of_type(str(config.get("model_type", "")))
    return family is None or "token_type_ids" in family.inputs(SimpleNamespace(**config))


def takes_segments(model: Path) -> bool:
    """Whether a model can be given tokens of a second segment: it has one, or reads none."""
    return not _reads_segments(model) or read_config(model / "config.json").get("type_vocab_size") != 1


def check_assistants(teachers: Sequence[Path], recipe: Recipe) -> None:
    """InputError unless the logits of teachers can be averaged, and are all that a recipe learns from them."""
    assert recipe.distill is not None
    others = sorted(teacher_parts(recipe.distill.losses) - {"logits"})
    if others:
        raise InputError(
            f"recipe {recipe.name}: several teachers teach logits alone, and it learns from {', '.join(others)}, too "
            "(distill: losses)"
        )
    first, *more = (_labels(read_config(teacher / "config.json")) for teacher in teachers)
    for teacher, labels in zip(teachers[1:], more, strict=True):
        if labels != first:
            raise InputError(f"teacher {teacher}: its labels are {labels}, and those of {teachers[0]} are {first}")


def _labels(config: Mapping[str, Any]) -> Any:
    """By number, as text; the ones that transformers makes up where a config.json names none."""
    return config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(config.get("num_labels") or 2)}


def check_training(plan: Plan) -> None:
    """Makes the student, and runs it on two tokens if it is to be trained.

    Raises:
        InputError: a glob that freezes nothing, more layers than there are, nothing to prune, layers that cannot be
            pruned one by one, losses on what the model does not give, or a map of layers that does not fit.
    """
    import torch

    from fastcpu.distill.corpus import Batch
    from fastcpu.distill.losses import LOSSES, learns_labels
    from fastcpu.distill.losses.hidden import mapped_layers
    from fastcpu.distill.masks import Masks
    from fastcpu.distill.model import make_student, open_directory, outputs
    from fastcpu.distill.reconstruct import separate_layers
    from fastcpu.distill.trainer import freeze
    from fastcpu.frontend.torch_export import class_of

    module, pooling = open_directory(Path(plan.model))
    recipe, config = plan.recipe, plan.recipe.distill
    if recipe.reconstructs:
        separate_layers(module)
    if config is None:
        if recipe.prune is not None:
            Masks(module, recipe.prune, recipe.only, recipe.ignore)
        return
    if learns_labels(config.losses):
        labels_of(Path(plan.model))
    if plan.target is not None:
        depth = int(getattr(module.config, class_of(module)[0].depth))
        recipe = recipe_for(recipe, Candidate(depth, 0.5), depth)
    student = make_student(module, recipe.student)
    freeze(student, config.freeze)
    if recipe.prune is not None:
        Masks(student, recipe.prune, recipe.only, recipe.ignore)
    ids = torch.zeros((1, 2), dtype=torch.int64)
    with torch.no_grad():
        found = outputs(student, pooling, Batch(ids, ids == 0), {LOSSES[name].part for name in config.losses})
    if found.hidden is not None and config.layer_map:
        if plan.target is not None:
            raise InputError(f"recipe {recipe.name}: distill: layer_map is for one depth, and a search tries several")
        same = os.path.realpath(plan.teacher) == os.path.realpath(plan.model)
        depth = int(getattr(module.config, class_of(module)[0].depth)) if same else max(config.layer_map)
        mapped_layers(config.layer_map, len(found.hidden) - 1, depth)
