"""What InferenceClient is told is what the pipelines of transformers say of the same model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import fastcpu
from fastcpu.tasks import TASKS
from tests.serve.live import LiveServer
from tests.tasks import models

transformers = pytest.importorskip("transformers")

TEXTS = ["Anna works in Scotland, Paul plays in London.", "a small house", "who is Paul?"]
CLASSES = {
    "classify": ("text-classification", "BertForSequenceClassification"),
    "tag": ("token-classification", "BertForTokenClassification"),
    "fill_mask": ("fill-mask", "BertForMaskedLM"),
}


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By name of the task; `folder` of each is where its model is."""
    import torch

    found = {}
    for task, (kind, architecture) in CLASSES.items():
        folder = models.huggingface(task, TASKS[task].head, "Bert", tmp_path_factory.mktemp(task))
        model = getattr(transformers, architecture).from_pretrained(folder)
        with torch.no_grad():  # labels that differ from token to token
            (model.cls.predictions.decoder if task == "fill_mask" else model.classifier).weight.mul_(4)
        model.save_pretrained(folder)
        special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), model_max_length=models.LENGTH, **special
        )
        found[task] = transformers.pipeline(kind, model=model, tokenizer=tokenizer)
        found[task].folder = folder
    return found


@pytest.fixture(scope="module")
def compiled(pipelines: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The models of the pipelines."""
    pytest.importorskip("onnx_ir")
    from tests.tasks.export import export

    made = tmp_path_factory.mktemp("compiled")
    arguments = ["--threads", "1"]
    for task, pipeline in pipelines.items():
        source = pipeline.folder
        if task == "fill_mask":
            source = export(source, TASKS[task].head, made / "onnx")
        arguments.append(f"{task}={fastcpu.compile(source, made / task).directory}")
    with LiveServer(arguments) as live:
        yield live


def same(found: Any, expected: Any) -> bool:
    """Equal but for rounding; of an object, what both have."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, dict):
        return all(same(found[key], value) for key, value in expected.items() if key in found)
    if isinstance(found, float):
        return bool(found == pytest.approx(float(expected), rel=1e-3, abs=1e-5))
    return bool(found == expected)


@pytest.mark.parametrize("function", [None, "softmax", "sigmoid", "none"])
@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_text_classification(
    compiled: LiveServer, pipelines: dict[str, Any], function: str | None, top_k: int | None
) -> None:
    expected = pipelines["classify"](TEXTS, top_k=top_k, function_to_apply=function)
    given = {"function_to_apply": function, "top_k": top_k}
    found = compiled.post("/models/classify", {"inputs": TEXTS, "parameters": given}).json
    assert same(found, expected), (found, expected)


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("ignored", [["O"], ["PER", "B-PER"], ["O", "LOC"]])
def test_token_classification(
    compiled: LiveServer, pipelines: dict[str, Any], strategy: str, ignored: list[str]
) -> None:
    expected = pipelines["tag"](TEXTS, aggregation_strategy=strategy, ignore_labels=ignored)
    for entity in (entity for entities in expected for entity in entities):
        del entity["word"]  # without the letters' case, or in pieces
    assert any(expected)
    given = {"aggregation_strategy": strategy, "ignore_labels": ignored}
    found = compiled.post("/models/tag", {"inputs": TEXTS, "parameters": given}).json
    assert same(found, expected), (found, expected)


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"targets": ["London", "red", "Anna"]}])
@pytest.mark.parametrize("text", ["Anna lives in [MASK].", "[MASK] lives in [MASK]."])
def test_fill_mask(compiled: LiveServer, pipelines: dict[str, Any], text: str, options: dict[str, Any]) -> None:
    expected = pipelines["fill_mask"](text, **options)
    found = compiled.post("/models/fill_mask", {"inputs": text, "parameters": options}).json
    assert same(found, expected), (found, expected)
