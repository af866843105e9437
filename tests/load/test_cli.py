"""`fastcpu load` as a whole: what it prints and writes, and errors."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from fastcpu.cli.load import _time
from fastcpu.cli.main import main
from tests.load.scripted import Exchange, in_thread, simple

QUICK = ["--warmup", "0", "-d", "300ms"]


def test_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts.tsv").write_text("label\ttext\n1\tone\n0\ttwo words\n")
    files = [tmp_path / name for name in ("a.json", "a.svg", "a.html")]
    options = ["--protocol", "tei", "--rate", "100", *QUICK, "--seed", "3", "--batch", "2", "--api-key", "s3cret-key"]
    options += ["--texts", str(tmp_path / "texts.tsv"), "--columns", "text", "--json", str(files[0])]
    with in_thread(simple) as server:
        command = ["load", f"{server.url}/up", *options]
        monkeypatch.setattr("sys.argv", ["fastcpu", *command])
        assert main([*command, "--plot", str(files[1])]) == 0
        assert main([*command, "--plot", str(files[2])]) == 0
        requests = list(server.requests)
    assert {exchange.path for exchange in requests} == {"/up/embed"}
    assert {exchange.headers["authorization"] for exchange in requests} == {"Bearer s3cret-key"}
    assert all(sorted(exchange.body["inputs"]) == ["one", "two words"] for exchange in requests)
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"{server.url}/up/embed (tei)\n100 requests/s, open loop, 2 texts each, for 0.3 s after 0 s"
    )
    assert "2 different texts" in printed
    assert "answers 200 OK" in printed

    found = json.loads(files[0].read_text(encoding="utf-8"))
    assert found["command"][:3] == ["fastcpu", "load", f"{server.url}/up"]
    assert "***" in found["command"]
    assert (found["plan"]["seed"], found["plan"]["batch"], found["plan"]["duration"]) == (3, 2, 0.3)
    assert 2 * found["requests"]["sent"] == len(requests)
    drawing = ET.parse(files[1]).getroot()
    assert [child.tag.rpartition("}")[2] for child in drawing].count("svg") == 5
    page = files[2].read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("<svg ") == 5
    assert not any("s3cret" in file.read_text(encoding="utf-8") for file in files)
    assert "s3cret" not in printed


def test_json_alone_on_standard_output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCPU_API_KEY", "from-outside")
    with in_thread(simple) as server:
        assert main(["load", server.url, "--model", "m", "-c", "2", *QUICK, "-n", "5", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["requests"]["sent"] == 5
    assert "2 under way" in captured.err
    assert server.requests[0].headers["authorization"] == "Bearer from-outside"
    assert server.requests[0].body["encoding_format"] == "base64"


def test_whatever_the_server_answers_is_a_result(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async def fail(exchange: Exchange) -> None:
        exchange.answer(404, "no <such> model")

    with in_thread(fail) as server:
        command = ["load", server.url, "-c", "2", *QUICK, "--protocol", "v2", "--model", "m"]
        assert main([*command, "--plot", str(tmp_path / "a.html")]) == 0
        assert main([*command, "--plot", str(tmp_path / "a.svg")]) == 0
    printed = capsys.readouterr().out
    assert "answers 404 Not Found: no <such> model" in printed
    assert "  * no answer was a success (first: 404 Not Found: no <such> model)\n" in printed
    assert "no &lt;such&gt; model" in (tmp_path / "a.html").read_text()


# Jobs in the background of a shell ignore interrupts; commands at a terminal do not.
_AT_A_TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("load", "warmup", "answers"),
    [
        (["-r", "50"], "0", True),
        (["-c", "2"], "0", True),
        (["-r", "50"], "0", False),
        (["-c", "2"], "0", False),
        (["-r", "50"], "60", True),
        (["-c", "2"], "60", True),
    ],
)
def test_an_interrupted_run_is_reported(load: list[str], warmup: str, answers: bool, tmp_path: Path) -> None:
    asked = threading.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.number >= 6 or not answers:
            asked.set()
        if answers:
            await asyncio.sleep(0.01)
            exchange.answer()
        else:
            await asyncio.sleep(60)

    files = [tmp_path / name for name in ("a.json", "a.svg")]
    with in_thread(script) as server:
        command = [sys.executable, "-c", _AT_A_TERMINAL, "-m", "fastcpu", "load", server.url, "--protocol", "tei"]
        command += [
            *load,
            "-d",
            "60",
            "--warmup",
            warmup,
            "--timeout",
            "50",
            "--json",
            str(files[0]),
            "--plot",
            str(files[1]),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert asked.wait(60)
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        printed, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (130, "")
    assert "NOT VALID" in printed
    found = json.loads(files[0].read_text(encoding="utf-8"))
    requests, seconds = found["requests"], found["interrupted"]
    assert not found["valid"]
    assert found["problems"][0] == f"interrupted after {seconds:.1f} s"
    assert f"  * {found['problems'][0]}\n" in printed
    assert requests["failed"] == 0
    assert requests["sent"] == requests["answered"] + requests["unfinished"]
    assert found["rates"]["seconds"] == pytest.approx(seconds)
    assert seconds < 30
    if warmup != "0":
        assert (requests["sent"], seconds) == (0, 0)
        assert "no request was measured" in found["problems"]
    elif answers:
        assert requests["good"] == requests["answered"] > 0
    else:
        assert f"{requests['unfinished']} requests without an answer when the run was interrupted" in printed
    assert ET.parse(files[1]).getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://127.0.0.1:1", "-c", "1"], "127.0.0.1:1: no connection can be made: Connection refused"),
        (["http://127.0.0.1:1"], "either a rate (open loop) or a concurrency (closed loop)"),
        (["http://127.0.0.1:1", "-r", "0"], "rate must be above 0"),
        (["127.0.0.1:1", "-r", "1"], "must begin with http://"),
        (["http://127.0.0.1:1", "-r", "1", "-d", "0"], "duration must be above 0"),
        (["http://127.0.0.1:1", "-r", "1", "--protocol", "v2"], "needs the name of a model"),
        (["http://127.0.0.1:1", "-r", "1", "--texts", "nowhere.txt"], "nowhere.txt"),
        (["http://127.0.0.1:1", "-r", "1", "--tokens", "9"], "needs a tokenizer"),
        (["http://127.0.0.1:1", "-r", "1", "--seed", "-1"], "seed must not be negative"),
        (["http://127.0.0.1:1", "-r", "1", "--plot", "a.png"], "plots are .svg or .html files"),
        (["http://127.0.0.1:1", "-r", "1", "--plot", "nowhere/a.svg"], "--plot nowhere/a.svg"),
        (["http://127.0.0.1:1", "-r", "1", "--json", "nowhere/a.json"], "--json nowhere/a.json"),
        (["http://127.0.0.1:1", "-c", "1", "--max-connections", "9"], "--max-connections is for --rate"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", *arguments, *(["--model", "m"] if "v2" not in arguments else [])]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fastcpu: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize(
    "arguments", [["--protocol", "grpc"], ["-d", "soon"], ["-d", "-1"], ["-r", "many"], ["-c", "1.5"]]
)
def test_bad_words(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["load", "http://127.0.0.1:1", *arguments])
    assert raised.value.code == 2
    assert "fastcpu load: error: argument" in capsys.readouterr().err


def test_times() -> None:
    assert [_time(text) for text in ("10", "0.5", "500ms", "30s", "2m", "1h", "1.5s", ".5")] == [
        10,
        0.5,
        0.5,
        30,
        120,
        3600,
        1.5,
        0.5,
    ]
