"""The embedder against the reference engines on a real sentence encoder, and its independence of batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastcpu
from fastcpu import InputError
from fastcpu.eval.engine import open_engine
from fastcpu.eval.onnx_export import export_encoder
from fastcpu.eval.ort import OrtEngine
from fastcpu.export import write_model
from fastcpu.tasks.embed import Embedder
from tests.reference import graphs

TEXTS = ["A man is playing a guitar.", "rain", "Two dogs run along the beach while the sun goes down. " * 20, "Why?"]


@pytest.fixture(scope="session")
def compiled_minilm(minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("embed") / "minilm"
    fastcpu.compile(minilm_dir, out, quantize="none")
    return out


def test_same_vectors_as_reference_engines(compiled_minilm: Path, minilm_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    vectors = Embedder(open_engine(compiled_minilm, 2, "Model"), max_length=128).embed(TEXTS)
    assert vectors.dtype == np.float32
    export_encoder(minilm_dir, tmp_path / "model.onnx")
    reference = OrtEngine(tmp_path / "model.onnx", minilm_dir, threads=2)
    np.testing.assert_allclose(vectors, Embedder(reference, max_length=128).embed(TEXTS), atol=1e-4)
    np.testing.assert_allclose(
        vectors, Embedder(open_engine(minilm_dir, 2, "Model"), max_length=128).embed(TEXTS), atol=1e-4
    )
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_vectors_do_not_depend_on_the_batch(compiled_minilm: Path) -> None:
    embedder = Embedder(compiled_minilm, threads=2, max_length=64)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    np.testing.assert_array_equal(embedder.embed(TEXTS * 80)[: len(TEXTS)], alone)


def test_inputs_of_any_name(tmp_path: Path) -> None:
    """An imported .onnx file calls its inputs what it likes; token types go where the tokenizer says."""
    tokenizers = pytest.importorskip("tokenizers")
    graph = graphs.encoder(head="embedding")
    names = {"input_ids": "tokens", "attention_mask": "valid", "token_type_ids": "segments"}
    graph.inputs = [replace(graph_input, name=names[graph_input.name]) for graph_input in graph.inputs]
    graph.nodes[0].inputs = [names[name] for name in graph.nodes[0].inputs]
    model = write_model(graph, tmp_path / "model")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "red": 7, "green": 8}, "[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="$A:1", pair="$A:0 $B:1")
    tokenizer.save(str(model / "tokenizer.json"))
    vectors = Embedder(model, threads=1).embed(["red", "green red green"])
    feeds = {"tokens": [[7], [8, 7, 8]], "segments": [[1], [1, 1, 1]]}
    ragged = {name: [np.array(row) for row in rows] for name, rows in feeds.items()}
    expected = fastcpu.Session(model).run(ragged)["sentence_embedding"]
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)


def test_nothing_to_embed(compiled_minilm: Path) -> None:
    with pytest.raises(InputError, match="no text to embed"):
        Embedder(compiled_minilm).embed([])


def test_other_models_are_refused(quire_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    fastcpu.compile(quire_dir / "tagger.onnx", tmp_path / "tagger")
    (tmp_path / "tagger" / "tokenizer.json").write_bytes((quire_dir / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match=r"task embed: .* has the outputs logits .*, not sentence_embedding"):
        Embedder(tmp_path / "tagger")
