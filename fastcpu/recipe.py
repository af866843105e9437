"""Recipes: what `fastcpu compress` does to a model, as a typed and checked TOML file.

A recipe has up to four tables, each one step: ``[student]`` (fewer layers), ``[prune]``, ``[distill]`` and
``[quantize]``. With ``[distill]``, pruning is gradual and happens while the student learns; without it, pruning happens
once. ``reconstruct`` prunes at once in both cases, and solves for the weights that are left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from fastcpu.errors import InputError
from fastcpu.files import check_regular

if TYPE_CHECKING:
    from fastcpu.tasks.tokenizer import Text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Student:
    """The student starts as a copy of some layers of the teacher.

    Attributes:
        layers: number of encoder layers that remain.
        select: which: ``spread`` (evenly over the depth, the last one included), ``first`` or ``last``.
    """

    layers: int
    select: Literal["spread", "first", "last"] = "spread"


@dataclass(frozen=True)
class Prune:
    """Zero blocks in the encoder linears.

    Attributes:
        sparsity: share of the blocks that end up zero, in every layer or (``scope = "global"``) over all layers.
        pattern, score: names of ``fastcpu.prune.PATTERNS`` and ``SCORES``.
        scope: whether blocks compete within their layer or with those of all layers.
        begin, end: shares of the training steps between which sparsity rises, by the cubic schedule of Zhu and Gupta,
            2017 (equation 1). Masks are final after ``end``.
        interval: steps between two updates of the masks.
        reconstruct: number of texts with which the model is pruned layer by layer before training, or without any, so
            that every linear keeps its outputs in the least squares sense; masks are final then. 0 leaves it out.
    """

    sparsity: float
    pattern: str = "4x1"
    score: str = "magnitude"
    scope: Literal["layer", "global"] = "layer"
    begin: float = 0.0
    end: float = 0.5
    interval: int = 20
    reconstruct: int = 0


@dataclass(frozen=True)
class Distill:
    """Train the student to give the teacher's outputs.

    Attributes:
        losses: weight of each loss of ``fastcpu.distill.losses.LOSSES``. By default what the model offers: embeddings
            and their similarities of a sentence encoder, else logits, hidden states and the labels that the data has.
        neighbors: weight of the loss ``neighbors`` beside these default losses of a sentence encoder, for search.
        temperature: by which the loss ``logits`` softens both sides (Hinton et al., 2015, section 2).
        layer_map: for the loss ``hidden``, the teacher's layer, from 1, that each layer of the student learns, as
            ``[2, 4, 6]``; by default those at the same relative depths.
        teacher: in what the teacher's embeddings are computed where they are stored: ``f32``, or ``int8`` with fixed
            scales, several times as fast.
        batch: sequences per step.
        learning_rate: peak of the schedule (linear warm-up, linear decay) of AdamW.
        warmup: share of the steps that warm up.
        decay_to: the share of the peak that the rate has decayed to at the end. With ``average``, a rate that stays
            high finds weights that generalize better (stochastic weight averaging, Izmailov et al., 2018).
        weight_decay: of AdamW, on weight matrices.
        clip: largest norm of a step's gradient.
        layer_decay: factor of the learning rate from each layer to the one below it; embeddings are below the first.
        average: decay of a running mean of the weights, which is what remains at the end; 0 leaves it out.
        dropout: probability of the student's dropout layers. A teacher's outputs do not vary, labels overfit without.
        sampling: how texts are drawn: each once per epoch, or at random with a probability proportional to their
            length, where short ones are mere parts of others.
        readout: number of texts with which a linear map of the embeddings is solved for after training, so that they
            rank as the teacher's do (``fastcpu.distill.readout``). It becomes a Dense module of the sentence encoder.
            0 leaves it out; models that are no sentence encoders have none.
        max_length: texts are cut to this many tokens; 0 means 128, and 384 for question answering.
        steps: training steps; 0 means that a budget of minutes decides.
        freeze: globs of parameters that stay as they are.
        budget: minutes of training that become a number of steps once, at the start, where ``steps`` is 0.
    """

    losses: Mapping[str, float] = field(default_factory=dict)
    neighbors: float = 0.0
    temperature: float = 2.0
    layer_map: tuple[int, ...] = ()
    teacher: Literal["f32", "int8"] = "f32"
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: float = 0.05
    decay_to: float = 0.0
    weight_decay: float = 0.01
    clip: float = 1.0
    layer_decay: float = 1.0
    average: float = 0.0
    dropout: float = 0.0
    sampling: Literal["once", "by length"] = "once"
    readout: int = 0
    max_length: int = 0
    freeze: tuple[str, ...] = ()
    steps: int = 0
    budget: float = 60.0


@dataclass(frozen=True)
class Quantize:
    """Integers at the end.

    Attributes:
        scheme: ``static`` or ``dynamic`` int8.
        observer: how ``static`` chooses ranges; a name of ``fastcpu.quantize.OBSERVERS``.
        calibration: number of training texts that ``static`` observes.
        smooth: alpha, 0 to 1 or ``auto``, with which ``static`` smooths LayerNorm outputs; absent, it does not.
    """

    scheme: Literal["static", "dynamic"] = "static"
    observer: str = "mse"
    calibration: int = 256
    smooth: float | Literal["auto"] | None = None


@dataclass(frozen=True)
class Recipe:
    """A named list of steps; a step that is None is left out."""

    name: str
    description: str
    student: Student | None = None
    prune: Prune | None = None
    distill: Distill | None = None
    quantize: Quantize | None = None
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = field(default=())

    @property
    def reconstructs(self) -> bool:
        """True if layers are pruned one by one with texts."""
        return self.prune is not None and self.prune.reconstruct > 0


def names() -> list[str]:
    """The recipes that come with fastcpu."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def path_of(name: str | Path) -> Path:
    """The file of a shipped recipe, or a .toml file itself; InputError for a name that is none."""
    if Path(name).suffix == ".toml":
        return Path(name)
    if str(name) not in names():
        raise InputError(f"no recipe {str(name)!r}; there are {', '.join(names())}, and .toml files")
    return FOLDER / f"{name}.toml"


