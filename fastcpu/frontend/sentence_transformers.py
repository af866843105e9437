"""What sentence-transformers writes beside a transformer: modules.json, the pooling, and linears behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import FileFormatError, GraphError, MissingPackageError
from fastcpu.files import write_json, write_text
from fastcpu.graph.ir import EMBEDDING

MODULES_FILE = "modules.json"
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


_IDENTITY, _TANH = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh"
_ACTIVATIONS: dict[str, Literal["none", "tanh"]] = {_IDENTITY: "none", _TANH: "tanh"}
_OTHER_USES = ("module_input_name", "module_output_name")
_WEIGHT, _BIAS = "linear.weight", "linear.bias"


@dataclass(frozen=True)
class Dense:
    """A linear behind the pooling: activation(x W^T + b).

    Attributes:
        weight, bias: f32 [N, K] and [N].
    """

    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Literal["none", "tanh"]

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """[..., N] of [..., K]."""
        y: NDArray[np.float32] = x @ self.weight.T + self.bias
        return np.tanh(y) if self.activation == "tanh" else y


@dataclass(frozen=True)
class Pooling:
    """What happens to the token embeddings.

    Attributes:
        folders: of the Dense modules, in the order in which they run.
    """

    mode: Literal["cls", "mean", "max"]
    normalize: bool
    folders: tuple[Path, ...] = ()

    def channels(self, hidden: int) -> int:
        """Of the embedding, where hidden states have ``hidden``; GraphError if a Dense module takes other ones."""
        for dense in self.dense:
            if dense.weight.shape[1] != hidden:
                raise GraphError(f"{dense.name} takes {dense.weight.shape[1]} channels, but gets {hidden}")
            hidden = dense.weight.shape[0]
        return hidden

    @cached_property
    def dense(self) -> tuple[Dense, ...]:
        """The linears behind the pooling, read from their files when they are first asked for."""
        return tuple(_read_dense(folder) for folder in self.folders)


def read_pooling(path: Path) -> tuple[Pooling, Path] | None:
    """The pooling of a sentence-transformers directory and the folder of its transformer; None without modules.json.

    Raises:
        FileFormatError: a file is missing or is not as sentence-transformers writes it.
        GraphError: other modules than Transformer, Pooling, Dense and Normalize, or a pooling that is not supported.
    """
    modules_path = path / MODULES_FILE
    if not modules_path.is_file():
        return None
    try:
        modules = [(str(module["type"]).rpartition(".")[2], module["path"]) for module in read_json(modules_path)]
    except (TypeError, KeyError) as error:
        raise FileFormatError(f"{modules_path}: not a list of modules with a type and a path") from error
    for _, folder in modules:
        if not isinstance(folder, str) or folder.startswith("/") or ".." in Path(folder).parts:
            raise FileFormatError(f"{modules_path}: the path {folder!r} of a module is not one in this directory")
    kinds = [kind for kind, _ in modules]
    folders = [path / folder for kind, folder in modules if kind == "Dense"]
    if kinds not in (form := ["Transformer", "Pooling", *["Dense"] * len(folders)], [*form, "Normalize"]):
        raise GraphError(
            f"{modules_path}: {', '.join(kinds)}: Transformer, Pooling, Dense, Normalize are supported, in this order"
        )
    mode = _mode(path / modules[1][1] / "config.json")
    return Pooling(mode, "Normalize" in kinds, tuple(folders)), path / modules[0][1]


def _read_dense(folder: Path) -> Dense:
    """A Dense module; FileFormatError or GraphError if it is none that is supported."""
    path = folder / "config.json"
    config = read_json(path)
    sizes = [config.get(key) for key in ("out_features", "in_features")] if isinstance(config, dict) else []
    shape = tuple(size for size in sizes if type(size) is int and size > 0)
    if len(shape) != 2:
        raise FileFormatError(f"{path}: not the configuration of a Dense module")
    name = str(config.get("activation_function", _TANH))
    if name not in _ACTIVATIONS:
        raise GraphError(f"{path}: the activation {name} is not supported; one of {', '.join(_ACTIVATIONS)} is")
    other = [key for key in _OTHER_USES if config.get(key) not in (None, EMBEDDING)]
    if config.get("use_residual") or other:
        raise GraphError(f"{path}: {(other or ['use_residual'])[0]} is not supported: {config}")
    tensors = _tensors(folder)
    expected = {_WEIGHT: shape} | ({_BIAS: shape[:1]} if config.get("bias", True) else {})
    found = {key: tensor.shape for key, tensor in tensors.items()}
    if found != expected:
        raise GraphError(f"{folder}: its weights are {found}, but {expected} by config.json")
    for key, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise GraphError(f"{folder}: weight '{key}' contains NaN or infinite values")
    bias = tensors.get(_BIAS, np.zeros(shape[0], np.float32))
    return Dense(folder.name, tensors[_WEIGHT], bias, _ACTIVATIONS[name])


def _tensors(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The weights of a module, as f32."""
    path = folder / "model.safetensors"
    try:
        if path.is_file():
            loaded = _safetensors(path)
        else:
            path = folder / "pytorch_model.bin"
            if not path.is_file():
                raise FileFormatError(f"{folder}: no model.safetensors and no pytorch_model.bin")
            import torch

            state = torch.load(path, map_location="cpu", weights_only=True)
            loaded = {key: tensor.float().numpy() for key, tensor in state.items()}
    except FileFormatError:
        raise
    except ImportError as error:
        raise MissingPackageError(f"{path}: reading it needs {error.name} (pip install fastcpu[compress])") from error
    except Exception as error:  # safetensors, zipfile, pickle and torch each raise their own for a damaged file
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise FileFormatError(f"{path}: the weights cannot be loaded: {reason}") from error
    return {key: np.asarray(tensor, np.float32) for key, tensor in loaded.items()}


