"""A model that loses too much is given layers back, those first that cost most, until the gate accepts it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fastcpu.cli.main import main
from fastcpu.compression import compress, fallback, run
from fastcpu.compression.gate import Gate
from fastcpu.errors import AccuracyError
from fastcpu.eval.engine import Evaluation
from fastcpu.pipeline import Compiled
from fastcpu.recipe import Recipe, load
from tests.compression.conftest import RECIPE
from tests.tasks import models

LAYERS = [["c.1"], ["a.1", "a.2"], ["b.1"]]


def building(accepted: int) -> tuple[list[list[str]], Any]:
    """What was tried, and a build that is accepted with so many linears left alone."""
    tried: list[list[str]] = []

    def build(alone: Sequence[str]) -> Compiled:
        tried.append(list(alone))
        if len(alone) < accepted:
            raise AccuracyError(f"lost with {len(alone)}")
        return Compiled(Path("made"), {})

    return tried, build


def test_layers_are_given_up_one_after_the_other() -> None:
    told: list[str] = []
    tried, build = building(3)
    assert fallback.fall_back(AccuracyError("lost"), build, LAYERS, told.append).directory == Path("made")
    assert tried == [["c.1"], ["c.1", "a.1", "a.2"]]
    assert told == ["1 of 3 layers left alone", "2 of 3 layers left alone"]


def test_the_last_layer_is_not_given_up() -> None:
    tried, build = building(9)
    with pytest.raises(AccuracyError, match=r"^with 2 of 3 layers left alone: lost with 3$"):
        fallback.fall_back(AccuracyError("lost"), build, LAYERS, lambda _: None)
    assert len(tried) == 2
    with pytest.raises(AccuracyError, match=r"^lost$"):
        fallback.fall_back(AccuracyError("lost"), build, LAYERS[:1], lambda _: None)


def spoilt(source: Path, folder: Path, layer: int) -> Path:
    """A copy of the model with weights of a layer so large that others of their rows have no accuracy left in s8."""
    import torch
    from safetensors.torch import load_file, save_file

    path = shutil.copytree(source, folder) / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if f"layer.{layer}." in name and name.endswith("output.dense.weight"))
    weight = tensors[name]
    weight[:, 0] = 40 * weight.abs().max() * torch.sign(weight[:, 0])
    save_file(tensors, path, {"format": "pt"})
    return folder


def test_the_layer_that_costs_most_comes_first(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    texts = texts_file.read_text().splitlines()
    layers = fallback.by_error(
        spoilt(encoder_dir, tmp_path / "spoilt", 1), texts, {"quantize": "dynamic"}, 1, tmp_path, 128
    )
    assert all("layer.1." in name for name in layers[0])
    assert len(layers) > 1
    assert len({name for names in layers for name in names}) == sum(map(len, layers))
    assert not list(tmp_path.glob("fallback.*"))


def accept_with(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A gate that accepts models with at least so many linears in f32."""

    def accept(self: Gate, directory: Path, *_: object) -> None:
        report = json.loads((directory / "report.json").read_text())
        if len(report["kept_f32"]) < count:
            raise AccuracyError("too much is lost")

    monkeypatch.setattr(Gate, "accept", accept)


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static"])
def test_a_compression_falls_back(
    encoder_dir: Path,
    texts_file: Path,
    sts_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    accept_with(monkeypatch, 1)
    command = ["compress", str(encoder_dir), "--recipe", name, "--max-drop", "0.1"]
    command += ["--task", "sts", "--eval-data", str(sts_dir)]
    command += ["--data", str(texts_file)] if name == "int8-static" else []
    assert main([*command, "-o", str(tmp_path / "uniform"), "--plan", "uniform"]) == 3
    assert "too much is lost\n" in capsys.readouterr().err
    assert not (tmp_path / "uniform").exists()
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    alone = report["compression"]["left_alone"]
    assert sorted(alone) == sorted(report["kept_f32"])
    stored = {each["name"]: each["storage"] for each in report["layers"]}
    assert {stored[each] for each in alone} == {"f32"}
    assert set(stored.values()) == {"f32", "s8"}
    assert alone[0] in capsys.readouterr().out
    assert f"left in f32: {alone[0]}" in (tmp_path / "out" / "README.md").read_text()


def test_what_has_no_layers_to_give_back_is_refused(
    encoder_dir: Path, sts_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_with(monkeypatch, 99)
    monkeypatch.setattr(run, "by_error", lambda *_: pytest.fail("nothing is compressed"))
    gate = Gate("sts", str(sts_dir), max_drop="0.1")
    with pytest.raises(AccuracyError, match=r"^too much is lost$"):
        compress(encoder_dir, tmp_path / "out", recipe=Recipe("none", ""), gate=gate)
    uniform = Gate("sts", str(sts_dir), max_drop="0.1", fallback=False)
    with pytest.raises(AccuracyError, match=r"^too much is lost$"):
        compress(encoder_dir, tmp_path / "uniform", recipe=load("int8-dynamic"), gate=uniform)


@pytest.mark.parametrize("options", [{}, {"quantize": "dynamic"}])
def test_linears_that_cannot_be_pruned_are_no_layer_of_a_pruned_model(tmp_path: Path, options: dict[str, Any]) -> None:
    source = models.huggingface("classify", "ForSequenceClassification", "Bert", tmp_path / "model")
    layers = fallback.by_error(
        source, ["the red house", "Anna lives in London"], options | {"sparsity": 0.5}, 1, tmp_path, 128
    )
    assert layers
    assert all("layer." in name for names in layers for name in names)


def test_the_teacher_is_measured_once(encoder_dir: Path, sts_dir: Path, tmp_path: Path) -> None:
    measured: list[Path] = []
    whole = Gate.measure

    class Counting(Gate):
        def measure(self, directory: Path, *further: Any) -> Evaluation:
            measured.append(directory)
            return whole(self, directory, *further)

    gate = Counting("sts", str(sts_dir), max_drop="0")
    with pytest.raises(AccuracyError, match="layers left alone"):
        compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", gate=gate, timing=False)
    assert len(measured) > 2
    assert len({path for path in measured if "teacher" in path.name}) == 1
    assert sum("teacher" in path.name for path in measured) == 1


def test_a_part_that_is_reported_chooses_nothing(
    encoder_dir: Path, sts_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_with(monkeypatch, 1)
    monkeypatch.setattr(run, "by_error", lambda *_: pytest.fail("layers are chosen"))
    shutil.copy(sts_dir / "sts-dev.csv", sts_dir / "sts-test.csv")
    gate = Gate("sts", str(sts_dir), split="test", max_drop="0.1")
    with pytest.raises(AccuracyError, match=r"^too much is lost$"):
        compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", gate=gate)


def test_a_student_that_has_lost_too_much_in_f32_is_refused_at_once(
    encoder_dir: Path, texts_file: Path, sts_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "by_error", lambda *_: pytest.fail("layers are chosen"))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=1).replace("layers = 2", "layers = 1"))
    gate = Gate("sts", str(sts_dir), max_drop="0")
    with pytest.raises(AccuracyError, match=r"must be at least .* in f32, too, before quantization$"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe, data=[texts_file], gate=gate, threads=1, timing=False)


def test_a_search_takes_no_plan(encoder_dir: Path, sts_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compress", str(encoder_dir), "-o", "out", "--task", "sts", "--eval-data", str(sts_dir)]
    assert main([*command, "--max-drop", "1", "--target-speedup", "2", "--plan", "uniform"]) == 2
    assert "--plan uniform is not for a search" in capsys.readouterr().err
