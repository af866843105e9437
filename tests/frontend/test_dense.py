"""Dense modules of sentence-transformers, behind the pooling: what they compute, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastcpu
from fastcpu import FileFormatError, GraphError
from fastcpu.frontend.sentence_transformers import add_dense, read_pooling
from fastcpu.graph.ir import EMBEDDING

torch = pytest.importorskip("torch")

import tokenizers  # noqa: E402
from safetensors.torch import save_file as save_tensors  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from tokenizers.pre_tokenizers import Whitespace  # noqa: E402

from fastcpu.compression.training import save_student  # noqa: E402
from fastcpu.distill.corpus import Batch  # noqa: E402
from fastcpu.distill.losses import LOSSES, Outputs  # noqa: E402
from fastcpu.distill.model import open_directory, outputs  # noqa: E402
from fastcpu.eval import torch_engine  # noqa: E402
from fastcpu.eval.onnx_export import export_encoder  # noqa: E402
from fastcpu.tasks import Embedder  # noqa: E402
from tests.frontend import tiny  # noqa: E402

TANH, IDENTITY = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"


def encoder(path: Path, dense: tuple[dict[str, Any], ...] = ({},), after: tuple[str, ...] = ("Normalize",)) -> Path:
    """A tiny encoder with a Dense module from 32 channels for each of ``dense``, its configuration."""
    modules = ("Transformer", "Pooling", *["Dense"] * len(dense), *after)
    tiny.sentence_transformer(path, {"pooling_mode": "mean"}, modules, "BertModel")
    for number, changes in enumerate(dense, 2):
        folder = path / f"{number}_Dense"
        folder.mkdir()
        config = {"in_features": 32, "out_features": 32, "bias": True, "activation_function": TANH} | changes
        (folder / "config.json").write_text(json.dumps(config))
        rng = np.random.default_rng(number)
        shape = config["out_features"], config["in_features"]
        tensors = {"linear.weight": rng.normal(size=shape).astype(np.float32)}
        if config["bias"]:
            tensors["linear.bias"] = rng.normal(size=shape[0]).astype(np.float32)
        save_file(tensors, folder / "model.safetensors")
    return path


def pooled(path: Path, answer: tiny.Feeds, mask: np.ndarray) -> np.ndarray:
    """What sentence-transformers makes of hidden states, by NumPy."""
    real = mask[..., None]
    x = (answer["last_hidden_state"] * real).sum(axis=1) / real.sum(axis=1)
    found = read_pooling(path)
    assert found is not None
    for dense in found[0].dense:
        x = x @ dense.weight.T + dense.bias
        x = np.tanh(x) if dense.activation == "tanh" else x
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "dense",
    [
        ({},),
        ({"bias": False, "activation_function": IDENTITY},),
        ({"out_features": 12}, {"in_features": 12, "out_features": 20, "activation_function": IDENTITY}),
    ],
)
@pytest.mark.parametrize("quantize", ["none", "dynamic"])
def test_the_embedding_goes_through_it(
    tmp_path: Path, rng: np.random.Generator, dense: tuple[dict[str, Any], ...], quantize: str
) -> None:
    path = encoder(tmp_path / "model", dense)
    compiled = fastcpu.compile(path, tmp_path / "out", quantize=quantize)
    feeds = tiny.feeds(rng, holes=False)
    answer = fastcpu.Session(compiled.directory).run(feeds)
    want = pooled(path, answer, feeds["attention_mask"])
    np.testing.assert_allclose(answer[EMBEDDING], want, atol=1e-5)  # in f32 behind the pooling in both cases
    if quantize == "dynamic":
        kept = compiled.report["kept_f32"]
        assert list(kept.values()) == ["behind the pooling of a sentence encoder"] * len(dense)


def test_hidden_states_of_others_go_through_it(tmp_path: Path, rng: np.random.Generator) -> None:
    """Where the model gives hidden states alone, as in torch, the task does what follows them."""
    path = encoder(tmp_path)
    tokenizer = tokenizers.Tokenizer(WordLevel({"[UNK]": 1, "a": 5, "b": 6}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    by_torch = Embedder(torch_engine.open_directory(path, "Model")).embed(["a b a", "b"])
    ours = Embedder(fastcpu.compile(path, tmp_path / "out").directory).embed(["a b a", "b"])
    np.testing.assert_allclose(ours, by_torch, atol=1e-5)


def test_peers_get_it_too(tmp_path: Path, rng: np.random.Generator) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = encoder(tmp_path / "model")
    export_encoder(path, tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    feeds = tiny.feeds(rng, holes=False)
    hidden, vectors = session.run(["last_hidden_state", EMBEDDING], feeds)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    want = pooled(path, {"last_hidden_state": hidden}, feeds["attention_mask"])
    np.testing.assert_allclose(vectors, want, atol=1e-5)


def test_an_old_file_of_weights(tmp_path: Path) -> None:
    path = encoder(tmp_path)
    folder = path / "2_Dense"
    before = read_pooling(path)
    assert before is not None
    (dense,) = before[0].dense
    torch.save(
        {"linear.weight": torch.from_numpy(dense.weight), "linear.bias": torch.from_numpy(dense.bias)},
        folder / "pytorch_model.bin",
    )
    (folder / "model.safetensors").unlink()
    after = read_pooling(path)
    assert after is not None
    np.testing.assert_array_equal(after[0].dense[0].weight, dense.weight)
    np.testing.assert_array_equal(after[0].dense[0].bias, dense.bias)


def test_weights_in_bf16(tmp_path: Path) -> None:
    path = encoder(tmp_path, ({"bias": False},))
    weight = torch.randn(32, 32).bfloat16()
    save_tensors({"linear.weight": weight}, path / "2_Dense" / "model.safetensors")
    found = read_pooling(path)
    assert found is not None
    np.testing.assert_array_equal(found[0].dense[0].weight, weight.float().numpy())


@pytest.mark.parametrize("name", ["embedding", "similarity", "neighbors"])
def test_students_learn_behind_it_in_f32(tmp_path: Path, name: str) -> None:
    """Also where autocast would have linears in bf16."""
    module, pooling = open_directory(encoder(tmp_path))
    ids = torch.arange(5, 25).reshape(4, 5)
    mask = torch.ones_like(ids, dtype=torch.bool)
    want = outputs(module, pooling, Batch(ids, mask), {"embedding"}).embedding
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs(module, pooling, Batch(ids, mask), {"embedding"})
    assert found.embedding is not None
    assert found.embedding.dtype == torch.float32
    torch.testing.assert_close(found.embedding, want, atol=0.05, rtol=0)
    others = torch.nn.functional.normalize(torch.randn(7, 32), dim=-1)
    target = Outputs(mask, want.detach(), others=others, places=torch.full((4,), -1))
    LOSSES[name].value(found, target).backward()


def test_a_student_keeps_it_whatever_its_folder_is_called(tmp_path: Path) -> None:
    source = encoder(tmp_path / "of_Dense")
    (source / "2_Dense").rename(source / "behind")
    listed = (source / "modules.json").read_text().replace("2_Dense", "behind")
    (source / "modules.json").write_text(listed)
    module, _ = open_directory(source)
    save_student(source, module, tmp_path / "student")
    before, after = read_pooling(source), read_pooling(tmp_path / "student")
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(after[0].dense[0].weight, before[0].dense[0].weight)


@pytest.mark.parametrize("after", [(), ("Normalize",)])
def test_one_is_added(tmp_path: Path, rng: np.random.Generator, after: tuple[str, ...]) -> None:
    path = encoder(tmp_path, ({},), after)
    weight = rng.normal(size=(32, 32)).astype(np.float32)
    add_dense(path, weight)
    found = read_pooling(path)
    assert found is not None
    assert found[0].normalize == bool(after)
    assert [dense.activation for dense in found[0].dense] == ["tanh", "none"]
    np.testing.assert_array_equal(found[0].dense[1].weight, weight)
    listed = json.loads((path / "modules.json").read_text())
    assert [module["idx"] for module in listed] == list(range(len(listed)))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"activation_function": "torch.nn.modules.activation.GELU"},
            GraphError,
            r"activation .*GELU is not supported",
        ),
        ({"activation_function": "mine.Identity"}, GraphError, r"activation mine\.Identity is not supported"),
        ({"use_residual": True}, GraphError, "use_residual is not supported"),
        ({"module_input_name": "token_embeddings"}, GraphError, "module_input_name is not supported"),
        ({"in_features": "many"}, FileFormatError, "not the configuration of a Dense module"),
        ({"in_features": 32.5}, FileFormatError, "not the configuration of a Dense module"),
        ({"out_features": 31}, GraphError, "its weights are .*31"),
        ({"bias": False}, GraphError, "its weights are .*linear.bias"),
    ],
)
def test_a_configuration_that_does_not_fit(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    path = encoder(tmp_path / "model")
    file = path / "2_Dense" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(error, match=message):
        fastcpu.compile(path, tmp_path / "out")


@pytest.mark.parametrize("folder", ["../elsewhere/2_Dense", "/2_Dense", 5])
def test_a_folder_outside_of_the_model(tmp_path: Path, folder: str | int) -> None:
    path = encoder(tmp_path / "model")
    listed = json.loads((path / "modules.json").read_text())
    listed[2]["path"] = folder
    (path / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(FileFormatError, match="of a module is not one in this directory"):
        fastcpu.compile(path, tmp_path / "out")


def test_weights_that_cannot_be_used(tmp_path: Path) -> None:
    path = encoder(tmp_path / "model", ({"in_features": 16},))
    with pytest.raises(GraphError, match="2_Dense takes 16 channels, but gets 32"):
        fastcpu.compile(path, tmp_path / "out")
    file = path / "2_Dense" / "model.safetensors"
    nan = np.full((32, 16), np.nan, np.float32)
    save_file({"linear.weight": nan, "linear.bias": np.zeros(32, np.float32)}, file)
    with pytest.raises(GraphError, match=r"linear\.weight.* contains NaN"):
        fastcpu.compile(path, tmp_path / "out")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="the weights cannot be loaded"):
        fastcpu.compile(path, tmp_path / "out")
    file.unlink()
    with pytest.raises(FileFormatError, match=r"no model\.safetensors and no pytorch_model\.bin"):
        fastcpu.compile(path, tmp_path / "out")
