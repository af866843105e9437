"""The settings of a server: YAML, environment and command line, and what is said of wrong ones."""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fastcpu.cli import serve as command
from fastcpu.cli.main import main
from fastcpu.errors import FastcpuError, FileFormatError, InputError
from fastcpu.serve.config import KEYS_VARIABLE, Config, ModelConfig, make_config, read_config
from tests.serve.live import model_directory


def made(**settings: Any) -> Config:
    return make_config({"models": {"m": "path"}, **settings}, "test")


def parsed(arguments: Sequence[str]) -> Config:
    """What the command line is taken for."""
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command._config(parser.parse_args(["serve", *arguments]))


def written(folder: Path, text: str) -> Path:
    path = folder / "serve.yaml"
    path.write_text(text)
    return path


def test_a_path_alone_is_a_model_with_the_usual_settings() -> None:
    assert made().model("m") == ModelConfig(path="path")


def test_a_file_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        port: 0
        api_keys: {bob: "0123456789"}
        models:
          one: one
          org/two: {path: ../two, aliases: [zwei], version: "2", max_delay_ms: 1.5, max_wait_ms: 0, weight: 2}
          three: /three
        """,
    )
    config = make_config(read_config(path), "file")
    assert config.port == 0
    assert config.keys() == {"bob": "0123456789"}
    assert config.model("one").path == str(tmp_path / "one")
    assert Path(config.model("org/two").path).resolve() == tmp_path.parent / "two"
    assert config.model("three").path == "/three"
    policy = config.model("org/two").policy()
    assert (policy.max_delay, policy.max_wait, policy.weight) == (0.0015, None, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: [", "not YAML"),
        ("just words", "not a mapping"),
        ("", "not a mapping"),
        ("- models", "not a mapping"),
        ("models: {a: !!python/object:os.system {}}", "not YAML"),
        ("since: 2024-99-99", "not YAML"),
        ("port: 1\nmodels: {}\nport: 2", "serve.yaml: line 3: 'port' is there already, in line 1"),
        ("models:\n  a: x\n  'a': y", "line 3: 'a' is there already, in line 2"),
        ("models:\n  m:\n    path: x\n    path: y", "line 4: 'path' is there already, in line 3"),
        ("a: {b: &x {<<: &y {c: 1}, c: 2, c: 3}}\nd: {<<: *x}", "line 1: 'c' is there already"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FileFormatError, match=words):
        read_config(written(tmp_path, text))


def test_settings_that_are_merged_may_be_given_again(tmp_path: Path) -> None:
    text = "models:\n  a: &a {path: /x, weight: 2}\n  b: &b {<<: *a, path: /y}\n  c: {<<: *b, weight: 3}\n"
    config = make_config(read_config(written(tmp_path, text)), "file")
    assert [(config.model(name).path, config.model(name).weight) for name in "abc"] == [("/x", 2), ("/y", 2), ("/y", 3)]


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_bytes(b"models: \xff\xfe")
    with pytest.raises(FileFormatError, match="not YAML"):
        read_config(path)
    with pytest.raises(InputError, match="No such file"):
        read_config(tmp_path / "absent")
    with pytest.raises(InputError, match="directory"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prot": 1}, "unknown field `prot`"),
        ({"models": {"m": {"path": "p", "batch": 1}}}, "model 'm': .*unknown field `batch`"),
        ({"models": {"m": {"version": "1"}}}, "model 'm': .*missing required field `path`"),
        ({"models": {"a": "p", "m": {"path": "p", "batch_tokens": 0}}}, r"model 'm': .*\$.batch_tokens"),
        ({"models": {"m": 7}}, "model 'm': neither a path nor a mapping"),
        ({"models": {"m": None}}, "model 'm': neither a path nor a mapping"),
        ({"models": {7: "p"}}, "the name of a model is text, which 7 is not"),
        ({"models": ["m"]}, r"\$.models"),
        ({"models": {}}, "no model to serve"),
        ({"port": "8000"}, r"\$.port"),
        ({"port": 65536}, r"\$.port"),
        ({"port": True}, r"\$.port"),
        ({"threads": -1}, r"\$.threads"),
        ({"threads": 1025}, r"\$.threads"),
        ({"host": ""}, "host is empty"),
        ({"cors_origins": "http://page"}, r"\$.cors_origins"),
        ({"cors_origins": ["http://page", "page"]}, "cors_origins: 'page' is no origin"),
        ({"cors_origins": ["https://page/"]}, "is no origin"),
        ({"cors_origins": ["https://Page"]}, "is no origin"),
        ({"api_keys": {"": "12345678"}}, "the name of a client is text"),
        ({"api_keys": {7: "12345678"}}, "the name of a client is text"),
        ({"api_keys": ["12345678"]}, r"\$.api_keys"),
        ({"instances": 0}, r"\$.instances"),
        ({"instances": 10**6}, r"\$.instances"),
        ({"client_share": 0}, r"\$.client_share"),
        ({"client_share": 1.5}, r"\$.client_share"),
        ({"log": "xml"}, r"\$.log"),
        ({"drain_seconds": float("nan")}, "drain_seconds"),
        ({"cache_mb": float("inf")}, "cache_mb is inf"),
        ({"models": {"m": {"path": "p", "weight": float("inf")}}}, "model 'm': weight is inf"),
        ({"models": {"m": {"path": "p", "weight": 0}}}, "weight"),
        ({"models": {"m": {"path": "p", "task": "fly"}}}, "no task 'fly'; there are"),
        ({"models": {"m": {"path": "p", "version": "1/2"}}}, "cannot be a version"),
        ({"models": {"m": {"path": "p", "version": 1}}}, "version"),
        ({"models": {"a": "p", "b": {"path": "p", "aliases": ["a"]}}}, "two models are called 'a'"),
        ({"models": {"a": {"path": "p", "aliases": ["x", "x"]}}}, "two models are called 'x'"),
        ({"models": {"a b": "p"}}, "cannot be the name"),
        ({"models": {"": "p"}}, "cannot be the name"),
        ({"models": {"a/b/c": "p"}}, "cannot be the name"),
        ({"models": {"a": {"path": "p", "aliases": ["é"]}}}, "cannot be the name"),
        ({"models": {"x" * 129: "p"}}, "cannot be the name"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        made(**settings)
    assert str(caught.value).startswith("test: ")


@pytest.mark.parametrize("key", ["short", "with space 123", "new-line-at-end\n", "umläute-sind-keine"])
def test_keys_must_be_words_of_some_length_and_are_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="the key of 'bob' must be 8 or more printable") as caught:
        made(api_keys={"bob": key})
    assert key not in str(caught.value)
    monkeypatch.setenv(KEYS_VARIABLE, f"bob={key}")
    with pytest.raises(InputError, match=f"{KEYS_VARIABLE}: entry 1") as caught:
        made().keys()
    assert key not in str(caught.value)


def test_a_key_that_is_a_number_is_not_shown() -> None:
    with pytest.raises(InputError, match="the key of 'bob' must be 8 or more") as caught:
        made(api_keys={"bob": 1234567890})
    assert "1234567890" not in str(caught.value)


def test_keys_of_the_environment_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, "bob=from-environment,,eve=with=sign=in-it")
    config = made(api_keys={"ann": "of-the-file"})
    assert config.keys() == {"bob": "from-environment", "ann": "of-the-file", "eve": "with=sign=in-it"}
    for wrong in ("bob", "=key-without-name", "a=12345678,b"):
        monkeypatch.setenv(KEYS_VARIABLE, wrong)
        with pytest.raises(InputError, match="is not name=key"):
            config.keys()


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("bob=11111111,eve=22222222,bob=33333333", "client 'bob' has a key already"),
        ("ann=11111111", "client 'ann' has a key already"),
        ("bob=11111111,eve=11111111", "'bob' and 'eve' have the same key"),
        ("bob=of-the-file", "'ann' and 'bob' have the same key"),
    ],
)
def test_clients_have_names_and_keys_of_their_own(monkeypatch: pytest.MonkeyPatch, variable: str, words: str) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, variable)
    with pytest.raises(InputError, match=words) as caught:
        made(api_keys={"ann": "of-the-file"}).keys()
    assert "11111111" not in str(caught.value)
    assert "of-the-file" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "192.0.2.1", "example.org")],
)
def test_a_server_is_open_if_others_reach_it_and_need_no_key(
    monkeypatch: pytest.MonkeyPatch, host: str, local: bool
) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    assert made(host=host).is_open is not local
    assert not made(host=host, api_keys={"ann": "of-the-file"}).is_open
    monkeypatch.setenv(KEYS_VARIABLE, "bob=from-environment")
    assert not made(host=host).is_open


def test_origins() -> None:
    assert made(cors_origins="*").cors_origins == ("*",)
    several = ("https://example.org", "http://127.0.0.1:3000", "http://[::1]:80", "null", "*")
    assert made(cors_origins=several).cors_origins == several


def test_what_is_typed_comes_before_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "port: 1\nthreads: 3\nmodels: {a: a, b: b}\naccess_log: true\n")
    config = parsed(["--config", str(path), "--port", "2", "b=elsewhere", "c=new", "--no-access-log"])
    assert (config.port, config.threads, config.access_log) == (2, 3, False)
    assert {name: config.model(name).path for name in config.models} == {
        "a": str(tmp_path / "a"),
        "b": "elsewhere",
        "c": "new",
    }


def test_models_are_named_after_their_folders() -> None:
    config = parsed(["some/folder/model-a", "other=some/folder", "./x=y/model-b", "org/name=path"])
    assert {name: config.model(name).path for name in config.models} == {
        "model-a": "some/folder/model-a",
        "other": "some/folder",
        "model-b": "./x=y/model-b",
        "org/name": "path",
    }


def test_a_folder_with_a_sign_in_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "a=b" / "c").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parsed(["models/a=b/c"]).models == {"c": "models/a=b/c"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no model to serve"),
        (["one/model", "two/model"], "two models are called 'model'"),
        (["a=one", "a=two"], "two models are called 'a'"),
        (["a="], "'a=' has no path"),
        ([""], "'' has no path"),
        (["=x"], "cannot be the name"),
        (["a/b/c=path"], "'a/b/c' cannot be the name"),
        (["x", "--host", ""], "host is empty"),
        (["x", "--threads", "1025"], r"\$.threads"),
        (["x", "--threads", "-1"], r"\$.threads"),
        (["x", "--cache-mb", "nan"], "cache_mb"),
        (["x", "--log", "xml"], r"\$.log"),
    ],
)
def test_wrong_words_on_the_command_line(arguments: list[str], words: str) -> None:
    with pytest.raises(FastcpuError, match=words) as caught:
        parsed(arguments)
    assert str(caught.value).startswith("command line: ")


def test_what_the_command_says_of_missing_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", str(tmp_path / "absent.yaml")]) == 2
    assert capfd.readouterr().err == f"fastcpu: error: --config {tmp_path / 'absent.yaml'}: No such file or directory\n"
    path = written(tmp_path, "modls: {}")
    assert main(["serve", "--config", str(path), "x"]) == 2
    assert capfd.readouterr().err == f"fastcpu: error: {path}: Object contains unknown field `modls`\n"


def ended(arguments: Sequence[str], before: str = "") -> tuple[int, str]:
    """The exit status and the standard error of a server that cannot start."""
    code = f"import sys\n{before}\nfrom fastcpu.cli.main import main\nsys.exit(main(['serve', *sys.argv[1:]]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("state", ["absent", "empty", "file"])
def test_a_model_that_is_none_ends_in_one_line(tmp_path: Path, state: str) -> None:
    path = tmp_path / "model"
    reason = {"absent": "No such file or directory", "empty": "it has no graph.json", "file": "Not a directory"}[state]
    if state == "empty":
        path.mkdir()
    elif state == "file":
        path.touch()
    expected = f"fastcpu: error: model 'model' ({path}): no model directory: {reason}\n"
    assert ended([str(path), "--port", "0"]) == (2, expected)


def test_a_port_in_use_is_noticed_before_models_are_loaded(tiny_models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = ended([str(model_directory(tiny_models, "embed")), "--port", str(port)])
    assert found == (2, f"fastcpu: error: cannot listen on 127.0.0.1:{port}: Address already in use\n")


@pytest.mark.parametrize("host", ["a..b", "203.0.113.1"])
def test_an_address_that_is_not_here(tmp_path: Path, host: str) -> None:
    status, line = ended([str(tmp_path), "--host", host, "--port", "0"])
    assert status == 2
    assert line.startswith("fastcpu: error: cannot listen on ")
    assert line.count("\n") == 1


@pytest.mark.parametrize("package", ["uvicorn", "httptools", "msgspec", "prometheus_client"])
def test_a_missing_package_is_named(package: str) -> None:
    status, line = ended(["x"], f"sys.modules[{package!r}] = None")
    assert status == 2
    assert line == f"fastcpu: error: serving needs the package {package!r} (pip install fastcpu[serve])\n"


def test_yaml_is_only_needed_for_files(tmp_path: Path) -> None:
    path = written(tmp_path, "models: {}")
    status, line = ended(["--config", str(path)], "sys.modules['yaml'] = None")
    assert status == 2
    assert line == "fastcpu: error: --config needs the package 'pyyaml' (pip install fastcpu[serve])\n"