def _safetensors(path: Path) -> dict[str, Any]:
    """Arrays of a file; what NumPy has no type for (bf16) is read by torch."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        types = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118  (not a dict)
    if "BF16" not in types:
        from safetensors.numpy import load_file

        return dict(load_file(path))
    from safetensors.torch import load_file as load_tensors

    return {key: tensor.float().numpy() for key, tensor in load_tensors(path).items()}


def add_dense(path: Path, weight: NDArray[np.float32]) -> None:
    """Puts a linear [N, K] without bias and activation behind the pooling and what follows it, before Normalize."""
    from safetensors.numpy import save_file

    modules = read_json(path / MODULES_FILE)
    end = [str(module["type"]).rpartition(".")[2] for module in modules]
    place = end.index("Normalize") if "Normalize" in end else len(end)
    folder = next(name for i in count(place) if not (path / (name := f"{i}_Dense")).exists())
    (path / folder).mkdir()
    config = {
        "in_features": weight.shape[1],
        "out_features": weight.shape[0],
        "bias": False,
        "activation_function": _IDENTITY,
    }
    write_json(path / folder / "config.json", config)
    save_file({_WEIGHT: np.ascontiguousarray(weight, np.float32)}, path / folder / "model.safetensors")
    modules.insert(place, {"path": folder, "type": "sentence_transformers.models.Dense"})
    for number, module in enumerate(modules):
        module |= {"idx": number, "name": str(number)}
    write_text(path / MODULES_FILE, json.dumps(modules, indent=2) + "\n")


def _mode(path: Path) -> Literal["cls", "mean", "max"]:
    config = read_json(path)
    if not isinstance(config, dict):
        raise FileFormatError(f"{path}: not a JSON object")
    modes: set[str] = {
        _FLAGS.get(key) or key for key, on in config.items() if key.startswith("pooling_mode_") and on is True
    }
    if isinstance(config.get("pooling_mode"), str):
        modes.add(config["pooling_mode"])
    if len(modes) != 1 or not modes <= set(_FLAGS.values()):
        found = ", ".join(sorted(modes)) or "none"
        raise GraphError(f"{path}: pooling {found} is not supported; one of {', '.join(_FLAGS.values())} is")
    return cast('Literal["cls", "mean", "max"]', modes.pop())


def read_json(path: Path) -> Any:
    """A file of a model directory; FileFormatError if it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: {error}") from error
