"""The same pipelines on ONNX Runtime through Optimum: what users of its int8 files have (transformers 4)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.dropins.cases import Case, Opened, of_pipeline

NAME = "optimum"
_FILE = "model.onnx"


def open_optimum(case: Case, onnx: Path, source: Path, folder: Path, threads: int) -> Opened:
    """The pipeline of a case, or sentence-transformers, over an ONNX file.

    Args:
        source: where configuration, tokenizer and modules.json are.
        folder: a directory to make of both.
    """
    import onnxruntime

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "graph.json"))
    (folder / "onnx").mkdir()
    shutil.copyfile(onnx, folder / "onnx" / _FILE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    found: dict[str, Any] = {"file_name": _FILE, "subfolder": "onnx", "session_options": options}
    if case.task == "encode":
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), backend="onnx", device="cpu", model_kwargs=found)

        def encode(texts: Sequence[str], batch: int = 32) -> NDArray[np.float32]:
            return np.asarray(model.encode(list(texts), batch_size=batch, show_progress_bar=False))

        stages = {"model": (model[0].auto_model, "forward"), "tokenize": (model, "preprocess")}
        return Opened(encode, stages, encode)
    from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTModelForSequenceClassification
    from transformers import AutoTokenizer, pipeline

    features = case.task == "feature-extraction"
    kind: Any = ORTModelForFeatureExtraction if features else ORTModelForSequenceClassification
    pipe: Any = pipeline(
        case.task,
        model=kind.from_pretrained(folder, **found),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        device="cpu",
        **({"return_tensors": True} if features else {}),
    )
    stages = {"model": (pipe.model, "forward"), "tokenize": (pipe, "preprocess"), "results": (pipe, "postprocess")}
    return of_pipeline(case, pipe, stages)
