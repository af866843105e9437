"""bench.page: a page of result files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench import page
from fastcpu.report import svg


def _engine(rate: float, void: str | None = None) -> dict[str, Any]:
    engine: dict[str, Any] = {"void": void, "variant": "default", "answers": {"cosine": 0.9991}}
    if rate > 0:
        engine["sequences_per_second"] = {"median": rate, "q1": 0.9 * rate, "q3": 1.1 * rate, "iqr": 0.2 * rate}
    return engine


def _content() -> dict[str, Any]:
    ratio = {"median": 2.5, "q1": 2.25, "q3": 2.75, "iqr": 0.5}
    case = {
        "model": "distilbert-qa",
        "sparsity": 0.8,
        "batch": 8,
        "sequence": 128,
        "departures": ["3 rounds instead of at least 7"],
        "engines": {
            "openvino_int8": _engine(100),
            "fastcpu": _engine(250),
            "deepsparse": _engine(0, void="cosine 0.2 <0.99"),
            "onnxruntime_int8": _engine(90, void="cosine 0.98"),
        },
        "ratios": {"fastcpu": {"openvino_int8": ratio}},
    }
    machine = {"cpu": "Some CPU", "cpu_family": "1", "cpu_model": "2", "cores": 2, "flags": ["avx2"]}
    git = {"commit": "0123abcd", "dirty": False}
    return {
        "date": "2026-11-30T12:00:00",
        "note": "",
        "machine": machine,
        "git": git,
        "threads": 2,
        "versions": {"fastcpu": "0.1"},
        "results": [case],
    }


def test_a_page_shows_engines_ratios_and_what_was_not_timed(tmp_path: Path) -> None:
    source, out = tmp_path / "a.json", tmp_path / "page" / "index.html"
    source.write_text(json.dumps(_content()))
    assert page.main([str(source), "--out", str(out)]) == 0
    text = out.read_text()
    assert "2.50 (2.25 to 2.75)" in text
    assert "DeepSparse, not timed: cosine 0.2 &lt;0.99" in text
    assert "ONNX Runtime int8: cosine 0.98" in text
    assert "3 rounds instead of at least 7" in text
    assert "distilbert-qa, 80 % of 4x1 blocks zero, Some CPU (2026-11-30)" in text
    assert "0123abcd" in text
    drawing = text[text.index("<svg") : text.index("</svg>") + len("</svg>")]
    labels = [element.text for element in ET.fromstring(drawing).iter("text")]
    assert labels.index("fastcpu") < labels.index("OpenVINO int8")
    assert "DeepSparse" not in labels
    assert "(ONNX Runtime int8)" in labels


def test_a_result_from_outside_of_git(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(_content() | {"git": {}}))
    assert page.main([str(tmp_path / "a.json"), "--out", str(tmp_path / "out.html")]) == 0
    assert "unknown" in (tmp_path / "out.html").read_text()


def test_bars_are_as_long_as_their_values() -> None:
    drawing = svg.bars("t", "x", [svg.Bar("a", (4.0, 3.0, 8.0)), svg.Bar("b", (2.0, 2.0, 2.0))])
    first, second = (float(element.attrib["width"]) for element in ET.fromstring(drawing).iter("rect"))
    assert first == pytest.approx(2 * second)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a.json: "),
        ("[]", "no object"),
        ("{}", "not a result of"),
        ('{"results": [{"ratios": {}}], "git": {}, "machine": {}, "date": ""}', "no threads, versions"),
    ],
)
def test_files_that_are_no_results_are_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(text)
    assert page.main([str(tmp_path / "a.json"), "--out", str(tmp_path / "out.html")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.html").exists()


def test_the_committed_results_are_a_page(tmp_path: Path) -> None:
    assert page.main(["--out", str(tmp_path / "out.html")]) == 0
    assert "ONNX Runtime int8" in (tmp_path / "out.html").read_text()
