"""Words that are remembered: the same tokens as the library gives for the whole text."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu import InputError, _core
from fastcpu.tasks.tokenizer import Tokenizer
from fastcpu.tasks.words import Words, words_of

tokenizers = pytest.importorskip("tokenizers")

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghij"
PIECES = (
    *(" ", "  ", "\t", "\n", "\r", "\x0b", "\x0c", "\x00", "\x01", "\x1c", "\x1f", "\x7f", "\x85", "\xa0", "\u2028"),
    *("\u3000", "\u200b", "\u200d", "\u00ad", "\ufeff", "\ufffd", "\u0301", "\u0327", "\u0345", "e\u0301", "\u1e9e"),
    *("ß", "É", "İ", "Σ", "ς", "中", "文", "한", "\u1112\u1161", "が", "か\u3099", "Å", "\u212b", "ﬁ", "Ⅷ", "٣", "·"),
    *(
        "—",
        "\u2019",
        "😀",
        "👩\u200d💻",
        "\U0001d400",
        "[MASK]",
        "[SEP",
        "]",
        "[mask]",
        "[CLS][SEP]",
        "[",
        "_",
        "-",
        "'",
    ),
    *(".", "...", ",", "!", "$", "+", "^", "`", "|", "~", "ab", "Ab", "abc", "ABC", "xyz", "covid", "Covidien", "#"),
    *("##a", "1", "2024", "a" * 99, "b" * 101, "j" * 33),
)
VOCABULARY = [*SPECIAL, *LETTERS, *(f"##{each}" for each in LETTERS)]
VOCABULARY += ["Ab", "ab", "##abc", "ß", "é", "中", "##\u0301", *".,!_["]


def bert(**options: Any) -> Any:
    """A tokenizer of the BERT kind with a small vocabulary."""
    numbers = {word: index for index, word in enumerate(VOCABULARY)}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(numbers, unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(**options)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.add_special_tokens(list(SPECIAL))
    return made


def texts_of_pieces(rng: np.random.Generator, count: int) -> list[Any]:
    """Texts and pairs of texts of everything that could matter."""
    found: list[Any] = ["", " ", "\u200b", ("", ""), ("", "a"), ("\x00", "[MASK]")]
    for number in range(count):
        text, other = ("".join(rng.choice(PIECES, rng.integers(0, 12))) for _ in range(2))
        found.append((text, other) if number % 3 == 0 else text)
    return found


def check(made: Any, texts: list[Any], most: int | None) -> Words:
    """Compares with the library; once while words are new, and once when they are known."""
    words = words_of(made)
    assert words is not None
    if most is not None:
        made.enable_truncation(most)
    expected = made.encode_batch_fast(texts)
    for _ in range(2):
        for text, one, (ids, types) in zip(texts, expected, words.encode(texts, most), strict=True):
            assert ids.tolist() == one.ids, text
            assert types.tolist() == one.type_ids, text
            assert ids.dtype == types.dtype == np.int64
    return words


@pytest.mark.parametrize("most", [None, 4, 5, 12, 40])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lowercase": False},
        {"lowercase": False, "strip_accents": True},
        {"strip_accents": False},
        {"clean_text": False},
        {"handle_chinese_chars": False},
    ],
    ids=str,
)
def test_same_tokens(options: dict[str, bool], most: int | None, rng: np.random.Generator) -> None:
    check(bert(**options), texts_of_pieces(rng, 500), most)


def test_without_a_normalizer(rng: np.random.Generator) -> None:
    made = bert()
    made.normalizer = None
    check(made, texts_of_pieces(rng, 500), 12)


@pytest.mark.parametrize(
    "processor",
    [
        tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
        tokenizers.processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2)),
        tokenizers.processors.TemplateProcessing(single="$A:1", pair="$A:1 $B", special_tokens=[]),
        tokenizers.processors.TemplateProcessing(single="$A [SEP]", pair="$A $B:1", special_tokens=[("[SEP]", 3)]),
    ],
    ids=["bert", "roberta", "nothing", "at the end"],
)
def test_special_tokens(processor: Any, rng: np.random.Generator) -> None:
    made = bert()
    made.post_processor = processor
    check(made, texts_of_pieces(rng, 300), 12)


@pytest.mark.parametrize(("single", "pair"), [("[CLS]:1 [SEP] $A", "$A $B"), ("$A", "$B $A")])
def test_special_tokens_that_are_not_between_sides(single: str, pair: str) -> None:
    made = bert()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    assert words_of(made) is None


@pytest.mark.parametrize(
    ("token", "options", "local"),
    [
        ("covid", {"normalized": True}, True),
        ("Covid", {"normalized": False}, True),
        ("covid", {"single_word": True}, True),
        ("ab c", {"normalized": True}, False),
        ("ab c", {"normalized": False}, False),
        (" ab", {"normalized": False}, False),
        ("中", {"normalized": True}, False),
        ("[ab]", {"normalized": True, "single_word": True}, True),
        ("b.", {"normalized": False, "lstrip": True, "rstrip": True}, True),
        ("é", {"normalized": True, "lstrip": True, "rstrip": True}, True),
    ],
)
def test_added_tokens(token: str, options: dict[str, bool], local: bool, rng: np.random.Generator) -> None:
    made = bert()
    made.add_tokens([tokenizers.AddedToken(token, **options)])
    if local:
        check(made, [*texts_of_pieces(rng, 400), f"a{token}b", f"{token} {token}", f" {token.upper()}!"], None)
    else:
        assert words_of(made) is None


@pytest.mark.parametrize(
    "options",
    [{"continuing_subword_prefix": "_"}, {"max_input_chars_per_word": 2}, {"unk_token": "a"}],
    ids=str,
)
def test_options_of_the_model(options: dict[str, Any], rng: np.random.Generator) -> None:
    made = bert()
    numbers = {
        word.replace("##", options.get("continuing_subword_prefix", "##")): i for i, word in enumerate(VOCABULARY)
    }
    made.model = tokenizers.models.WordPiece(numbers, **{"unk_token": "[UNK]"} | options)
    check(made, texts_of_pieces(rng, 500), 12)


def test_other_tokenizers_are_left_to_the_library() -> None:
    made = bert()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    assert words_of(made) is None
    made = bert()
    made.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.Replace("a b", "c")])
    assert words_of(made) is None
    made = bert()
    made.model = tokenizers.models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]")
    assert words_of(made) is None
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece({"a": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = bert().post_processor
    assert words_of(made) is None  # it has no token for what is unknown
    made = tokenizers.Tokenizer(bert().model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    assert words_of(made) is None  # without a post-processor the library has segments of its own


def counted(words: Words, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the tokenizer of the library is asked for from now on."""
    asked: list[str] = []

    class Counting:
        def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
            asked.extend(texts)
            return own.encode_batch_fast(texts, **options)

    own = words._tokenizer
    monkeypatch.setattr(words, "_tokenizer", Counting())
    return asked


