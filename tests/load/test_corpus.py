"""Texts of runs: from files, made, and of exactly so many tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from fastcpu.errors import InputError
from fastcpu.load import Corpus, make_corpus


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A tokenizer of letters that knows a few words as a whole, and adds two special tokens."""
    letters = {letter: 2 * index for index, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    inner = {f"##{letter}": index + 1 for letter, index in letters.items()}
    rest = {name: 52 + index for index, name in enumerate(["[UNK]", "[CLS]", "[SEP]", "the", "of", "people"])}
    made = Tokenizer(models.WordPiece({**letters, **inner, **rest}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 53), ("[SEP]", 54)]
    )
    made.enable_truncation(8)
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    return folder


def lengths(folder: Path, corpus: Corpus) -> list[int]:
    loaded = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded.no_truncation()
    return [len(loaded.encode(text).ids) for text in corpus.texts]


def test_texts_of_files_are_shuffled(tmp_path: Path) -> None:
    lines = [f"text {number}" for number in range(100)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    corpus = make_corpus([tmp_path / "a.txt"], seed=1)
    assert sorted(corpus.texts) == sorted(lines)
    assert list(corpus.texts) != lines
    assert corpus.texts == make_corpus([tmp_path / "a.txt"], seed=1).texts
    assert corpus.texts != make_corpus([tmp_path / "a.txt"], seed=2).texts
    assert corpus.source == str(tmp_path / "a.txt")
    assert corpus.lengths is None


def test_tables_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\ty\none\ttwo\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"x": "three", "y": "four"}))
    assert sorted(make_corpus([tmp_path], ["x"]).texts) == ["one", "three"]


def test_a_sample_of_many_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(map(str, range(1000))))
    corpus = make_corpus([tmp_path / "a.txt"], distinct=10)
    assert len(set(corpus.texts)) == 10


def test_made_texts() -> None:
    corpus = make_corpus(distinct=500)
    assert corpus.texts == make_corpus(distinct=500).texts
    assert len(corpus.texts) == 500
    words = sorted(len(text.split()) for text in corpus.texts)
    assert words[0] >= 1
    assert words[-1] <= 200
    assert 9 <= words[250] <= 15


@pytest.mark.parametrize("tokens", [3, 4, 17, 200])
@pytest.mark.parametrize("given", [True, False])
def test_exactly_so_many_tokens(tokens: int, given: bool, tokenizer: Path, tmp_path: Path) -> None:
    paths = []
    if given:
        paths = [tmp_path / "a.txt"]
        paths[0].write_text("extraordinary people of the world\nzz\nunderstandable\n")
    corpus = make_corpus(paths, tokens=tokens, tokenizer=tokenizer, distinct=50)
    assert lengths(tokenizer, corpus) == [tokens] * 50 == list(corpus.lengths or ())
    assert corpus.describe()["tokens"] == dict.fromkeys(("min", "mean", "p50", "p95", "p99", "max"), tokens)


def test_tokens_are_counted_without_truncation(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the\nof the people\n" + "the " * 50)
    corpus = make_corpus([tmp_path / "a.txt"], tokenizer=tokenizer / "tokenizer.json")
    assert sorted(corpus.lengths or ()) == [3, 5, 52]
    described = corpus.describe()
    assert described["distinct"] == 3
    assert described["tokens"] == {"min": 3, "mean": 20.0, "p50": 5, "p95": 52, "p99": 52, "max": 52}
    assert described["characters"]["max"] == 199


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distinct": 0}, "distinct must be at least 1"),
        ({"tokens": 5}, "needs a tokenizer"),
        ({"columns": ["x"]}, "columns are those of files"),
        ({"paths": ["nowhere.txt"]}, "nowhere.txt"),
        ({"tokenizer": "nowhere"}, "has no tokenizer.json"),
        ({"tokenizer": __file__}, "a folder with tokenizer.json, or that file"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_corpus(**options)


def test_bad_numbers_of_tokens(tokenizer: Path) -> None:
    for tokens, message in ((2, "no room beside 2 special tokens"), (0, "from 1 to"), (1 << 20, "from 1 to")):
        with pytest.raises(InputError, match=message):
            make_corpus(tokens=tokens, tokenizer=tokenizer)


def test_no_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n \n")
    with pytest.raises(InputError, match="no text in it"):
        make_corpus([tmp_path / "a.txt"])
    for texts in ((), ("a", ""), "abc", (1,), ("\ud800",)):
        with pytest.raises(InputError):
            Corpus(texts)  # type: ignore[arg-type]
