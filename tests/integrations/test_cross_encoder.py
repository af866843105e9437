"""CrossEncoder gives what sentence-transformers defines: a torch reference, and the package where installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastcpu
from fastcpu import GraphError, InputError
from fastcpu.integrations.sentence_transformers import CrossEncoder
from tests.integrations import models
from tests.integrations.models import F32

MakeModel = Callable[..., Path]
Pairs = list[tuple[str, str]]


@pytest.fixture
def pairs(rng: np.random.Generator) -> Pairs:
    """The last one is longer than the model."""
    long = " ".join(models.WORDS[:35])
    return [*zip(models.texts(rng, 20, 12), models.texts(rng, 20, 12), strict=True), (long, long)]


@pytest.fixture
def ranker(tiny: MakeModel, tmp_path: Path) -> Callable[..., Path]:
    """Makes a directory of a model with one label, with settings in its config.json."""

    def make(**settings: Any) -> Path:
        folder = shutil.copytree(
            tiny("BertForSequenceClassification", num_labels=1), tmp_path / f"ranker{len(list(tmp_path.iterdir()))}"
        )
        config = json.loads((folder / "config.json").read_text()) | settings
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.mark.parametrize("architecture", ["BertForSequenceClassification", "DistilBertForSequenceClassification"])
@pytest.mark.parametrize("labels", [1, 3])
def test_scores(architecture: str, labels: int, tiny: MakeModel, cache: Path, pairs: Pairs) -> None:
    folder = tiny(architecture, num_labels=labels)
    logits = models.torch_outputs(folder, pairs)[0].logits
    model = CrossEncoder(folder, recipe=F32, cache_dir=cache, threads=2)
    assert model.num_labels == labels
    found = model.predict(pairs, batch_size=4)
    expected = logits[:, 0].sigmoid() if labels == 1 else logits
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=2e-4)
    softmax = model.predict(pairs, apply_softmax=True)
    np.testing.assert_allclose(softmax, expected if labels == 1 else logits.softmax(dim=1), rtol=0, atol=2e-4)
    assert model.predict([]).shape == ((0,) if labels == 1 else (0, 3))


def test_kinds_of_results(ranker: MakeModel, cache: Path, pairs: Pairs) -> None:
    model = CrossEncoder(ranker(), cache_dir=cache)
    expected = model.predict(pairs)
    assert (expected.dtype, expected.shape) == (np.float32, (len(pairs),))
    np.testing.assert_array_equal(np.stack([model.predict(pair) for pair in pairs]), expected)
    assert model.predict(list(pairs[0])) == expected[0]
    tensor = model.predict(pairs, convert_to_tensor=True)
    assert torch.equal(tensor, torch.from_numpy(expected))
    listed = model.predict(pairs, convert_to_numpy=False)
    assert [row.item() for row in listed] == expected.tolist()


def test_activations(ranker: MakeModel, cache: Path, pairs: Pairs) -> None:
    logits = CrossEncoder(ranker(), cache_dir=cache, activation_fn=lambda scores: scores).predict(pairs)
    assert np.abs(logits).max() > 1
    identity = "torch.nn.modules.linear.Identity"
    named = ranker(sentence_transformers={"activation_fn": identity})
    old = ranker(sbert_ce_default_activation_function=identity)
    new = ranker()
    (new / "config_sentence_transformers.json").write_text(json.dumps({"activation_fn": identity}))
    for folder in (named, old, new):
        np.testing.assert_array_equal(CrossEncoder(folder, cache_dir=cache).predict(pairs), logits)
    model = CrossEncoder(named, cache_dir=cache)
    found = model.predict(pairs, activation_fn=torch.nn.Tanh())
    np.testing.assert_allclose(found, np.tanh(logits), atol=1e-6)
    sigmoid = CrossEncoder(ranker(), cache_dir=cache).predict(pairs)
    np.testing.assert_allclose(sigmoid, torch.from_numpy(logits).sigmoid(), atol=1e-6)
    with pytest.raises(InputError, match=r"activation torch\.nn\.GELU is not supported; Identity, Sigmoid are"):
        CrossEncoder(ranker(sbert_ce_default_activation_function="torch.nn.GELU"), cache_dir=cache)


def test_rank(ranker: MakeModel, tiny: MakeModel, cache: Path, pairs: Pairs) -> None:
    model = CrossEncoder(ranker(), cache_dir=cache)
    documents = [second for _, second in pairs]
    scores = model.predict([("word1 word2", document) for document in documents])
    ranked = model.rank("word1 word2", documents, return_documents=True)
    assert [each["corpus_id"] for each in ranked] == np.argsort(-scores, kind="stable").tolist()
    assert [each["score"] for each in ranked] == sorted(scores.tolist(), reverse=True)
    assert all(each["text"] == documents[each["corpus_id"]] for each in ranked)
    assert model.rank("word1 word2", documents, top_k=2) == [
        {"corpus_id": each["corpus_id"], "score": each["score"]} for each in ranked[:2]
    ]
    with pytest.raises(InputError, match="ranking needs a model with one label, not 3"):
        CrossEncoder(tiny("BertForSequenceClassification"), cache_dir=cache).rank("word1", documents)


def test_length_and_saving(ranker: MakeModel, cache: Path, tmp_path: Path) -> None:
    model = CrossEncoder(ranker(), cache_dir=cache, max_length=9)
    cut = ("word1 word2 word3", "word4 word5 word6")  # with three special tokens, nine
    longer = ("word1 word2 word3 word9", "word4 word5 word6 word7 word8")
    assert model.predict(longer) == model.predict(cut)
    model.save_pretrained(tmp_path / "saved")
    again = CrossEncoder(tmp_path / "saved")
    assert again.max_seq_length == 9
    assert again.predict(longer) == model.predict(cut)


@pytest.mark.parametrize("sentences", [[("a",)], [("a", "b"), ("a", 3)], ["a", "b", "c"], "a", [("a", "b", "c")]])
def test_what_is_no_pair(sentences: Any, ranker: MakeModel, cache: Path) -> None:
    with pytest.raises(InputError, match=r"pair \d is not two strings"):
        CrossEncoder(ranker(), cache_dir=cache).predict(sentences)


def test_other_models_are_refused(ranker: MakeModel, tiny: MakeModel, cache: Path, tmp_path: Path) -> None:
    compiled = fastcpu.compile(tiny("BertForQuestionAnswering"), tmp_path / "qa").directory
    with pytest.raises(InputError, match="not a model for sequence classification: its outputs are start_logits"):
        CrossEncoder(compiled)
    folder = ranker()
    modules = [{"type": f"x.{kind}", "path": path} for kind, path in (("Transformer", ""), ("Dense", "1_Dense"))]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(GraphError, match="Transformer, Dense: of a cross encoder, only a Transformer is supported"):
        CrossEncoder(folder, cache_dir=cache)


def test_needs_no_torch(ranker: MakeModel, cache: Path) -> None:
    model = CrossEncoder(ranker(), cache_dir=cache)
    code = """
