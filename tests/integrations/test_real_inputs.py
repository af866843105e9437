"""500 real inputs through the drop-ins: what they answer is what the runtime gives for the same tokens.

Models are all-MiniLM-L6-v2 (two layers of it where a head looks at every token) with a random head, compressed by the
default recipe. Drop-ins run batches, the runtime one text after the other, without padding. Logits are equal to the
last bit, scores to float rounding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoTokenizer, pipeline

from fastcpu.integrations import transformers as dropin
from fastcpu.integrations.sentence_transformers import CrossEncoder
from fastcpu.runtime import Session

COUNT, BATCH = 500, 32
ROUNDING = {"rtol": 2e-6, "atol": 1e-7}
MakeHead = Callable[..., Path]
Texts = list[str] | list[tuple[str, str]]
Encoded = list[dict[str, list[int]]]


@pytest.fixture(scope="module")
def head(minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeHead:
    """``head(ending, texts, **settings)``: the directory of a model with a random head, whose answers to texts vary."""
    tokenizer = AutoTokenizer.from_pretrained(minilm_dir)

    def make(ending: str, texts: Texts, **settings: Any) -> Path:
        kind = getattr(transformers, f"Bert{ending}")
        depth = 6 if ending == "ForSequenceClassification" else 2  # the first token learns of the others late
        config = transformers.BertConfig.from_pretrained(minilm_dir, num_hidden_layers=depth, **settings)
        torch.manual_seed(0)
        model = kind.from_pretrained(minilm_dir, config=config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(("classifier", "qa_outputs", "cls.predictions.transform.dense")):
                    parameter.normal_(0, 0.3)
            if hasattr(model, "classifier"):  # logits around 0, so that no label is that of most texts
                classifier = model.classifier
                inputs = tokenizer(*columns(texts[::10]), padding=True, return_tensors="pt")
                logits = model(**inputs).logits.flatten(0, -2)
                classifier.weight *= 2 / logits.std(dim=0)[:, None]
                classifier.bias.copy_((classifier.bias - logits.mean(dim=0)) * 2 / logits.std(dim=0))
        folder = tmp_path_factory.mktemp(ending) / "model"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def sentences(data_dir: Path) -> list[str]:
    """Of SST-2."""
    lines = (data_dir / "sst2" / "test.tsv").read_text(encoding="utf-8").splitlines()[1 : COUNT + 1]
    return [line.rpartition("\t")[0].strip() for line in lines]


@pytest.fixture(scope="session")
def pairs(data_dir: Path) -> list[tuple[str, str]]:
    """Captions of the STS benchmark."""
    lines = (data_dir / "stsb" / "sts-test.csv").read_text(encoding="utf-8").splitlines()[:COUNT]
    return [(first, second) for first, second in (line.split("\t")[5:7] for line in lines)]


@pytest.fixture(scope="session")
def questions(data_dir: Path) -> list[tuple[str, str]]:
    """Of SQuAD, with contexts of at most 500 characters."""
    articles = json.loads((data_dir / "squad_v1.1_dev" / "dev-v1.1.json").read_text(encoding="utf-8"))["data"]
    found = [
        (asked["question"], paragraph["context"])
        for article in articles
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"][:4]
        if len(paragraph["context"]) <= 500
    ]
    return found[:COUNT]


def columns(texts: Texts) -> list[list[str]]:
    """What a tokenizer is called with for a batch of texts, or of pairs."""
    return [
        list(column) for column in zip(*((text,) if isinstance(text, str) else text for text in texts), strict=True)
    ]


def alone(directory: str | Path, encoded: Encoded) -> Iterator[dict[str, NDArray[np.float32]]]:
    """What the runtime answers to each text by itself."""
    session = Session(directory, threads=1)
    for each in encoded:
        feeds = {name: [np.array(each[name])] for name in ("input_ids", "token_type_ids")}
        yield {name: array[0] for name, array in session.run(feeds).items()}


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def encoded_by(tokenizer: Any, texts: Texts) -> Encoded:
    """The tokens of each text, or pair, without padding."""
    rows = tokenizer(*columns(texts))
    names = ("input_ids", "token_type_ids")
    return [dict(zip(names, row, strict=True)) for row in zip(*(rows[name] for name in names), strict=True)]


def assert_same_logits(model: Any, tokenizer: Any, texts: Texts, expected: list[dict[str, Any]]) -> None:
    """The model, called as one of transformers with padded batches, gives the bits of ``expected``."""
    for start in range(0, len(texts), BATCH):
        batch = slice(start, start + BATCH)
        found = model(**tokenizer(*columns(texts[batch]), padding=True, return_tensors="pt"))
        for row, wanted in enumerate(expected[batch]):
            for name, array in wanted.items():  # with a row per token, it ends where the text does
                own = found[name][row].numpy()
                np.testing.assert_array_equal(own[: len(array)], array)
                assert (own[len(array) :] == -1e4).all()


def opened(auto: Any, folder: Path, cache: Path) -> tuple[Any, Any]:
    model = auto.from_pretrained(folder, cache_dir=cache, threads=1)
    return model, AutoTokenizer.from_pretrained(model.name_or_path)


def test_sequence_classification(head: MakeHead, sentences: list[str], cache: Path) -> None:
    labels = {0: "red", 1: "green", 2: "blue"}
    folder = head("ForSequenceClassification", sentences, id2label=labels)
    model, tokenizer = opened(dropin.AutoModelForSequenceClassification, folder, cache)
    expected = list(alone(model.name_or_path, encoded_by(tokenizer, sentences)))
    assert_same_logits(model, tokenizer, sentences, expected)

    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu", top_k=None)
    answers = classify(sentences, batch_size=BATCH)
    scores = softmax(np.stack([each["logits"] for each in expected]))
    best = scores.argmax(axis=1)
    assert np.bincount(best, minlength=3).min() >= 10, "answers vary"
    assert len(answers) == COUNT
    for answer, row, first in zip(answers, scores, best, strict=True):
        assert answer[0]["label"] == labels[first]
        by_label = {each["label"]: each["score"] for each in answer}
        np.testing.assert_allclose([by_label[label] for label in labels.values()], row, **ROUNDING)


def test_token_classification(head: MakeHead, sentences: list[str], cache: Path) -> None:
    labels = {0: "red", 1: "green", 2: "blue"}
    folder = head("ForTokenClassification", sentences, id2label=labels)
    model, tokenizer = opened(dropin.AutoModelForTokenClassification, folder, cache)
    encoded = encoded_by(tokenizer, sentences)
    expected = list(alone(model.name_or_path, encoded))
    assert_same_logits(model, tokenizer, sentences, expected)

    tag = pipeline("token-classification", model=model, tokenizer=tokenizer, device="cpu", ignore_labels=[])
    answers = tag(sentences, batch_size=BATCH)
    seen: set[str] = set()
    assert len(answers) == COUNT
    for answer, each, ids in zip(answers, expected, encoded, strict=True):
        scores = softmax(each["logits"])[1:-1]  # without [CLS] and [SEP]
        wanted = [labels[label] for label in scores.argmax(axis=1)]
        assert [token["word"] for token in answer] == tokenizer.convert_ids_to_tokens(ids["input_ids"][1:-1])
        assert [token["entity"] for token in answer] == wanted
        np.testing.assert_allclose([token["score"] for token in answer], scores.max(axis=1), **ROUNDING)
        seen.update(wanted)
    assert seen == set(labels.values()), "answers vary"


def test_question_answering(head: MakeHead, questions: list[tuple[str, str]], cache: Path) -> None:
    assert len(questions) == COUNT
    folder = head("ForQuestionAnswering", questions)
    model, tokenizer = opened(dropin.AutoModelForQuestionAnswering, folder, cache)
    expected = list(alone(model.name_or_path, encoded_by(tokenizer, questions)))
    assert_same_logits(model, tokenizer, questions, expected)
    if not transformers.__version__.startswith("4."):
        return  # there is no pipeline

    ask = pipeline("question-answering", model=model, tokenizer=tokenizer, device="cpu")
    asked, contexts = columns(questions)
    answers = ask(question=asked, context=contexts, batch_size=BATCH, max_seq_len=512, align_to_words=False)
    for answer, each, (question, context) in zip(answers, expected, questions, strict=True):
        encoding = tokenizer(question, context, return_offsets_mapping=True)
        possible = np.array([part == 1 for part in encoding.sequence_ids(0)])
        possible[0] = True  # [CLS], for no answer, has its share of the probability
        starts, ends = (softmax(np.where(possible, each[f"{name}_logits"], -1e4)) for name in ("start", "end"))
        starts[0] = ends[0] = 0
        spans = np.tril(np.triu(starts[:, None] * ends), 14)  # at most 15 tokens
        first, last = np.unravel_index(spans.argmax(), spans.shape)
        begin, end = encoding["offset_mapping"][first][0], encoding["offset_mapping"][last][1]
        assert (answer["start"], answer["end"]) == (begin, end)
        assert answer["answer"] == context[begin:end]
        assert answer["score"] == pytest.approx(spans.max(), rel=1e-5)
    assert len({answer["start"] for answer in answers}) > COUNT / 10, "answers vary"


def test_fill_mask(head: MakeHead, pairs: list[tuple[str, str]], cache: Path) -> None:
    texts = []
    for number, (text, _) in enumerate(pairs):
        words = text.split()
        words[number % len(words)] = "[MASK]"
        texts.append(" ".join(words))
    model, tokenizer = opened(dropin.AutoModelForMaskedLM, head("ForMaskedLM", texts), cache)
    encoded = encoded_by(tokenizer, texts)
    places = [each["input_ids"].index(tokenizer.mask_token_id) for each in encoded]
    rows = [each["logits"][place] for each, place in zip(alone(model.name_or_path, encoded), places, strict=True)]

    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu", top_k=5)
    answers = fill(texts, batch_size=BATCH)
    assert len(answers) == COUNT
    for answer, row in zip(answers, rows, strict=True):
        best = np.argpartition(-row, 5)[:5]
        best = best[np.argsort(-row[best])]
        assert [each["token"] for each in answer] == best.tolist()
        np.testing.assert_allclose([each["score"] for each in answer], softmax(row)[best], rtol=1e-5, atol=1e-7)
    assert len({answer[0]["token"] for answer in answers}) > 10, "answers vary"
    logits = model(**tokenizer(texts[:BATCH], padding=True, return_tensors="pt")).logits.numpy()
    for each, place, row in zip(logits, places[:BATCH], rows[:BATCH], strict=True):
        np.testing.assert_array_equal(each[place], row)


def test_zero_shot_classification(head: MakeHead, sentences: list[str], cache: Path) -> None:
    labels = {0: "contradiction", 1: "neutral", 2: "entailment"}
    candidates = ["praise", "blame"]
    told = [(text, f"This example is {candidate}.") for text in sentences for candidate in candidates]
    numbers = {label: number for number, label in labels.items()}
    folder = head("ForSequenceClassification", told, id2label=labels, label2id=numbers)
    model, tokenizer = opened(dropin.AutoModelForSequenceClassification, folder, cache)
    logits = np.stack([each["logits"] for each in alone(model.name_or_path, encoded_by(tokenizer, told))])
    expected = softmax(logits[:, 2].reshape(COUNT, len(candidates)))

    classify = pipeline("zero-shot-classification", model=model, tokenizer=tokenizer, device="cpu")
    answers = classify(sentences, candidate_labels=candidates, batch_size=BATCH)
    assert len(answers) == COUNT
    for answer, row in zip(answers, expected, strict=True):
        order = np.argsort(-row)
        assert answer["labels"] == [candidates[place] for place in order]
        np.testing.assert_allclose(answer["scores"], row[order], **ROUNDING)
    assert len({answer["labels"][0] for answer in answers}) > 1, "answers vary"


@pytest.mark.parametrize("labels", [1, 3])
def test_cross_encoder(labels: int, head: MakeHead, pairs: list[tuple[str, str]], cache: Path) -> None:
    model = CrossEncoder(head("ForSequenceClassification", pairs, num_labels=labels), cache_dir=cache, threads=1)
    encoded = encoded_by(AutoTokenizer.from_pretrained(model.path), pairs)
    logits = np.stack([each["logits"] for each in alone(model.path, encoded)])
    found = model.predict(pairs, batch_size=BATCH, activation_fn=torch.nn.Identity())
    np.testing.assert_array_equal(found, logits[:, 0] if labels == 1 else logits)
    assert np.ptp(logits, axis=0).min() > 1, "answers vary"
    scores = model.predict(pairs, batch_size=BATCH, apply_softmax=labels > 1)
    expected = 1 / (1 + np.exp(-logits[:, 0].astype(np.float64))) if labels == 1 else softmax(logits)
    np.testing.assert_allclose(scores, expected, **ROUNDING)
    if labels == 1:
        query = pairs[0][0]
        asked = encoded_by(AutoTokenizer.from_pretrained(model.path), [(query, second) for _, second in pairs])
        order = np.argsort([-each["logits"][0] for each in alone(model.path, asked)], kind="stable")
        ranked = model.rank(query, [second for _, second in pairs], activation_fn=torch.nn.Identity())
        assert [each["corpus_id"] for each in ranked] == order.tolist()
