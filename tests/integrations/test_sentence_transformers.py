"""SentenceTransformer gives what sentence-transformers defines: a torch reference, and the package where installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import fastcpu
from fastcpu import FileFormatError, GraphError, InputError, OutputError
from fastcpu.export.reader import read_graph
from fastcpu.export.writer import write_model
from fastcpu.frontend.sentence_transformers import add_dense
from fastcpu.graph.passes import remove_dead
from fastcpu.graph.trace import Trace
from fastcpu.integrations.sentence_transformers import SentenceTransformer
from tests.frontend.tiny import export
from tests.integrations import models
from tests.integrations.models import F32

MakeModel = Callable[..., Path]


@pytest.fixture
def encoder(tiny: MakeModel, tmp_path: Path) -> Callable[..., Path]:
    """Makes a directory of sentence-transformers."""

    def make(architecture: str = "BertModel", **options: Any) -> Path:
        folder = shutil.copytree(tiny(architecture), tmp_path / f"encoder{len(list(tmp_path.iterdir()))}")
        return models.as_sentence_transformer(folder, **options)

    return make


@pytest.mark.parametrize("architecture", ["BertModel", "DistilBertModel"])
@pytest.mark.parametrize(("mode", "normalize"), [("mean", True), ("cls", False), ("max", False)])
def test_embeddings(
    architecture: str, mode: str, normalize: bool, encoder: MakeModel, cache: Path, rng: np.random.Generator
) -> None:
    folder = encoder(architecture, mode=mode, normalize=normalize)
    sentences = [*models.texts(rng, 37), "one of words unknown", " ".join(models.WORDS)]  # the last one is cut
    model = SentenceTransformer(folder, recipe=F32, cache_dir=cache, threads=2)
    found = model.encode(sentences, batch_size=8)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, models.pooled(folder, sentences, mode, normalize), rtol=0, atol=2e-4)
    assert model.get_sentence_embedding_dimension() == model.get_embedding_dimension() == 32
    assert model.max_seq_length == models.LENGTH


def test_vectors_do_not_depend_on_the_batch(encoder: MakeModel, cache: Path, rng: np.random.Generator) -> None:
    model = SentenceTransformer(encoder(), cache_dir=cache)
    sentences = models.texts(rng, 30)
    alone = np.stack([model.encode(sentence) for sentence in sentences])
    session = fastcpu.Session(model.path)
    ids = [np.array(model.tokenizer(sentence)["input_ids"]) for sentence in sentences]
    expected = session.run({"input_ids": ids})["sentence_embedding"]
    for batch_size in (1, 7, 64):
        np.testing.assert_array_equal(model.encode(sentences, batch_size=batch_size), expected)
    np.testing.assert_array_equal(alone, expected)


def test_plain_transformers_get_the_mean(tiny: MakeModel, cache: Path, rng: np.random.Generator) -> None:
    sentences = models.texts(rng, 9)
    bare = models.pooled(tiny("BertModel"), sentences, normalize=False)
    found = SentenceTransformer(tiny("BertModel"), recipe=F32, cache_dir=cache).encode(sentences)
    np.testing.assert_allclose(found, bare, rtol=0, atol=2e-4)
    with_head = SentenceTransformer(tiny("BertForSequenceClassification"), recipe=F32, cache_dir=cache)
    assert with_head.encode(sentences).shape == (9, 32)


def test_compiled_models_of_other_origin(
    tiny: MakeModel, encoder: MakeModel, cache: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Hidden states alone get the mean; an encoder from a file of onnx has no modules.json."""
    sentences = models.texts(rng, 9)
    bare = SentenceTransformer(fastcpu.compile(tiny("BertModel"), tmp_path / "bare").directory)
    expected = models.pooled(tiny("BertModel"), sentences, normalize=False)
    np.testing.assert_allclose(bare.encode(sentences), expected, rtol=0, atol=2e-4)
    assert bare.get_sentence_embedding_dimension() == 32
    graph = read_graph(fastcpu.compile(encoder(), tmp_path / "encoder"))
    graph.outputs = [output for output in graph.outputs if output.name == "sentence_embedding"]
    remove_dead.run(graph, Trace())
    alone = write_model(graph, tmp_path / "alone")
    shutil.copyfile(tiny("BertModel") / "tokenizer.json", alone / "tokenizer.json")
    vectors = SentenceTransformer(alone).encode(sentences, prompt="")
    np.testing.assert_allclose(vectors, models.pooled(tiny("BertModel"), sentences), rtol=0, atol=2e-4)
    with pytest.raises(InputError, match="does not give the embeddings of tokens"):
        SentenceTransformer(alone).encode(sentences, output_value="token_embeddings")


