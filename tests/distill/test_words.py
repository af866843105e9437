"""Training the rows of tokens that occur gives what training the whole word embedding gives."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastcpu.distill.corpus import Corpus
from fastcpu.recipe import Distill, Recipe

torch = pytest.importorskip("torch")

from fastcpu.distill import trainer, words  # noqa: E402  (needs torch)
from fastcpu.distill.model import make_student  # noqa: E402
from fastcpu.distill.teacher import NoTeacher  # noqa: E402
from tests.frontend import tiny  # noqa: E402

OCCUR = np.array([0, 7, 9, 30, 31], np.int32)
PLAIN = Distill(losses={"labels": 1.0}, batch=6)


@pytest.fixture
def corpus(tmp_path: Path, rng: np.random.Generator) -> Corpus:
    """24 labelled sequences of few different tokens."""
    np.save(tmp_path / "ids.npy", rng.choice(OCCUR[1:], 24 * 5).astype(np.int32))
    np.save(tmp_path / "offsets.npy", np.arange(0, 24 * 5 + 1, 5, dtype=np.int64))
    np.save(tmp_path / "labels.npy", rng.integers(0, 3, 24))
    return Corpus(tmp_path)


def trained(corpus: Corpus, folder: Path, config: Distill) -> dict[str, torch.Tensor]:
    student = make_student(tiny.model("BertForSequenceClassification"), None)
    folder.mkdir()
    trainer.Trainer(student, None, corpus, NoTeacher(), Recipe("test", "test", distill=config), 8, 0, folder).run(
        lambda _: None
    )
    assert "forward" not in vars(student.get_input_embeddings())
    return dict(student.named_parameters())


def test_it_is_the_whole_embedding_but_for_rows_that_do_not_occur(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(PLAIN, weight_decay=0.1, average=0.5, clip=1e9)
    mine = trained(corpus, tmp_path / "rows", config)
    monkeypatch.setattr(trainer, "train_rows", lambda *_: None)
    whole = trained(corpus, tmp_path / "whole", config)
    was = tiny.model("BertForSequenceClassification").get_input_embeddings().weight
    embedding = next(name for name in mine if "word_embeddings" in name)
    others = np.setdiff1d(np.arange(len(was)), OCCUR)
    assert torch.equal(mine[embedding][others], was[others])
    assert not torch.equal(mine[embedding][OCCUR[1:]], was[OCCUR[1:]])
    for name in mine:
        rows = OCCUR if name == embedding else slice(None)
        torch.testing.assert_close(mine[name][rows], whole[name][rows], rtol=1e-5, atol=1e-6, msg=name)


def test_the_checkpoint_holds_the_rows_alone(corpus: Corpus, tmp_path: Path) -> None:
    from safetensors import safe_open

    trained(corpus, tmp_path / "rows", PLAIN)
    with safe_open(tmp_path / "rows" / "checkpoint.safetensors", "np") as stored:
        name = next(each for each in stored.keys() if "weight/" in each and "word_embeddings" in each)  # noqa: SIM118
        assert stored.get_slice(name).get_shape()[0] == len(OCCUR)


def test_an_embedding_that_is_frozen_or_shared_stays_whole() -> None:
    frozen = copy.deepcopy(tiny.model("BertModel"))
    frozen.get_input_embeddings().weight.requires_grad_(False)
    assert words.train_rows(frozen, OCCUR) is None
    assert words.train_rows(copy.deepcopy(tiny.model("BertForMaskedLM")), OCCUR) is None
    assert words.train_rows(copy.deepcopy(tiny.model("BertModel")), OCCUR) is not None


def test_padding_learns_nothing_whatever_its_number() -> None:
    module = copy.deepcopy(tiny.model("RobertaModel"))
    layer = module.get_input_embeddings()
    found = words.train_rows(module, OCCUR)
    assert found is not None
    assert layer.padding_idx in found.tokens
    ids = torch.tensor([[7, 9, layer.padding_idx, 0]])
    torch.testing.assert_close(layer(ids), layer.weight[ids])
    layer(ids).sum().backward()
    learned = found.tokens[found.rows.grad.abs().sum(dim=1) > 0].tolist()
    assert learned == [0, 7, 9]