import sys
for name in ("torch", "transformers", "sentence_transformers", "onnx"):
    sys.modules[name] = None
from fastcpu.integrations.sentence_transformers import CrossEncoder
model = CrossEncoder(sys.argv[1])
print(model.predict(("word1", "word2")), model.predict(("word1", "word2"), activation_fn=abs))
"""
    done = subprocess.run([sys.executable, "-c", code, str(model.path)], capture_output=True, text=True, check=True)
    expected = [model.predict(("word1", "word2")), model.predict(("word1", "word2"), activation_fn=abs)]
    assert done.stdout.split() == [str(score) for score in expected]


def test_against_the_package(ranker: MakeModel, cache: Path, pairs: Pairs, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    if transformers.__version__.startswith("4."):
        pytest.skip("current sentence-transformers needs transformers 5")
    peer = pytest.importorskip("sentence_transformers")
    theirs = peer.CrossEncoder(str(ranker()), device="cpu", local_files_only=True)
    ours = CrossEncoder(ranker(), recipe=F32, cache_dir=cache)
    for options in ({}, {"activation_fn": torch.nn.Identity()}, {"convert_to_tensor": True}):
        found, expected = ours.predict(pairs, **options), theirs.predict(pairs, **options)
        assert type(found) is type(expected)
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=2e-4)
    documents = [second for _, second in pairs]
    ranked, wanted = (model.rank("word1", documents, top_k=5, return_documents=True) for model in (ours, theirs))
    assert [each["text"] for each in ranked] == [each["text"] for each in wanted]
    theirs.save_pretrained(str(tmp_path / "written"))
    assert (tmp_path / "written" / "modules.json").is_file()
    reopened = CrossEncoder(tmp_path / "written", recipe=F32, cache_dir=cache)
    np.testing.assert_allclose(reopened.predict(pairs), theirs.predict(pairs), rtol=0, atol=2e-4)
