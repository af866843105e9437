"""Files that Optimum makes of models of transformers (only with transformers 4, which it needs), compiled."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

import fastcpu
from fastcpu.errors import UnsupportedOpError
from fastcpu.frontend.families import OUTPUTS
from tests.frontend import tiny
from tests.integrations import models

pytest.importorskip("optimum.onnxruntime", reason="Optimum is in the environment of requirements/transformers4.txt")

TASKS = {
    "Model": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForQuestionAnswering": "question-answering",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}
LENGTHS = (17, 1, tiny.POSITIONS, 6)
LIKE_TORCH = 1e-4


def export(source: Path, task: str, **options: Any) -> Path:
    """The file that ``optimum-cli export onnx`` writes."""
    from optimum.exporters.onnx import main_export

    folder = source.parent / "onnx"
    with warnings.catch_warnings():  # the tracer of torch warns of what transformers does
        warnings.simplefilter("ignore")
        main_export(str(source), folder, task=task, local_files_only=True, do_validation=False, **options)
    return folder / "model.onnx"


def exported(architecture: str, folder: Path, **options: Any) -> Path:
    """The file of a tiny model."""
    tiny.model(architecture).save_pretrained(folder / "source")
    task = next(task for ending, task in TASKS.items() if architecture.endswith(ending))
    return export(folder / "source", task, **options)


def answers(
    path: Path, architecture: str, rng: np.random.Generator, holes: bool = True, **options: Any
) -> list[tuple[str, NDArray[Any], NDArray[Any]]]:
    """For each output its name, ours and that of torch, of rows of several lengths; padding is left out."""
    session = fastcpu.Session(fastcpu.compile(path, path.parent / "compiled", **options), threads=1)
    names = {each.name for each in session.inputs}
    feeds = {name: array for name, array in tiny.feeds(rng, LENGTHS, holes).items() if name in names}
    with torch.no_grad():
        expected = tiny.model(architecture)(**{name: torch.from_numpy(array) for name, array in feeds.items()})
    found, real = session.run(feeds), feeds["attention_mask"].astype(bool)
    if not holes:
        rows = {name: [row[:n] for row, n in zip(feeds[name], LENGTHS, strict=True)] for name in names & {*feeds}}
        del rows["attention_mask"]
        for name, array in session.run(rows).items():
            np.testing.assert_array_equal(array, found[name], err_msg=name)
    compared = []
    for name, array in found.items():
        wanted = expected[name].numpy()
        assert array.shape == wanted.shape, name
        compared.append((name, array[real], wanted[real]) if wanted.shape[:2] == real.shape else (name, array, wanted))
    return compared


# ---- fp32 ----


def test_every_head_has_a_task() -> None:
    assert sorted(TASKS) == sorted(OUTPUTS)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_exports_answer_like_torch(architecture: str, tmp_path: Path, rng: np.random.Generator) -> None:
    path = exported(architecture, tmp_path)
    assert onnx.load(path, load_external_data=False).producer_name == "pytorch"
    for holes in (True, False):
        compared = answers(path, architecture, rng, holes)
        ending = next(ending for ending in OUTPUTS if architecture.endswith(ending))
        assert [name for name, _, _ in compared] == list(OUTPUTS[ending])
        for name, found, wanted in compared:
            assert np.abs(wanted).max() > 0.1
            np.testing.assert_allclose(found, wanted, rtol=0, atol=LIKE_TORCH, err_msg=name)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("MPNetModel", {"opset": 13}),
        ("ElectraForQuestionAnswering", {"opset": 13}),
        ("RobertaForTokenClassification", {"opset": 14}),
        ("BertForSequenceClassification", {"opset": 17}),
        ("DistilBertModel", {"opset": 20}),
        ("BertForMaskedLM", {"optimize": "O1"}),
        ("MPNetForSequenceClassification", {"optimize": "O1"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(f"{k}{v}" for k, v in value.items()),
)
def test_opsets_and_basic_optimizations(
    architecture: str, options: dict[str, Any], tmp_path: Path, rng: np.random.Generator
) -> None:
    path = exported(architecture, tmp_path, **options)
    opset = {each.domain: each.version for each in onnx.load(path).opset_import}[""]
    assert opset == options.get("opset", opset)
    for name, found, wanted in answers(path, architecture, rng):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=LIKE_TORCH, err_msg=name)


@pytest.mark.parametrize("architecture", ["BertForSequenceClassification", "MPNetModel"])
def test_operators_of_onnx_runtime_are_refused(architecture: str, tmp_path: Path) -> None:
    """From O2 on, files have fused operators that no other engine knows."""
    path = exported(architecture, tmp_path, optimize="O2")
    with pytest.raises(UnsupportedOpError, match=r"com\.microsoft:\w+ .* is not supported"):
        fastcpu.compile(path, tmp_path / "compiled")


@pytest.mark.parametrize("mode", ["mean", "max"])
@pytest.mark.parametrize("architecture", ["BertModel", "DistilBertModel"])
def test_sentence_encoders(architecture: str, mode: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """A model of sentence-transformers is exported with its pooling."""
    pytest.importorskip("sentence_transformers")
    source = models.as_sentence_transformer(models.write(tmp_path / "source", architecture), mode)
    path = export(source, "feature-extraction", library_name="sentence_transformers")
    session = fastcpu.Session(fastcpu.compile(path, tmp_path / "compiled"), threads=1)
    assert [output.name for output in session.outputs] == ["token_embeddings", "sentence_embedding"]
    texts = models.texts(rng, 20)
    ids = [np.array(row) for row in models.tokenizer()(texts)["input_ids"]]
    found = session.run({"input_ids": ids})["sentence_embedding"]
    np.testing.assert_allclose(found, models.pooled(source, texts, mode), rtol=0, atol=LIKE_TORCH)


# ---- int8 ----


def quantized(path: Path, per_channel: bool, whole: bool) -> Path:
    """The file that Optimum's quantizer writes; ``whole``: with the products inside of attention, as by default."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    graph = onnx.load(path).graph
    weights = {initializer.name for initializer in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    inner = [node.name for node in products if not weights & set(node.input)]
    assert 0 < len(inner) < len(products)
    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=per_channel)
    config.nodes_to_exclude = [] if whole else inner
    quantizer = ORTQuantizer.from_pretrained(path.parent, file_name=path.name)
    quantizer.quantize(config, path.parent / "int8")
    return path.parent / "int8" / "model_quantized.onnx"


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(
    "architecture",
    [
        "BertForSequenceClassification",
        "DistilBertModel",
        "ElectraForQuestionAnswering",
        "MPNetForTokenClassification",
        "RobertaForMaskedLM",
    ],
)
def test_dynamic_files(architecture: str, per_channel: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    path = quantized(exported(architecture, tmp_path), per_channel, whole=False)
    assert "MatMulInteger" in {node.op_type for node in onnx.load(path).graph.node}
    with pytest.raises(UnsupportedOpError, match="one scale for a whole batch"):
        fastcpu.compile(path, path.parent / "compiled")
    for name, found, wanted in answers(path, architecture, rng, per_token=True):
        x, y = found.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
        assert x @ y > 0.995 * np.linalg.norm(x) * np.linalg.norm(y), name
        assert not np.allclose(x, y, atol=LIKE_TORCH), "it is quantized"


def test_quantized_products_of_attention_are_refused(tmp_path: Path) -> None:
    path = quantized(exported("BertModel", tmp_path), per_channel=True, whole=True)
    with pytest.raises(UnsupportedOpError, match="something other than an activation per token") as info:
        fastcpu.compile(path, path.parent / "compiled", per_token=True)
    assert "attention" in info.value.node
