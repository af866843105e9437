"""The state of training on disk: one safetensors file, replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastcpu.errors import FileFormatError, OutputError
from fastcpu.files import is_refused

if TYPE_CHECKING:
    import torch


def save(path: Path, tensors: dict[str, torch.Tensor], step: int) -> None:
    """Writes tensors and the number of finished steps; a reader sees the old file or the new one."""
    from safetensors.torch import save_file

    partial = path.with_name(path.name + ".partial")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, {"step": str(step)})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception as error:
        partial.unlink(missing_ok=True)
        if is_refused(error):
            raise OutputError(f"{path}: the checkpoint cannot be written: {error}") from error
        raise


def load(path: Path) -> tuple[dict[str, torch.Tensor], int]:
    """The tensors and the number of finished steps."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            step = int(file.metadata()["step"])
            return {name: file.get_tensor(name) for name in file.keys()}, step  # noqa: SIM118  (not a dict)
    except Exception as error:
        raise FileFormatError(f"{path}: not a checkpoint of fastcpu: {error}") from error
