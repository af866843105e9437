"""Anything -> Graph: ``load`` takes a torch module, a Hugging Face directory or an .onnx file.

Importing this package imports neither torch nor onnx.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch

    from fastcpu.graph.ir import Graph
    from fastcpu.graph.trace import Trace

__all__ = ["load"]


def load(model: torch.nn.Module | str | os.PathLike[str], trace: Trace | None = None, per_token: bool = False) -> Graph:
    """The graph of ``model``: f32, int8 where an .onnx file quantizes. ``trace`` is told why patterns did not match.

    ``per_token`` gives every token a scale of its own where an .onnx file has a DynamicQuantizeLinear, whose one scale
    for a whole batch the runtime cannot have.
    """
    if per_token and not (isinstance(model, str | os.PathLike) and Path(model).suffix == ".onnx"):
        raise InputError("per_token is for .onnx files with DynamicQuantizeLinear")
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        if path.is_dir():
            from fastcpu.frontend import torch_export

            return torch_export.load_directory(path, trace)
        if not path.is_file():
            raise InputError(f"{path}: no such file or directory (models are read from disk, never downloaded)")
        if path.suffix != ".onnx":
            raise InputError(f"{path}: neither a directory nor an .onnx file")
        from fastcpu.frontend import onnx_import

        return onnx_import.import_file(path, trace, per_token)
    if hasattr(model, "state_dict") and hasattr(model, "forward"):
        from fastcpu.frontend import torch_export

        return torch_export.load_module(model, trace)
    raise InputError(f"a model is a torch module, a directory or an .onnx file, not {type(model).__name__}")
