"""The package as a user first meets it: import, version, errors, ISA choice, command line; and the build checks."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import fastcpu
import fastcpu.cli.main as cli
from fastcpu import _core

ROOT = Path(__file__).resolve().parent.parent


def run_python(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )


# ---- import ----


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, fastcpu, fastcpu.cli.main as m; m.load_commands(); print(*sorted(sys.modules))"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {
        "torch",
        "transformers",
        "onnx",
        "onnx_ir",
        "onnxruntime",
        "onnxscript",
        "openvino",
        "nncf",
        "scipy",
        "numpy",
    }
    assert not loaded & heavy


def test_public_names_exist() -> None:
    for name in fastcpu.__all__:
        assert getattr(fastcpu, name) is not None
        assert name in dir(fastcpu)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fastcpu.nonsense  # noqa: B018


# ---- errors ----


def test_every_error_is_a_fastcpu_error() -> None:
    errors = importlib.import_module("fastcpu.errors")
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(classes) >= 8
    assert all(issubclass(cls, fastcpu.FastcpuError) for cls in classes)
    assert issubclass(fastcpu.InputError, ValueError)
    assert issubclass(fastcpu.OutputError, OSError)
    assert issubclass(fastcpu.ResourceError, OSError)


def test_unsupported_op_error_says_which_and_survives_pickling() -> None:
    error = fastcpu.UnsupportedOpError("/layer.0/Foo", "Foo", 17, "no such kernel")
    assert str(error) == "node '/layer.0/Foo': operator Foo (opset 17) is not supported: no such kernel"
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.node, copy.op, copy.opset, str(copy)) == ("/layer.0/Foo", "Foo", 17, str(error))


# ---- ISA tiers ----


def test_tiers_are_best_first_and_end_with_scalar() -> None:
    assert _core.isas()[-1] == "scalar"
    assert _core.supported_isas()[-1] == "scalar"
    assert [name for name in _core.isas() if name in _core.supported_isas()] == _core.supported_isas()


def test_supported_tiers_agree_with_the_kernel() -> None:
    """Linux lists what the CPU has and the OS enables, independently of our CPUID code."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        pytest.skip("no /proc/cpuinfo")
    lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith("flags"))
    flags = set(next(lines, "").split())
    vnni = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512vbmi"}
    needs = {"avx2": {"avx2", "fma", "f16c"}, "avx512vnni": vnni, "avx512bf16": vnni | {"avx512_bf16"}}
    for name, wanted in needs.items():
        assert (name in _core.supported_isas()) == (wanted <= flags)


def test_best_tier_is_selected_by_default() -> None:
    done = run_python("-c", "from fastcpu import _core; print(_core.selected_isa())", env={"FASTCPU_ISA": ""})
    assert done.stdout.strip() == _core.supported_isas()[0]


@pytest.mark.parametrize("name", _core.supported_isas())
def test_environment_variable_forces_exactly_one_tier(name: str) -> None:
    done = run_python("-c", "from fastcpu import _core; print(_core.selected_isa())", env={"FASTCPU_ISA": name})
    assert done.stdout.strip() == name


def test_unknown_tier_is_an_error_that_names_the_supported_ones() -> None:
    code = (
        "import fastcpu\nfrom fastcpu import _core\ntry: _core.selected_isa()\nexcept fastcpu.IsaError as e: print(e)"
    )
    done = run_python("-c", code, env={"FASTCPU_ISA": "avx9"})
    assert done.returncode == 0, done.stderr
    assert "FASTCPU_ISA=avx9" in done.stdout
    assert all(name in done.stdout for name in _core.supported_isas())


def test_forcing_an_unknown_tier_raises() -> None:
    with pytest.raises(fastcpu.IsaError, match="avx9"):
        _core.force_isa_for_testing("avx9")


def test_forced_tier_is_selected(each_isa: str) -> None:
    assert _core.selected_isa() == each_isa


# ---- command line ----


def test_version() -> None:
    done = run_python("-m", "fastcpu", "--version")
    assert (done.returncode, done.stdout) == (0, f"fastcpu {fastcpu.__version__}\n")


