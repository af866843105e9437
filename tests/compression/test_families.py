"""Every family can be a teacher and give a student some of its layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from fastcpu.compression import compress
from fastcpu.compression.run import make_plan
from fastcpu.errors import InputError
from fastcpu.export.reader import read_graph
from tests.compression.conftest import WORDS

torch = pytest.importorskip("torch")

from fastcpu.distill.model import make_student  # noqa: E402  (needs torch)
from fastcpu.frontend.families import FAMILIES, Family, split  # noqa: E402
from fastcpu.recipe import Student  # noqa: E402
from tests.frontend import tiny  # noqa: E402

WITH_LAYERS = [family for family in FAMILIES if family.layers]

RECIPE = """
description = "for tests"
[student]
layers = 1
[prune]
sparsity = 0.5
{how}
[distill]
batch = 8
steps = 4
learning_rate = 1e-3
max_length = 24
[quantize]
scheme = "dynamic"
"""


@pytest.fixture(
    params=[f"{family.name}{ending}" for family in WITH_LAYERS for ending in ("Model", "ForSequenceClassification")]
)
def model_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tiny model with a tokenizer: a sentence encoder, or a classifier."""
    import tokenizers
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    path = tmp_path / "model"
    path.mkdir()
    if request.param.endswith("Model"):
        tiny.sentence_transformer(path, {"pooling_mode": "mean"}, ("Transformer", "Pooling"), request.param)
    else:
        tiny.model(request.param).save_pretrained(path)
    vocabulary = {word: index for index, word in enumerate(["[CLS]", "[PAD]", "[UNK]", *WORDS])}
    tokenizer = tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    return path


@pytest.mark.parametrize("how", ["interval = 1", "reconstruct = 20"])
def test_a_student_is_trained_pruned_and_exported(how: str, model_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(how=how))
    compiled = compress(model_dir, tmp_path / "out", recipe=recipe, data=[texts_file], threads=1, timing=False)
    graph = read_graph(compiled.directory)
    assert sum(node.op == "attention" for node in graph.nodes) == 1
    blocks = [layer for layer in compiled.report["layers"] if layer["encoding"] == "block"]
    assert len(blocks) == 6, "the linears of the layer, and no other"
    losses = {"embedding", "similarity"} if (model_dir / "modules.json").is_file() else {"logits", "hidden"}
    assert set(make_plan(model_dir, recipe=recipe, data=[texts_file]).recipe.distill.losses) == losses  # type: ignore[union-attr]
    answer = fastcpu.Session(compiled).run({"input_ids": [np.array([3, 4, 5]), np.array([6])]})
    assert all(np.isfinite(array).all() for array in answer.values())


@pytest.mark.parametrize("select", ["first", "last", "spread"])
@pytest.mark.parametrize("family", WITH_LAYERS, ids=lambda family: family.name)
def test_layers_of_the_teacher_that_a_student_starts_with(family: Family, select: Any) -> None:
    teacher = tiny.model(f"{family.name}ForTokenClassification")
    student = make_student(teacher, Student(layers=1, select=select))
    kept, ending = {"first": 0, "last": 1, "spread": 1}[select], split(type(student).__name__)
    assert ending is not None
    mine, theirs = (family.base(module, ending[1]).get_submodule(family.layers) for module in (student, teacher))
    assert len(mine) == 1
    assert getattr(student.config, family.depth) == 1
    for name, parameter in mine[0].named_parameters():
        assert torch.equal(parameter, theirs[kept].get_parameter(name)), name


def test_layers_that_share_weights() -> None:
    with pytest.raises(InputError, match="the layers of Albert share their weights"):
        make_student(tiny.model("AlbertModel"), Student(layers=1))
    assert make_student(tiny.model("AlbertModel"), None) is not tiny.model("AlbertModel")
