"""The search for spans against brute force, and answers with an engine that knows them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcpu import InputError
from fastcpu.tasks import QuestionAnswerer, Tagger
from fastcpu.tasks.qa import Options, best_spans
from tests.tasks.models import WORDS, FakeEngine

OUTPUTS = {"start_logits": ("batch", "sequence"), "end_logits": ("batch", "sequence")}


@pytest.mark.parametrize("tokens", [1, 2, 7, 40])
@pytest.mark.parametrize("longest", [1, 3, 30])
@pytest.mark.parametrize("count", [1, 20])
def test_best_spans_match_brute_force(tokens: int, longest: int, count: int, rng: np.random.Generator) -> None:
    starts, ends = rng.integers(-4, 4, (2, tokens)).astype(np.float32)
    every = [(float(starts[i] + ends[j]), i, j) for i in range(tokens) for j in range(i, min(i + longest, tokens))]
    found = best_spans(starts, ends, longest, count)
    assert len(found) == min(count, len(every))
    assert set(found) <= set(every)
    assert [each[0] for each in found] == sorted((each[0] for each in every), reverse=True)[: len(found)]
    assert len(set(found)) == len(found)


class Oracle(FakeEngine):
    """Marks the words between `a` and `.`: start logit 5 and end logit 4, everything else 0; [CLS] gets `null` each."""

    def __init__(self, folder: Path, null: float = 0.0, first: str = "a", last: str = ".") -> None:
        def answer(ids: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
            words = [WORDS[i] for i in ids]
            start = np.array([5.0 * (before == first) for before in ["", *words]][: len(ids)])
            end = np.array([4.0 * (after == last) for after in [*words, ""]][1:])
            start[0] = end[0] = null
            return {"start_logits": start, "end_logits": end}

        super().__init__(folder, OUTPUTS, answer)


def test_answers_have_their_place_in_the_passage(tokenizer_dir: Path) -> None:
    model = QuestionAnswerer(Oracle(tokenizer_dir))
    passage = "Anna, in  London, is a small  cat. Paul"
    (answer,) = model([("who is Anna?", passage)])
    assert answer.text == "small  cat"
    assert passage[answer.start : answer.end] == answer.text
    assert answer.logit == 9.0
    ranked = model.n_best([("who is Anna?", passage)])[0]
    assert ranked[0] == answer
    assert len(ranked) == 20
    assert sum(each.score for each in ranked) == pytest.approx(1.0)
    assert [each.logit for each in ranked] == sorted((each.logit for each in ranked), reverse=True)
    assert len({(each.start, each.end) for each in ranked}) == 20


def test_options_of_a_call_are_those_of_an_object(tokenizer_dir: Path) -> None:
    asked = [("who?", "the dog is a small red car in London. " * 3)]
    shared = QuestionAnswerer(Oracle(tokenizer_dir, null=1.0))
    other = QuestionAnswerer(
        Oracle(tokenizer_dir, null=1.0), max_length=18, stride=6, max_answer=4, n_best=3, no_answer=True, threshold=0.5
    )
    options = replace(
        shared.options, length=18, stride=6, max_answer=4, n_best=3, no_answer=True, threshold=0.5, whole_words=False
    )
    assert other.options == options
    assert shared.run(shared.prepare_n_best(asked, options=options)) == other.n_best(asked) != shared.n_best(asked)
    assert shared.run(shared.prepare(asked, options=options)) == other(asked)
    longer = replace(options, length=1000)
    assert max(len(each.ids) for each in shared.prepare(asked, options=longer).sequences) == 24


@pytest.mark.parametrize("option", ["length", "max_answer", "n_best", "stride"])
def test_options_out_of_range(option: str) -> None:
    with pytest.raises(InputError, match=f"{option} must be at least"):
        Options(**{"length": 8, "stride": 2, option: -1})  # type: ignore[arg-type]


def test_whole_words(tokenizer_dir: Path) -> None:
    passage = "Anna is a Scotland house."
    model = QuestionAnswerer(Oracle(tokenizer_dir, first="Scot"), n_best=50)
    whole = replace(model.options, whole_words=True)
    assert model([("who?", passage)])[0].text == "land house"
    assert model.run(model.prepare([("who?", passage)], options=whole))[0].text == "Scotland house"
    (found,) = model.run(model.prepare_n_best([("who?", passage)], options=whole))
    words = ["Anna", "is", "a", "Scotland", "house", "."]
    assert len(found) == len(words) * (len(words) + 1) // 2
    assert {each.text.split()[0] for each in found} <= {*words, "house."}


def test_the_question_is_no_answer(tokenizer_dir: Path) -> None:
    (answer,) = QuestionAnswerer(Oracle(tokenizer_dir))([("is a house.", "the dog is a cat.")])
    assert answer.text == "cat"


def test_answers_are_not_longer_than_asked(tokenizer_dir: Path) -> None:
    passage = "is a small red car in London."
    assert QuestionAnswerer(Oracle(tokenizer_dir))([("who?", passage)])[0].text == "small red car in London"
    short = QuestionAnswerer(Oracle(tokenizer_dir), max_answer=4)([("who?", passage)])[0]
    assert (short.text, short.logit) == ("small", 5.0)


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_long_passages_are_read_in_windows(place: int, tokenizer_dir: Path) -> None:
    engine = Oracle(tokenizer_dir)
    words = ["red"] * 60
    words[place : place + 3] = ["a", "green", "house."]
    passage = " ".join(words)
    (answer,) = QuestionAnswerer(engine, max_length=18, stride=6)([("who?", passage)])
    assert (answer.text, answer.start) == ("green house", passage.index("green"))
    assert sum(map(len, engine.batches)) == 8
    assert max(map(max, engine.batches)) == 18


def test_no_answer_is_the_least_of_the_windows(tokenizer_dir: Path) -> None:
    passage = "the dog is a cat."
    answer = QuestionAnswerer(Oracle(tokenizer_dir, null=4.0), no_answer=True)([("who?", passage)])[0]
    assert (answer.text, answer.logit) == ("cat", 9.0)
    refused = QuestionAnswerer(Oracle(tokenizer_dir, null=5.0), no_answer=True)
    none = refused([("who?", passage)])[0]
    assert (none.text, none.start, none.end, none.logit) == ("", 0, 0, 10.0)
    assert refused.n_best([("who?", passage)])[0][1].text == "cat"
    assert QuestionAnswerer(Oracle(tokenizer_dir, null=5.0))([("who?", passage)])[0].text == "cat"
    above = QuestionAnswerer(Oracle(tokenizer_dir, null=5.0), no_answer=True, threshold=1.0)
    assert above([("who?", passage)])[0].text == "cat"


def test_no_answer_of_a_long_passage(tokenizer_dir: Path) -> None:
    """The window with the answer is sure that there is one: its first token has a low logit."""

    class Sure(Oracle):
        def run(self, batch, outputs=None):  # type: ignore[no-untyped-def]
            result = super().run(batch, outputs)
            for row, each in enumerate(batch):
                null = 1.0 if WORDS.index("a") in each.ids else 8.0
                result["start_logits"][row, 0] = result["end_logits"][row, 0] = null
            return result

    model = QuestionAnswerer(Sure(tokenizer_dir), max_length=12, stride=4, no_answer=True)
    assert model([("who?", "red " * 20 + "a green house. " + "red " * 9)])[0].text == "green house"
    assert model([("who?", "red " * 20)])[0].text == ""


def test_gold_spans_of_squad_come_back(data_dir: Path, minilm_dir: Path) -> None:
    """An engine that marks the tokens of the gold answers gives the gold texts, from windows of real passages."""
    from fastcpu.eval import qa
    from fastcpu.tasks.tokenizer import windows

    content = json.loads((data_dir / "squad_v1.1_dev" / "dev-v1.1.json").read_text())
    paragraphs = [paragraph for article in content["data"] for paragraph in article["paragraphs"]][::20]
    entries = [(entry, paragraph["context"]) for paragraph in paragraphs for entry in paragraph["qas"]]
    inputs = [(entry["question"], passage) for entry, passage in entries]
    gold = [entry["answers"][0] for entry, _ in entries]
    marked: dict[bytes, dict[str, NDArray[np.float64]]] = {}

    def answer(ids: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        return marked.get(ids.tobytes(), {name: np.zeros(len(ids)) for name in OUTPUTS})

    model = QuestionAnswerer(FakeEngine(minilm_dir, OUTPUTS, answer), max_length=128)
    for whole, each in zip(model.tokenizer.locate(inputs), gold, strict=True):
        first, last = each["answer_start"], each["answer_start"] + len(each["text"])
        for window in windows(whole, 1, 128, model.tokenizer.stride(None), "input"):
            tokens = window.tokens
            own = tokens.parts == 1
            starts = own & (tokens.offsets[:, 0] <= first) & (first < tokens.offsets[:, 1])
            ends = own & (tokens.offsets[:, 0] < last) & (last <= tokens.offsets[:, 1])
            marked[tokens.ids.tobytes()] = {"start_logits": 9.0 * starts, "end_logits": 9.0 * ends}
    found = [each.text for each in model(inputs)]
    assert len(found) > 400
    right = [qa.exact_match(text, each["text"]) for text, each in zip(found, gold, strict=True)]
    assert np.mean(right) > 0.99, "but for answers of more than 30 tokens and parts of words"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": -1}, "stride must not be negative"),
        ({"max_answer": 0}, "max_answer must be at least 1, not 0"),
        ({"n_best": 0}, "n_best must be at least 1, not 0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, int], message: str, tokenizer_dir: Path) -> None:
    with pytest.raises(InputError, match=message):
        QuestionAnswerer(Oracle(tokenizer_dir), **options)  # type: ignore[arg-type]


def test_byte_level_tokens_do_not_take_their_spaces_along(tmp_path: Path) -> None:
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    words = ["<s>", "</s>", "Anna", "\u0120is", "\u0120a", "\u0120cat", "\u0120who"]
    tokenizer = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    place = words.index("\u0120cat")
    engine = FakeEngine(tmp_path, OUTPUTS, lambda ids: dict.fromkeys(OUTPUTS, 5.0 * (ids == place)))
    (answer,) = QuestionAnswerer(engine)([(" who is", "Anna is a cat")])
    assert (answer.text, answer.start, answer.end) == ("cat", 10, 13)
    outputs = {"logits": ("batch", "sequence", 2)}
    tags = FakeEngine(tmp_path, outputs, lambda ids: {"logits": np.eye(2)[(ids == place).astype(int)]})
    (found,) = Tagger(tags, labels=["O", "ANIMAL"])(["Anna is a cat"])
    assert [word.text for word in found.words] == ["Anna", "is", "a", "cat"]
    assert [(each.text, each.kind, each.start) for each in found.entities] == [("cat", "ANIMAL", 10)]
