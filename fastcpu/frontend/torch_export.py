"""Torch -> ONNX -> Graph: families and heads of transformers, the pooling of sentence-transformers."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastcpu.errors import FileFormatError, GraphError
from fastcpu.frontend import families, onnx_import
from fastcpu.frontend.builder import Builder
from fastcpu.frontend.families import Family
from fastcpu.frontend.sentence_transformers import Pooling, read_json, read_pooling
from fastcpu.frontend.symbols import Activation
from fastcpu.graph.ir import EMBEDDING, Graph

if TYPE_CHECKING:
    import onnx
    import torch

    from fastcpu.graph.trace import Trace

OPSET = 17
PREFIX = "model."
"""What the exported wrapper calls the model; dropped from node names, which so become torch module names."""

_MOST_LAYERS = 1000
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where transformers looks for weights, in its order."""


def load_module(module: torch.nn.Module, trace: Trace | None = None) -> Graph:
    """The graph of a module of transformers."""
    name = getattr(getattr(module, "config", None), "model_type", None) or type(module).__name__
    return onnx_import.import_proto(to_onnx(module), name, PREFIX, trace)


def load_directory(path: Path, trace: Trace | None = None) -> Graph:
    """The graph of a directory of transformers (config.json, weights) or of sentence-transformers (modules.json)."""
    module, pooling = open_module(path)
    graph = load_module(module, trace)
    graph.name = path.resolve().name
    if pooling is not None:
        append_pooling(graph, pooling)
    return graph


# ---- directories ----


def open_module(path: Path) -> tuple[torch.nn.Module, Pooling | None]:
    """The module of a directory in evaluation mode, and what sentence-transformers does with its outputs."""
    pooling, folder = read_pooling(path) or (None, path)
    return _from_directory(folder, bare=pooling is not None), pooling


