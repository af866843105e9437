"""ONNX Runtime as a reference engine: fp32 teachers and dense int8 peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcpu.errors import FileFormatError, InputError, MissingPackageError
from fastcpu.tasks.engine import ROLES, FloatArray, padded, probed_axes
from fastcpu.tasks.tokenizer import Encoded

_DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


def open_ort(path: Path | str, threads: int = 0) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    Args:
        path: ONNX file.
        threads: of one op, 0 leaves the choice to ONNX Runtime; ops run one after the other.

    Raises:
        FileFormatError: ONNX Runtime does not take the file.
        MissingPackageError: the package is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError("ONNX models run in the package 'onnxruntime' (pip install onnxruntime)") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes have no other common base
        raise FileFormatError(f"{path}: {error}") from error


class OrtEngine:
    """An ONNX file in ONNX Runtime, in batches that are padded to their longest sequence.

    Args:
        path: ONNX file with the inputs input_ids, attention_mask and optionally token_type_ids, [batch, sequence].
        directory: where tokenizer.json and config.json are; by default beside the file.
        threads: of one op; None leaves the choice to ONNX Runtime.

    Raises:
        FileFormatError: ONNX Runtime does not take the file.
        InputError: the model has other inputs, or does not run.
        MissingPackageError: onnxruntime is not installed.
    """

    max_rows = 32

    def __init__(self, path: Path, directory: Path | None = None, threads: int | None = None) -> None:
        self.directory = path.parent if directory is None else directory
        self._path = path
        self._session = open_ort(path, threads or 0)
        self._inputs = {each.name: _DTYPES.get(each.type) for each in self._session.get_inputs()}
        if not {"input_ids", "attention_mask"} <= self._inputs.keys() <= ROLES.keys():
            raise InputError(f"{path}: the inputs of a model are {sorted(ROLES)}, not {sorted(self._inputs)}")
        if None in self._inputs.values():
            raise InputError(f"{path}: the inputs of a model are int64 or int32")
        self._names = [each.name for each in self._session.get_outputs()]
        self.outputs = probed_axes(self.run)

    def run(self, batch: Sequence[Encoded], outputs: Sequence[str] | None = None) -> Mapping[str, FloatArray]:
        arrays = padded(batch)
        feeds = {name: arrays[ROLES[name]].astype(dtype, copy=False) for name, dtype in self._inputs.items()}
        try:
            names = self._names if outputs is None else list(outputs)
            return dict(zip(names, self._session.run(names, feeds), strict=True))
        except Exception as error:  # as above: its exception classes have no other common base
            shape = list(arrays["ids"].shape)
            raise InputError(f"{self._path}: does not run with inputs {shape}: {error}") from error
