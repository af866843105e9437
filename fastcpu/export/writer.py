"""Writes a graph as a model directory (docs/format.md); nothing half-written is ever seen under its name."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu import _core
from fastcpu.errors import GraphError, InputError, OutputError
from fastcpu.export import blocks, weights
from fastcpu.graph import verify
from fastcpu.graph.ir import Graph, Node, Tensor, Value

FORMAT_VERSION = 1
GRAPH_FILE = "graph.json"
WEIGHTS_FILE = "weights.safetensors"

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
    "*_Normalize/config.json",
)


def write_model(
    graph: Graph,
    out_dir: str | os.PathLike[str],
    source_dir: str | os.PathLike[str] | None = None,
    side_files: Mapping[str, str] | None = None,
) -> Path:
    """Write ``graph`` to ``out_dir``, with the configuration and tokenizer files of ``source_dir``.

    ``side_files`` maps names of further files to their text.

    A model directory that is there already is replaced once the new one is complete; any other directory that is not
    empty is left alone. OutputError names the path that the system refused.
    """
    verify.check(graph)
    out = Path(out_dir)
    source = None if source_dir is None else Path(source_dir)
    if source is not None and not source.is_dir():
        raise InputError(f"{source}: no such directory")
    document, entries = _document(graph)
    text = (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()
    with _replacing(out) as partial:
        weights.write(partial / WEIGHTS_FILE, entries, {"graph": _checksum(np.frombuffer(text, np.uint8))})
        (partial / GRAPH_FILE).write_bytes(text)
        if source is not None:
            _copy_side_files(source, partial)
        for name, content in (side_files or {}).items():
            (partial / name).write_text(content, encoding="utf-8")
    return out


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
        "storage": verify.storage(tensor),
    }
    if tensor.encoding == "block":
        values, index, offsets = blocks.encode(tensor.data)
        entries: dict[str, NDArray[Any]] = {
            f"{name}.values": values,
            f"{name}.index": index,
            f"{name}.offsets": offsets,
        }
        described["block"] = [blocks.HEIGHT, 1]
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


def _is_replaceable(out: Path) -> bool:
    return not out.exists() or (out.is_dir() and ((out / GRAPH_FILE).is_file() or not any(out.iterdir())))


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A new directory next to ``out`` that takes its place at the end, or disappears when something goes wrong."""
    partial: Path | None = None
    try:
        if not _is_replaceable(out):
            raise OutputError(f"{out}: exists and is not a fastcpu model; remove it or choose another directory")
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
        yield partial
        partial.chmod(0o777 & ~_umask())
        for path in (*partial.rglob("*"), partial):
            _flush(path)
        _swap(partial, out)
        _flush(out.parent)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{error.filename or out}: cannot write the model: {error.strerror or error}") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    """The permissions that new files do not get; mkdtemp gives none to others."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(partial: Path, out: Path) -> None:
    """Rename ``partial`` to ``out``; a model that was there is moved aside first and comes back if that fails."""
    if not out.exists():
        partial.rename(out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    old = aside / out.name
    try:
        out.rename(old)
        partial.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
