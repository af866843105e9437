"""fastcpu.compile: what it writes, what it accepts as calibration data, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from fastcpu import InputError, QuantizationError, recipe
from fastcpu.quantize import SCHEMES
from fastcpu.quantize.smoothing import ALPHAS

pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")

from tests.frontend import tiny  # noqa: E402  (needs torch)

WORDS = [f"w{i}" for i in range(tiny.VOCABULARY - 4)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT classifier as transformers writes it, with a word tokenizer."""
    path = tmp_path_factory.mktemp("source") / "bert"
    tiny.model("BertForSequenceClassification").save_pretrained(path)
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 30))) for _ in range(60)]


def batches(texts: list[str], source: Path) -> list[dict[str, Any]]:
    tokenizer = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    rows = [np.array([tokenizer.encode(text).ids]) for text in texts]
    return [{"input_ids": row, "attention_mask": np.ones_like(row)} for row in rows]


def answers(path: Path, feeds: dict[str, Any]) -> np.ndarray:
    return fastcpu.Session(path).run(feeds)["logits"]


def test_texts_a_file_of_texts_and_batches_are_the_same_calibration(
    source: Path, texts: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    made = [
        fastcpu.compile(source, tmp_path / f"m{i}", quantize="static", calibration=calibration)
        for i, calibration in enumerate((texts, file, str(file), batches(texts, source)))
    ]
    assert {compiled.report["options"]["calibration_sequences"] for compiled in made} == {60}
    weights = {(compiled.directory / "graph.json").read_bytes() for compiled in made}
    assert len(weights) == 1


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize("sparsity", [None, 0.75])
def test_an_int8_model_is_close_to_its_f32_form(
    source: Path, texts: list[str], scheme: Any, sparsity: float | None, tmp_path: Path
) -> None:
    feeds = {"input_ids": [batch["input_ids"][0] for batch in batches(texts, source)]}
    reference = answers(fastcpu.compile(source, tmp_path / "f32", sparsity=sparsity).directory, feeds)
    compiled = fastcpu.compile(
        source,
        tmp_path / "int8",
        quantize=scheme,
        sparsity=sparsity,
        calibration=texts if scheme == "static" else None,
    )
    got = answers(compiled.directory, feeds)
    assert np.sum(got * reference) / np.linalg.norm(got) / np.linalg.norm(reference) > 0.99
    rows = {row["name"]: row for row in compiled.report["layers"]}
    assert len(rows) == 14
    assert {row["storage"] for row in rows.values()} == {"s8"}
    for name, row in rows.items():
        inside = sparsity is not None and ".layer." in name
        assert row["pruned"] == inside, name
        assert row["encoding"] == ("block" if inside else "dense"), name
        assert 0 < row["weight_error"] < 1e-3, name
        if inside:
            assert row["zero_blocks"] >= 0.75


def test_the_report_says_what_was_done(source: Path, texts: list[str], tmp_path: Path) -> None:
    compiled = fastcpu.compile(
        source,
        tmp_path / "m",
        quantize="static",
        calibration=texts,
        observer="percentile",
        sparsity=0.5,
        ignore=["*.layer.1.*", "classifier"],
    )
    report = json.loads((compiled.directory / "report.json").read_text(encoding="utf-8"))
    assert report == compiled.report
    assert report["options"]["observer"] == "percentile"
    assert report["options"]["ignore"] == ["*.layer.1.*", "classifier"]
    assert len(report["kept_f32"]) == 7
    stored = {row["name"]: row["storage"] for row in report["layers"]}
    assert {name for name, storage in stored.items() if storage == "f32"} == set(report["kept_f32"])
    for chosen in report["ranges"].values():
        assert chosen["low"] <= 0 <= chosen["high"]
    assert report["versions"]["numpy"] == np.__version__
    assert (compiled.directory / "tokenizer.json").is_file()


@pytest.mark.parametrize("smooth", [0.5, "auto"])
def test_the_report_says_how_it_was_smoothed(source: Path, texts: list[str], smooth: Any, tmp_path: Path) -> None:
    report = fastcpu.compile(source, tmp_path / "m", quantize="static", calibration=texts, smooth=smooth).report
    if smooth == "auto":
        errors = {row["alpha"]: row["error"] for row in report["smooth"]["errors"]}
        assert set(errors) == {None, *ALPHAS}
        assert report["smooth"]["alpha"] == min(errors, key=errors.__getitem__)
    else:
        assert report["smooth"] == {"alpha": 0.5}
    assert all(0 < row["weight_error"] < 1e-3 for row in report["layers"])
    plain = fastcpu.compile(source, tmp_path / "plain", quantize="static", calibration=texts)
    assert "smooth" not in plain.report
    assert "smooth" not in (plain.directory / "graph.json").read_text(encoding="utf-8")


def test_a_recipe_smooths(texts: list[str]) -> None:
    made = []
    for smooth in ({}, {"smooth": 1}, {"smooth": "auto"}):
        content = {"description": "", "quantize": {"calibration": 9, **smooth}}
        options = recipe.compile_options(recipe.parse(content, "mine", "mine.toml"), lambda count: texts[:count], 128)
        made.append(options.get("smooth", "off"))
    assert made == ["off", 1.0, "auto"]


def test_q_k_and_v_are_one_linear(source: Path, texts: list[str], tmp_path: Path) -> None:
    path = fastcpu.compile(source, tmp_path / "m", quantize="static", calibration=texts).directory
    nodes = json.loads((path / "graph.json").read_text(encoding="utf-8"))["nodes"]
    assert sum(node["op"] == "linear" for node in nodes) == 14 - 2 * 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"quantize": "int4"}, InputError, "none, dynamic, static"),
        ({"quantize": "static"}, QuantizationError, "texts, a text file or batches of inputs"),
        ({"quantize": "static", "calibration": []}, InputError, "empty"),
        ({"quantize": "static", "calibration": [1]}, InputError, "all texts and pairs .tuples. of texts, or all dicts"),
        ({"quantize": "static", "calibration": [{"ids": [[1]]}]}, InputError, "no input is named 'ids'"),
        ({"quantize": "static", "calibration": "/nowhere.txt"}, InputError, "/nowhere.txt"),
        ({"quantize": "static", "calibration": ["w1"], "observer": "best"}, QuantizationError, "no observer 'best'"),
        ({"quantize": "dynamic", "calibration": ["w1"]}, InputError, "only used with quantize='static'"),
        ({"quantize": "dynamic", "only": ["nothing"]}, QuantizationError, "no linear to quantize"),
        ({"sparsity": 1.5}, InputError, "from 0 to 1"),
        ({"sparsity": 0.5, "pattern": "2:4"}, InputError, "no pruning pattern '2:4'"),
        ({"pattern": "2:4"}, InputError, "no pruning pattern '2:4'"),
        ({"pattern": "4x1"}, InputError, "a pattern is only used with sparsity"),
        ({"observer": "best"}, QuantizationError, "no observer 'best'"),
        ({"observer": "mse"}, InputError, "an observer is only used with quantize='static', not 'none'"),
        ({"quantize": "dynamic", "observer": "mse"}, InputError, "an observer is only used with quantize='static'"),
        ({"quantize": "dynamic", "max_length": 64}, InputError, "max_length is only used with quantize='static'"),
        ({"smooth": 0.5}, InputError, "smooth is only used with quantize='static', not 'none'"),
        ({"quantize": "dynamic", "smooth": "auto"}, InputError, "smooth is only used with quantize='static'"),
        (
            {"quantize": "static", "calibration": ["w1"], "smooth": 1.5},
            InputError,
            "smooth must be from 0 to 1, not 1.5",
        ),
        ({"quantize": "static", "calibration": ["w1"], "smooth": float("nan")}, InputError, "from 0 to 1, not nan"),
        ({"quantize": "static", "calibration": ["w1"], "smooth": "best"}, InputError, "a number or 'auto', not 'best'"),
        ({"quantize": "static", "calibration": ["w1"], "smooth": True}, InputError, "a number or 'auto', not True"),
        (
            {"quantize": "static", "calibration": ["w1"], "smooth": 0.5, "only": ["classifier"]},
            QuantizationError,
            "nothing to smooth",
        ),
        ({"only": ["*"]}, InputError, "only and ignore choose what to prune or quantize, but neither"),
        ({"ignore": ["*"]}, InputError, "only and ignore choose what to prune or quantize, but neither"),
        ({"sparsity": 0.5, "ignore": "*pooler"}, InputError, "ignore must be a list of globs, not the string"),
        ({"max_length": 0}, InputError, "max_length must be at least 1, not 0"),
        ({"threads": -1}, InputError, "threads must not be negative, but is -1"),
        ({"quantize": "static", "calibration": 3}, InputError, "a file, texts or batches, not int"),
        ({"quantize": "static", "calibration": [{}]}, InputError, "calibration batch 0 has no inputs"),
        (
            {"quantize": "static", "calibration": [{"input_ids": [[2, 3]]}, {"input_ids": [[2], [2, 3]]}]},
            InputError,
            r"calibration batch 1, 'input_ids': not an array \[batch, sequence\]: ",
        ),
        ({"quantize": "static", "calibration": [{"input_ids": [2, 3]}]}, InputError, r"not one of shape \[2\]"),
        ({"quantize": "static", "calibration": [{"input_ids": 2}]}, InputError, r"not one of shape \[\]"),
        (
            {"quantize": "static", "calibration": [{"input_ids": [["2"]], "attention_mask": [[1]]}]},
            InputError,
            "input_ids",
        ),
        (
            {"quantize": "static", "calibration": [{"input_ids": [[2, 3]], "attention_mask": [[1, 1], [1, 1]]}]},
            InputError,
            "attention_mask",
        ),
    ],
)
def test_what_it_cannot_do_is_a_typed_error_and_leaves_nothing(
    source: Path, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        fastcpu.compile(source, tmp_path / "m", **options)
    assert list(tmp_path.iterdir()) == []


def test_texts_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        fastcpu.compile(tiny.model("BertModel"), tmp_path / "m", quantize="static", calibration=["w1"])


def test_calibration_ids_outside_the_vocabulary_are_refused(source: Path, tmp_path: Path) -> None:
    bad = [{"input_ids": np.array([[2, 500, 3]]), "attention_mask": np.ones((1, 3), np.int64)}]
    with pytest.raises(InputError, match="token id 500"):
        fastcpu.compile(source, tmp_path / "m", quantize="static", calibration=bad)
