"""docs/serving.md: what it says is what there is, and what it shows works."""

from __future__ import annotations

import gc
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fastcpu.cli.main import build_parser, load_commands
from fastcpu.export import write_model
from fastcpu.serve.config import Config, ModelConfig, make_config
from fastcpu.serve.metrics import Metrics
from fastcpu.serve.problems import REFUSED
from fastcpu.serve.protocols import operations
from tests.reference import graphs
from tests.serve.live import LiveServer, model_directory
from tests.tasks.models import LENGTH, save_tokenizer

TEXT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
MODELS = {
    "minilm": "embed",
    "sst2": "classify",
    "reranker": "rerank",
    "squad": "qa",
    "ner": "tag",
    "bert": "fill_mask",
}
"""The models of the examples, and their tasks."""


def section(heading: str) -> str:
    """What stands under a heading, up to the next of its level or above."""
    level = len(heading.partition(" ")[0])
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{level}}} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def rows(heading: str) -> list[list[str]]:
    """The rows of the tables under a heading, without their heads."""
    lines = re.findall(r"^\|.*\|$", section(heading), re.MULTILINE)
    table = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    rules = {index for index, row in enumerate(table) if row[0] == "---"}
    return [row for index, row in enumerate(table) if not {index, index + 1} & rules]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


# ---- tables ----


@pytest.mark.parametrize(("heading", "kind"), [("### Of the server", Config), ("### Of a model", ModelConfig)])
def test_settings(heading: str, kind: type[msgspec.Struct]) -> None:
    listed = {row[0].strip("`"): row[1] for row in rows(heading)}
    assert list(listed) == list(kind.__struct_fields__)
    for field in msgspec.structs.fields(kind):
        default = () if field.default_factory is not msgspec.NODEFAULT else field.default
        shown = yaml.safe_load(listed[field.name])
        if default is msgspec.NODEFAULT:
            assert shown is None
        elif isinstance(default, tuple):
            assert not shown
        else:
            assert shown == default, field.name


def test_options_of_the_command() -> None:
    parser = build_parser(load_commands())
    (commands,) = (action for action in parser._actions if isinstance(action.choices, dict))
    given = set(re.findall(r"--[a-z][a-z-]+", commands.choices["serve"].format_help())) - {"--help"}
    assert given <= set(re.findall(r"`(--[a-z][a-z-]+)[ `]", section("## Settings")))


def test_the_example_of_settings_is_one() -> None:
    (example,) = blocks("yaml")
    config = make_config(yaml.safe_load(example), "docs/serving.md")
    assert list(config.models) == ["minilm", "reranker"]


def documented() -> set[tuple[str, str]]:
    """Methods and paths of the tables of routes."""
    found = set()
    for method, path in re.findall(r"`(GET|POST) (/[^`]*)`", section("## Routes")):
        paths = {path, re.sub(r"\[.*?\]", "", path), path.replace("[", "").replace("]", "")}
        found |= {(method, each) for each in paths if "[" not in each}
    return found


def offered() -> set[tuple[str, str]]:
    """Methods and paths of the server, but for the page."""
    found = {
        (each.method, each.path.replace("{model:path}", "NAME").replace("{version}", "VERSION"))
        for each in operations()
    }
    return {each for each in found if each != ("GET", "/") and not each[1].startswith("/page/")}


def test_routes() -> None:
    assert documented() == offered()


def test_every_route_has_an_example() -> None:
    shown = {(method, path) for method, path, _, _ in requests()}
    for method, path in offered():
        if "/versions/" not in path:
            pattern = path.replace("NAME", "[a-z0-9]+")
            assert any(method == each and re.fullmatch(pattern, where) for each, where in shown), (method, path)


def test_metrics() -> None:
    exposition = Metrics().exposition().decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", exposition, re.MULTILINE))
    listed = {row[0].strip("`"): row[1] for row in rows("## Metrics")}
    assert listed == {name: kind for name, kind in kinds.items() if not name.endswith("_created")}


def test_statuses() -> None:
    listed = {int(status) for row in rows("## Limits") for status in re.findall(r"\b[45]\d\d\b", " ".join(row[:2]))}
    assert set(REFUSED) <= listed


# ---- examples ----


def requests() -> Iterator[tuple[str, str, bytes | None, dict[str, str]]]:
    """Method, path, body and headers of the commands with curl."""
    for block in blocks("sh"):
        for line in block.splitlines():
            words = shlex.split(line)
            assert words.pop(0) == "curl"
            url = words.pop()
            assert url.startswith(ADDRESS)
            method, body = "GET", None
            headers = {}
            while words:
                option, value = words.pop(0), words.pop(0)
                if option == "--json":
                    method, body, headers = "POST", value.encode(), {"content-type": "application/json"}
                else:
                    assert option == "-X"
                    method = value
            yield method, url.removeprefix(ADDRESS), body, headers


@pytest.fixture(scope="module")
def live(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with the models of the examples."""
    folder = tmp_path_factory.mktemp("hidden")
    save_tokenizer(folder / "source")
    write_model(graphs.encoder(length=LENGTH), folder / "hidden", folder / "source")
    arguments = [f"{name}={model_directory(tiny_models, task)}" for name, task in MODELS.items()]
    with LiveServer([*arguments, str(folder / "hidden"), "--threads", "1"]) as found:
        yield found


def test_requests_with_curl_are_answered(live: LiveServer) -> None:
    given = list(requests())
    assert len(given) > 30
    for method, path, body, headers in given:
        answer = live.request(method, path, body, headers)
        assert answer.status == 200, (method, path, answer.body)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: re.search(r"(?:from|import) (\w+)", code)[1])
def test_clients(live: LiveServer, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    for package in re.findall(r"^(?:from|import) ([\w.]+)", code, re.MULTILINE):
        pytest.importorskip(package)
    if "huggingface_hub" in code:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    names: dict[str, Any] = {}
    exec(compile(code.replace(ADDRESS.removeprefix("http://"), f"127.0.0.1:{live.port}"), "serving.md", "exec"), names)
    assert len(names.get("vectors", [0, 0])) == 2
    assert names.get("best", 0) in (0, 1)
    names.clear()
    with warnings.catch_warnings():  # examples do not close their clients
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
