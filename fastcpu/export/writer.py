"""Writes a graph as a model directory (docs/format.md); nothing half-written is ever seen under its name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu import _core
from fastcpu.errors import FileFormatError, GraphError, InputError, OutputError, ResourceError
from fastcpu.export import blocks, weights
from fastcpu.export.directory import is_free, replacing_directory
from fastcpu.export.reader import GRAPH_FILE, read_header
from fastcpu.graph import rules, verify
from fastcpu.graph.ir import Graph, Node, Tensor, Value
from fastcpu.graph.limits import BLOCK_HEIGHT

FORMAT_VERSION = 1
WEIGHTS_FILE = "weights.safetensors"
REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
CARD_FILE = "README.md"

# What travels with a model so that tokenizers, pipelines and sentence-transformers find it. Weights do not.
_COPIED = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "*_Pooling/config.json",
    "*_Dense/config.json",
    "*_Normalize/config.json",
)


def write_model(
    graph: Graph,
    out_dir: str | os.PathLike[str],
    source_dir: str | os.PathLike[str] | None = None,
    side_files: Mapping[str, str] | None = None,
    accept: Callable[[Path], None] | None = None,
) -> Path:
    """Write ``graph`` as a model directory that the runtime opens.

    Args:
        graph: what to write.
        out_dir: the directory. A model that is there is replaced once the new one is complete; a directory that holds
            anything else is left alone.
        source_dir: where configuration and tokenizer files are copied from.
        side_files: names of further files and their text.
        accept: called with the complete directory before it takes its place; what it raises leaves ``out_dir`` alone.

    Returns:
        ``out_dir``.

    Raises:
        fastcpu.errors.GraphError: the graph is inconsistent, or the runtime does not open what was written.
        fastcpu.errors.InputError: ``source_dir`` is no directory.
        fastcpu.errors.OutputError: names the path that the system refused, or the file that fastcpu did not write.
    """
    verify.check(graph)
    out = Path(os.path.realpath(out_dir))  # a symbolic link stays, and what it points to is replaced
    side_files = side_files or {}
    source = None if source_dir is None else Path(source_dir)
    if source is not None and not source.is_dir():
        raise InputError(f"{source}: no such directory")
    document, entries = _document(graph)
    text = (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()
    with replacing_directory(out, lambda path: check_replaceable(path, side_files)) as partial:
        weights.write(partial / WEIGHTS_FILE, entries, {"graph": _checksum(np.frombuffer(text, np.uint8))})
        (partial / GRAPH_FILE).write_bytes(text)
        if source is not None:
            _copy_side_files(source, partial)
        for name, content in side_files.items():
            (partial / name).write_text(content, encoding="utf-8")
        _check_opens(partial, out)
        if accept is not None:
            accept(partial)
    return Path(out_dir)


# ---- the document ----


def _f32(number: float) -> float:
    """The f32 next to ``number``, as the double that JSON writes with all its digits."""
    return float(np.float32(number))


def _checksum(array: NDArray[Any]) -> str:
    return f"crc32c:{_core.crc32c(array):08x}"


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _value(value: Value) -> dict[str, Any]:
    described: dict[str, Any] = {"dtype": value.dtype, "space": value.space, "channels": value.channels}
    quantization = value.quantization
    if value.dynamic_scale is not None:
        described["dynamic"] = value.dynamic_scale
    elif quantization is not None and quantization.groups:
        described["groups"] = [[first, _f32(scale), zero_point] for first, scale, zero_point in quantization.groups]
    elif quantization is not None:
        described |= {"scale": _f32(quantization.scale), "zero_point": quantization.zero_point}
    return described


def _tensor(tensor: Tensor) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The descriptor of a tensor and the entries of weights.safetensors behind it."""
    name = tensor.name
    described: dict[str, Any] = {
        "encoding": tensor.encoding,
        "shape": list(tensor.data.shape),
        "storage": rules.storage(tensor),
    }
    if tensor.encoding == "block":
        values, index, offsets = blocks.encode(tensor.data)
        entries: dict[str, NDArray[Any]] = {
            f"{name}.values": values,
            f"{name}.index": index,
            f"{name}.offsets": offsets,
        }
        described["block"] = [BLOCK_HEIGHT, 1]
        described["parts"] = {part: f"{name}.{part}" for part in ("values", "index", "offsets")}
    else:
        entries = {name: np.ascontiguousarray(tensor.data)}
        described["parts"] = {"values": name}
    if tensor.scale is not None:
        described["scale"] = f"{name}.scale"
        entries[f"{name}.scale"] = np.ascontiguousarray(tensor.scale)
    return described, entries


