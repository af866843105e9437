"""Models of fastcpu.integrations.transformers answer as torch does, and as the runtime does to the last bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers

import fastcpu
from fastcpu import FileFormatError, InputError, OutputError
from fastcpu.integrations import transformers as dropin
from tests.frontend.tiny import export
from tests.integrations import models
from tests.integrations.models import F32

MakeModel = Callable[..., Path]

HEADS = {
    "Model": dropin.AutoModel,
    "ForSequenceClassification": dropin.AutoModelForSequenceClassification,
    "ForTokenClassification": dropin.AutoModelForTokenClassification,
    "ForQuestionAnswering": dropin.AutoModelForQuestionAnswering,
}
CASES = [(family, head) for family in ("Bert", "DistilBert") for head in HEADS]


def batch(rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Padded texts as a tokenizer gives them."""
    inputs = models.tokenizer()(models.texts(rng, 5), padding=True, return_tensors="pt")
    return {name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids")}


@pytest.mark.parametrize(("family", "head"), CASES)
def test_answers_are_those_of_torch(
    family: str, head: str, tiny: MakeModel, cache: Path, rng: np.random.Generator
) -> None:
    folder = tiny(family + head)
    inputs = batch(rng)
    if family == "DistilBert":
        del inputs["token_type_ids"]
    reference = getattr(transformers, family + head).from_pretrained(folder).eval()
    with torch.no_grad():
        expected = reference(**inputs)
    model = HEADS[head].from_pretrained(folder, recipe=F32, cache_dir=cache, threads=2)
    assert type(model).__name__ == family + head
    found = model(**inputs)
    if head != "Model":  # classes differ in whether they have a pooler
        assert type(found) is type(expected)
    real = inputs["attention_mask"].bool()
    for name in model.head.outputs:
        assert found[name].dtype == torch.float32
        assert found[name].shape == expected[name].shape
        if found[name].shape[:2] == real.shape:
            assert set(found[name][~real].unique().tolist()) <= {0.0 if name == "last_hidden_state" else -1e4}
            torch.testing.assert_close(found[name][real], expected[name][real], rtol=0, atol=2e-4)
        else:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=2e-4)


def test_answers_are_those_of_the_runtime(tiny: MakeModel, cache: Path, rng: np.random.Generator) -> None:
    model = dropin.AutoModelForTokenClassification.from_pretrained(tiny("BertForTokenClassification"), cache_dir=cache)
    inputs = {name: tensor.numpy() for name, tensor in batch(rng).items()}
    expected = fastcpu.Session(model.name_or_path).run(inputs)["logits"]
    for found in (
        model(**inputs).logits,
        model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits.numpy(),
        model(**inputs, return_dict=False)[0],
    ):
        np.testing.assert_array_equal(found, expected)
    assert isinstance(model(**inputs).logits, np.ndarray)
    positional = model(inputs["input_ids"], inputs["attention_mask"], inputs["token_type_ids"])
    np.testing.assert_array_equal(positional.logits, expected)


def test_without_a_mask_there_is_no_padding(tiny: MakeModel, cache: Path) -> None:
    model = dropin.AutoModel.from_pretrained(tiny("DistilBertModel"), cache_dir=cache)
    ids = np.array([[2, 9, 8, 3]])
    masked = model(ids, np.ones_like(ids), np.zeros_like(ids))  # token types of 0 are those that it does not have
    np.testing.assert_array_equal(model(ids).last_hidden_state, masked.last_hidden_state)
    with pytest.raises(InputError, match="takes no token_type_ids"):
        model(ids, token_type_ids=np.ones_like(ids))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "input_ids are missing"),
        ({"input_ids": [[2, 3]]}, "input_ids must be a tensor of torch or an array of NumPy, not list"),
        ({"input_ids": np.array([[2, 3]]), "labels": np.array([1])}, "not labels"),
        ({"input_ids": np.array([[2, 3]]), "output_attentions": True}, "not output_attentions"),
        ({"input_ids": np.array([[2.0, 3.0]])}, "dtype float64"),
        ({"input_ids": np.array([[2, 999]])}, "999"),
        ({"input_ids": np.zeros((1, 41), int)}, "41"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str, tiny: MakeModel, cache: Path) -> None:
    model = dropin.AutoModel.from_pretrained(tiny("BertModel"), cache_dir=cache)
    with pytest.raises(InputError, match=message):
        model(**arguments)
    assert model(np.array([[2, 3]]), output_hidden_states=False, position_ids=None).last_hidden_state.shape == (
        1,
        2,
        32,
    )


def test_what_pipelines_ask_for(tiny: MakeModel, cache: Path) -> None:
    model = dropin.AutoModel.from_pretrained(tiny("BertModel"), cache_dir=cache)
    assert (model.device, model.dtype, model.can_generate()) == (torch.device("cpu"), torch.float32, False)
    assert model.eval() is model
    assert model.to("cpu") is model
    assert model.to(torch.device("cpu"), dtype=torch.float32) is model
    assert model.config.model_type == model.base_model_prefix == "bert"
    for wanted in ("cuda:0", torch.device("meta"), torch.float16):
        with pytest.raises(InputError, match="fastcpu runs on CPUs"):
            model.to(wanted)
    with pytest.raises(InputError, match=r"use AutoModel\.from_pretrained"):
        dropin.AutoModel()