def test_transformer_in_a_folder_of_its_own(encoder: MakeModel, cache: Path, rng: np.random.Generator) -> None:
    folder = encoder(mode="max", normalize=False)
    sentences = models.texts(rng, 5)
    expected = models.pooled(folder, sentences, "max", normalize=False)
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in folder.iterdir():
        if path.is_file() and path.name != "modules.json":
            path.rename(inner / path.name)
    (inner / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 11}))
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    model = SentenceTransformer(folder, recipe=F32, cache_dir=cache)
    assert model.max_seq_length == 11
    model.max_seq_length = 40
    np.testing.assert_allclose(model.encode(sentences), expected, rtol=0, atol=2e-4)


# ---- options ----


@pytest.mark.parametrize("apart", [False, True])
def test_a_dense_module_behind_the_pooling(
    apart: bool, encoder: MakeModel, cache: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Also where the transformer has a folder of its own, and in a model that was saved."""
    folder = encoder()
    sentences = models.texts(rng, 12)
    before = models.pooled(folder, sentences, "mean", True)
    weight = rng.normal(size=(32, 32)).astype(np.float32)
    add_dense(folder, weight)
    if apart:
        inner = folder / "0_Transformer"
        inner.mkdir()
        for name in ("config.json", "model.safetensors"):
            shutil.move(folder / name, inner)
        modules = json.loads((folder / "modules.json").read_text())
        modules[0]["path"] = inner.name
        (folder / "modules.json").write_text(json.dumps(modules))
    model = SentenceTransformer(folder, recipe=F32, cache_dir=cache)
    want = before @ weight.T
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode(sentences), want, rtol=0, atol=5e-4)
    model.save_pretrained(tmp_path / "saved")
    again = SentenceTransformer(tmp_path / "saved").encode(sentences)
    np.testing.assert_array_equal(again, model.encode(sentences))


def test_kinds_of_results(encoder: MakeModel, cache: Path, rng: np.random.Generator) -> None:
    model = SentenceTransformer(encoder(normalize=False), cache_dir=cache)
    sentences = models.texts(rng, 4)
    expected = model.encode(sentences)
    tensor = model.encode(sentences, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    listed = model.encode(sentences, convert_to_numpy=False)
    assert isinstance(listed, list)
    assert all(torch.equal(row, torch.from_numpy(wanted)) for row, wanted in zip(listed, expected, strict=True))
    assert model.encode(sentences[0]).shape == (32,)
    assert model.encode(sentences[0], convert_to_tensor=True).shape == (32,)
    assert model.encode([]).shape == (0, 32)
    norms = np.linalg.norm(model.encode(sentences, normalize_embeddings=True), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-6)
    short = model.encode(sentences, truncate_dim=8, normalize_embeddings=True)
    np.testing.assert_allclose(
        short, expected[:, :8] / np.linalg.norm(expected[:, :8], axis=1, keepdims=True), atol=1e-6
    )
    assert SentenceTransformer(model.path, truncate_dim=8).get_sentence_embedding_dimension() == 8


def test_token_embeddings(encoder: MakeModel, cache: Path) -> None:
    model = SentenceTransformer(encoder(normalize=False), recipe=F32, cache_dir=cache)
    rows = model.encode(["word1 word2 word3", "word4"], output_value="token_embeddings")
    assert [row.shape for row in rows] == [(5, 32), (3, 32)]
    np.testing.assert_allclose(rows[1].mean(axis=0), model.encode("word4"), atol=1e-5)
    (tensor,) = model.encode(["word4"], output_value="token_embeddings", convert_to_tensor=True)
    np.testing.assert_array_equal(tensor.numpy(), rows[1])


def test_prompts(encoder: MakeModel, cache: Path) -> None:
    settings = {"prompts": {"query": "word7 ", "document": None}, "similarity_fn_name": "dot"}
    folder = encoder(files={"config_sentence_transformers.json": settings})
    model = SentenceTransformer(folder, cache_dir=cache, prompts={"own": "word8 "})
    assert model.similarity_fn_name == "dot"
    plain, query = model.encode("word1"), model.encode("word7 word1")
    assert not np.array_equal(plain, query)
    for found in (
        model.encode("word1", prompt_name="query"),
        model.encode("word1", prompt="word7 "),
        model.encode_query("word1"),
        SentenceTransformer(folder, cache_dir=cache, default_prompt_name="query").encode("word1"),
    ):
        np.testing.assert_array_equal(found, query)
    np.testing.assert_array_equal(model.encode_document("word1"), plain)
    np.testing.assert_array_equal(model.encode("word1", prompt_name="own"), model.encode("word8 word1"))
    with pytest.raises(InputError, match="no prompt 'nonsense'; there are document, own, query"):
        model.encode("word1", prompt_name="nonsense")
    with pytest.raises(InputError, match="no prompt 'nonsense'"):
        SentenceTransformer(folder, cache_dir=cache, default_prompt_name="nonsense")


def test_settings_that_are_not_as_they_should_be(encoder: MakeModel, cache: Path) -> None:
    for settings, message in (({"prompts": ["query"]}, "prompts must be texts by name"), ([], "not a JSON object")):
        folder = encoder(files={"config_sentence_transformers.json": settings})
        with pytest.raises(FileFormatError, match=rf"config_sentence_transformers\.json: {message}"):
            SentenceTransformer(folder, cache_dir=cache)


def test_prompts_that_are_not_pooled_are_refused(encoder: MakeModel, cache: Path) -> None:
    pooling = {"pooling_mode": "mean", "include_prompt": False}
    model = SentenceTransformer(encoder(files={"1_Pooling/config.json": pooling}), cache_dir=cache)
    assert model.encode("word1").shape == (32,)
    with pytest.raises(InputError, match="prompts are not supported where the pooling leaves them out"):
        model.encode("word1", prompt="word2 ")


def test_length_and_case(encoder: MakeModel, cache: Path) -> None:
    folder = encoder(files={"sentence_bert_config.json": {"max_seq_length": 6, "do_lower_case": True}})
    model = SentenceTransformer(folder, cache_dir=cache)
    assert model.max_seq_length == model.tokenizer.model_max_length == 6
    long = " ".join(models.WORDS[:30])
    np.testing.assert_array_equal(model.encode(long), model.encode(" ".join(models.WORDS[:4])))
    np.testing.assert_array_equal(model.encode("WORD3"), model.encode("word3"))
    model.max_seq_length = 20
    np.testing.assert_array_equal(model.encode(long), model.encode(" ".join(models.WORDS[:18])))
    model.max_seq_length = 60
    with pytest.raises(InputError, match="40"):
        model.encode(long * 2)
    with pytest.raises(InputError, match="max_seq_length 3 leaves no room"):
        model.max_seq_length = 3


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity(name: str, encoder: MakeModel, cache: Path, rng: np.random.Generator) -> None:
    model = SentenceTransformer(encoder(normalize=False), cache_dir=cache, similarity_fn_name=name)
    a, b = (torch.from_numpy(model.encode(models.texts(rng, count))) for count in (3, 3))
    expected = {
        "cosine": torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1),
        "dot": a @ b.T,
        "euclidean": -torch.cdist(a, b),
        "manhattan": -torch.cdist(a, b, p=1),
    }[name]
    found = model.similarity(a, b)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.similarity_pairwise(a, b), expected.diagonal(), rtol=1e-4, atol=1e-5)
    arrays = model.similarity(a.numpy(), [row.numpy() for row in b])
    assert isinstance(arrays, np.ndarray)
    np.testing.assert_allclose(arrays, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert model.similarity(a[0].numpy(), b.numpy()).shape == (1, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.encode(["a", 3]), "sentence 1 is of type int"),
        (lambda model: model.encode("a", precision="int8"), "as float32, not as int8"),
        (lambda model: model.encode("a", output_value="nonsense"), "output_value must be one of"),
        (lambda model: model.encode("a", batch_size=0), "batch_size must be at least 1"),
        (lambda model: model.encode("a \ud800"), "half of a surrogate pair"),
        (lambda model: model.encode("a", truncate_dim=0), "truncate_dim must be at least 1"),
        (lambda model: SentenceTransformer(model.path, truncate_dim=-1), "truncate_dim must be at least 1"),
        (lambda model: setattr(model, "max_seq_length", None), "max_seq_length None leaves no room"),
        (lambda model: model.encode("a", device="cuda"), "not on cuda"),
        (lambda model: model.similarity_pairwise(np.ones((2, 3)), np.ones((3, 3))), "two arrays of one shape"),
        (lambda model: model.similarity(np.ones((2, 3, 4)), np.ones(3)), r"not \[2, 3, 4\]"),
        (lambda model: setattr(model, "similarity_fn_name", "nonsense"), "no similarity 'nonsense'"),
        (lambda model: SentenceTransformer(model.path, device="cuda"), "not on cuda"),
    ],
)
def test_bad_input(call: Callable[[Any], Any], message: str, encoder: MakeModel, cache: Path) -> None:
    model = SentenceTransformer(encoder(), cache_dir=cache)
    with pytest.raises(InputError, match=message):
        call(model)


def test_other_models_are_refused(tiny: MakeModel, encoder: MakeModel, cache: Path, tmp_path: Path) -> None:
    compiled = fastcpu.compile(tiny("BertForQuestionAnswering"), tmp_path / "qa").directory
    with pytest.raises(InputError, match="no sentence encoder: its outputs are start_logits, end_logits"):
        SentenceTransformer(compiled)
    folder = encoder()
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.LayerNorm"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(GraphError, match="Transformer, Pooling, LayerNorm"):
        SentenceTransformer(folder, cache_dir=cache)


def test_progress_bar(encoder: MakeModel, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = SentenceTransformer(encoder(), cache_dir=cache)
    model.encode(["word1"] * 5, batch_size=2)
    assert capsys.readouterr().err == ""
    model.encode(["word1"] * 5, batch_size=2, show_progress_bar=True)
    assert "3/3" in capsys.readouterr().err


# ---- files ----


def test_saved_model_opens_again(encoder: MakeModel, cache: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(encoder(), cache_dir=cache, prompts={"query": "word7 "})
    model.max_seq_length = 9
    model.default_prompt_name = "query"
    model.similarity_fn_name = "manhattan"
    out = tmp_path / "saved"
    for _ in range(2):
        model.save_pretrained(out)
    again = SentenceTransformer(out)
    assert (again.max_seq_length, again.similarity_fn_name, again.prompts) == (9, "manhattan", {"query": "word7 "})
    long = " ".join(models.WORDS)
    np.testing.assert_array_equal(again.encode(long), model.encode(long))
    assert again.tokenizer.model_max_length == 9
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not a fastcpu model"):
        model.save_pretrained(tmp_path / "other")


def test_needs_neither_torch_nor_sentence_transformers(encoder: MakeModel, cache: Path) -> None:
    model = SentenceTransformer(encoder(), cache_dir=cache)
    code = """
import sys
for name in ("torch", "transformers", "sentence_transformers", "onnx", "huggingface_hub", "tqdm"):
    sys.modules[name] = None
from fastcpu import InputError
from fastcpu.integrations.sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1])
vectors = model.encode(["word1 word2", "word3"])
print(*vectors.ravel().tolist(), *model.similarity(vectors, vectors).ravel().tolist())
for call in (lambda: model.encode("a", convert_to_tensor=True), lambda: model.tokenizer,
             lambda: model.encode("a", show_progress_bar=True), lambda: SentenceTransformer(sys.argv[2])):
    try:
        call()
    except InputError as error:
        print(error, file=sys.stderr)
