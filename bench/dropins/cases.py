"""What is measured: a model, and the way from text to results that it is used in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.models import PreparedModel

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: as on the command line.
        model: of `bench.models`.
        sparsity: share of the 4x1 blocks of each encoder linear that are zero.
        task: of `transformers.pipeline`, or ``encode`` for SentenceTransformer.encode.
        channels: of the outputs.
    """

    name: str
    model: str
    sparsity: float
    task: str
    channels: int


CASES = (
    Case("classification", "distilbert-cls", 0.0, "text-classification", 2),
    Case("classification-sparse80", "distilbert-cls", 0.8, "text-classification", 2),
    Case("features", "minilm", 0.0, "feature-extraction", 384),
    Case("features-sparse80", "minilm", 0.8, "feature-extraction", 384),
    Case("encode", "minilm", 0.0, "encode", 384),
    Case("encode-sparse80", "minilm", 0.8, "encode", 384),
)


def find_case(name: str) -> Case:
    """The case called ``name``; ValueError that lists the names otherwise."""
    for case in CASES:
        if case.name == name:
            return case
    raise ValueError(f"no case {name!r}; there are {', '.join(case.name for case in CASES)}")


def source_directory(case: Case, prepared: PreparedModel, minilm: Path, folder: Path) -> Path:
    """The directory to compile: that of the model, with the tokenizer of all-MiniLM-L6-v2, whose vocabulary it has."""
    if case.model == "minilm" and not case.sparsity:
        return minilm
    out = folder / prepared.label
    shutil.rmtree(out, ignore_errors=True)
    if case.model == "minilm":
        shutil.copytree(minilm, out, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "*.onnx"))
    shutil.copytree(prepared.hf, out, dirs_exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(minilm / name, out / name)
    return out


@dataclass(frozen=True)
class Opened:
    """A way from texts to results.

    Attributes:
        run: called with texts and a batch size.
        stages: object and method of each stage, by name, for the profile; the first one is the model's run.
        values: called with texts: what the model says of each, f32 [texts, channels].
    """

    run: Callable[[Sequence[str], int], Any]
    stages: dict[str, tuple[Any, str]]
    values: Callable[[Sequence[str]], NDArray[np.float32]]


def open_case(case: Case, session: Any) -> Opened:
    """The drop-in of a case over a session, ours or a `PeerSession`."""
    if case.task == "encode":
        return _open_encoder(session)
    from transformers import AutoTokenizer, pipeline

    from fastcpu.integrations import transformers as dropin

    auto = dropin.AutoModel if case.task == "feature-extraction" else dropin.AutoModelForSequenceClassification
    options: dict[str, Any] = {"return_tensors": True} if case.task == "feature-extraction" else {}
    pipe: Any = pipeline(
        case.task,
        model=auto.from_session(session),
        tokenizer=AutoTokenizer.from_pretrained(session.path),
        device="cpu",
        **options,
    )

    stages = {"model": (session, "run"), "tokenize": (pipe, "preprocess"), "results": (pipe, "postprocess")}
    return of_pipeline(case, pipe, stages)


def of_pipeline(case: Case, pipe: Any, stages: dict[str, tuple[Any, str]]) -> Opened:
    """A pipeline of transformers, whatever runs its model."""

    def values(texts: Sequence[str]) -> NDArray[np.float32]:
        if case.task == "feature-extraction":  # what does not depend on padding: the first token
            return np.stack([np.asarray(tensor)[0, 0] for tensor in pipe(list(texts))])
        answers = pipe(list(texts), top_k=None, function_to_apply="none")
        return np.array([[each["score"] for each in sorted(row, key=lambda each: each["label"])] for row in answers])

    return Opened(lambda texts, batch: pipe(list(texts), batch_size=batch), stages, values)


def _open_encoder(session: Any) -> Opened:
    from fastcpu.integrations.sentence_transformers import SentenceTransformer

    model = SentenceTransformer(session.path, threads=1)
    model.session = session
    stages = {"model": (session, "run"), "tokenize": (model._tokenizer, "encode")}
    return Opened(lambda texts, batch: model.encode(texts, batch_size=batch), stages, model.encode)
