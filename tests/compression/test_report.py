"""What a compression says about itself: report.json, report.html and README.md."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastcpu
from fastcpu import peers
from fastcpu.cli.main import main
from fastcpu.compression import card, compress, measure, page, report, run
from fastcpu.compression.candidate import Candidate
from fastcpu.compression.gate import Gate
from fastcpu.compression.latency import Latency
from fastcpu.compression.search import Row
from fastcpu.compression.source import kind, licence, name
from fastcpu.errors import GraphError, InputError, OutputError
from tests.report.pages import check

pytest.importorskip("torch")

Json = dict[str, Any]


@pytest.fixture(scope="module")
def trained(encoder_dir: Path, texts_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder that was pruned while it was trained, and quantized."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = folder / "tiny.toml"
    recipe.write_text(
        'description = ""\n[prune]\nsparsity = 0.5\ninterval = 2\n[distill]\nbatch = 16\nsteps = 30\n[quantize]\n'
    )
    return compress(encoder_dir, folder / "out", recipe=recipe, data=[texts_file], threads=1, seed=7).directory


@pytest.fixture
def content(trained: Path) -> Json:
    """Its report.json."""
    found: Json = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    return found


def front_matter(text: str) -> Json:
    yaml = pytest.importorskip("yaml")
    found: Json = yaml.safe_load(text.split("---\n")[1])
    return found


def test_what_is_in_the_report(content: Json, encoder_dir: Path) -> None:
    compression = content["compression"]
    assert compression["command"] is None
    assert (compression["plan"]["seed"], compression["plan"]["recipe"]["name"]) == (7, "tiny")
    assert compression["source"] == {"name": encoder_dir.name, "licence": {}, "kind": "embed"}
    assert [line["step"] for line in compression["log"]] == [10, 20, 30]
    assert all(set(line["losses"]) == {"embedding", "similarity"} for line in compression["log"])
    rates, sparsities = ([line[key] for line in compression["log"]] for key in ("learning_rate", "sparsity"))
    assert rates[0] > rates[1] > rates[2] > 0
    assert 0 < sparsities[0] < sparsities[1] == 0.5
    assert [row["sequence"] for row in compression["latency"]] == [32, 64], "as many tokens as there are positions"
    for row in compression["latency"]:
        for which in ("teacher", "model"):
            assert 0 < row[which]["low"] <= row[which]["median"] <= row[which]["high"]
    assert compression["bytes"]["teacher"] > 2 * compression["bytes"]["model"] > 0
    assert sum(op["share"] for op in compression["times"]["ops"]) == pytest.approx(1, abs=1e-2)
    assert {"CPU", "system"} <= set(compression["machine"])
    assert content["versions"]["fastcpu"] == fastcpu.__version__
    encoder = [layer for layer in content["layers"] if layer["name"].startswith("encoder.layer")]
    assert len(encoder) == 4 * 6
    assert all(1e-6 < layer["weight_error"] < 1e-3 for layer in encoder), "8 bits and a scale per row"
    errors = [found["error"] for found in content["ranges"].values() if found["error"] is not None]
    assert errors
    assert all(1e-7 < error < 1e-3 for error in errors)


def test_the_page(trained: Path, content: Json) -> None:
    html = (trained / "report.html").read_text(encoding="utf-8")
    check(html)
    assert html == page.html(content)
    for text in (
        "Quality was not measured",
        "Size against latency",
        "loss: embedding",
        "loss: similarity",
        "learning rate",
        "Python API",
        "30 steps of 16 texts",
        "encoder.layer.0.attention.self.query",
        f"{next(iter(content['ranges'].values()))['scale']:.6g}",
        content["compression"]["machine"]["CPU"],
    ):
        assert text in html, text
    assert html.count("<polyline") == 4


def test_the_model_card(trained: Path, content: Json, encoder_dir: Path) -> None:
    text = (trained / "README.md").read_text(encoding="utf-8")
    assert text == card.markdown(content)
    assert front_matter(text) == {
        "base_model": encoder_dir.name,
        "base_model_relation": "quantized",
        "library_name": "fastcpu",
        "pipeline_tag": "feature-extraction",
        "tags": ["fastcpu", "cpu", "int8", "sparse", "distillation"],
    }
    code = text.split("```python\n")[1].split("\n```")[0].replace("path/to/this/directory", str(trained))
    assert code.count("\n") == 2
    scope: Json = {}
    exec(code, scope)
    assert scope["vectors"].shape == (2, 32)
    for part in ("## Metrics", "x smaller", "- seed: 7", "Quality was not measured", "a rough figure"):
        assert part in text


def test_the_directory_stays_small_and_opens(trained: Path) -> None:
    fastcpu.Session(trained)
    assert sum((trained / file).stat().st_size for file in ("report.json", "report.html", "README.md")) < 300_000


def test_without_training_and_timing(encoder_dir: Path, tmp_path: Path) -> None:
    compiled = compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", timing=False)
    found = compiled.report["compression"]
    assert (found["latency"], found["times"], found["log"]) == ([], None, [])
    assert found["bytes"]["teacher"] is None
    html = (compiled.directory / "report.html").read_text()
    check(html)
    assert "Latency was not measured" in html
    assert "none: the recipe needs none" in html
    assert "<svg" not in html
    assert "Latency was not measured" in (compiled.directory / "README.md").read_text()


def test_whatever_was_written_can_be_replaced(encoder_dir: Path, tmp_path: Path) -> None:
    for _ in range(2):
        compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", timing=False)
    fastcpu.compile(encoder_dir, tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_teacher_that_only_training_can_run(
    encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Path:
        raise GraphError("operator <Foo> is not supported")

    monkeypatch.setattr(run, "compiled_teacher", refuse)
    compiled = compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic")
    (first, *_) = compiled.report["compression"]["latency"]
    assert set(first) == {"sequence", "model"}
    html = (compiled.directory / "report.html").read_text()
    check(html)
    assert "operator &lt;Foo&gt; is not supported" in html
    assert r"operator \<Foo\> is not supported" in (compiled.directory / "README.md").read_text()


def test_peers(encoder_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    compiled = compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", peers=["onnxruntime"])
    engines = {entry["engine"]: entry for entry in compiled.report["compression"]["engines"]}
    assert list(engines) == ["fastcpu", "onnxruntime fp32", "onnxruntime int8"]
    for entry in engines.values():
        assert entry["sequence"] == 64
        assert 0 < entry["low"] <= entry["median"] <= entry["high"]
        # Without VNNI, ONNX Runtime's sums saturate.
        assert entry["cosine"] > (0.95 if entry["engine"] == "onnxruntime int8" else 0.98)
        assert entry["bytes"] > 0
    html = (compiled.directory / "report.html").read_text()
    check(html)
    assert html.count("<circle") == 4, "the teacher, the model, and the peer with either file"
    assert "| onnxruntime int8 |" in (compiled.directory / "README.md").read_text()


def test_the_quality_of_peers_on_test_data_is_logged(encoder_dir: Path, sts_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "sts-test.csv"
    path.write_text((sts_dir / "sts-dev.csv").read_text())
    compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", peers=["onnxruntime"], gate=Gate("sts", str(path)))
    lines = [json.loads(line) for line in (tmp_path / "out.evaluations.jsonl").read_text().splitlines()]
    assert [line["model"] for line in lines[2:]] == ["onnxruntime fp32", "onnxruntime int8"]
    assert all(line["data"] == [str(path)] and "spearman" in line["metrics"] for line in lines)


def test_the_quality_of_peers(encoder_dir: Path, sts_dir: Path, tmp_path: Path) -> None:
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package)
    gate = Gate("sts", str(sts_dir))
    compiled = compress(
        encoder_dir, tmp_path / "out", recipe="int8-dynamic", peers=["onnxruntime", "openvino"], gate=gate
    )
    compression = compiled.report["compression"]
    ours, *theirs = compression["engines"]
    assert "accuracy" not in ours
    assert [entry["engine"] for entry in theirs] == [
        f"{engine} {precision}" for engine in ("onnxruntime", "openvino") for precision in ("fp32", "int8")
    ]
    expected = compression["accuracy"]["model"]["spearman"]
    for entry in theirs:
        found = entry["accuracy"]["spearman"]
        assert found["low"] < found["value"] < found["high"]
        assert found["value"] == pytest.approx(expected["value"], abs=0.05), "padding is not read"
    html = (compiled.directory / "report.html").read_text()
    check(html)
    assert "Quality against latency" in html
    assert html.count("<circle") == 6
    value = f"{theirs[0]['accuracy']['spearman']['value']:.4f}"
    assert value in html
    assert not (tmp_path / "out.evaluations.jsonl").exists()
    assert value in (compiled.directory / "README.md").read_text()


def test_a_peer_whose_quality_cannot_be_measured(encoder_dir: Path, sts_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = fastcpu.compile(encoder_dir, tmp_path / "model").directory
    (tmp_path / "fp32.onnx").write_bytes(b"no graph")
    (engine,) = peers.peer_engines({"fp32": tmp_path / "fp32.onnx"}, ["onnxruntime"])
    found = measure._quality(engine, model, 1, Gate("sts", str(sts_dir)), None)
    assert list(found) == ["accuracy_problem"]
    assert found["accuracy_problem"].startswith(f"{tmp_path / 'fp32.onnx'}: ")


def test_a_peer_without_quality_is_a_line_in_the_plot(content: Json) -> None:
    value = {"value": 0.8, "low": 0.7, "high": 0.9}
    times = {"sequence": 64, "bytes": 1000, "cosine": 1.0, "median": 2.0, "low": 1.0, "high": 3.0}
    compression = content["compression"] | {
        "accuracy": {"task": "sts", "split": "dev", "examples": 3, "max_drop": None}
        | {part: {"spearman": value} for part in ("teacher", "model", "difference")},
        "engines": [
            {"engine": "fastcpu"} | times,
            {"engine": "a", "accuracy": {"spearman": value}} | times,
            {"engine": "b", "accuracy_problem": "it died"} | times,
        ],
    }
    html = page.html(content | {"compression": compression})
    check(html)
    assert html.count("<circle") == 3
    assert html.count('class="interval dashed"') == 1
    assert "spearman (95 % interval)" in html
    assert "b, 0.0 MB (dotted: its quality is not known)" in html
    for text in (html, card.markdown(content | {"compression": compression})):
        assert "it died" in text


def test_candidates_of_a_search(content: Json) -> None:
    rows = [
        Row(Candidate(6, 0.5), Latency(3.21, 4.0, 1.246), {0.1: 0.5, 1.0: 0.75}, "chosen"),
        Row(Candidate(4, 0.0), Latency(5.0, 4.0, 0.8), {}, "too slow"),
        Row(Candidate(3, 0.5)),
    ]
    search = {
        "target": "2x dense int8",
        "measured_on": {"batch": 8, "sequence": None, "threads": 2},
        "score": "sts, dev",
        "candidates": [row.to_json() for row in rows],
    }
    html = page.html(content | {"compression": content["compression"] | {"search": search}})
    check(html)
    for text in ("2x dense int8", "<td>3.21</td><td>1.25</td><td>0.5000 (0.1), 0.7500 (1)</td><td>chosen</td>"):
        assert text in html
    assert "and so not measured: 1." in html
    assert "<h2>Search</h2>" not in page.html(content)


def test_a_model_that_cannot_be_exported(encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")

    def refuse(*_: object) -> Any:
        raise GraphError("no form in ONNX")

    monkeypatch.setattr("fastcpu.compression.measure.write_files", refuse)
    compiled = compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", peers=["onnxruntime"])
    assert compiled.report["compression"]["engines"] == [{"engine": "onnxruntime", "problem": "no form in ONNX"}]
    assert "no form in ONNX" in (compiled.directory / "report.html").read_text()


def test_a_peer_with_a_problem(content: Json) -> None:
    engines = [
        {"engine": "fastcpu", "sequence": 64, "bytes": 1000, "cosine": 1.0, "median": 2.0, "low": 1.0, "high": 3.0},
        {"engine": "openvino int8", "problem": "no <such> op | here"},
    ]
    changed = content | {"compression": content["compression"] | {"engines": engines}}
    check(page.html(changed))
    assert "no &lt;such&gt; op | here" in page.html(changed)
    assert r"no \<such\> op \| here" in card.markdown(changed)


@pytest.mark.parametrize(
    ("peers", "timing", "message"),
    [
        (["tensorrt"], True, "unknown engine 'tensorrt'"),
        (["onnxruntime"], False, "which is not to be timed"),
        (["absent"], True, r"not installed: absent \(pip install absent\)"),
    ],
)
def test_peers_that_cannot_be_measured(
    peers: list[str], timing: bool, message: str, encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("fastcpu.peers.PEERS", ("onnxruntime", "absent"))
    with pytest.raises(InputError, match=message):
        compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", peers=peers, timing=timing)
    assert not list(tmp_path.iterdir())


# ---- names, numbers and logs of all kinds ----


def test_names_are_text_and_no_markup(encoder_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "<i>a & 'b' | *c* `d\nname: x"
    shutil.copytree(encoder_dir, source)
    command = ["compress", str(source), "-o", str(tmp_path / "out"), "--no-timing"]
    assert main(command) == 0
    html = (tmp_path / "out" / "report.html").read_text()
    check(html)
    assert "&lt;i&gt;a &amp; &#x27;b&#x27; | *c* `d" in html
    text = (tmp_path / "out" / "README.md").read_text()
    assert front_matter(text)["base_model"] == source.name
    assert r"# \<i\>a \& 'b' \| \*c\* \`d name: x, compressed by fastcpu" in text


def test_paths_that_are_no_text(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(b"t\xff.txt")
    try:
        shutil.copy(texts_file, data)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    compiled = compress(encoder_dir, tmp_path / "out", recipe="int8-static", data=[data], timing=False)
    assert compiled.report["compression"]["plan"]["data"] == [f"{tmp_path}/t\\udcff.txt"]
    assert "t\\udcff.txt" in (compiled.directory / "report.html").read_text(encoding="utf-8")


def test_logs_of_all_kinds(content: Json) -> None:
    log = [
        {"step": 10, "losses": {"a": None, "b": 0.5}},
        {"step": 20, "losses": {"a": float("nan"), "b": float("inf")}, "learning_rate": None},
        {"step": 30, "losses": {"a": 1.0, "b": 0.25}, "learning_rate": 1e-3, "sparsity": 0.0},
    ]
    html = page.html(content | {"compression": content["compression"] | {"log": log}})
    check(html)
    assert "loss: b" in html
    assert "loss: a" not in html, "one point makes no curve"
    nothing = page.html(content | {"compression": content["compression"] | {"log": []}})
    assert "<polyline" not in nothing


def test_metrics_that_are_no_numbers(content: Json) -> None:
    value = {"value": None, "low": None, "high": None}
    compression = copy.deepcopy(content["compression"])
    compression["accuracy"] = {"task": "sts", "split": "dev", "examples": 3, "max_drop": None} | {
        part: {"spearman": value} for part in ("teacher", "model", "difference")
    }
    check(page.html(content | {"compression": compression}))
    text = card.markdown(content | {"compression": compression})
    assert front_matter(text)["metrics"] == ["spearmanr"]
    assert "nan" not in text.lower()


def test_plain() -> None:
    assert report.plain({"a": (float("nan"), -float("inf"), 1.5, "x\udcff"), "b\udc80": None}) == {
        "a": [None, None, 1.5, "x\\udcff"],
        "b\\udc80": None,
    }


def test_long_logs_are_thinned() -> None:
    log: list[Json] = [{"step": step} for step in range(10, 100_001, 10)]
    thin = report.thinned(log)
    steps = [line["step"] for line in thin]
    assert len(set(steps)) == len(thin) == report.LOG_LINES
    assert (steps[0], steps[-1]) == (10, 100_000)
    assert report.thinned(log[:7]) == log[:7]


def test_reading_needs_no_torch(trained: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import json; from pathlib import Path; from fastcpu.compression import card, page\n"
        "found = json.loads(Path(sys.argv[1], 'report.json').read_text())\n"
        "assert page.html(found) and card.markdown(found)"
    )
    subprocess.run([sys.executable, "-c", code, str(trained)], check=True)


# ---- a disk that fills up ----


@pytest.mark.parametrize("file", ["report.html", "README.md"])
def test_a_full_disk_publishes_nothing(
    file: str, encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def full(path: Path, *args: Any, **options: Any) -> int:
        if path.name == file:
            raise OSError(28, "No space left on device", str(path))
        return write(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OutputError, match=rf"{file}: cannot write the model: No space left on device"):
            compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", timing=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out.work"]
    compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", timing=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# ---- the command ----


def test_json(encoder_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compress", str(encoder_dir), "-o", str(tmp_path / "out"), "--no-timing", "--overwrite", "--json"]
    assert main([*command, str(tmp_path / "copy.json")]) == 0
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert json.loads((tmp_path / "copy.json").read_text()) == written
    capsys.readouterr()
    assert main([*command, "-"]) == 0
    printed = capsys.readouterr()
    assert f"wrote {tmp_path / 'out'}" in printed.err
    assert json.loads(printed.out) == json.loads((tmp_path / "out" / "report.json").read_text())


def test_the_command_line_is_in_the_report(encoder_dir: Path, tmp_path: Path) -> None:
    options = ["-o", str(tmp_path / "o u t"), "--no-timing"]
    subprocess.run([sys.executable, "-m", "fastcpu", "compress", str(encoder_dir), *options], check=True)
    expected = f"fastcpu compress {encoder_dir} -o '{tmp_path}/o u t' --no-timing"
    assert json.loads((tmp_path / "o u t" / "report.json").read_text())["compression"]["command"] == expected
    assert expected in (tmp_path / "o u t" / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json", "{out}/report.json"], "that is within the model"),
        (["--json", "{folder}/nowhere/r.json"], "there is no folder"),
        (["--json", "{folder}"], "is a folder"),
        (["--json", "-", "--dry-run"], "--dry-run makes none"),
    ],
)
def test_a_report_that_has_no_place(
    options: list[str], message: str, encoder_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = [option.format(out=out, folder=tmp_path) for option in options]
    assert main(["compress", str(encoder_dir), "-o", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ---- what a source says of itself ----


def test_licence(tmp_path: Path) -> None:
    assert licence(tmp_path) == {}
    readme = tmp_path / "README.md"
    for text, expected in (
        ("no front matter\nlicense: mit\n", {}),
        ("---\nlanguage: en\nlicense: apache-2.0\ntags:\n- x\n---\nlicense: mit\n", {"license": "apache-2.0"}),
        (
            "---\nlicense: other\nlicense_name: 'my: own'\nlicense_link: LICENSE\n---\n",
            {"license": "other", "license_name": "my: own", "license_link": "LICENSE"},
        ),
        ("---\nlicense:\n- mit\n---\n", {}),
        ("---\r\nlicense: mit\r\n---\r\n", {"license": "mit"}),
        ("---\nlicense: mit\n", {}),
    ):
        readme.write_bytes(text.encode())
        assert licence(tmp_path) == expected, text
    readme.write_bytes(b"\xff\xfe---")
    assert licence(tmp_path) == {}


def test_name_of_a_model_of_the_hub(tmp_path: Path) -> None:
    assert name(tmp_path / "hub" / "models--org--some-model" / "snapshots" / "0a1b") == "org/some-model"
    assert name(tmp_path / "mine") == "mine"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architectures": ["BertForQuestionAnswering"]}, "qa"),
        ({"architectures": ["BertModel"]}, "embed"),
        ({"architectures": ["RobertaForMaskedLM"]}, "fill_mask"),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}, "classify"),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a"}}, "rerank"),
        ({"architectures": ["MPNetForTokenClassification"]}, "tag"),
        ({"architectures": ["GPT2Model"]}, None),
        ({"architectures": []}, None),
        ({"architectures": [3]}, None),
        ([], None),
        ({}, None),
    ],
)
def test_kind(config: Any, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert kind(tmp_path) == expected


@pytest.mark.parametrize("each", [*card._USES, "any"])
def test_every_kind_is_used_by_what_there_is(each: str | None, content: Json) -> None:
    from fastcpu import tasks

    if each == "any":
        assert set(card._USES) == {*tasks.TASKS, None}
        return
    source = content["compression"]["source"] | {"kind": each}
    code = card.markdown(content | {"compression": content["compression"] | {"source": source}}).split("```python\n")[1]
    first = code.splitlines()[0]
    assert first == ("import fastcpu" if each is None else f"from fastcpu.tasks import {tasks.TASKS[each].__name__}")
    compile(code.split("```")[0], "card", "exec")