def load(name: str | Path) -> Recipe:
    """A shipped recipe by its name, or one from a .toml file.

    Raises:
        InputError: no such recipe, or a file that is not a recipe; the message names the file and the key.
    """
    path = path_of(name)
    check_regular(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    return parse(content, path.stem, str(path))


def parse(content: Mapping[str, Any], name: str, where: str) -> Recipe:
    """The recipe that a parsed TOML file describes; InputError names ``where`` and the key."""
    recipe: Recipe = _build(Recipe, {"name": name, **content}, where)
    _check(recipe, where)
    return recipe


def compile_options(recipe: Recipe, calibration: Callable[[int], Sequence[Text]], max_length: int) -> dict[str, Any]:
    """The arguments of `fastcpu.compile` for the steps of a recipe that are not part of training.

    ``calibration`` is called with the number of texts that a static scheme observes, and returns them; they are cut to
    ``max_length`` tokens.
    """
    options: dict[str, Any] = {}
    if recipe.quantize is not None:
        options["quantize"] = recipe.quantize.scheme
        if recipe.quantize.scheme == "static":
            options["calibration"] = calibration(recipe.quantize.calibration)
            options["observer"] = recipe.quantize.observer
            options["max_length"] = max_length
            if recipe.quantize.smooth is not None:
                options["smooth"] = recipe.quantize.smooth
    if recipe.prune is not None and recipe.distill is None and not recipe.reconstructs:
        options |= {"sparsity": recipe.prune.sparsity, "pattern": recipe.prune.pattern}
    return options | {"only": recipe.only, "ignore": recipe.ignore} if options else {}


def _build(kind: type[Any], content: Mapping[str, Any], where: str) -> Any:
    """An instance of a dataclass from a table, with every key and type checked."""
    hints = get_type_hints(kind)
    unknown = sorted(set(content) - set(hints))
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(hints)}")
    values = {key: _value(hints[key], value, f"{where}: {key}") for key, value in content.items()}
    for each in fields(kind):
        if each.name not in values and each.default is MISSING and each.default_factory is MISSING:
            raise InputError(f"{where}: {each.name!r} is missing")
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kinds = [arg for arg in args if arg is not type(None)]
        fitting = (arg for arg in kinds if (get_origin(arg) is Literal) == isinstance(value, str))
        return _value(next(fitting, kinds[0]), value, where)
    if origin is Literal:
        if value not in args:
            raise InputError(f"{where} must be one of {', '.join(args)}, not {value!r}")
        return value
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise InputError(f"{where} must be a table, not {value!r}")
        return _build(cast("type[Any]", hint), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple) or not all(type(item) is args[0] for item in value):
            raise InputError(f"{where} must be a list of {'strings' if args[0] is str else 'integers'}, not {value!r}")
        return tuple(value)
    if origin is not None:  # losses: a table of numbers
        if not isinstance(value, Mapping) or not value or not all(_is_number(item) for item in value.values()):
            raise InputError(f"{where} must be a table of numbers, not {value!r}")
        return {str(key): float(item) for key, item in value.items()}
    if hint is float and _is_number(value):
        return float(value)
    if type(value) is not hint:
        raise InputError(
            f"{where} must be {'a number' if hint is float else f'of type {hint.__name__}'}, not {value!r}"
        )
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(recipe: Recipe, where: str) -> None:
    """Ranges, and names of things that are registered elsewhere."""
    from fastcpu.distill.losses import LOSSES, runs_twice
    from fastcpu.prune import PATTERNS, SCORES
    from fastcpu.quantize import OBSERVERS

    def known(key: str, name: str, registry: Mapping[str, Any]) -> None:
        if name not in registry:
            raise InputError(f"{where}: {key}: no {name!r}; there are {', '.join(sorted(registry))}")

    def within(key: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise InputError(f"{where}: {key} must be from {low:g} to {high:g}, not {value:g}")

    if recipe.student is not None:
        within("student: layers", recipe.student.layers, 1, 1000)
        if recipe.distill is None:
            raise InputError(f"{where}: a student with fewer layers needs [distill]: untrained, it is of no use")
    if recipe.prune is not None:
        within("prune: sparsity", recipe.prune.sparsity, 0, 1)
        within("prune: end", recipe.prune.end, 0, 1)
        within("prune: begin", recipe.prune.begin, 0, recipe.prune.end)
        within("prune: interval", recipe.prune.interval, 1, 1_000_000)
        known("prune: pattern", recipe.prune.pattern, PATTERNS)
        known("prune: score", recipe.prune.score, SCORES)
        within("prune: reconstruct", recipe.prune.reconstruct, 0, 1_000_000)
        if recipe.reconstructs and (recipe.prune.score, recipe.prune.scope) != (Prune.score, Prune.scope):
            raise InputError(f"{where}: prune: reconstruct chooses blocks by itself: it takes neither score nor scope")
        if recipe.distill is None and SCORES[recipe.prune.score].needs is not None:
            raise InputError(f"{where}: the score {recipe.prune.score} is observed in training: it needs [distill]")
        if recipe.distill is None and recipe.prune.scope == "global":
            raise InputError(f'{where}: the scope "global" is for pruning while training: it needs [distill]')
    if recipe.distill is not None:
        for name, weight in recipe.distill.losses.items():
            known("distill: losses", name, LOSSES)
            within(f"distill: losses: {name}", weight, 0, 1e6)
        within("distill: neighbors", recipe.distill.neighbors, 0, 1e6)
        if recipe.distill.losses and recipe.distill.neighbors:
            raise InputError(f"{where}: distill: neighbors stands beside default losses: name it in losses instead")
        within("distill: temperature", recipe.distill.temperature, 0.01, 1000)
        for layer in recipe.distill.layer_map:
            within("distill: layer_map", layer, 1, 1000)
        within("distill: batch", recipe.distill.batch, 1, 65536)
        within("distill: learning_rate", recipe.distill.learning_rate, 0, 1)
        within("distill: warmup", recipe.distill.warmup, 0, 1)
        within("distill: decay_to", recipe.distill.decay_to, 0, 1)
        within("distill: weight_decay", recipe.distill.weight_decay, 0, 1)
        within("distill: clip", recipe.distill.clip, 1e-6, 1e6)
        within("distill: layer_decay", recipe.distill.layer_decay, 0.01, 1)
        within("distill: average", recipe.distill.average, 0, 0.999999)
        if runs_twice(recipe.distill.losses) and not recipe.distill.dropout:
            raise InputError(
                f"{where}: distill: losses: consistency compares two runs with dropout: set dropout as well"
            )
        within("distill: dropout", recipe.distill.dropout, 0, 0.9)
        within("distill: readout", recipe.distill.readout, 0, 1_000_000)
        if recipe.distill.max_length:
            within("distill: max_length", recipe.distill.max_length, 3, 1 << 20)
        within("distill: steps", recipe.distill.steps, 0, 1e9)
        within("distill: budget", recipe.distill.budget, 0.01, 1e5)
    if recipe.quantize is not None:
        known("quantize: observer", recipe.quantize.observer, OBSERVERS)
        within("quantize: calibration", recipe.quantize.calibration, 1, 1_000_000)
        if isinstance(recipe.quantize.smooth, float):
            within("quantize: smooth", recipe.quantize.smooth, 0, 1)
        if recipe.quantize.smooth is not None and recipe.quantize.scheme != "static":
            raise InputError(f'{where}: quantize: smooth needs the scheme "static"')
