"""`fastcpu info`: what it prints and writes, and errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import fastcpu
from fastcpu.cli.main import main
from tests.cli.conftest import Failure


def test_text(static_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(static_model)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{static_model}: tiny-qa, format version 1, written by fastcpu {fastcpu.__version__}\n")
    assert "input   token_type_ids [batch, sequence], optional" in printed
    assert "output  start_logits [batch, sequence]" in printed
    lines = {line.split()[0]: line.split() for line in printed.splitlines() if line.strip()}
    assert lines["layer0.fc1"][1:6] == ["linear", "32x16", "s8", "block", "0.250"]
    assert lines["qa"][1:6] == ["linear", "2x16", "s8", "dense", "1.000"]
    assert "layer0.fc1.out" in lines, "quantization points are listed"


def test_json(static_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "info.json"
    assert main(["info", str(static_model), "--json", str(out)]) == 0
    described = json.loads(out.read_text(encoding="utf-8"))
    assert [row["name"] for row in described["inputs"]] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [row["name"] for row in described["outputs"]] == ["start_logits", "end_logits"]
    files = {path.name: path.stat().st_size for path in static_model.iterdir()}
    assert described["files"] == files
    layer = next(row for row in described["layers"] if row["name"] == "layer0.fc2")
    # 4 x 32 blocks, a quarter of them stored as 4 values and an index; 5 offsets and 16 scales of 4 bytes
    assert (layer["encoding"], layer["density"], layer["bytes"]) == ("block", 0.25, 32 * (4 + 2) + 4 * (5 + 16))


def test_f32_and_dynamic(f32_model: Path, dynamic_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(f32_model)]) == 0
    assert "no quantization points" in capsys.readouterr().out
    assert main(["info", str(dynamic_model)]) == 0
    assert "per token" in capsys.readouterr().out


def test_models_that_are_none(tmp_path: Path, failure: Failure) -> None:
    assert "graph.json" in failure(["info", str(tmp_path)])
    assert "nowhere" in failure(["info", str(tmp_path / "nowhere")])


def test_damaged_model(static_model: Path, tmp_path: Path, failure: Failure) -> None:
    shutil.copytree(static_model, tmp_path / "model")
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "weights.safetensors" in failure(["info", str(tmp_path / "model")])


def test_json_alone_on_standard_output(static_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(static_model), "--json", "-"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["inputs"]
    assert printed.err


def test_json_that_cannot_be_written(static_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(["info", str(static_model), "--json", str(tmp_path / "file" / "info.json")]) == 2
    assert capsys.readouterr().err.startswith(f"fastcpu: error: {tmp_path / 'file' / 'info.json'}: ")
    assert main(["info", str(static_model), "--json", str(tmp_path / "nowhere" / "info.json")]) == 2
    assert capsys.readouterr().err.endswith("nowhere/info.json: No such file or directory\n")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("command", ["info", "doctor", "bench"])
@pytest.mark.parametrize("name", ["weights.safetensors", "graph.json", "new/x.json"])
def test_a_model_is_never_written_into(command: str, name: str, static_model: Path, failure: Failure) -> None:
    before = {path.name: path.read_bytes() for path in static_model.iterdir()}
    assert "or within it" in failure([command, str(static_model), "--json", str(static_model / name)])
    assert {path.name: path.read_bytes() for path in static_model.iterdir()} == before
