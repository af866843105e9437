"""What every recipe that comes with fastcpu does: it is read, and makes a model that runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastcpu
from fastcpu import recipe
from fastcpu.cli.main import main
from fastcpu.compression import compress
from fastcpu.distill.losses import learns_labels
from fastcpu.export.reader import read_graph
from fastcpu.recipe import Recipe
from tests.tasks import models

EVERY = pytest.mark.parametrize("name", recipe.names())
BUNDLED = {path.stem for path in recipe.FOLDER.iterdir()}


def of_labels(chosen: Recipe) -> bool:
    return chosen.distill is not None and learns_labels(chosen.distill.losses)


def test_nothing_but_recipes_lies_in_the_folder() -> None:
    assert sorted(recipe.names()) == sorted(BUNDLED)


@EVERY
def test_it_is_read_and_described(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    chosen = recipe.load(name)
    assert chosen.name == name
    assert chosen.description.endswith(".")
    assert len(chosen.description) <= 120
    assert chosen.prune or chosen.distill or chosen.quantize
    assert main(["recipes"]) == 0
    assert f"  {chosen.description}\n" in capsys.readouterr().out
    assert main(["recipes", name]) == 0
    copy = tmp_path / f"{name}.toml"
    copy.write_text(capsys.readouterr().out)
    assert recipe.load(copy) == chosen
    assert main(["recipes", str(copy)]) == 0
    assert capsys.readouterr().out == copy.read_text()


@EVERY
def test_it_makes_a_model_that_runs(name: str, encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    chosen = recipe.load(name)
    model, data = encoder_dir, texts_file
    if of_labels(chosen):
        model = models.huggingface("classify", "ForSequenceClassification", "Bert", tmp_path / "classifier")
        data = tmp_path / "train.tsv"
        data.write_text("".join(f"{row}\n" for row in ("sentence\tlabel", "the red house\tgood", "a dog\tbad")))
    steps = None if chosen.distill is None else 2
    compiled = compress(model, tmp_path / "out", recipe=name, data=[data], steps=steps, threads=1, timing=False)
    report = compiled.report["compression"]
    assert report["steps"] == steps
    assert report["plan"]["recipe"]["name"] == name
    assert (report["plan"]["recipe"]["distill"] is None) == (not report["log"])

    graph = read_graph(compiled.directory)
    attentions = sum(node.op == "attention" for node in graph.nodes)
    kept = compiled.report.get("kept_f32", {})
    rows = [row for row in compiled.report["layers"] if row["name"] not in kept]
    assert {row["storage"] for row in rows} == {"s8" if chosen.quantize else "f32"}
    readout = chosen.distill is not None and chosen.distill.readout > 0
    assert len(compiled.report["layers"]) - len(rows) == readout == bool(report["readout"])
    if chosen.student is not None:
        assert attentions == chosen.student.layers
    if chosen.prune is not None:
        pruned = [row for row in rows if row["zero_blocks"] > 0]
        assert len(pruned) == 6 * attentions
        for row in pruned:
            blocks = row["shape"][0] // 4 * row["shape"][1]
            assert row["zero_blocks"] == pytest.approx(round(chosen.prune.sparsity * blocks) / blocks, abs=1e-6)
            assert chosen.quantize is None or row["encoding"] == "block"

    session = fastcpu.Session(compiled)
    batch = [np.array([2, 8, 9, 3]), np.array([2, 5, 3])]
    together = session.run({"input_ids": batch})
    for output, array in together.items():
        assert np.isfinite(array).all(), output
        assert np.array_equal(
            session.run({"input_ids": batch[:1]})[output][0], array[0][: 4 if array.ndim > 2 else None]
        )
