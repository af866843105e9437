"""From a model to a model directory without training: import, prune, quantize, write."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import InputError, QuantizationError

if TYPE_CHECKING:
    from fastcpu.graph.ir import Graph
    from fastcpu.prune import LayerSparsity
    from fastcpu.quantize import Feeds, Record

Quantize = Literal["none", "static", "dynamic"]
Calibration = Iterable[Mapping[str, NDArray[Any]]] | Sequence[str] | str | os.PathLike[str]

CALIBRATION_TEXTS = 512
"""At most so many texts of a file are used, in their order; the statistics of a linear settle long before."""
_BATCH_ROWS = 32


@dataclass(frozen=True)
class Compiled:
    """What ``compile`` made: the directory, and the contents of its report.json."""

    directory: Path
    report: dict[str, Any]

    def __fspath__(self) -> str:
        return os.fspath(self.directory)


def compile(  # noqa: A001  (the public name, as in fastcpu.compile)
    model: Any,
    out: str | os.PathLike[str],
    *,
    quantize: Quantize = "none",
    calibration: Calibration | None = None,
    observer: str = "mse",
    sparsity: float | None = None,
    pattern: str = "4x1",
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
    max_length: int = 128,
    threads: int = 0,
) -> Compiled:
    """Compile a model into a directory that ``fastcpu.Session`` runs. Zeros that the weights hold are kept.

    Args:
        model: a torch module, a local Hugging Face or sentence-transformers directory, or an .onnx file.
        out: the directory to write; a model that is there is replaced when the new one is complete.
        quantize: ``static`` (u8 activations with fixed scales, from calibration), ``dynamic`` (a scale per token), or
            ``none`` (f32, or what an imported int8 file holds).
        calibration: for ``static``: batches ``{input name: int array [batch, sequence]}``, texts, or a text file with
            one text per line (texts need the model's tokenizer.json).
        observer: how a range is chosen from what was seen: ``minmax``, ``percentile`` or ``mse``.
        sparsity: prune this share of the blocks of every encoder linear by magnitude, before quantization.
        pattern: the block of ``sparsity``: ``4x1`` (4 output channels x 1 input channel) or ``unstructured``.
        only, ignore: globs of the names of linears to prune and quantize, or to leave alone.
        max_length: calibration texts are cut to this many tokens.
        threads: threads for calibration; 0 uses all CPUs available to this process.

    Raises:
        fastcpu.errors.InputError: an argument or the calibration data is not usable.
        fastcpu.errors.GraphError: the model cannot be imported (UnsupportedOpError names node, op and opset).
        fastcpu.errors.QuantizationError: nothing can be quantized, or static quantization lacks calibration data.
        fastcpu.errors.OutputError: ``out`` cannot be written.
    """
    from fastcpu import frontend
    from fastcpu.export.writer import write_model
    from fastcpu.graph.passes import merge_qkv
    from fastcpu.graph.trace import Trace

    began = time.perf_counter()
    if quantize not in get_args(Quantize):
        raise InputError(f"quantize must be one of {', '.join(get_args(Quantize))}, not {quantize!r}")
    if sparsity is not None and not 0 <= sparsity <= 1:
        raise InputError(f"sparsity must be from 0 to 1, not {sparsity}")
    if quantize == "static" and calibration is None:
        raise QuantizationError(
            "static quantization needs calibration data (--calibration): texts, a text file or batches of inputs"
        )
    if quantize != "static" and calibration is not None:
        raise InputError(f"calibration data is only used with quantize='static', not {quantize!r}")
    source = _source_directory(model)
    trace = Trace()
    graph = frontend.load(model, trace)
    pruned = _prune(graph, sparsity, pattern, only, ignore)
    batches = None if calibration is None else list(calibration_batches(calibration, graph, source, max_length))
    graph, record = _quantize(graph, quantize, batches, observer, only, ignore, threads)
    layers = _layers(graph, pruned)
    if record is not None:
        merge_qkv.run(graph, trace)
    report = {
        "source": str(model) if isinstance(model, (str, os.PathLike)) else type(model).__name__,
        "options": {
            "quantize": quantize,
            "observer": observer if quantize == "static" else None,
            "calibration_sequences": None if batches is None else sum(_rows(batch) for batch in batches),
            "sparsity": sparsity,
            "pattern": pattern if sparsity is not None else None,
            "only": list(only),
            "ignore": list(ignore),
        },
        "layers": layers,
        "ranges": {} if record is None else record.ranges,
        "kept_f32": {} if record is None else record.kept_f32,
        "not_fused": [str(miss) for miss in trace.misses],
        "versions": _versions(),
        "seconds": round(time.perf_counter() - began, 3),
    }
    directory = write_model(graph, out, source, {"report.json": json.dumps(report, indent=1) + "\n"})
    return Compiled(directory, report)


# ---- steps ----


def _source_directory(model: Any) -> Path | None:
    """Where configuration and tokenizer lie: the model's directory, or that of its .onnx file."""
    if not isinstance(model, (str, os.PathLike)):
        return None
    path = Path(model)
    return path if path.is_dir() else path.parent if path.is_file() else None


def _prune(
    graph: Graph, sparsity: float | None, pattern: str, only: Sequence[str], ignore: Sequence[str]
) -> list[LayerSparsity]:
    from fastcpu.prune import prune_graph

    return [] if sparsity is None else prune_graph(graph, sparsity, pattern=pattern, only=only, ignore=ignore)


def _quantize(
    graph: Graph,
    kind: Quantize,
    batches: Sequence[Feeds] | None,
    observer: str,
    only: Sequence[str],
    ignore: Sequence[str],
    threads: int,
) -> tuple[Graph, Record | None]:
    from fastcpu.quantize import Dynamic, RuntimeExecutor, Selection, Static, make_observer, observe

    selection = Selection(tuple(only), tuple(ignore))
    if kind == "none":
        return graph, None
    if kind == "dynamic":
        return Dynamic(selection=selection).apply(graph, {})
    assert batches is not None
    scheme = Static(make_observer(observer), selection)
    histograms = observe(graph, batches, RuntimeExecutor(threads), scheme.wanted(graph))
    return scheme.apply(graph, histograms)


def _rows(batch: Feeds) -> int:
    return len(next(iter(batch.values())))


# ---- calibration ----


def calibration_batches(
    calibration: Calibration, graph: Graph, source: Path | None, max_length: int
) -> Iterable[dict[str, NDArray[Any]]]:
    """Batches for the inputs of a graph, from batches, texts or a text file."""
    if isinstance(calibration, (str, os.PathLike)):
        texts = _lines(Path(calibration))
    else:
        items = list(calibration)
        if not items:
            raise InputError("the calibration data is empty")
        if all(isinstance(item, Mapping) for item in items):
            return _given(items, graph)
        if not all(isinstance(item, str) for item in items):
            raise InputError("calibration data must be all texts, or all dicts of input arrays")
        texts = [str(item) for item in items]
    if source is None:
        raise InputError("calibration texts need the model's tokenizer.json: pass a directory, or batches of inputs")
    return _tokenized(texts, graph, source, max_length)


def _lines(path: Path) -> list[str]:
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
        yield {name: np.asarray(array) for name, array in batch.items()}


def _tokenized(
    texts: Sequence[str], graph: Graph, source: Path, max_length: int
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


def _layers(graph: Graph, pruned: Sequence[LayerSparsity]) -> list[dict[str, Any]]:
    """One row per linear: shape, storage, encoding, the share of 4x1 blocks that are zero, and stored bytes."""
    from fastcpu.prune import sparsity_of
    from fastcpu.quantize import stored_bytes

    asked = {layer.name for layer in pruned}
    rows = []
    for node in graph.nodes:
        if node.op != "linear":
            continue
        tensor = graph.tensors[node.tensors["weight"]]
        whole = tensor.data.shape[0] % 4 == 0
        rows.append(
            {
                "name": node.name,
                "shape": list(tensor.data.shape),
                "storage": {"f": "f32", "i": "s8"}[tensor.data.dtype.kind],
                "encoding": tensor.encoding,
                "zero_blocks": round(sparsity_of(tensor.data, "4x1").block_sparsity, 6) if whole else None,
                "pruned": node.name in asked,
                "bytes": stored_bytes(tensor),
            }
        )
    return rows


def _versions() -> dict[str, str]:
    from importlib import metadata

    installed = {(dist.metadata["Name"] or "").lower(): dist.version for dist in metadata.distributions()}
    packages = ("fastcpu", "numpy", "torch", "transformers", "onnx")
    return {"python": platform.python_version()} | {name: installed[name] for name in packages if name in installed}