def _node(node: Node) -> dict[str, Any]:
    described: dict[str, Any] = {"op": node.op, "name": node.name, "inputs": node.inputs, "outputs": node.outputs}
    if node.tensors:
        described["tensors"] = node.tensors
    if node.attrs:
        described["attrs"] = {key: _number(value) for key, value in node.attrs.items()}
    return described


def _document(graph: Graph) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """graph.json and the entries of weights.safetensors."""
    import fastcpu

    tensors: dict[str, Any] = {}
    entries: dict[str, NDArray[Any]] = {}
    for name, tensor in graph.tensors.items():
        tensors[name], parts = _tensor(tensor)
        for part, array in parts.items():
            if part in entries or part.startswith("_pad."):
                raise GraphError(f"tensor '{name}': its part '{part}' has a name that is taken")
            entries[part] = array
    document = {
        "format": "fastcpu",
        "version": FORMAT_VERSION,
        "producer": f"fastcpu {fastcpu.__version__}",
        "name": graph.name,
        "inputs": [
            {"name": i.name, "dtype": "int64", "dims": ["batch", "sequence"], "role": i.role}
            | ({"optional": True} if i.optional else {})
            for i in graph.inputs
        ],
        "outputs": [
            {"name": o.name, "dtype": "float32", "dims": list(o.dims), "value": o.value} for o in graph.outputs
        ],
        "tensors": tensors,
        "checksums": {name: _checksum(array) for name, array in entries.items()},
        "values": {name: _value(value) for name, value in graph.values.items()},
        "nodes": [_node(node) for node in graph.nodes],
    }
    return document, entries


# ---- files ----


def _copy_side_files(source: Path, partial: Path) -> None:
    for pattern in _COPIED:
        for path in sorted(source.glob(pattern)):
            target = partial / path.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)


def check_replaceable(out: Path, further: Iterable[str] = ()) -> None:
    """OutputError unless ``out`` is absent, empty, or a model that holds what `write_model` writes, and ``further``
    files by name, and nothing else."""
    written = (GRAPH_FILE, WEIGHTS_FILE, REPORT_FILE, PAGE_FILE, CARD_FILE, *_COPIED, *further)
    if is_free(out):
        return
    try:
        read_header(out)
    except (FileFormatError, ResourceError):
        raise OutputError(f"{out}: exists and is not a fastcpu model; remove it or choose another directory") from None
    patterns = [PurePath(pattern).parts for pattern in written]
    for path in sorted(out.rglob("*")):
        parts = path.relative_to(out).parts
        is_known = any(
            len(parts) <= len(pattern)
            and all(map(fnmatchcase, parts, pattern))
            and (len(parts) == len(pattern) or path.is_dir())
            for pattern in patterns
        )
        if not is_known:
            raise OutputError(
                f"{path}: not a file that fastcpu writes; move it away, or choose another directory than {out}"
            )


def _check_opens(partial: Path, out: Path) -> None:
    """GraphError, in the words of the runtime, if it refuses the model that is written to ``partial`` for ``out``."""
    try:
        _core.Session(os.fspath(partial), threads=1)
    except (FileFormatError, GraphError) as error:
        raise GraphError(str(error).replace(os.fspath(partial), os.fspath(out))) from error