# ---- heads ----


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "DistilBertForSequenceClassification"])
def test_bare_model_of_weights_with_a_head(
    architecture: str, tiny: MakeModel, cache: Path, rng: np.random.Generator
) -> None:
    folder = tiny(architecture)
    inputs = batch(rng)
    bare = transformers.AutoModel.from_pretrained(folder).eval()
    if bare.config.model_type == "distilbert":
        del inputs["token_type_ids"]
    with torch.no_grad():
        expected = bare(**inputs).last_hidden_state
    found = dropin.AutoModel.from_pretrained(folder, recipe=F32, cache_dir=cache)(**inputs).last_hidden_state
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[real], expected[real], rtol=0, atol=2e-4)


def test_pooler_of_an_onnx_file(tiny: MakeModel, tmp_path: Path, rng: np.random.Generator) -> None:
    """A file of onnx may have it; a directory of transformers gives hidden states alone."""

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = transformers.BertModel.from_pretrained(tiny("BertModel"), attn_implementation="eager")

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.model(input_ids=ids, attention_mask=mask, return_dict=False)

    names, outputs = ("input_ids", "attention_mask"), ("last_hidden_state", "pooler_output")
    onnx.save(export(Pooled(), names, outputs), str(tmp_path / "model.onnx"))
    shutil.copyfile(tiny("BertModel") / "config.json", tmp_path / "config.json")
    model = dropin.AutoModel.from_pretrained(fastcpu.compile(tmp_path / "model.onnx", tmp_path / "out"))
    inputs = batch(rng)
    del inputs["token_type_ids"]
    found = model(**inputs)
    assert type(found).__name__ == "BaseModelOutputWithPooling"
    with torch.no_grad():
        expected = Pooled().eval().model(**inputs).pooler_output
    torch.testing.assert_close(found.pooler_output, expected, rtol=0, atol=2e-4)


def test_weights_without_the_head_are_refused(tiny: MakeModel, cache: Path) -> None:
    with pytest.raises(InputError, match=r"not trained for token classification: .* also has classifier\.bias"):
        dropin.AutoModelForTokenClassification.from_pretrained(tiny("BertModel"), cache_dir=cache)
    assert not list(cache.glob("*.partial"))


def test_compiled_model_of_another_kind_is_refused(tiny: MakeModel, tmp_path: Path) -> None:
    for architecture, other, message in (
        ("BertForQuestionAnswering", dropin.AutoModelForSequenceClassification, "a BertForQuestionAnswering, and not"),
        ("BertModel", dropin.AutoModelForMaskedLM, "a BertModel, and not a model for filling masks"),
        ("BertForSequenceClassification", dropin.AutoModel, r"not a model for hidden states: .* logits \[batch, 3\]"),
    ):
        compiled = fastcpu.compile(tiny(architecture), tmp_path / architecture)
        with pytest.raises(InputError, match=message):
            other.from_pretrained(compiled.directory)


def test_unknown_model_type(tiny: MakeModel, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("BertModel"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "nonsense"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="no model for hidden states of type 'nonsense'"):
        dropin.AutoModel.from_pretrained(folder, cache_dir=tmp_path)
    (folder / "config.json").write_text("[]")
    with pytest.raises(FileFormatError, match=r"config\.json: not a JSON object"):
        dropin.AutoModel.from_pretrained(folder, cache_dir=tmp_path)


# ---- saving ----


def test_saved_model_opens_everywhere(tiny: MakeModel, cache: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    auto = dropin.AutoModelForSequenceClassification
    model = auto.from_pretrained(tiny("BertForSequenceClassification"), cache_dir=cache)
    inputs = batch(rng)
    expected = model(**inputs).logits
    model.config.id2label = {0: "a", 1: "b", 2: "c"}
    out = tmp_path / "saved"
    for _ in range(2):  # the second time it replaces the first
        model.save_pretrained(out)
    again = auto.from_pretrained(out)
    assert Path(again.name_or_path) == out
    assert torch.equal(again(**inputs).logits, expected)
    found = fastcpu.Session(out).run({name: tensor.numpy() for name, tensor in inputs.items()})
    np.testing.assert_array_equal(found["logits"], expected.numpy())
    assert transformers.AutoConfig.from_pretrained(out).id2label[1] == "b"
    assert transformers.AutoTokenizer.from_pretrained(out)("word3 word4")["input_ids"] == [2, 8, 9, 3]
    model.save_pretrained(model.name_or_path)  # over itself
    assert torch.equal(model(**inputs).logits, expected)


def test_saving_leaves_other_files_alone(tiny: MakeModel, cache: Path, tmp_path: Path) -> None:
    model = dropin.AutoModel.from_pretrained(tiny("BertModel"), cache_dir=cache)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not a fastcpu model"):
        model.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="safe_serialization"):
        model.save_pretrained(tmp_path / "out", safe_serialization=False)