"""
    command = [sys.executable, "-c", code, str(model.path), str(encoder())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    vectors = model.encode(["word1 word2", "word3"])
    np.testing.assert_array_equal(np.array(done.stdout.split()[:64], np.float32), vectors.ravel())
    packages = [line.split("'")[1] for line in done.stderr.splitlines()]
    assert packages == ["torch", "transformers", "tqdm", "torch"]


# ---- the package itself, and real data ----


def test_against_the_package(encoder: MakeModel, cache: Path, rng: np.random.Generator) -> None:
    transformers = pytest.importorskip("transformers")
    if transformers.__version__.startswith("4."):
        pytest.skip("current sentence-transformers needs transformers 5")
    peer = pytest.importorskip("sentence_transformers")
    prompts = {"prompts": {"query": "word7 "}, "default_prompt_name": "query", "similarity_fn_name": "euclidean"}
    files = {"config_sentence_transformers.json": prompts, "sentence_bert_config.json": {"max_seq_length": 12}}
    folder = encoder(mode="mean", normalize=False, files=files)
    theirs = peer.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    ours = SentenceTransformer(folder, recipe=F32, cache_dir=cache)
    sentences = models.texts(rng, 40)
    for options in (
        {},
        {"prompt_name": "query", "normalize_embeddings": True},
        {"prompt": "", "truncate_dim": 16},
        {"convert_to_tensor": True},
    ):
        found, expected = ours.encode(sentences, **options), theirs.encode(sentences, **options)
        assert type(found) is type(expected)
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=2e-4)
    a, b = theirs.encode(sentences[:5], convert_to_tensor=True), theirs.encode(sentences[5:], convert_to_tensor=True)
    torch.testing.assert_close(ours.similarity(a, b), theirs.similarity(a, b), rtol=1e-4, atol=1e-4)
    assert ours.max_seq_length == theirs.max_seq_length
    assert ours.get_sentence_embedding_dimension() == theirs.get_embedding_dimension()
    theirs.save_pretrained(str(folder.parent / "written-by-the-package"))
    reopened = SentenceTransformer(folder.parent / "written-by-the-package", recipe=F32, cache_dir=cache)
    np.testing.assert_allclose(reopened.encode(sentences), theirs.encode(sentences), rtol=0, atol=2e-4)


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_onnx_of_the_package(mode: str, encoder: MakeModel, tmp_path: Path, rng: np.random.Generator) -> None:
    """Its modules, exported by torch, compile to the same embeddings."""
    peer = pytest.importorskip("sentence_transformers")
    folder = encoder("DistilBertModel", mode=mode)

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = peer.SentenceTransformer(str(folder), device="cpu", local_files_only=True)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
            embedding: torch.Tensor = self.model(inputs)["sentence_embedding"]
            return embedding

    onnx.save(export(Exported(), ("input_ids", "attention_mask"), ("sentence_embedding",)), tmp_path / "model.onnx")
    session = fastcpu.Session(fastcpu.compile(tmp_path / "model.onnx", tmp_path / "compiled"), threads=1)
    sentences = models.texts(rng, 12)
    ids = [np.array(row) for row in models.tokenizer()(sentences)["input_ids"]]
    found = session.run({"input_ids": ids})["sentence_embedding"]
    np.testing.assert_allclose(found, models.pooled(folder, sentences, mode), rtol=0, atol=1e-4)


def test_real_sentences(minilm_dir: Path, data_dir: Path, cache: Path) -> None:
    """500 sentences of STS-B through all-MiniLM-L6-v2: the runtime's bits, and close to fp32 in torch."""
    lines = (data_dir / "stsb" / "sts-dev.csv").read_text(encoding="utf-8").split("\n")[:250]
    sentences = [sentence.strip() for line in lines for sentence in line.split("\t")[5:7]]
    model = SentenceTransformer(minilm_dir, cache_dir=cache, threads=2)
    vectors = model.encode(sentences)
    assert (model.max_seq_length, vectors.shape) == (256, (500, 384))
    session = fastcpu.Session(model.path, threads=1)
    tokens = model.tokenizer(sentences)["input_ids"]
    order = np.random.default_rng(0).permutation(500)
    expected = session.run({"input_ids": [np.array(tokens[place]) for place in order]})["sentence_embedding"]
    np.testing.assert_array_equal(vectors[order], expected)
    reference = models.pooled(minilm_dir, sentences[:64])
    assert (vectors[:64] * reference).sum(axis=1).min() > 0.98