def test_missing_command_is_a_usage_error() -> None:
    done = run_python("-m", "fastcpu")
    assert done.returncode == 2
    assert "COMMAND" in done.stderr
    assert "Traceback" not in done.stderr


def test_registered_commands_have_a_parser_of_their_own_name() -> None:
    commands = cli.load_commands()
    parser = cli.build_parser(commands)
    for name in commands:
        with pytest.raises(SystemExit) as stopped:
            parser.parse_args([name, "--help"])
        assert stopped.value.code == 0


def fake_command(monkeypatch: pytest.MonkeyPatch, outcome: int | BaseException) -> None:
    """Makes `fastcpu fake` the only command; it returns or raises `outcome`."""

    def run(args: argparse.Namespace) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    module = types.ModuleType("fastcpu.cli.fake")
    module.add_parser = lambda subparsers: subparsers.add_parser("fake")  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fastcpu.cli.fake", module)
    monkeypatch.setattr(cli, "COMMANDS", ("fake",))


@pytest.mark.parametrize(
    ("outcome", "status", "stderr"),
    [
        (0, 0, ""),
        (3, 3, ""),
        (fastcpu.InputError("input 'x':\n  wrong rank"), 2, "fastcpu: error: input 'x': wrong rank\n"),
        (fastcpu.OutputError("cannot write y"), 2, "fastcpu: error: cannot write y\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: int | BaseException,
    status: int,
    stderr: str,
) -> None:
    fake_command(monkeypatch, outcome)
    assert cli.main(["fake"]) == status
    assert capsys.readouterr().err == stderr


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["fake"])


# ---- the check that AVX code stays in its own symbols ----

TWICE = "template <class T> T twice(T x) { return x + x; }\nint f(int x) { return twice(x); }"
SOURCES = {"isolated": f"namespace k::avx2 {{ {TWICE} }}", "leaking": f"namespace k {{ {TWICE} }}"}


@pytest.mark.parametrize(("kind", "status"), [("isolated", 0), ("leaking", 1)])
def test_isa_isolation_check(tmp_path: Path, kind: str, status: int) -> None:
    compiler = shutil.which("c++")
    if compiler is None or shutil.which("nm") is None:
        pytest.skip("no C++ compiler")
    source = tmp_path / "avx2.cc"
    source.write_text(SOURCES[kind])
    command = [compiler, "-O0", "-DFASTCPU_ISA_NAME=avx2", "-o", "avx2.o", "-c", str(source)]
    subprocess.run(command, cwd=tmp_path, check=True)
    entry = {"directory": str(tmp_path), "arguments": command, "file": str(source)}
    (tmp_path / "compile_commands.json").write_text(json.dumps([entry]))
    done = run_python(str(ROOT / "scripts" / "check_isa_isolation.py"), str(tmp_path))
    assert done.returncode == status, done.stdout + done.stderr
    assert "1 ISA-specific object files" in done.stdout
    assert ("twice<int>" in done.stdout) == (kind == "leaking")


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("torch", ("compile", "{hf}", "-o", "{out}")),
        (
            "torch",
            ("compress", "{hf}", "-o", "{out}", "--recipe", "distill3-int8", "--data", "{texts}", "--steps", "1"),
        ),
        ("onnx", ("export", "{out}", "--to", "onnx", "-o", "{out}.onnx")),
    ],
)
def test_a_package_that_is_not_installed_is_named(
    package: str, arguments: tuple[str, ...], minilm_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("a text\n")
    paths = {"hf": minilm_dir, "out": tmp_path / "out", "texts": tmp_path / "texts.txt"}
    code = (
        "import sys; sys.modules[sys.argv[1]] = None; from fastcpu.cli.main import main; sys.exit(main(sys.argv[2:]))"
    )
    done = run_python("-c", code, package, *(argument.format(**paths) for argument in arguments))
    assert done.returncode == 2
    assert f"the package '{package}' is not installed (pip install fastcpu[compress])" in done.stderr
    assert "Traceback" not in done.stderr