def test_known_words_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of(bert())
    assert words is not None
    asked = counted(words, monkeypatch)
    for _ in range(2):
        words.encode(["ab é, (cd)", ("[MASK] ab", "É?")], 40)
    assert sorted(asked) == ["[MASK]", "É?", "é,"]


@pytest.mark.parametrize("text", ["ab " + "a" * 65, "ab 中文", "か ab", "ab ภาษา"], ids=ascii)
def test_what_is_left_to_the_library_is_not_learned(text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bert()
    words = words_of(made)
    assert words is not None
    made.enable_truncation(12)
    asked = counted(words, monkeypatch)
    ((ids, _),) = words.encode([text], 12)
    assert ids.tolist() == made.encode_batch_fast([text])[0].ids
    assert asked == [text]
    assert len(words._known) == 0


def test_one_call_learns_a_bounded_number_of_words(monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of(bert())
    assert words is not None
    asked = counted(words, monkeypatch)
    words.encode([" ".join(f"a{number}" for number in range(1000))], None)
    assert len(words._known) == 256 + 16
    assert len(asked) == 1
    words.encode([" ".join(f"é{number}" for number in range(100))], None)
    assert len(words._known) == 256 + 16 + 4 + 1
    assert len(asked) == 1 + 5 + 1


def test_words_that_were_cut_are_not_remembered() -> None:
    made = bert()
    words = words_of(made)
    assert words is not None
    word = "éa-éa-éa-éa-éa"
    for most in (4, 9, 10, 11, 12, 40, 5):
        made.enable_truncation(most)
        for _ in range(2):
            ((ids, _),) = words.encode([word], most)
            assert ids.tolist() == made.encode_batch_fast([word])[0].ids


def test_frames_are_checked() -> None:
    with pytest.raises(InputError, match="special tokens around each"):
        _core.Frame([[1]] * 7, [0] * 13)
    with pytest.raises(InputError, match="a segment for each piece"):
        _core.Frame([[1], [2]], [0])
    one, two = _core.Frame([[1], [2]], [0] * 3), _core.Frame([[1], [2], [3]], [0] * 5)
    with pytest.raises(InputError, match="one text and one for two"):
        _core.WordTable(4).encode(["a"], two, one, None, 1)
    for capacity in (0, 2**24 + 1, 2**63):
        with pytest.raises(InputError, match="capacity"):
            _core.WordTable(capacity)


def test_numbers_that_do_not_fit_are_not_remembered() -> None:
    table = _core.WordTable(4)
    table.put("a", [2**31])
    table.put("b", [-(2**31) - 1])
    table.put("c", [2**31 - 1])
    assert len(table) == 1


def test_memory_is_bounded_and_forgetting_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    made = bert()
    monkeypatch.setattr("fastcpu.tasks.words.MOST_WORDS", 50)
    words = words_of(made)
    assert words is not None
    for count in (10, 49, 50, 51, 90, 200, 3):
        texts = [" ".join("".join(word) for word in rng.choice(list(LETTERS), (count, 7))) for _ in range(3)]
        found = words.encode([*texts, "ab " + "a" * 65], None)
        assert [ids.tolist() for ids, _ in found[:3]] == [each.ids for each in made.encode_batch(texts)]
        assert 0 < len(words._known) <= 50


def test_long_words_take_the_room_of_several() -> None:
    table = _core.WordTable(100)
    for number in range(200):
        table.put(f"{number:064}", [number] * 64)
        assert 0 < len(table) <= 100 * 48 // (2 + 64 + 64 * 4)


def test_of_a_long_text_no_more_is_split_than_counts() -> None:
    made = bert()
    words = words_of(made)
    assert words is not None
    text = " ".join(f"ab{number}" for number in range(2000))
    made.enable_truncation(16)
    ((ids, _),) = words.encode([text], 16)
    assert ids.tolist() == made.encode(text).ids
    assert 0 < len(words._known) <= 16


def test_invisible_words_in_a_long_text() -> None:
    texts = ["\u200b " * 100 + "a b c", ("\x00 " * 100 + "a", "b"), "a \u200b " * 200 + "b"]
    check(bert(), texts, 16)


def test_threads_share_one(rng: np.random.Generator) -> None:
    made = bert()
    words = words_of(made)
    assert words is not None
    texts = [[" ".join("".join(w) for w in rng.choice(list(LETTERS), (300, 6))) for _ in range(5)] for _ in range(24)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda some: words.encode(some, None), texts))
    for some, rows in zip(texts, found, strict=True):
        assert [ids.tolist() for ids, _ in rows] == [each.ids for each in made.encode_batch(some)]


@pytest.mark.parametrize(
    ("texts", "cpus", "library"), [(63, 64, False), (64, 5, True), (64, 4, False), (500, 1, False)]
)
def test_many_texts_on_many_cpus_are_the_librarys(
    texts: int, cpus: int, library: bool, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer(tokenizer_dir)
    assert tokenizer._words is not None
    monkeypatch.setattr(tokenizer, "_cpus", cpus)
    asked = counted(tokenizer._words, monkeypatch)
    given = [("Anna lives in Scotland", "who?"), *["the red house"] * (texts - 1)]
    found = tokenizer.encode(given)
    assert [each.ids.tolist() for each in found] == [each.ids for each in tokenizer._tokenizer.encode_batch(given)]
    assert (len(tokenizer._words._known) == 0) == library
    assert not asked


def test_a_longer_limit_afterwards(minilm_dir: Path) -> None:
    text_model = pytest.importorskip("fastcpu.integrations.text_model")
    word = "ééé-ééé-ééé-ééé-ééé"
    tokenizer = text_model._Tokenizer(minilm_dir)
    tokenizer.resize(8)
    assert len(tokenizer.encode([word])[0].ids) == 8
    tokenizer.resize(128)
    assert len(tokenizer.encode([word])[0].ids) == 16


@pytest.mark.parametrize("most", [4, 7, 8, 9, 10, 11, 64])
def test_pairs_are_cut_at_the_longer_text(most: int) -> None:
    made = bert()
    pairs = [("ab " * first, "é " * second) for first in range(14) for second in range(14)]
    check(made, pairs, most)


def test_long_pairs_are_not_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    made = bert()
    words = words_of(made)
    assert words is not None
    made.enable_truncation(20)
    asked = counted(words, monkeypatch)
    for pair in (("ab cd", "ab, " * 1000), ("ab " * 50, "ab, " * 40), ("ab, " * 40, "ab " * 81)):
        ((ids, _),) = words.encode([pair], 20)
        assert ids.tolist() == made.encode_batch_fast([pair])[0].ids
    assert not asked


@pytest.mark.parametrize("most", [24, 128])
def test_real_texts(minilm_dir: Path, data_dir: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(minilm_dir, most)
    monkeypatch.setattr(tokenizer, "_cpus", 1)
    own = tokenizers.Tokenizer.from_file(str(minilm_dir / "tokenizer.json"))
    own.no_padding()
    own.enable_truncation(most)
    squad = json.loads((data_dir / "squad_v1.1_dev" / "dev-v1.1.json").read_text(encoding="utf-8"))
    passages = [each["context"] for article in squad["data"] for each in article["paragraphs"]]
    texts: list[Any] = []
    for lines in (
        passages[::5],
        (data_dir / "stsb" / "sts-test.csv").read_text(encoding="utf-8").splitlines(),
        (data_dir / "wikitext2" / "test.txt").read_text(encoding="utf-8").splitlines()[:1000],
    ):
        texts += lines
        texts += list(zip(lines[:-1:4], lines[1::4], strict=False))
    for found, expected in zip(tokenizer.encode(texts), own.encode_batch_fast(texts), strict=True):
        assert found.ids.tolist() == expected.ids
        assert found.types.tolist() == expected.type_ids
