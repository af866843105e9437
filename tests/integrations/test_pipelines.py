"""Pipelines of transformers give the same answers with a compressed model as with the one of torch."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoTokenizer, pipeline

import fastcpu
from fastcpu import GraphError, InputError
from fastcpu.integrations import transformers as dropin
from tests.integrations import models
from tests.integrations.models import F32

MakeModel = Callable[..., Path]
BATCHES = pytest.mark.parametrize("batch_size", [1, 32])
FAMILIES = pytest.mark.parametrize("family", ["Bert", "DistilBert"])


@pytest.fixture(autouse=True)
def complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No pipeline says that it does not know the model."""
    logger = transformers.utils.logging.get_logger("transformers")
    propagates, logger.propagate = logger.propagate, True
    yield
    logger.propagate = propagates
    assert [record.message for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


def has_task(task: str) -> bool:
    from transformers.pipelines import PIPELINE_REGISTRY

    return task in PIPELINE_REGISTRY.get_supported_tasks()


def both(task: str, folder: Path, auto: Any, cache: Path, **options: Any) -> tuple[Any, Any]:
    """The pipeline over our model, and over that of torch."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = auto.from_pretrained(folder, recipe=F32, cache_dir=cache)
    reference = getattr(transformers, auto.__name__).from_pretrained(folder)
    ours, theirs = (
        pipeline(task, model=each, tokenizer=tokenizer, device="cpu", **options) for each in (model, reference)
    )
    return ours, theirs


def assert_close(found: Any, expected: Any) -> None:
    """The same structure, names and places; numbers within 1e-3."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_close(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert_close(mine, theirs)
    elif isinstance(expected, float | np.floating):
        assert found == pytest.approx(expected, abs=1e-3)
    else:
        assert found == expected


@FAMILIES
@BATCHES
def test_text_classification(
    family: str, batch_size: int, tiny: MakeModel, cache: Path, rng: np.random.Generator
) -> None:
    auto = dropin.AutoModelForSequenceClassification
    ours, theirs = both("text-classification", tiny(f"{family}ForSequenceClassification"), auto, cache)
    texts = models.texts(rng, 40)
    assert_close(ours(texts, batch_size=batch_size), theirs(texts, batch_size=batch_size))
    assert_close(ours(texts[0], top_k=None), theirs(texts[0], top_k=None))
    pair = {"text": texts[0], "text_pair": texts[1]}
    assert_close(ours(pair), theirs(pair))
    long = " ".join(models.WORDS)
    assert_close(ours(long, truncation=True), theirs(long, truncation=True))
    with pytest.raises(InputError, match="77"):
        ours(long)


@FAMILIES
@BATCHES
@pytest.mark.parametrize("strategy", ["none", "simple"])
def test_token_classification(
    family: str, batch_size: int, strategy: str, tiny: MakeModel, cache: Path, rng: np.random.Generator
) -> None:
    auto = dropin.AutoModelForTokenClassification
    folder = tiny(f"{family}ForTokenClassification")
    ours, theirs = both("token-classification", folder, auto, cache, aggregation_strategy=strategy)
    texts = models.texts(rng, 40)
    assert_close(ours(texts, batch_size=batch_size), theirs(texts, batch_size=batch_size))


@FAMILIES
@BATCHES
def test_feature_extraction(
    family: str, batch_size: int, tiny: MakeModel, cache: Path, rng: np.random.Generator
) -> None:
    ours, theirs = both("feature-extraction", tiny(f"{family}Model"), dropin.AutoModel, cache)
    texts = models.texts(rng, 40)
    found = ours(texts, batch_size=batch_size, return_tensors=True)
    expected = theirs(texts, batch_size=batch_size, return_tensors=True)
    lengths = [len(text.split()) + 2 for text in texts]
    for mine, wanted, length in zip(found, expected, lengths, strict=True):
        assert mine.shape == wanted.shape
        torch.testing.assert_close(mine[0, :length], wanted[0, :length], rtol=0, atol=2e-4)
        assert not mine[0, length:].any()


@BATCHES
def test_zero_shot_classification(batch_size: int, tiny: MakeModel, cache: Path, rng: np.random.Generator) -> None:
    labels = {"id2label": {0: "contradiction", 1: "entailment"}, "label2id": {"contradiction": 0, "entailment": 1}}
    auto = dropin.AutoModelForSequenceClassification
    folder = tiny("BertForSequenceClassification", seed=1, num_labels=2, **labels)
    ours, theirs = both("zero-shot-classification", folder, auto, cache)
    texts = models.texts(rng, 5, 8)
    found, expected = (
        each(texts, candidate_labels=["word1", "word2", "word3"], batch_size=batch_size) for each in (ours, theirs)
    )
    assert_close(found, expected)


@FAMILIES
@BATCHES
def test_question_answering(
    family: str, batch_size: int, tiny: MakeModel, cache: Path, rng: np.random.Generator
) -> None:
    if not has_task("question-answering"):
        pytest.skip("this transformers has no pipeline for question answering")
    folder = tiny(f"{family}ForQuestionAnswering")
    ours, theirs = both("question-answering", folder, dropin.AutoModelForQuestionAnswering, cache)
    questions = [{"question": models.texts(rng, 1, 5)[0], "context": text} for text in models.texts(rng, 20, 60)]
    for each in questions:  # windows over long contexts
        assert_close(ours(**each, max_seq_len=30, doc_stride=8), theirs(**each, max_seq_len=30, doc_stride=8))
    found, expected = (each(questions, batch_size=batch_size, max_seq_len=30, doc_stride=8) for each in (ours, theirs))
    assert_close(found, expected)


@BATCHES
def test_fill_mask(batch_size: int, tiny: MakeModel, cache: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """The logits are those of a model that labels each token with a word."""
    words = dict(enumerate(models.VOCABULARY))
    folder = tiny("BertForTokenClassification", num_labels=len(words), id2label=words)
    compiled = fastcpu.compile(folder, tmp_path / "compiled").directory
    config = json.loads((compiled / "config.json").read_text()) | {"architectures": ["BertForMaskedLM"]}
    (compiled / "config.json").write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(compiled)
    model = dropin.AutoModelForMaskedLM.from_pretrained(compiled)
    assert type(model(np.array([[2, 4, 3]]))).__name__ == "MaskedLMOutput"
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu", top_k=3)
    texts = [f"{text} [MASK] {text}" for text in models.texts(rng, 40, 8)]
    logits = models.torch_outputs(folder, texts)[0].logits
    for text, row, answers in zip(texts, logits, fill(texts, batch_size=batch_size), strict=True):
        scores, tokens = row[tokenizer(text)["input_ids"].index(4)].softmax(dim=0).topk(3)
        assert [answer["token"] for answer in answers] == tokens.tolist()
        assert [answer["score"] for answer in answers] == pytest.approx(scores.tolist(), abs=1e-3)
    with pytest.raises(transformers.pipelines.PipelineException, match="No mask_token"):
        fill("word1 word2")


@BATCHES
def test_fill_mask_of_a_language_model(batch_size: int, tiny: MakeModel, cache: Path, rng: np.random.Generator) -> None:
    try:
        ours, theirs = both("fill-mask", tiny("BertForMaskedLM"), dropin.AutoModelForMaskedLM, cache)
    except GraphError as error:
        assert "BertForMaskedLM is not supported" in str(error)  # noqa: PT017
        pytest.skip("heads for filling masks are not imported")
    texts = [f"{text} [MASK] {text}" for text in models.texts(rng, 40, 8)]
    assert_close(ours(texts, batch_size=batch_size), theirs(texts, batch_size=batch_size))


def test_tokenizer_that_pads_on_the_left(tiny: MakeModel, cache: Path, rng: np.random.Generator) -> None:
    auto = dropin.AutoModelForTokenClassification
    ours, theirs = both("token-classification", tiny("BertForTokenClassification"), auto, cache)
    texts = models.texts(rng, 20)
    for each in (ours, theirs):
        each.tokenizer.padding_side = "left"
    assert_close(ours(texts, batch_size=8), theirs(texts, batch_size=8))


def test_saved_pipeline_opens_again(tiny: MakeModel, cache: Path, tmp_path: Path) -> None:
    auto = dropin.AutoModelForSequenceClassification
    ours, _ = both("text-classification", tiny("BertForSequenceClassification"), auto, cache)
    ours.save_pretrained(tmp_path / "saved")
    again = pipeline(
        "text-classification",
        model=auto.from_pretrained(tmp_path / "saved"),
        tokenizer=AutoTokenizer.from_pretrained(tmp_path / "saved"),
        device="cpu",
    )
    assert again("word1 word2") == ours("word1 word2")
    assert "TextClassificationPipeline" in repr(again)


def test_real_features(minilm_dir: Path, data_dir: Path, cache: Path, tmp_path: Path) -> None:
    """500 sentences of STS-B: in batches of 32, in order, the bits of the runtime on each text alone."""
    lines = (data_dir / "stsb" / "sts-dev.csv").read_text(encoding="utf-8").split("\n")[:250]
    sentences = [sentence.strip() for line in lines for sentence in line.split("\t")[5:7]]
    source = tmp_path / "all-MiniLM-L6-v2"
    shutil.copytree(minilm_dir, source)
    model = dropin.AutoModel.from_pretrained(source, cache_dir=cache, threads=2)
    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path)
    extract = pipeline("feature-extraction", model=model, tokenizer=tokenizer, device="cpu")
    found = extract(sentences, batch_size=32, return_tensors=True)
    session = fastcpu.Session(model.name_or_path, threads=1)
    ids = [np.array(tokenizer(sentence)["input_ids"]) for sentence in sentences]
    expected = session.run({"input_ids": ids})["last_hidden_state"]
    for row, wanted, tokens in zip(found, expected, ids, strict=True):
        np.testing.assert_array_equal(row[0, : len(tokens)].numpy(), wanted[: len(tokens)])
