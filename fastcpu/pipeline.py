"""From a model to a model directory without training: import, prune, quantize, write."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from fastcpu.data.texts import TABLES
from fastcpu.errors import InputError, QuantizationError
from fastcpu.graph.ir import Graph, Tensor
from fastcpu.graph.limits import BLOCK_HEIGHT
from fastcpu.prune import PATTERNS, LayerSparsity, prune_graph, sparsity_of
from fastcpu.quantize import (
    SCHEMES,
    Feeds,
    Record,
    RuntimeExecutor,
    Selection,
    Static,
    make_observer,
    observe,
    quantize_smoothed,
    relative_error,
    stored_bytes,
)
from fastcpu.tasks.tokenizer import Text

QUANTIZE = ("none", *SCHEMES)
OBSERVER = "mse"
PATTERN = "4x1"
MAX_LENGTH = 128
Calibration = Iterable[Mapping[str, NDArray[Any]]] | Sequence[Text] | str | os.PathLike[str]

CALIBRATION_TEXTS = 512
"""At most so many texts of a file are used, in their order; the statistics of a linear settle long before."""
_BATCH_ROWS = 32
_VERSIONS_OF = ("numpy", "torch", "transformers", "onnx")


@dataclass(frozen=True)
class Compiled:
    """What ``compile`` made.

    Attributes:
        directory: the model directory.
        report: the contents of its report.json:
            ``source``: the path, or the class of the module.
            ``options``: those that had an effect, by name, and ``calibration_sequences``, how many were used.
            ``layers``: a dict per linear with ``name``, ``shape`` [N, K], ``storage`` (f32 or s8), ``encoding`` (dense
            or block), ``zero_blocks`` (share of its 4x1 blocks that are zero; None where N is no multiple of 4),
            ``weight_error`` (squared error of weights that were quantized here, relative to their squares; else None),
            ``pruned`` (whether it was asked to be) and ``bytes``.
            ``ranges``: per u8 value its ``scale``, ``zero_point``, ``low`` and ``high``; ``seen_low`` and
            ``seen_high``, what calibration gave; and ``error``, the squared error of u8 on that, relative to the
            squares. What goes into an activation table has no error of its own, and what comes out was not seen: None.
            ``kept_f32``: per linear that was not quantized, why.
            ``smooth``: with smoothing, its ``alpha`` (None: off is better), and the ``errors`` that ``auto`` chose by.
            ``not_fused``: what the importer did not recognize, as text.
            ``versions``: of Python and of packages.
            ``seconds``: the time that it took.
    """

    directory: Path
    report: dict[str, Any]

    def __fspath__(self) -> str:
        return os.fspath(self.directory)


def compile(  # noqa: A001  (the public name, as in fastcpu.compile)
    model: Any,
    out: str | os.PathLike[str],
    *,
    quantize: str = "none",
    calibration: Calibration | None = None,
    observer: str | None = None,
    smooth: float | Literal["auto"] | None = None,
    sparsity: float | None = None,
    pattern: str | None = None,
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
    max_length: int | None = None,
    per_token: bool = False,
    threads: int = 0,
    notes: Mapping[str, Any] | None = None,
    accept: Callable[[Path], None] | None = None,
) -> Compiled:
    """Compile a model into a directory that ``fastcpu.Session`` runs. Zeros that the weights hold are kept.

    An option that has no effect beside the others is an error.

    Args:
        model: a torch module, a local Hugging Face or sentence-transformers directory, or an .onnx file.
        out: the directory to write; a model that is there is replaced when the new one is complete.
        quantize: ``static`` (u8 activations with fixed scales, from calibration), ``dynamic`` (a scale per token), or
            ``none`` (f32, or what an imported int8 file holds).
        calibration: for ``static``: batches ``{input name: int array [batch, sequence]}``, texts and pairs of texts,
            or a text file with one text per line (texts need the model's tokenizer.json).
        observer: for ``static``: how a range is chosen from what was seen: ``minmax``, ``percentile`` or ``mse`` (the
            default).
        smooth: for ``static``: divide what a LayerNorm writes in u8 by a factor per channel, with this alpha from 0 to
            1 (SmoothQuant); ``auto`` tries several, which takes several times as long.
        sparsity: prune this share of the blocks of every encoder linear by magnitude, before quantization.
        pattern: the block of ``sparsity``: ``4x1`` (4 output channels x 1 input channel, the default) or
            ``unstructured``.
        only, ignore: globs of the names of linears to prune and quantize, or to leave alone.
        max_length: calibration texts are cut to this many tokens, 128 by default.
        per_token: for an .onnx file whose activations are quantized at run time by DynamicQuantizeLinear, with one
            scale for a whole batch and its padding: gives every token a scale of its own, as ``dynamic`` does. Such a
            file is refused otherwise, since its answers depend on what else is in a batch.
        threads: threads for calibration; 0 uses all CPUs available to this process.
        notes: further entries of report.json, which JSON must be able to hold.
        accept: called with the complete directory before it takes its place at ``out``; it may add to report.json, and
            what it raises keeps the model from being published.

    Returns:
        The directory and the report, whose keys `Compiled` lists.

    Raises:
        fastcpu.errors.InputError: an argument or the calibration data is not usable.
        fastcpu.errors.FileFormatError: a file of the model is missing, damaged or not what its name says.
        fastcpu.errors.GraphError: the model cannot be imported (UnsupportedOpError names node, op and opset).
        fastcpu.errors.QuantizationError: nothing can be quantized, there is no such observer, or static quantization
            lacks calibration data.
        fastcpu.errors.OutputError: ``out`` cannot be written, or holds files that are not of a model.
    """
    import fastcpu
    from fastcpu import frontend
    from fastcpu.export.writer import REPORT_FILE, write_model
    from fastcpu.graph import passes
    from fastcpu.graph.trace import Trace
    from fastcpu.report.machine import versions

    began = time.perf_counter()
    _check_paths(model, out)
    _check_types(sparsity=sparsity, max_length=max_length, threads=threads, observer=observer, pattern=pattern)
    _check_globs(only=only, ignore=ignore)
    _check_numbers(sparsity, max_length, threads)
    _check_names(quantize, observer, pattern)
    _check_smooth(smooth)
    _check_effects(quantize, calibration, observer, smooth, sparsity, pattern, [*only, *ignore], max_length)
    observer, pattern, max_length = observer or OBSERVER, pattern or PATTERN, max_length or MAX_LENGTH
    source = _source_directory(model)
    trace = Trace()
    graph = frontend.load(model, trace, per_token)
    pruned = [] if sparsity is None else prune_graph(graph, sparsity, pattern=pattern, only=only, ignore=ignore)
    batches = None if calibration is None else list(calibration_batches(calibration, graph, source, max_length))
    source_graph = graph
    selection = Selection(tuple(only), tuple(ignore))
    graph, record = _quantize(graph, quantize, batches, observer, smooth, selection, threads)
    layers = _layers(graph, pruned, source_graph)
    if record is not None or any(value.dtype == "u8" for value in graph.values.values()):
        passes.run(graph, trace, passes.PASSES_AFTER_QUANTIZATION)
    report = dict(notes or {}) | {
        "source": str(model) if isinstance(model, (str, os.PathLike)) else type(model).__name__,
        "options": {
            "quantize": quantize,
            "observer": None if batches is None else observer,
            "calibration_sequences": None if batches is None else sum(_rows(batch) for batch in batches),
            "sparsity": None if sparsity is None else float(sparsity),
            "pattern": pattern if sparsity is not None else None,
            "only": list(only),
            "ignore": list(ignore),
            "per_token": per_token,
        },
        "layers": layers,
        "ranges": {} if record is None else record.ranges,
        "kept_f32": {} if record is None else record.kept_f32,
        **({"smooth": record.smooth} if record is not None and record.smooth else {}),
        "not_fused": [str(miss) for miss in trace.misses],
        "versions": {"python": platform.python_version(), "fastcpu": fastcpu.__version__} | versions(_VERSIONS_OF),
        "seconds": round(time.perf_counter() - began, 3),
    }
    directory = write_model(graph, out, source, {REPORT_FILE: json.dumps(report, indent=1) + "\n"}, accept)
    return Compiled(directory, json.loads((directory / REPORT_FILE).read_text(encoding="utf-8")))


# ---- options ----


def _check_paths(model: Any, out: Any) -> None:
    if not isinstance(out, (str, os.PathLike)):
        raise InputError(f"out must be the path of a directory, not {out!r}")
    for name, path in (("model", model), ("out", out)):
        if isinstance(path, str) and not path:
            raise InputError(f"{name} is an empty path")


def _check_types(**options: Any) -> None:
    """InputError for an option, by name, that is not of its type; None is the default of all but threads."""
    kinds: dict[str, tuple[Any, str]] = {
        "sparsity": (Real, "a number"),
        "max_length": (Integral, "an integer"),
        "threads": (Integral, "an integer"),
    }
    for name, value in options.items():
        kind, title = kinds.get(name, (str, "a name"))
        is_default = value is None and name != "threads"
        if not is_default and (not isinstance(value, kind) or isinstance(value, bool)):
            raise InputError(f"{name} must be {title}, not {value!r}")


def _check_globs(**options: Any) -> None:
    for name, globs in options.items():
        if isinstance(globs, str):
            raise InputError(f"{name} must be a list of globs, not the string {globs!r}")
        if not isinstance(globs, Collection) or not all(isinstance(glob, str) for glob in globs):
            raise InputError(f"{name} must be a list of globs, not {globs!r}")


def _check_numbers(sparsity: float | None, max_length: int | None, threads: int) -> None:
    if sparsity is not None and not 0 <= sparsity <= 1:
        raise InputError(f"sparsity must be from 0 to 1, not {sparsity}")
    if max_length is not None and max_length < 1:
        raise InputError(f"max_length must be at least 1, not {max_length}")
    if threads < 0:
        raise InputError(f"threads must not be negative, but is {threads}")


def _check_names(quantize: str, observer: str | None, pattern: str | None) -> None:
    if quantize not in QUANTIZE:
        raise InputError(f"quantize must be one of {', '.join(QUANTIZE)}, not {quantize!r}")
    if observer is not None:
        make_observer(observer)
    if pattern is not None and pattern not in PATTERNS:
        raise InputError(f"no pruning pattern {pattern!r}; there are {', '.join(sorted(PATTERNS))}")


def _check_smooth(smooth: Any) -> None:
    if smooth is None or (isinstance(smooth, str) and smooth == "auto"):
        return
    if isinstance(smooth, bool) or not isinstance(smooth, Real):
        raise InputError(f"smooth must be a number or 'auto', not {smooth!r}")
    if not 0 <= float(smooth) <= 1:
        raise InputError(f"smooth must be from 0 to 1, not {smooth}")


def _check_effects(
    quantize: str,
    calibration: Calibration | None,
    observer: str | None,
    smooth: float | str | None,
    sparsity: float | None,
    pattern: str | None,
    globs: Sequence[str],
    max_length: int | None,
) -> None:
    """InputError for an option that nothing would look at; QuantizationError for a scheme without calibration data."""
    if quantize != "none" and SCHEMES[quantize].requires_calibration:
        if calibration is None:
            raise QuantizationError(
                f"{quantize} quantization needs calibration data (--calibration): "
                "texts, a text file or batches of inputs"
            )
    else:
        users = " or ".join(repr(name) for name, scheme in SCHEMES.items() if scheme.requires_calibration)
        given = {
            "calibration data": calibration,
            "an observer": observer,
            "smooth": smooth,
            "max_length": max_length,
        }
        for name, value in given.items():
            if value is not None:
                raise InputError(f"{name} is only used with quantize={users}, not {quantize!r}")
    if sparsity is None and pattern is not None:
        raise InputError("a pattern is only used with sparsity")
    if sparsity is None and quantize == "none" and globs:
        raise InputError("only and ignore choose what to prune or quantize, but neither sparsity nor quantize is given")


# ---- steps ----


def _source_directory(model: Any) -> Path | None:
    """Where configuration and tokenizer lie: the model's directory, or that of its .onnx file."""
    if not isinstance(model, (str, os.PathLike)):
        return None
    path = Path(model)
    return path if path.is_dir() else path.parent if path.is_file() else None


def _quantize(
    graph: Graph,
    kind: str,
    batches: Sequence[Feeds] | None,
    observer: str,
    smooth: float | Literal["auto"] | None,
    selection: Selection,
    threads: int,
) -> tuple[Graph, Record | None]:
    if kind == "none":
        return graph, None
    options: dict[str, Any] = {"selection": selection}
    if SCHEMES[kind].requires_calibration:
        options["observer"] = make_observer(observer)
    scheme = SCHEMES[kind](**options)
    if smooth is not None and batches is not None and isinstance(scheme, Static):
        return quantize_smoothed(graph, batches, RuntimeExecutor(threads), scheme, smooth)
    observed = {} if batches is None else observe(graph, batches, RuntimeExecutor(threads), scheme.wanted(graph))
    return scheme.apply(graph, observed)


def _rows(batch: Feeds) -> int:
    return len(next(iter(batch.values())))


# ---- calibration ----


def calibration_batches(
    calibration: Calibration, graph: Graph, source: Path | None, max_length: int
) -> Iterable[dict[str, NDArray[Any]]]:
    """Batches for the inputs of a graph, from batches, texts or a text file."""
    if isinstance(calibration, (str, os.PathLike)):
        texts: Sequence[Text] = _lines(Path(calibration))
    else:
        try:
            items = list(calibration)
        except TypeError as error:
            raise InputError(
                f"calibration data is a file, texts or batches, not {type(calibration).__name__}"
            ) from error
        if not items:
            raise InputError("the calibration data is empty")
        if all(isinstance(item, Mapping) for item in items):
            return _given(items, graph)
        if not all(isinstance(item, (str, tuple)) for item in items):
            raise InputError(
                "calibration data must be all texts and pairs (tuples) of texts, or all dicts of input arrays"
            )
        texts = cast("Sequence[Text]", items)
    if source is None:
        raise InputError("calibration texts need the model's tokenizer.json: pass a directory, or batches of inputs")
    return _tokenized(texts, graph, source, max_length)


def _lines(path: Path) -> list[str]:
    if path.suffix in TABLES:
        raise InputError(
            f"{path}: calibration texts are the lines of a plain file; `fastcpu compress --recipe int8-static "
            "--columns C` reads tables"
        )
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read calibration texts: {error}") from error
    texts = [line for line in lines if line]
    if not texts:
        raise InputError(f"{path}: no calibration texts: every line is empty")
    return texts[:CALIBRATION_TEXTS]


def _given(batches: Sequence[Any], graph: Graph) -> Iterable[dict[str, NDArray[Any]]]:
    names = {graph_input.name for graph_input in graph.inputs}
    for index, batch in enumerate(batches):
        unknown = sorted(set(batch) - names)
        if unknown:
            raise InputError(
                f"calibration batch {index}: no input is named {unknown[0]!r}; the model has {sorted(names)}"
            )
        if not batch:
            raise InputError(f"calibration batch {index} has no inputs")
        yield {name: _given_array(array, f"calibration batch {index}, {name!r}") for name, array in batch.items()}


def _given_array(array: Any, where: str) -> NDArray[Any]:
    try:
        made = np.asarray(array)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{where}: not an array [batch, sequence]: {error}") from error
    if made.ndim != 2:
        raise InputError(f"{where}: an array [batch, sequence] is needed, not one of shape {list(made.shape)}")
    return made


def _tokenized(
    texts: Sequence[Text], graph: Graph, source: Path, max_length: int
) -> Iterable[dict[str, NDArray[np.int64]]]:
    from fastcpu.tasks.tokenizer import Tokenizer

    names = {graph_input.role: graph_input.name for graph_input in graph.inputs}
    tokens = Tokenizer(source, max_length).encode(texts)
    tokens.sort(key=lambda encoded: len(encoded.ids))  # neighbours of one length waste no padding
    for start in range(0, len(tokens), _BATCH_ROWS):
        rows = tokens[start : start + _BATCH_ROWS]
        shape = (len(rows), max(len(row.ids) for row in rows))
        arrays = {role: np.zeros(shape, np.int64) for role in names}
        for b, row in enumerate(rows):
            content = {"ids": row.ids, "types": row.types, "mask": np.ones_like(row.ids)}
            for role, array in arrays.items():
                array[b, : len(row.ids)] = content[role]
        yield {names[role]: array for role, array in arrays.items()}


# ---- the report ----


def _layers(graph: Graph, pruned: Sequence[LayerSparsity], source: Graph) -> list[dict[str, Any]]:
    """A row per linear as `Compiled` lists them; ``source`` is the graph before quantization."""
    asked = {layer.name for layer in pruned}
    before = {node.name: source.tensors[node.tensors["weight"]] for node in source.nodes if node.op == "linear"}
    smooth = {
        name: graph.tensors[node.tensors["smooth"]].data
        for node in graph.nodes
        if "smooth" in node.tensors
        for name in node.outputs[1:]
    }
    rows = []
    for node in graph.nodes:
        if node.op != "linear":
            continue
        tensor = graph.tensors[node.tensors["weight"]]
        whole = tensor.data.shape[0] % BLOCK_HEIGHT == 0
        rows.append(
            {
                "name": node.name,
                "shape": list(tensor.data.shape),
                "storage": {"f": "f32", "i": "s8"}[tensor.data.dtype.kind],
                "encoding": tensor.encoding,
                "zero_blocks": round(sparsity_of(tensor.data, "4x1").block_sparsity, 6) if whole else None,
                "weight_error": _weight_error(before[node.name], tensor, smooth.get(node.inputs[0])),
                "pruned": node.name in asked,
                "bytes": stored_bytes(tensor),
            }
        )
    return rows


def _weight_error(before: Tensor, tensor: Tensor, smooth: NDArray[np.float32] | None) -> float | None:
    """Against the f32 weight, times the factor [K] of its input where that is smoothed."""
    if before.data.dtype != np.float32 or tensor.data.dtype != np.int8:
        return None
    source = before.data if smooth is None else before.data * smooth
    return float(f"{relative_error(source, tensor):.4g}")
