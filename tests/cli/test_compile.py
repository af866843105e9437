"""`fastcpu compile`: options, summary and errors, on a tiny random BERT."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from fastcpu.cli.main import main
from fastcpu.prune import PATTERNS
from fastcpu.quantize import OBSERVERS, SCHEMES
from tests.cli.conftest import Failure

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.frontend import tiny


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory with a tokenizer that knows the words a to z."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = tmp_path_factory.mktemp("bert") / "model"
    tiny.model("BertForSequenceClassification").save_pretrained(path)
    words = {"[UNK]": 0} | {chr(ord("a") + i): i + 1 for i in range(26)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture
def dynamic_onnx(tmp_path: Path) -> Path:
    """An .onnx file as ONNX Runtime quantizes it dynamically."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    import onnx

    from fastcpu.frontend import torch_export

    source, path = tmp_path / "f32.onnx", tmp_path / "dynamic.onnx"
    onnx.save(torch_export.to_onnx(tiny.model("BertForSequenceClassification")), source)
    quantization.quantize_dynamic(source, path)
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("a b c d e\n\nf g h\nx y z a b c\n", encoding="utf-8")
    return path


def test_f32(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["compile", str(bert), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{out}: ")
    assert " MB of weights, written in " in printed
    assert "14 linears: 14 f32" in printed
    assert (out / "tokenizer.json").is_file()
    logits = fastcpu.Session(out).run({"input_ids": [np.array([1, 2, 3])]})["logits"]
    assert logits.shape == (1, 3)


def test_pruned_and_static(bert: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, result = tmp_path / "out", tmp_path / "result.json"
    options = ["--quantize", "static", "--calibration", str(texts), "--observer", "minmax", "--sparsity", "0.75"]
    options += ["--ignore", "*.layer.1.output.*", "*pooler*", "--max-length", "4", "--threads", "1"]
    assert main(["compile", str(bert), "-o", str(out), *options, "--json", str(result)]) == 0
    printed = capsys.readouterr().out
    assert "4x1 block-sparse int8" in printed
    assert "75.0 % of their 4x1 blocks are zero" in printed
    assert "scales from 3 sequences, observer minmax" in printed

    written = json.loads(result.read_text(encoding="utf-8"))
    assert written["directory"] == str(out)
    assert written["files"]["weights.safetensors"] == (out / "weights.safetensors").stat().st_size
    assert written["options"]["sparsity"] == 0.75
    assert written["options"]["ignore"] == ["*.layer.1.output.*", "*pooler*"]
    layers = {row["name"]: row for row in written["layers"]}
    ignored = next(row for name, row in layers.items() if "layer.1.output" in name)
    assert (ignored["storage"], ignored["pruned"]) == ("f32", False)
    pruned = next(row for name, row in layers.items() if "layer.0.output" in name)
    assert (pruned["storage"], pruned["encoding"], pruned["pruned"]) == ("s8", "block", True)
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["layers"] == written["layers"]


def test_smoothed(bert: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--quantize", "static", "--calibration", str(texts), "--smooth", "0.5"]
    assert main(["compile", str(bert), "-o", str(tmp_path / "out"), *options]) == 0
    assert "  smoothed with alpha 0.5" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["compile", str(bert), "-o", str(tmp_path / "other"), *options[:-1], "best"])
    assert "--smooth: a number or auto, not 'best'" in capsys.readouterr().err


def test_dynamic_and_only(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["compile", str(bert), "-o", str(out), "--quantize", "dynamic", "--only", "*intermediate*"]) == 0
    assert "14 linears: 12 f32, 2 dense int8" in capsys.readouterr().out


def test_a_file_that_quantizes_whole_batches(
    dynamic_onnx: Path, tmp_path: Path, failure: Failure, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compile", str(dynamic_onnx), "-o", str(tmp_path / "out")]
    assert "--per-token" in failure(arguments)
    assert main([*arguments, "--per-token"]) == 0
    assert "14 linears: 14 dense int8" in capsys.readouterr().out
    assert failure(["compile", str(dynamic_onnx.parent), "-o", str(tmp_path / "other"), "--per-token"]) == (
        "per_token is for .onnx files with DynamicQuantizeLinear"
    )


def test_overwrite_replaces_a_model(bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["compile", str(bert), "-o", str(out)]) == 0
    f32_size = (out / "weights.safetensors").stat().st_size
    assert main(["compile", str(bert), "-o", str(out), "--quantize", "dynamic", "--overwrite"]) == 0
    assert (out / "weights.safetensors").stat().st_size < f32_size


def test_an_empty_directory_is_free(bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert main(["compile", str(bert), "-o", str(out)]) == 0
    assert (out / "graph.json").is_file()


def test_existing_outputs(bert: Path, tmp_path: Path, failure: Failure) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work", encoding="utf-8")
    command = ["compile", str(bert), "-o", str(precious)]
    assert failure(command) == f"{precious}: exists already; --overwrite replaces a model"
    assert failure([*command, "--overwrite"]).startswith(f"{precious}: exists and is not a fastcpu model")
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]
    assert list(tmp_path.iterdir()) == [precious], "nothing half-written stays"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quantize", "static"], "static quantization needs calibration data"),
        (["--calibration", "texts.txt"], "calibration data is only used with quantize='static'"),
        (["--quantize", "static", "--calibration", "t.csv"], "t.csv: calibration texts are the lines of a plain file"),
        (["--quantize", "static", "--calibration", "nowhere.txt"], "nowhere.txt: cannot read calibration texts"),
        (["--sparsity", "1.5"], "sparsity must be from 0 to 1, not 1.5"),
        (["--pattern", "4x1"], "a pattern is only used with sparsity"),
        (["--observer", "minmax"], "an observer is only used with quantize='static', not 'none'"),
        (["--max-length", "9"], "max_length is only used with quantize='static', not 'none'"),
        (["--ignore", "*pooler*"], "only and ignore choose what to prune or quantize"),
        (["--max-length", "0"], "--max-length must be at least 1, not 0"),
        (["--threads", "-2"], "--threads must not be negative, but is -2"),
        (["--quantize", "dynamic", "--only", "no such layer"], "no linear to quantize"),
    ],
)
def test_bad_options(options: list[str], message: str, bert: Path, tmp_path: Path, failure: Failure) -> None:
    assert message in failure(["compile", str(bert), "-o", str(tmp_path / "out"), *options])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "option",
    [
        {"sparsity": "0.5"},
        {"sparsity": True},
        {"max_length": 1.5, "quantize": "static"},
        {"threads": "2"},
        {"threads": None},
        {"only": 3},
        {"ignore": [3]},
        {"observer": ["mse"]},
        {"pattern": ["4x1"], "sparsity": 0.5},
    ],
)
def test_options_of_a_wrong_type(option: dict[str, Any], bert: Path, tmp_path: Path) -> None:
    with pytest.raises(fastcpu.InputError, match=f"^{next(iter(option))} must be "):
        fastcpu.compile(bert, tmp_path / "out", **option)
    assert list(tmp_path.iterdir()) == []


def test_paths_that_are_none(bert: Path) -> None:
    with pytest.raises(fastcpu.InputError, match=r"^out is an empty path"):
        fastcpu.compile(bert, "")
    with pytest.raises(fastcpu.InputError, match=r"^model is an empty path"):
        fastcpu.compile("", "out")
    with pytest.raises(fastcpu.InputError, match=r"^out must be the path of a directory, not None"):
        fastcpu.compile(bert, None)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers(bert: Path, tmp_path: Path) -> None:
    options = {"sparsity": np.float32(0.5), "threads": np.int64(1)}
    compiled = fastcpu.compile(bert, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert compiled.report["options"]["sparsity"] == 0.5


@pytest.mark.parametrize(("name", "message"), [("nowhere", "no such file or directory"), ("empty", "no config.json")])
def test_models_that_are_none(name: str, message: str, tmp_path: Path, failure: Failure) -> None:
    (tmp_path / "empty").mkdir()
    assert message in failure(["compile", str(tmp_path / name), "-o", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_output_under_a_file(bert: Path, tmp_path: Path, failure: Failure) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "cannot write the model" in failure(["compile", str(bert), "-o", str(tmp_path / "file" / "out")])


@pytest.mark.parametrize(
    "options",
    [
        ["--quantize", "int4"],
        ["--sparsity", "half"],
        ["--sparsity", "0.5", "--pattern", "2:4"],
        ["--observer", "best"],
        ["--max-length", "long"],
        [],
    ],
)
def test_arguments_that_do_not_parse(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    out = ["-o", "out"] if options else []
    with pytest.raises(SystemExit) as status:
        main(["compile", "model", *out, *options])
    assert status.value.code == 2
    assert "fastcpu compile: error: " in capsys.readouterr().err


def test_names_come_from_the_registries(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["compile", "--help"])
    assert status.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for registry in (["none", *SCHEMES], OBSERVERS, PATTERNS):
        assert f"{', '.join(registry)}: " in printed


@pytest.mark.parametrize("command", ["compile", "export"])
def test_help_needs_no_heavy_library(command: str) -> None:
    code = (
        "import sys\nfrom fastcpu.cli.main import main\n"
        f"try: main(['{command}', '--help'])\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "onnx", "onnxruntime"} & set(done.stderr.split())


@pytest.mark.parametrize(
    "config", ["[]", "[" * 100_000, '{"model_type": "bert", "architectures": 5}', '{"architectures": [5]}', "\udcff"]
)
def test_a_damaged_config(config: str, bert: Path, tmp_path: Path, failure: Failure) -> None:
    model = tmp_path / "damaged"
    shutil.copytree(bert, model)
    (model / "config.json").write_bytes(config.encode(errors="surrogateescape"))
    assert "damaged" in failure(["compile", str(model), "-o", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["model/config.json", "out", "out/report.json"])
def test_the_report_is_written_elsewhere(place: str, bert: Path, tmp_path: Path, failure: Failure) -> None:
    shutil.copytree(bert, tmp_path / "model")
    options = ["-o", str(tmp_path / "out"), "--json", str(tmp_path / place)]
    assert "or within it" in failure(["compile", str(tmp_path / "model"), *options])
    assert (tmp_path / "model" / "config.json").read_bytes() == (bert / "config.json").read_bytes()
