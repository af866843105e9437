"""`fastcpu export`: files that ONNX Runtime runs, and errors."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import fastcpu
from fastcpu.cli.main import main
from tests.cli.conftest import Failure
from tests.reference import graphs
from tests.reference.ort import open_exact

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("form", ["fp32", "qdq", "matmulinteger"])
def test_files_run_elsewhere(form: str, static_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.onnx"
    assert main(["export", str(static_model), "--to", "onnx", "--format", form, "-o", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: ")
    feeds = graphs.batch(4, 12)
    ours = fastcpu.Session(static_model).run(feeds)["start_logits"]
    session = open_exact(out)
    (theirs,) = session.run(["start_logits"], feeds)
    real = feeds["attention_mask"] != 0
    assert np.corrcoef(ours[real], theirs[real])[0, 1] > 0.999
    assert list(tmp_path.iterdir()) == [out]


def test_existing_files(f32_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], failure: Failure) -> None:
    out = tmp_path / "model.onnx"
    out.write_text("precious", encoding="utf-8")
    command = ["export", str(f32_model), "-o", str(out)]
    assert failure(command) == f"{out}: exists already; --overwrite replaces it"
    assert failure(["export", str(f32_model), "--overwrite", "-o", str(tmp_path)]) == f"{tmp_path}: exists already"
    assert out.read_text(encoding="utf-8") == "precious"
    assert main([*command, "--overwrite"]) == 0
    assert "fp32" in capsys.readouterr().out
    assert out.stat().st_size > 1000


def test_targets_that_must_not_be_replaced(f32_model: Path, tmp_path: Path, failure: Failure) -> None:
    model = Path(shutil.copytree(f32_model, tmp_path / "own"))
    files = {path: path.read_bytes() for path in model.iterdir()}
    command = ["export", str(model), "--overwrite", "-o"]
    assert "ends in .onnx" in failure([*command, str(model / "weights.safetensors")])
    assert "lies inside the model directory" in failure([*command, str(model / "model.onnx")])
    link = tmp_path / "link.onnx"
    link.symlink_to(model / "weights.safetensors")
    assert "lies inside the model directory" in failure([*command, str(link)])
    thesis, fifo = tmp_path / "thesis.tex", tmp_path / "fifo.onnx"
    thesis.write_text("years of work", encoding="utf-8")
    assert "ends in .onnx" in failure([*command, str(thesis)])
    os.mkfifo(fifo)
    assert "is not a file" in failure([*command, str(fifo)])
    assert {path: path.read_bytes() for path in model.iterdir()} == files
    assert thesis.read_text(encoding="utf-8") == "years of work"
    assert fifo.is_fifo()


def test_links_stay(f32_model: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "target.onnx", tmp_path / "link.onnx"
    target.write_bytes(b"old")
    link.symlink_to(target)
    assert main(["export", str(f32_model), "--overwrite", "-o", str(link)]) == 0
    assert link.is_symlink()
    assert target.stat().st_size > 1000


def test_forms_that_cannot_hold_a_model(f32_model: Path, dynamic_model: Path, tmp_path: Path, failure: Failure) -> None:
    out = ["-o", str(tmp_path / "model.onnx")]
    assert "is not quantized" in failure(["export", str(f32_model), "--format", "matmulinteger", *out])
    assert "one scale per token" in failure(["export", str(dynamic_model), "--format", "qdq", *out])
    assert list(tmp_path.iterdir()) == []


def test_models_and_folders_that_are_missing(f32_model: Path, tmp_path: Path, failure: Failure) -> None:
    assert "graph.json" in failure(["export", str(tmp_path), "-o", str(tmp_path / "model.onnx")])
    nowhere = tmp_path / "nowhere" / "model.onnx"
    assert failure(["export", str(f32_model), "-o", str(nowhere)]).startswith(f"{nowhere}: ")


@pytest.mark.parametrize("options", [["--to", "tflite"], ["--format", "int4"]])
def test_arguments_that_do_not_parse(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["export", "model", "-o", "out", *options])
    assert status.value.code == 2
    assert "invalid choice" in capsys.readouterr().err
