"""Tiny random models of every supported kind, what to feed them, and how to compare two answers."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from numpy.typing import NDArray

from fastcpu.frontend import families
from fastcpu.frontend.families import FAMILIES, OUTPUTS
from tests.reference.ort import open_exact

Feeds = dict[str, NDArray[Any]]

ARCHITECTURES = tuple(family.name + ending for family in FAMILIES for ending in OUTPUTS)
VOCABULARY = 100
POSITIONS = 40
"""Tokens that every model takes; those whose positions begin behind a padding id have as many rows more."""

_SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
}  # fmt: skip
_BEHIND_PADDING = _SIZES | {"pad_token_id": 1, "max_position_embeddings": POSITIONS + 2}
_CONFIGS: dict[str, dict[str, Any]] = {
    "Albert": _SIZES | {"embedding_size": 16},
    "Bert": _SIZES,
    "Camembert": _BEHIND_PADDING | {"type_vocab_size": 1},
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": POSITIONS},
    "Electra": _SIZES | {"embedding_size": 16},
    "MPNet": _BEHIND_PADDING,
    "Roberta": _BEHIND_PADDING | {"type_vocab_size": 2},
    "XLMRoberta": _BEHIND_PADDING | {"type_vocab_size": 1},
}


@cache
def model(architecture: str, seed: int = 0) -> Any:
    """2 layers, hidden 32, 2 heads; every weight random, biases and norms too."""
    split = families.split(architecture)
    assert split is not None, architecture
    kind = getattr(transformers, architecture)
    labels = 2 if "QuestionAnswering" in architecture else 3
    config = kind.config_class(vocab_size=VOCABULARY, num_labels=labels, **_CONFIGS[split[0].name])
    torch.manual_seed(seed)
    built = kind(config).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return built


def sentence_transformer(path: Path, pooling: dict[str, Any], modules: tuple[str, ...], architecture: str) -> None:
    """A directory of sentence-transformers with these modules and this configuration of the pooling."""
    model(architecture).save_pretrained(path)
    listed = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(modules)
    ]
    (path / "modules.json").write_text(json.dumps(listed))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32} | pooling))


def feeds(rng: np.random.Generator, lengths: tuple[int, ...] = (11, 4, 1, 9), holes: bool = True) -> Feeds:
    """Right-padded rows of ``lengths``; with ``holes`` the last row has holes."""
    shape = (len(lengths), max(lengths))
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
    if holes:
        mask[-1, [2, 3, 6]] = 0
    return {
        "input_ids": rng.integers(0, VOCABULARY, shape),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, shape),
    }


def run_onnx(proto: onnx.ModelProto, inputs: Feeds) -> Feeds:
    """ONNX Runtime's answer; inputs that the model lacks are left out."""
    session = open_exact(proto.SerializeToString(), threads=1)
    names = {i.name for i in session.get_inputs()}
    answers = session.run(None, {name: array for name, array in inputs.items() if name in names})
    return {output.name: answer for output, answer in zip(session.get_outputs(), answers, strict=True)}


def export(
    module: torch.nn.Module, names: tuple[str, ...], outputs: tuple[str, ...], opset: int = 17
) -> onnx.ModelProto:
    """Any torch module with int64 [batch, sequence] inputs as ONNX."""
    import io

    buffer = io.BytesIO()
    axes = {name: {0: "batch", 1: "sequence"} for name in names}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(torch.ones((2, 8), dtype=torch.int64) for _ in names),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=opset,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    return onnx.load_model_from_string(buffer.getvalue())


def assert_same(actual: Feeds, expected: Feeds, mask: NDArray[Any], tolerance: float = 2e-5) -> None:
    """Equal at real tokens, and everywhere for outputs per sequence; padding holds one of the two fills."""
    assert list(actual) == list(expected)
    real = mask.astype(bool)
    for name, wanted in expected.items():
        found = actual[name]
        assert found.shape == wanted.shape, name
        if wanted.shape[:2] == mask.shape:
            assert np.isin(found[~real], (0.0, np.float32(-1e4))).all(), name
            found, wanted = found[real], wanted[real]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance, err_msg=name)
