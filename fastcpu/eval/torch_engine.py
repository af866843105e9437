"""torch as a reference engine: Hugging Face directories, and modules while they are trained."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastcpu.errors import FileFormatError, GraphError, MissingPackageError
from fastcpu.frontend.sentence_transformers import read_pooling
from fastcpu.tasks.engine import ROLES, FloatArray, padded, probed_axes
from fastcpu.tasks.tokenizer import Encoded

if TYPE_CHECKING:
    import torch

_POOLER = "pooler."  # a part that checkpoints may lack: no task reads what it computes, unless a classifier does


class TorchEngine:
    """A module of transformers where its weights are, in batches that are padded to their longest sequence.

    Args:
        module: takes input_ids, attention_mask and optionally token_type_ids; runs in evaluation mode, and each
            part of it is left in the mode in which it was.
        directory: where tokenizer.json and config.json are.
    """

    max_rows = 32

    def __init__(self, module: torch.nn.Module, directory: Path) -> None:
        self.directory = directory
        self._module = module
        self._inputs = [name for name in ROLES if name in inspect.signature(module.forward).parameters]
        self.outputs = probed_axes(self.run)

    def run(self, batch: Sequence[Encoded], outputs: Sequence[str] | None = None) -> Mapping[str, FloatArray]:
        import torch

        del outputs  # a module gives all

        arrays = padded(batch)
        device = next(self._module.parameters()).device
        feeds = {name: torch.from_numpy(arrays[ROLES[name]]).to(device) for name in self._inputs}
        modes = {part: part.training for part in self._module.modules()}
        try:
            with torch.inference_mode():
                found = self._module.eval()(**feeds, return_dict=True)
        finally:
            for part, training in modes.items():
                part.training = training
        return {name: value.float().cpu().numpy() for name, value in found.items() if isinstance(value, torch.Tensor)}


def open_directory(path: Path, head: str, threads: int | None = None) -> TorchEngine:
    """The engine for a Hugging Face or sentence-transformers directory.

    Args:
        path: with config.json or modules.json, weights and tokenizer.json.
        head: ending of the class of the model, as `Task.head`.
        threads: of torch, in this process.

    Raises:
        FileFormatError: the directory holds no model that transformers can load.
        GraphError: it holds no model with that head, or a sentence encoder that is not supported.
        MissingPackageError: torch or transformers is not installed.
    """
    try:
        import torch
        import transformers

        from fastcpu.frontend.torch_export import quiet
    except ImportError as error:
        raise MissingPackageError(
            f"{str(path)!r} runs in torch and transformers (pip install fastcpu[compress])"
        ) from error
    if threads:
        torch.set_num_threads(threads)
    _, folder = read_pooling(path) or (None, path)
    kind: Any = getattr(transformers, f"AutoModel{head.removeprefix('Model')}")
    try:
        with quiet():
            module, info = kind.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
    except Exception as error:  # safetensors, zipfile, pickle, torch and transformers each raise their own
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise FileFormatError(f"{folder}: the model cannot be loaded: {reason}") from error
    missing = sorted(key for key in info["missing_keys"] if head != "Model" or _POOLER not in key)
    if missing:
        raise GraphError(f"{folder}: the weights lack {', '.join(missing[:4])} of a {type(module).__name__}")
    tokenizer = path if (path / "tokenizer.json").is_file() else folder
    return TorchEngine(cast("torch.nn.Module", module), tokenizer)
