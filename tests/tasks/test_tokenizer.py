"""Tokens, where they come from, and windows over long texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastcpu import FileFormatError, InputError
from fastcpu.tasks.tokenizer import Tokenizer, length_limit, windows
from tests.tasks.models import WORDS


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


def test_tokens_are_cut_and_not_padded(tokenizer_dir: Path) -> None:
    import tokenizers

    own = tokenizers.Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    own.enable_padding(length=20)
    own.enable_truncation(20)
    own.save(str(tokenizer_dir / "tokenizer.json"))
    tokenizer = Tokenizer(tokenizer_dir)
    assert tokenizer.max_length == 24
    short, long = tokenizer.encode(["red", "blue " * 40])
    assert short.ids.tolist() == ids("[CLS] red [SEP]")
    assert len(long.ids) == 24
    assert long.ids[-1] == WORDS.index("[SEP]")
    (pair,) = Tokenizer(tokenizer_dir, 7).encode([("red green", "blue small large car")])
    assert pair.ids.tolist() == ids("[CLS] red green [SEP] blue small [SEP]")
    assert pair.types.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_tokens_know_where_they_come_from(tokenizer_dir: Path) -> None:
    tokenizer = Tokenizer(tokenizer_dir, 5, truncate=False)
    (pair,) = tokenizer.locate([("who works?", "Paul,  in Scotland")])
    assert pair.ids.tolist() == ids("[CLS] who works ? [SEP] Paul , in Scot ##land [SEP]")
    assert pair.parts.tolist() == [-1, 0, 0, 0, -1, 1, 1, 1, 1, 1, -1]
    assert pair.words.tolist() == [-1, 0, 1, 2, -1, 0, 1, 2, 3, 3, -1]
    second = pair.parts == 1
    assert ["Paul,  in Scotland"[a:b] for a, b in pair.offsets[second]] == ["Paul", ",", "in", "Scot", "land"]
    words = tokenizer.locate_words(["Scotland", "is", "small."])
    assert words.ids.tolist() == ids("[CLS] Scot ##land is small . [SEP]")
    assert words.words.tolist() == [-1, 0, 0, 1, 2, 2, -1]


@pytest.mark.parametrize("count", [1, 9, 10, 11, 16, 17, 18, 29, 60])
@pytest.mark.parametrize("stride", [0, 3, 9])
def test_windows_cover_a_text(count: int, stride: int, tokenizer_dir: Path, rng: np.random.Generator) -> None:
    text = " ".join(rng.choice(["red", "green", "blue"], count))
    (whole,) = Tokenizer(tokenizer_dir, truncate=False).locate([("who lives", text)])
    cut = windows(whole, 1, 15, stride, "input 0")  # 5 other tokens: room for 10
    own = whole.ids[whole.parts == 1]
    assert [window.tokens.ids[:4].tolist() for window in cut] == [ids("[CLS] who lives [SEP]")] * len(cut)
    assert {int(window.tokens.ids[-1]) for window in cut} == {WORDS.index("[SEP]")}
    assert max(len(window.tokens.ids) for window in cut) <= 15
    end = stride
    for window in cut:
        inside = window.tokens.ids[window.tokens.parts == 1]
        assert window.first == end - stride
        np.testing.assert_array_equal(inside, own[window.first : window.first + len(inside)])
        assert len(inside) > stride or len(cut) == 1
        end = window.first + len(inside)
    assert end == count


def test_whole_texts_of_a_tokenizer_that_cuts(tokenizer_dir: Path) -> None:
    texts = ["", "red", "Anna lives in Scotland. " * 3, "red " * 100, "[SEP] " * 50]
    found = Tokenizer(tokenizer_dir, 12).locate_whole(texts)
    for each, expected in zip(found, Tokenizer(tokenizer_dir, truncate=False).locate(texts), strict=True):
        for name in ("ids", "types", "parts", "words", "offsets"):
            np.testing.assert_array_equal(getattr(each, name), getattr(expected, name), name)
    with pytest.raises(InputError, match="half a character"):
        Tokenizer(tokenizer_dir).locate_whole(["\ud800"])


def test_windows_without_room(tokenizer_dir: Path) -> None:
    (whole,) = Tokenizer(tokenizer_dir, truncate=False).locate([("who lives", "red " * 30)])
    with pytest.raises(
        InputError, match="input 7: windows of 9 tokens have no room beside 5 other tokens and a stride"
    ):
        windows(whole, 1, 9, 4, "input 7")


@pytest.mark.parametrize(
    ("model_type", "limit"), [("roberta", 512), ("xlm-roberta", 512), ("mpnet", 512), ("bert", 514)]
)
def test_positions_behind_padding_are_no_length(model_type: str, limit: int, tmp_path: Path) -> None:
    config = {"model_type": model_type, "max_position_embeddings": 514, "pad_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert length_limit(tmp_path) == limit


def test_half_a_character_is_a_typed_error(tokenizer_dir: Path) -> None:
    tokenizer = Tokenizer(tokenizer_dir)
    with pytest.raises(InputError, match=r"text 8: '\\ud800' at character 4 is half a character"):
        tokenizer.encode(["red", "red \ud800"], first=7)
    with pytest.raises(InputError, match=r"text 0: '\\udfff' at character 0"):
        tokenizer.locate([("red", "\udfff")])
    with pytest.raises(InputError, match=r"word 1: '\\ud800'"):
        tokenizer.locate_words(["red", "\ud800"])


def test_length_limit_is_the_smallest_named(tmp_path: Path) -> None:
    assert length_limit(tmp_path) == 512
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 300}')
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    assert length_limit(tmp_path) == 256
    for content in ("[]", "{"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(FileFormatError, match=r"config.json: not a JSON object"):
            length_limit(tmp_path)


def test_errors(tokenizer_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no tokenizer.json"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FileFormatError, match=r"tokenizer.json"):
        Tokenizer(tmp_path)
    with pytest.raises(InputError, match="max_length 2 leaves no room"):
        Tokenizer(tokenizer_dir, 2)
    with pytest.raises(InputError, match="max_length 3 leaves no room beside 3 special tokens of a pair"):
        Tokenizer(tokenizer_dir, 3).encode([("red", "blue")])
    tokenizer = Tokenizer(tokenizer_dir)
    with pytest.raises(InputError, match="not one string"):
        tokenizer.encode("red")
    with pytest.raises(InputError, match="text 6 is of type int"):
        tokenizer.encode(["red", 3], first=5)  # type: ignore[list-item]
    with pytest.raises(InputError, match="stride must not be negative: -1"):
        tokenizer.stride(-1)
