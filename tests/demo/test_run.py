"""The demo from engines to page, with engines that need no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest

from fastcpu import FastcpuError, FileFormatError
from fastcpu.cli.main import main
from fastcpu.demo import measure, run, summary
from fastcpu.demo.task import DemoTask, Source
from fastcpu.demo.workers import EngineProcess, EngineSpec
from fastcpu.eval import retrieval

QUERIES = measure.LATENCY_ROUNDS * measure.LATENCY_QUERIES


class FakeEngine:
    """Stands for a process: vectors are fixed per text, apart from noise."""

    def __init__(self, spec: EngineSpec, noise: float, seconds: float) -> None:
        self.spec = spec
        self._noise = noise
        self._seconds = seconds

    def embed(self, texts: Sequence[str]) -> tuple[np.ndarray, float]:
        rows = []
        for text in texts:
            number = int(text.split()[-1])
            row = np.random.default_rng(number).normal(size=8)
            rows.append(row + self._noise * np.random.default_rng([number, len(text)]).normal(size=8))
        vectors = np.array(rows, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), self._seconds * len(texts)

    def latencies(self, texts: Sequence[str]) -> list[float]:
        return [self._seconds] * len(texts)


def specs(folder: Path) -> list[EngineSpec]:
    files = {key: folder / f"{key}.onnx" for key in (run.TEACHER, run.PEER)}
    for index, path in enumerate(files.values()):
        path.write_bytes(bytes(1000 * (index + 1)))
    model = folder / "model"
    model.mkdir()
    for name in ("graph.json", "weights.safetensors", "tokenizer.json"):
        (model / name).write_bytes(bytes(100))
    (model / "report.json").write_text('{"compression": {"steps": 300}}')
    peers = [EngineSpec(key, f"engine {key}", "onnxruntime", path, folder) for key, path in files.items()]
    return [*peers, EngineSpec(run.SPARSE, "fastcpu <int8>", "fastcpu", model, folder)]


@pytest.fixture
def outcome(tmp_path: Path) -> run.Outcome:
    data = retrieval.RetrievalData(
        [f"document {index}" for index in range(QUERIES + 50)],
        [f"query {index}" for index in range(QUERIES)],
        [{index: 1.0} for index in range(QUERIES)],
    )
    task = DemoTask(data, data, ["a", "b"], ["a"], 900, 600, [Source("numpy", "1.0", 230)], "f" * 64)
    noises, seconds = (0.0, 0.1, 2.0), (0.004, 0.002, 0.001)
    chosen = specs(tmp_path)
    engines = [FakeEngine(*each) for each in zip(chosen, noises, seconds, strict=True)]
    lines: list[str] = []
    measurements = measure.measure(engines, data, lines.append)  # type: ignore[arg-type]
    assert len(lines) == measure.CORPUS_ROUNDS + 2
    evaluations = [retrieval.evaluate_vectors(each.documents, each.queries, data) for each in measurements]
    options = run.Options(tmp_path, tmp_path, run.MODEL_NAME, 2, "fastcpu demo -o 'x y'", run.Sizes())
    tokens = {"documents": 60.0, "queries": 12.0}
    return run.Outcome(
        options, task, chosen, measurements, evaluations, evaluations, evaluations[2], tokens, {"measurements": 1.5}
    )


def test_report_data(outcome: run.Outcome) -> None:
    report = summary.to_json(outcome)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    teacher, peer, ours, bm25 = report["engines"]
    assert teacher["quality"]["ndcg@10"]["value"] == pytest.approx(1.0)
    assert teacher["difference_to_teacher"]["ndcg@10"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert ours["difference_to_teacher"]["ndcg@10"]["high"] < 0
    assert (teacher["bytes"], peer["bytes"], ours["bytes"]) == (1000, 2000, 200)
    assert ours["speedup"][run.TEACHER]["documents"]["median"] == pytest.approx(4.0)
    assert ours["speedup"][run.PEER]["queries"]["median"] == pytest.approx(2.0)
    assert teacher["cosine_to_teacher"] == pytest.approx(1.0)
    assert "bytes" not in bm25
    assert teacher["share_of_teacher"] == teacher["terms"]["share_of_teacher"] == 1.0
    share = ours["quality"]["ndcg@10"]["value"] / teacher["quality"]["ndcg@10"]["value"]
    assert ours["share_of_teacher"] == pytest.approx(share)
    assert share < run.KEPT[run.SPARSE]
    assert report["broken"] == [f"fastcpu <int8> keeps {share:.1%} of the teacher's nDCG@10; it must keep 93%"]


def test_other_models_have_no_bar(outcome: run.Outcome) -> None:
    assert outcome.broken()
    outcome.options = replace(outcome.options, model_name="another")
    assert outcome.broken() == []


def test_a_model_that_keeps_enough(outcome: run.Outcome) -> None:
    outcome.evaluations = [outcome.evaluations[0]] * 3
    assert outcome.broken() == []


def test_page_and_table_say_what_matters(outcome: run.Outcome) -> None:
    report = summary.to_json(outcome)
    html, terminal = summary.html(report), summary.terminal(report)
    assert "http://" not in html
    assert "https://" not in html
    assert html.count("<svg") == html.count("<thead>") == 2
    assert "fastcpu demo -o &#x27;x y&#x27;" in html
    assert "fastcpu &lt;int8&gt;" in html
    assert escape(report["broken"][0]) in html
    assert report["broken"][0] in terminal
    for text in ("in 300 steps on 2 other docstrings", "This is a quick run", "medical terms"):
        assert text in html
        assert text in terminal
    assert "fastcpu <int8>" in terminal


def test_every_engine_begins_in_turn(outcome: run.Outcome) -> None:
    assert all(
        each.latencies.shape == (measure.LATENCY_ROUNDS, measure.LATENCY_QUERIES) for each in outcome.measurements
    )
    assert all(len(each.rates) == measure.CORPUS_ROUNDS for each in outcome.measurements)


def test_errors_of_a_process_reach_the_caller(tmp_path: Path) -> None:
    spec = EngineSpec("x", "broken", "onnxruntime", tmp_path / "missing.onnx", tmp_path)
    engine = EngineProcess(spec, 1, 16)
    try:
        with pytest.raises(FileFormatError, match=r"missing\.onnx"):
            engine.wait_ready()
        with pytest.raises(FastcpuError, match="broken: its process ended"):
            engine.wait_ready()
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "--threads must be at least 1, not 0"),
        (["--model", "nowhere"], "--model 'nowhere' is not a model directory: it has no config.json"),
    ],
)
def test_command_line_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *arguments]) == 2
    assert capsys.readouterr().err == f"fastcpu: error: {message}\n"


def test_packages_that_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = run.util.find_spec
    monkeypatch.setattr(run.util, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    (tmp_path / "config.json").write_text("{}")
    assert main(["demo", "--model", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    message = "the demo needs the package 'onnxruntime' (pip install fastcpu[compress,bench])"
    assert capsys.readouterr().err == f"fastcpu: error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = retrieval.RetrievalData(["a"], ["b"], [{0: 1.0}])
    monkeypatch.setattr(run, "build_task", lambda *_: DemoTask(data, data, [], [], 1, 1, [], "f" * 64))
    (tmp_path / "config.json").write_text("{}")
    out = tmp_path / "config.json" / "out"
    assert main(["demo", "--model", str(tmp_path), "-o", str(out)]) == 2
    assert capsys.readouterr().err == f"fastcpu: error: {out}/task/corpus.jsonl: Not a directory\n"
