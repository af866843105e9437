"""Pages are whole, well-formed and load nothing."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from fastcpu import InputError, OutputError
from fastcpu.files import replacing_file, write_json, write_text
from fastcpu.report import page, svg
from fastcpu.report.machine import machine, versions
from fastcpu.report.table import text_table
from tests.report.pages import check

POINTS = [
    svg.Point("a <fast> & good", (2.0, 1.5, 2.5), (0.30, 0.28, 0.32)),
    svg.Point("b", (9.0, 8.0, 9.5), (0.33, 0.31, 0.35)),
]


def test_page() -> None:
    parts = [
        page.notes(["careful <b>"]),
        page.heading("Results & more"),
        page.table(["model", "x"], [["a", "1"], ["<b>", "2"]]),
        svg.scatter("plot", "x", "y", POINTS, [svg.Line("reference", 0.31)]),
        page.command("fastcpu demo -o 'a b'"),
        page.facts({"CPU": "one & only"}),
        page.details("more <", page.plots([svg.curve("loss", "step", "loss", [(10, 0.5), (20, 0.25)])])),
    ]
    html = page.page("Title <1>", "lead", parts)
    check(html)
    for text in (
        "careful &lt;b&gt;",
        "Results &amp; more",
        "<td>&lt;b&gt;</td>",
        "Title &lt;1&gt;",
        "one &amp; only",
        "more &lt;",
    ):
        assert text in html


def test_plot_is_xml_with_all_marks_inside() -> None:
    drawing = svg.scatter("plot", "x", "y", POINTS, [svg.Line("reference", 0.40)])
    root = ET.fromstring(drawing[: drawing.index("<ul")])
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    circles = list(root.iter("circle"))
    assert len(circles) == 2
    for circle in circles:
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height
    assert float(circles[0].attrib["cx"]) < float(circles[1].attrib["cx"])
    assert float(circles[0].attrib["cy"]) > float(circles[1].attrib["cy"]), "the better one is higher"


def test_a_point_without_y_is_a_line_at_its_x() -> None:
    drawing = svg.scatter("plot", "x", "y", [*POINTS, svg.Point("<c>", (2.0, 1.5, 2.5), None)])
    root = ET.fromstring(drawing[: drawing.index("<ul")])
    assert len(list(root.iter("circle"))) == 2
    (line,) = (each for each in root.iter("line") if each.attrib["class"] == "interval dashed")
    assert line.attrib["x1"] == line.attrib["x2"]
    assert abs(float(line.attrib["y2"]) - float(line.attrib["y1"])) > 300
    assert "</span>&lt;c&gt;</li>" in drawing


def test_curve_goes_through_all_points() -> None:
    drawing = svg.curve("<loss>", "step", "loss", [(0, 1.0), (500, 0.25), (12000, 0.0)])
    root = ET.fromstring(drawing)
    (line,) = root.iter("polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert len(points) == 3
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted(y for _, y in points), "lower values are lower in the plot"
    assert ">12000<" in drawing


@pytest.mark.parametrize("values", [(0.0, 0.0), (1e-3, 1e-3), (-2.0, -2.0)])
def test_a_constant_curve(values: tuple[float, float]) -> None:
    assert "<polyline" in svg.curve("c", "step", "c", [(10, values[0]), (20, values[1])])


def test_one_point_without_spread() -> None:
    assert "<circle" in svg.scatter("plot", "x", "y", [svg.Point("a", (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 10.0, [0, 2, 4, 6, 8, 10]),
        (0.28, 0.36, [0.28, 0.3, 0.32, 0.34, 0.36]),
        (0.0, 0.9, [0, 0.2, 0.4, 0.6, 0.8]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert svg.ticks(low, high) == pytest.approx(expected)


def test_text_table() -> None:
    assert text_table(["m", "x"], [["long name", "1"], ["b", "1.25"]]) == (
        "m             x\n---------  ----\nlong name     1\nb          1.25"
    )


def test_machine_and_versions() -> None:
    assert {"CPU", "instruction set of fastcpu", "CPUs available", "Python"} <= set(machine())
    assert list(versions(["numpy", "no-such-package"])) == ["numpy"]


def test_a_distribution_without_a_name_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(versions(["numpy"])) == ["numpy"]


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    with pytest.raises(OutputError, match=r"new/report\.json: No such file or directory"):
        write_json(path, {"a": 1})
    write_text(path, "made with its folder")
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert [each.name for each in path.parent.iterdir()] == ["report.json"]
    assert json.loads(path.read_text()) == {"a": 2}


def test_unwritable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"report\.html"):
        write_text(tmp_path / "file" / "report.html", "x")


def test_a_file_is_replaced_only_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text("old")

    def write(error: BaseException) -> None:
        with replacing_file(path) as temporary:
            temporary.write_text("new")
            raise error

    for raised, caught in (
        (OSError(28, "No space left on device"), OutputError),
        (InputError("mine"), InputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):
        with pytest.raises(caught):
            write(raised)
        assert path.read_text() == "old"
    with (
        pytest.raises(OutputError, match=r"nowhere/model: No such file"),
        replacing_file(tmp_path / "nowhere" / "model"),
    ):
        pass
    with replacing_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["model"]