def architecture(config: dict[str, Any], where: str, bare: bool = False) -> str:
    """The supported class that a config.json names; with ``bare``, the model without its head."""
    model_type = str(config.get("model_type", ""))
    family = families.of_type(model_type)
    base = f"{model_type if family is None else family.name}Model"
    listed = config.get("architectures") or [base]
    if not isinstance(listed, list) or not isinstance(listed[0], str):
        raise FileFormatError(f"{where}: architectures of config.json must be a list of names, not {listed!r:.60}")
    named = listed[0]
    if bare and family is not None:
        named = base
    if families.split(named) is None:
        raise families.unsupported(named, f"{where}: architecture ")
    return named


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bar and the report of transformers about weights: what is missing is an error of ours."""
    import transformers

    logging: Any = transformers.utils.logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _from_directory(path: Path, bare: bool) -> torch.nn.Module:
    import torch
    import transformers

    if not (path / "config.json").is_file():
        raise FileFormatError(f"{path}: no config.json; a model directory needs one")
    config = read_json(path / "config.json")
    if not isinstance(config, dict):
        raise FileFormatError(f"{path / 'config.json'}: not a JSON object")
    name = architecture(config, str(path), bare)
    kind, split = getattr(transformers, name), families.split(name)
    depth = config.get(split[0].depth) if split is not None else None
    if isinstance(depth, int) and depth > _MOST_LAYERS:  # which are made one by one, before weights are looked for
        raise FileFormatError(f"{path / 'config.json'}: describes no model: {depth} layers")
    try:
        with quiet(), torch.device("meta"):
            kind(kind.config_class.from_pretrained(path, local_files_only=True))
    except Exception as error:  # whatever transformers raises for settings of the wrong type or that do not fit
        raise FileFormatError(f"{path / 'config.json'}: describes no model: {_reason(error)}") from error
    try:
        with quiet():
            model, info = kind.from_pretrained(
                path,
                local_files_only=True,
                attn_implementation="eager",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # _check_weights refuses them, with their shapes
            )
    except Exception as error:  # safetensors, zipfile, pickle and torch each raise their own for a damaged file
        file = next((path / name for name in _WEIGHTS if (path / name).is_file()), path)
        raise FileFormatError(f"{file}: the weights cannot be loaded: {_reason(error)}") from error
    _check_weights(path, kind.__name__, info, bare)
    return cast("torch.nn.Module", model.eval())


def _reason(error: Exception) -> str:
    """``error`` in one line, without the advice of torch to load pickles that run code."""
    if isinstance(error, pickle.UnpicklingError):
        return "not a checkpoint that holds nothing but tensors"
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _check_weights(path: Path, name: str, info: dict[str, Any], bare: bool) -> None:
    """GraphError where the weights of a directory are not those of the class ``name``: all that it has, and no more.

    ``info`` is what transformers reports of loading. What no output reads may be missing or left over, and so may the
    heads of pretraining; with ``bare``, every head.
    """
    mismatched = sorted(info["mismatched_keys"])
    if mismatched:
        tensor, found, expected = mismatched[0]
        others = f" (and {len(mismatched) - 1} more differ)" if len(mismatched) > 1 else ""
        raise GraphError(
            f"{path}: {tensor} is {list(found)} in the weights but {list(expected)} by config.json{others}"
        )
    split = families.split(name)
    assert split is not None, name
    family, ending = split
    unread = () if ending in family.reads_pooler else (families.POOLER,)
    missing = [key for key in sorted(info["missing_keys"]) if not any(part in key for part in unread)]
    if missing:
        raise GraphError(f"{path}: the weights lack {_listed(missing)}")
    spare = (families.POOLER, *families.PRETRAINING, *(families.HEADS if bare else ()))
    unused = [
        key
        for key in sorted(info["unexpected_keys"])
        if not key.removeprefix(f"{family.prefix}.").startswith(spare) and not key.endswith("position_ids")
    ]
    if unused:
        raise GraphError(
            f"{path}: the weights hold {_listed(unused)}, which {name} does not use: {_remedy(family, unused)}"
        )


def _remedy(family: Family, unused: list[str]) -> str:
    """What to do about weights that a class of the family does not use."""
    for head, endings in families.HEADS.items():
        if any(key.startswith(head) for key in unused):
            classes = " or ".join(f'"architectures": ["{family.name}{ending}"]' for ending in endings)
            return f"name the class that does in config.json, {classes}, or remove them from the weights"
    return "config.json is not that of these weights (number of layers, architectures)"


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{' and more' if len(names) > 5 else ''}"


def append_pooling(graph: Graph, pooling: Pooling) -> None:
    """Add the output `EMBEDDING` behind ``last_hidden_state``."""
    hidden = next(output for output in graph.outputs if output.name == "last_hidden_state")
    repad = graph.producer(hidden.value)
    assert repad is not None
    source = graph.values[repad.inputs[0]]
    builder = Builder.extend(graph)
    embedding = builder.pool(pooling.mode, Activation(source.name, source.space, source.channels))
    pooling.channels(embedding.channels)
    for dense in pooling.dense:
        embedding = builder.dense(dense.name, embedding, dense.weight, dense.bias, dense.activation)
    if pooling.normalize:
        embedding = builder.l2norm(embedding)
    builder.output(EMBEDDING, embedding, 0, embedding.channels, False)


# ---- export ----


def class_of(module: torch.nn.Module) -> tuple[Family, str]:
    """The family, and the ending of the transformers class, that ``module`` is or derives from."""
    for kind in type(module).__mro__:
        found = families.split(kind.__name__)
        if found is not None:
            return found
    raise families.unsupported(type(module).__name__)


def set_attention(module: torch.nn.Module, implementation: str) -> None:
    """How a module computes attention; one that knows only one way keeps to it."""
    with quiet():
        cast("Any", module).set_attn_implementation(implementation)


@contextmanager
def _exportable(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """``module`` in f32, in evaluation mode and with eager attention; its own settings come back afterwards."""
    import torch

    if any(parameter.is_floating_point() and parameter.dtype != torch.float32 for parameter in module.parameters()):
        module = copy.deepcopy(module).float()
    modes = {part: part.training for part in module.modules()}
    config = cast("Any", module).config
    attention = config._attn_implementation  # the setter is public, a getter is not
    try:
        set_attention(module, "eager")
        yield module.eval()
    finally:
        set_attention(module, attention)
        for part, training in modes.items():
            part.training = training


def to_onnx(module: torch.nn.Module, opset: int = OPSET) -> onnx.ModelProto:
    """``module`` as ONNX, with batch and sequence dynamic and attention written out."""
    import onnx
    import torch

    family, ending = class_of(module)
    inputs, outputs = family.inputs(module.config), families.OUTPUTS[ending]

    class Exported(torch.nn.Module):
        """The model with positional inputs and a tuple of outputs."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            result = self.model(**dict(zip(inputs, tensors, strict=True)), return_dict=True)
            return tuple(result[output] for output in outputs)

    per_token = ending != "ForSequenceClassification"
    axes = {key: {0: "batch", 1: "sequence"} for key in (*inputs, *(outputs if per_token else ()))}
    axes |= {} if per_token else {key: {0: "batch"} for key in outputs}
    buffer = io.BytesIO()
    with _exportable(module) as model, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated, and the tracer warns about every Python branch
        device = next(model.parameters()).device
        example = tuple(torch.ones((2, 8), dtype=torch.int64, device=device) for _ in inputs)
        torch.onnx.export(
            Exported(model).eval(),
            example,
            cast("Any", buffer),  # the annotation knows paths only
            dynamo=False,
            opset_version=opset,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    return onnx.load_model_from_string(buffer.getvalue())
