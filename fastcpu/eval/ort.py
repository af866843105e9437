"""ONNX Runtime as the reference engine: fp32 teachers and dense int8 peers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcpu.errors import FileFormatError, InputError
from fastcpu.eval.engine import FloatArray
from fastcpu.eval.onnx_export import SENTENCE_OUTPUT, export_encoder
from fastcpu.tasks.tokenizer import Encoded, Tokenizer

_BATCH = 32
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


def open_ort(path: Path | str, threads: int = 0) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    Args:
        path: ONNX file.
        threads: of one op, 0 leaves the choice to ONNX Runtime; ops run one after the other.

    Raises:
        FileFormatError: ONNX Runtime does not take the file.
        InputError: the package is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("ONNX models run in the package 'onnxruntime' (pip install onnxruntime)") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes have no other common base
        raise FileFormatError(f"{path}: {error}") from error


class OrtEmbedder:
    """Embeds texts with an ONNX sentence encoder, in batches of similar length padded to their longest text.

    Uses the output `sentence_embedding`, or else the mean over the real tokens of the first output.

    Args:
        path: ONNX file with the inputs input_ids, attention_mask and optionally token_type_ids.
        tokenizer_dir: directory with tokenizer.json.
        threads: intra-op threads; None leaves the choice to ONNX Runtime.
        max_length: longest text in tokens.
    """

    def __init__(
        self, path: Path, tokenizer_dir: Path, threads: int | None = None, max_length: int | None = None
    ) -> None:
        self.tokenizer = Tokenizer(tokenizer_dir, max_length)
        self._session = open_ort(path, threads or 0)
        self._inputs = {each.name for each in self._session.get_inputs()}
        if not {"input_ids", "attention_mask"} <= self._inputs <= _INPUTS:
            raise InputError(
                f"{path}: the inputs of a sentence encoder are {sorted(_INPUTS)}, not {sorted(self._inputs)}"
            )
        outputs = [each.name for each in self._session.get_outputs()]
        self._pooled = SENTENCE_OUTPUT in outputs
        self._output = SENTENCE_OUTPUT if self._pooled else outputs[0]

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """One L2-normalized vector per text: [texts, channels]."""
        encoded = self.tokenizer.encode(texts)
        if not encoded:
            raise InputError("no text to embed")
        by_length = sorted(range(len(encoded)), key=lambda index: len(encoded[index].ids))
        vectors: list[FloatArray] = []
        for start in range(0, len(by_length), _BATCH):
            vectors.extend(self._run([encoded[index] for index in by_length[start : start + _BATCH]]))
        result = np.empty((len(encoded), len(vectors[0])), np.float32)
        result[by_length] = vectors
        norms = np.linalg.norm(result, axis=1, keepdims=True)
        normalized: FloatArray = result / np.maximum(norms, np.float32(1e-12))
        return normalized

    def _run(self, batch: list[Encoded]) -> FloatArray:
        longest = max(len(each.ids) for each in batch)
        ids, mask, types = (np.zeros((len(batch), longest), np.int64) for _ in range(3))
        for row, each in enumerate(batch):
            ids[row, : len(each.ids)] = each.ids
            mask[row, : len(each.ids)] = 1
            types[row, : len(each.ids)] = each.types
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        output: FloatArray = self._session.run([self._output], {name: feeds[name] for name in self._inputs})[0]
        if self._pooled:
            return output
        weights = mask[:, :, None].astype(np.float32)
        mean: FloatArray = (output * weights).sum(axis=1) / weights.sum(axis=1)
        return mean


def embedder_from_huggingface(
    model_dir: Path, threads: int | None = None, max_length: int | None = None
) -> OrtEmbedder:
    """An engine for a Hugging Face sentence encoder, exported to a temporary ONNX file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_encoder(model_dir, path)
        return OrtEmbedder(path, model_dir, threads, max_length)
