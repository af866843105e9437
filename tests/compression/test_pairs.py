"""Training on pairs of texts: two sentences with a label, questions about passages, queries with documents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fastcpu
from fastcpu.compression import compress
from fastcpu.compression.examples import read_examples, read_excluded, table_form, training_files
from fastcpu.compression.gate import Gate
from fastcpu.compression.run import make_plan
from fastcpu.data import decontaminate, sample
from fastcpu.errors import InputError
from fastcpu.eval import qa
from fastcpu.tasks.tokenizer import Tokenizer
from tests.compression.test_labels import LABELS, RECIPE, table
from tests.tasks import models

torch = pytest.importorskip("torch")

from fastcpu.distill.corpus import Batch, Corpus, write_corpus  # noqa: E402  (needs torch)
from fastcpu.distill.losses import LOSSES, Outputs  # noqa: E402
from fastcpu.distill.losses.loss import NO_ANSWER, NO_LABEL  # noqa: E402
from fastcpu.distill.model import arguments, open_directory, outputs  # noqa: E402
from fastcpu.distill.teacher import LiveTeacher  # noqa: E402

PAIRS = [("who lives in London ?", "Anna lives in London ."), ("where is the car ?", "the red car is in Paris .")]
TELLING = ("red", "green", "blue")


def squad(path: Path, pairs: list[tuple[str, str]]) -> Path:
    """A file as SQuAD is written; answers are of no use in training."""
    questions = [{"id": str(i), "question": q, "answers": []} for i, (q, _) in enumerate(pairs)]
    paragraphs = [{"context": c, "qas": [qa]} for (_, c), qa in zip(pairs, questions, strict=True)]
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}], "version": "1.1"}))
    return path


def second_decides(seed: int, count: int) -> list[tuple[str, ...]]:
    """Two texts with a colour each; the label is that of the second."""
    random = np.random.default_rng(seed)
    words = ["the", "a", "is", "of", "in", "and", "house", "car"]

    def text(colour: int) -> str:
        return " ".join(random.permutation([*random.choice(words, random.integers(1, 4)), TELLING[colour]]))

    made = []
    for _ in range(count):
        first, second = random.integers(3, size=2)
        made.append((text(first), text(second), LABELS[second]))
    return made


@pytest.fixture(scope="module")
def qa_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.huggingface("qa", "ForQuestionAnswering", "Bert", tmp_path_factory.mktemp("qa"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(steps=4))
    return path


# ---- what is learned ----


def test_a_classifier_learns_which_text_is_the_second(tmp_path: Path) -> None:
    model = models.huggingface("classify", "ForSequenceClassification", "Bert", tmp_path / "model")
    train = table(tmp_path / "train.tsv", second_decides(0, 600), "a\tb\tlabel")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=250) + "[distill.losses]\nlabels = 1\n[quantize]\ncalibration = 64\n")
    columns = ["sentence1=a", "sentence2=b", "label=label"]
    made = compress(model, tmp_path / "out", recipe=recipe, data=[train], columns=columns, threads=1, timing=False)
    assert made.report["options"]["calibration_sequences"] == 64
    dev = second_decides(1, 100)
    found = fastcpu.tasks.Classifier(made.directory)([(first, second) for first, second, _ in dev])
    assert sum(each.label == label for each, (*_, label) in zip(found, dev, strict=True)) > 85  # 33 by the first text


def test_a_question_answerer_is_distilled_on_questions_with_passages(qa_dir: Path, tmp_path: Path) -> None:
    train = squad(tmp_path / "train.json", [*PAIRS * 8, ("who works ?", "Paul works in Paris .")])
    dev = tmp_path / "dev.jsonl"
    dev.write_text(json.dumps({"question": "who works ?", "context": "Anna works .", "answers": ["Anna"]}) + "\n")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=60) + "[prune]\nsparsity = 0.5\n[quantize]\ncalibration = 8\n")
    gate = Gate("qa", str(dev))
    made = compress(qa_dir, tmp_path / "out", recipe=recipe, data=[train], gate=gate, threads=1, timing=False)
    compression = made.report["compression"]
    assert compression["texts"] == {"seen": 17, "equal": 1, "similar": 0, "taken": 16, "labelled": 0}
    assert compression["plan"]["recipe"]["distill"]["losses"] == {"logits": 1.0, "hidden": 1.0}
    assert compression["plan"]["recipe"]["distill"]["max_length"] == 384
    losses = [line["losses"]["logits"] for line in compression["log"]]
    assert losses[-1] < max(losses) / 2
    (question, passage), teacher = PAIRS[1], fastcpu.compile(qa_dir, tmp_path / "teacher").directory
    answers = [fastcpu.tasks.QuestionAnswerer(each)([(question, passage)])[0] for each in (made.directory, teacher)]
    assert answers[0].text == answers[1].text


def colours(seed: int, count: int) -> list[dict[str, object]]:
    """Passages with a colour each, and the question which one."""
    random = np.random.default_rng(seed)
    words = ["the", "a", "house", "car", "dog", "cat", "small", "large"]
    made: list[dict[str, object]] = []
    for _ in range(count):
        before, after = (" ".join(random.choice(words, random.integers(1, 5))) for _ in range(2))
        answer = str(random.choice(TELLING))
        answers = {"text": [answer], "answer_start": [len(before) + 1]}
        made.append({"question": "where is Anna ?", "context": f"{before} {answer} {after}", "answers": answers})
    return made


def test_a_question_answerer_learns_answers(qa_dir: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "dev")):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, colours(seed, 300 - 200 * seed))))
    data, recipe = tmp_path / "train.jsonl", tmp_path / "recipe.toml"
    recipe.write_text(
        RECIPE.format(steps=100) + "dropout = 0.05\n[distill.losses]\nlabels = 1\nconsistency = 1\n[quantize]\n"
    )
    tuned = compress(qa_dir, tmp_path / "out", recipe=recipe, data=[data], threads=1, timing=False)
    assert tuned.report["compression"]["texts"] == {
        "seen": 300,
        "equal": 0,
        "similar": 0,
        "taken": 300,
        "labelled": 300,
    }
    engine = fastcpu.tasks.QuestionAnswerer(tuned.directory)
    assert qa.evaluate(engine, qa.load(tmp_path / "dev.jsonl", "dev")).values["exact_match"].value > 0.9
    columns = ["answers=answers"]
    chosen = make_plan(qa_dir, recipe="sparse80-int8", data=[data], columns=columns, steps=1).recipe.distill
    assert chosen is not None
    assert set(chosen.losses) == {"logits", "hidden", "labels"}


def test_a_score_is_learned_as_a_number(tmp_path: Path) -> None:
    model = models.huggingface("rerank", "ForSequenceClassification", "Bert", tmp_path / "model")
    train = table(tmp_path / "train.tsv", [pair for pair in PAIRS for _ in range(8)], "query\tpassage")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=40) + "[prune]\nsparsity = 0.5\n")
    columns = ["sentence1=query", "sentence2=passage"]
    made = compress(model, tmp_path / "out", recipe=recipe, data=[train], columns=columns, threads=1, timing=False)
    log = made.report["compression"]["log"]
    assert set(log[0]["losses"]) == {"logits", "hidden"}
    assert 0 < log[-1]["losses"]["logits"] < log[0]["losses"]["logits"]


def test_a_single_logit_is_a_mean_squared_difference() -> None:
    mask = torch.ones((3, 2), dtype=torch.bool)
    mine, theirs = (Outputs(mask, logits={"logits": torch.tensor(x)[:, None]}) for x in ([1.0, 2.0, 4.0], [0.0] * 3))
    assert LOSSES["logits"].value(mine, theirs).item() == pytest.approx(7.0)


def test_answers_are_a_cross_entropy_over_real_tokens(rng: np.random.Generator) -> None:
    mask = torch.arange(6) < torch.tensor([[6], [4], [5]])
    first, last = (torch.from_numpy(rng.standard_normal((3, 6))).float() for _ in range(2))
    labels = torch.tensor([[1, 5], [2, 3], [NO_LABEL, NO_LABEL]])
    student = Outputs(mask, logits={"start_logits": first, "end_logits": last})
    expected = 0.0
    for b, length in ((0, 6), (1, 4)):
        for logits, token in zip((first, last), labels[b], strict=True):
            expected -= float(torch.log_softmax(logits[b, :length].double(), 0)[token]) / 4
    assert LOSSES["labels"].value(student, Outputs(mask, labels=labels)).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(InputError, match=r"loss labels: \[3\] labels are no first and last tokens"):
        LOSSES["labels"].value(student, Outputs(mask, labels=labels[:, 0]))


# ---- segments ----


def test_the_segments_of_a_corpus(qa_dir: Path, tmp_path: Path) -> None:
    write_corpus([PAIRS[0], "the car"], Tokenizer(qa_dir), tmp_path / "corpus")
    batch = Corpus(tmp_path / "corpus").batch(np.array([1, 0]))
    assert batch.types is not None
    assert batch.types.tolist() == [[0] * 13, [0] * 7 + [1] * 6]
    assert batch.mask.sum(1).tolist() == [4, 13]
    twice = batch.twice()
    assert twice.types is not None
    assert torch.equal(twice.types, torch.cat([batch.types, batch.types]))
    write_corpus(["the car", "a dog"], Tokenizer(qa_dir), tmp_path / "single")
    assert Corpus(tmp_path / "single").batch(np.array([0, 1])).types is None


@pytest.mark.parametrize("family", ["Bert", "DistilBert"])
def test_models_are_given_segments_where_they_read_them(family: str, tmp_path: Path) -> None:
    folder = models.huggingface("qa", "ForQuestionAnswering", family, tmp_path / family)
    ids = torch.arange(5, 13).reshape(1, 8)
    types = torch.tensor([[0] * 4 + [1] * 4])
    batch, plain = Batch(ids, ids > 0, types), Batch(ids, ids > 0)
    module = open_directory(folder)[0]
    assert ("token_type_ids" in arguments(module, batch)) == (family == "Bert")
    with torch.no_grad():
        found, without = (outputs(module, None, each, {"logits"}).logits for each in (batch, plain))
        named = {"token_type_ids": types} if family == "Bert" else {}
        expected = module(input_ids=ids, **named)
    assert found is not None
    assert without is not None
    torch.testing.assert_close(found["start_logits"], expected.start_logits)
    assert torch.equal(found["start_logits"], without["start_logits"]) == (family == "DistilBert")
    taught = LiveTeacher(folder, {"logits"}, "cpu")(np.array([0]), batch).logits
    assert taught is not None
    torch.testing.assert_close(taught["start_logits"], found["start_logits"], atol=0.05, rtol=0)


def test_where_answers_are_in_the_tokens(qa_dir: Path, tmp_path: Path) -> None:
    passage = "the car . Scotland is red"  # [CLS] where ? [SEP] the car . Scot ##land is red [SEP]
    answers = [(10, 18), (10, 21), (22, 25), (NO_ANSWER, NO_ANSWER), (NO_LABEL, NO_LABEL)]
    texts = [("where ?", passage)] * len(answers)
    for length, found in ((24, [7, 8, 7, 9, 10, 10]), (11, [7, 8, 7, 9, NO_LABEL, NO_LABEL])):
        folder = tmp_path / str(length)
        write_corpus(texts, Tokenizer(qa_dir, length), folder, np.array(answers))
        labels = Corpus(folder).labels
        assert labels is not None
        assert labels.ravel().tolist() == [*found, 0, 0, NO_LABEL, NO_LABEL]


# ---- data ----


@pytest.mark.parametrize(
    ("columns", "task", "form"),
    [
        ((), None, None),
        ((), "sts", None),
        ((), "classify", "classify"),
        ((), "qa", "qa"),
        (("question", "context"), "qa", None),
        (("question=q", "context=c"), None, "qa"),
        (("sentence1=q", "sentence2=c"), "qa", "classify"),
    ],
)
def test_as_what_tables_are_read(columns: tuple[str, ...], task: str | None, form: str | None) -> None:
    assert table_form(["train.json"], columns, task) == form
    if not columns:
        assert table_form(["train.txt"], columns, task) is None


def test_questions_come_from_squad_and_from_tables(tmp_path: Path) -> None:
    path = table(tmp_path / "train.tsv", [(f" {c}", f"{q} ") for q, c in PAIRS], "passage\tquestion")
    files = [squad(tmp_path / "train.json", [(f"{q}\n", f"\t{c}") for q, c in PAIRS])]
    assert [each.text for each in read_examples(files, (), None, "qa")] == PAIRS
    assert [each.text for each in read_examples([path], ("context=passage",), None, "qa")] == PAIRS
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([{"question": q, "context": c, "answers": None} for q, c in PAIRS]))
    assert [each.text for each in read_examples([listed], (), None, "qa")] == PAIRS
    assert list(read_excluded([*files, listed], (), "qa")) == [text for pair in PAIRS * 2 for text in pair]


def test_answers_of_squad_and_of_tables(tmp_path: Path) -> None:
    passage, spaced = "\n Paul\t\tworks in  Paris , and Paul lives .", "Paul works in Paris , and Paul lives ."
    entries = [
        {"id": "0", "question": "who ?", "answers": [{"text": "Paul", "answer_start": 30}]},
        {"id": "1", "question": "where ?", "answers": [{"text": "in  Paris", "answer_start": 14}]},
        {"id": "2", "question": "where ?", "answers": [], "is_impossible": True},
    ]
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": passage, "qas": entries}]}]}))
    found = list(read_examples([path], (), (), "qa"))
    assert [each.text[1] for each in found] == [spaced] * 3
    assert [each.label for each in found] == [(26, 30), (11, 19), (NO_ANSWER, NO_ANSWER)]
    listed = tmp_path / "train.jsonl"
    rows = [{"text": ["Paul"]}, {"text": ["Paul"], "answer_start": [30]}, "in  Paris", "\tworks ", [], None]
    listed.write_text(
        "\n".join(json.dumps({"question": "who ?", "context": passage, "answers": each}) for each in rows)
    )
    spans = [(0, 4), (26, 30), (11, 19), (5, 10), (NO_ANSWER, NO_ANSWER), (NO_LABEL, NO_LABEL)]
    assert [each.label for each in read_examples([listed], (), (), "qa")] == spans
    plain = tmp_path / "more.txt"
    plain.write_text("a red house\n")
    assert [each.label for each in read_examples([plain], (), (), "qa")] == [(NO_LABEL, NO_LABEL)]
    assert [each.label for each in read_examples([plain], (), None, "qa")] == [NO_LABEL]
    blank = tmp_path / "blank.csv"
    blank.write_text("question,context,answers\nwho ?,Paul works,\nwho ?,Paul works, \nwho ?,Paul works,Paul\n")
    labels = [each.label for each in read_examples([blank], (), (), "qa")]
    assert labels == [(NO_ANSWER, NO_ANSWER), (NO_ANSWER, NO_ANSWER), (0, 4)]
    unused = tmp_path / "unused.jsonl"
    rows = [{"text": ["Paul", ""], "answer_start": [0, -1]}, {"text": ["", "Paul"], "answer_start": [None, 0]}, " Paul"]
    unused.write_text(
        "\n".join(json.dumps({"question": "who ?", "context": "Paul works", "answers": each}) for each in rows)
    )
    assert [each.label for each in read_examples([unused], (), (), "qa")] == [(0, 4)] * 3
    entries[0]["answers"] = [{"text": "Paul", "answer_start": 29}]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": passage, "qas": entries}]}]}))
    with pytest.raises(
        InputError, match=r"train.json: question 0: the passage does not have the answer 'Paul', or not where"
    ):
        list(read_examples([path], (), (), "qa"))


def test_half_a_character_is_told_with_its_place(tmp_path: Path) -> None:
    table_file = tmp_path / "train.jsonl"
    table_file.write_text('{"question": "who ?", "context": "Paul \\ud800 ."}\n')
    with pytest.raises(InputError, match=r"train.jsonl:1: column 'context': .* is half a character"):
        list(read_examples([table_file], (), None, "qa"))
    with pytest.raises(InputError, match=r"train.json: question 0: .* is half a character"):
        list(read_examples([squad(tmp_path / "train.json", [("who ?", "Paul \ud800 .")])], (), None, "qa"))


def test_squad_is_read_whatever_columns_are_named(tmp_path: Path) -> None:
    files = [squad(tmp_path / "train.json", PAIRS)]
    assert [each.text for each in read_examples(files, ("answers=answers",), None, "qa")] == PAIRS


@pytest.mark.parametrize("starts", [[0.0], ["0"], [0, 1], [-1], "0", {}])
def test_where_an_answer_begins_must_be_a_number_of_a_character(starts: object, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    answers = {"text": ["Paul"], "answer_start": starts}
    path.write_text(json.dumps({"question": "who ?", "context": "Paul works", "answers": answers}) + "\n")
    with pytest.raises(
        InputError, match=r"train.jsonl:1: column 'answers': (answer_start is .*, not a number|the passage does not)"
    ):
        list(read_examples([path], (), (), "qa"))


def test_plain_lines_beside_questions(qa_dir: Path, recipe: Path, tmp_path: Path) -> None:
    plain = tmp_path / "more.txt"
    plain.write_text("a red house\n")
    data = [squad(tmp_path / "train.json", PAIRS), plain]
    columns = ["question=question", "context=context"]
    made = compress(qa_dir, tmp_path / "out", recipe=recipe, data=data, columns=columns, threads=1, timing=False)
    assert made.report["compression"]["texts"]["taken"] == 3


def test_both_texts_of_evaluation_data_are_kept_out_whichever_column_is_named(tmp_path: Path) -> None:
    content = [(question, passage, "an answer") for question, passage in PAIRS]
    dev = table(tmp_path / "dev.tsv", content, "question\tcontext\tanswers")
    texts = [text for pair in PAIRS for text in pair]
    for columns in ((), ("question=question",), ("answers=answers",), ("question=q",)):
        assert list(read_excluded([dev], columns, "qa")) == texts
    other = table(tmp_path / "other.tsv", PAIRS, "q\tcontext")
    assert list(read_excluded([other], ("question=q",), "qa")) == texts
    passages = table(tmp_path / "passages.tsv", [(passage,) for _, passage in PAIRS], "passage")
    columns = ("sentence1=query", "sentence2=passage")
    assert list(read_excluded([passages], columns, "classify")) == [passage for _, passage in PAIRS]
    sentences = table(tmp_path / "sentences.tsv", PAIRS, "sentence1\tsentence2")
    assert list(read_excluded([sentences], ("sentence1", "sentence2"))) == texts
    assert list(read_excluded([sentences], ("sentence1",))) == [question for question, _ in PAIRS]
    with pytest.raises(InputError, match="no column 'sentence1' or 'sentence' or 'text' for sentence1"):
        list(read_excluded([passages], ("label=x",), "classify"))


def test_a_model_without_a_second_segment_learns_no_pairs(qa_dir: Path, recipe: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(qa_dir, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text()) | {"type_vocab_size": 1}
    (model / "config.json").write_text(json.dumps(config))
    weights = load_file(model / "model.safetensors")
    name = "bert.embeddings.token_type_embeddings.weight"
    save_file(weights | {name: weights[name][:1].copy()}, model / "model.safetensors", {"format": "pt"})
    data = [squad(tmp_path / "train.json", PAIRS)]
    with pytest.raises(InputError, match="its tokenizer gives pairs a second segment, which the model does not have"):
        compress(model, tmp_path / "out", recipe=recipe, data=data, columns=["answers=answers"], timing=False)


def test_a_teacher_with_other_segments_is_refused(tmp_path: Path) -> None:
    student, teacher = (
        models.huggingface("qa", "ForQuestionAnswering", family, tmp_path / family) for family in ("DistilBert", "Bert")
    )
    tokenizer = json.loads((student / "tokenizer.json").read_text())
    for part in tokenizer["post_processor"]["pair"]:
        next(iter(part.values()))["type_id"] = 0
    (student / "tokenizer.json").write_text(json.dumps(tokenizer))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=1) + "[distill.losses]\nlogits = 1\n")
    data, columns = [squad(tmp_path / "train.json", PAIRS)], ["question=question"]
    options = {"recipe": recipe, "data": data, "columns": columns, "threads": 1, "timing": False}
    with pytest.raises(InputError, match="its tokenizer gives pairs other segments than that of"):
        compress(student, tmp_path / "out", teacher=teacher, **options)
    compress(teacher, tmp_path / "out", teacher=student, **options)


def test_a_pair_is_dropped_for_either_text() -> None:
    pairs = [("a b c", "d e f"), ("g h i", "j k l"), ("m n o", "p q r")]
    assert list(decontaminate(pairs, ["D, e f!", "g h i"])) == [pairs[2]]


def test_the_size_of_a_sample_counts_both_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastcpu.data.texts.SAMPLED_CHARACTERS", 12)
    assert len(sample([("abc", "def")] * 8, 8, 0)) == 2
    assert len(sample(["abc"] * 8, 8, 0)) == 4


def test_pairs_calibrate(qa_dir: Path, tmp_path: Path) -> None:
    pairs, joined, alone = (
        fastcpu.compile(qa_dir, tmp_path / name, quantize="static", calibration=texts).directory
        for name, texts in (("pairs", PAIRS), ("joined", [" ".join(pair) for pair in PAIRS]), ("alone", [PAIRS[0][0]]))
    )
    weights = [(each / "weights.safetensors").read_bytes() for each in (pairs, joined, alone)]
    assert len(set(weights)) == 3
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('description = ""\n[quantize]\nobserver = "mse"\n')
    data = [squad(tmp_path / "train.json", PAIRS)]
    dev = squad(tmp_path / "dev.json", [("who ?", "Paul .")])
    made = compress(qa_dir, tmp_path / "out", recipe=recipe, data=data, gate=Gate("qa", str(dev)), timing=False)
    assert (made.directory / "weights.safetensors").read_bytes() == weights[0]


# ---- bad input ----


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("question=q",), r"train.jsonl:1: no column 'q' for question; there are question, context"),
        (("question=question", "context=context", "label=x"), r"no column 'label' is read by this task"),
        (
            ("question=context", "score=a"),
            r"no column 'score' is read by this task; it reads question, context, answers",
        ),
        (("context=context", "answers=a"), r"train.jsonl:1: no column 'a' for answers"),
    ],
)
def test_columns_that_do_not_fit(
    columns: tuple[str, ...], message: str, qa_dir: Path, recipe: Path, tmp_path: Path
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(dict(zip(("question", "context"), PAIRS[0], strict=True))) + "\n")
    with pytest.raises(InputError, match=message):
        compress(qa_dir, tmp_path / "out", recipe=recipe, data=[path], columns=columns, timing=False)


def test_a_file_that_is_neither_squad_nor_a_table(qa_dir: Path, recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text('{"data": [{"paragraphs": [{}]}]}')
    gate = Gate("qa", str(squad(tmp_path / "dev.json", PAIRS)))
    with pytest.raises(InputError, match=r"train.json: not as SQuAD is written: KeyError"):
        compress(qa_dir, tmp_path / "out", recipe=recipe, data=[path], gate=gate, timing=False)


def test_a_sentence_encoder_reads_no_pairs(encoder_dir: Path, recipe: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "train.tsv", PAIRS, "a\tb")
    columns = ["sentence1=a", "sentence2=b"]
    with pytest.raises(InputError, match=r"train.tsv:2: a sentence encoder reads one text at a time.*--columns a,b"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe, data=[path], columns=columns, timing=False)


def test_the_length_that_a_recipe_names_counts(qa_dir: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=1) + "max_length = 20\n")
    chosen = make_plan(qa_dir, recipe=recipe, data=[squad(tmp_path / "t.json", PAIRS)], gate=Gate("qa", str(tmp_path)))
    assert chosen.recipe.distill is not None
    assert chosen.recipe.distill.max_length == 20
    assert [file.name for file in training_files(["t.json"], tables=True)] == ["t.json"]
