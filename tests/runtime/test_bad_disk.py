"""Disks, permissions, memory and signals that fail: a typed error, no half-written model, no traceback for a user."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runtime.hostile import KINDS, Model

ROOT = Path(__file__).resolve().parents[2]
USER = 65534  # nobody

# Puts a process that is root into the shoes of a user without rights. Python may be out of reach from then on, so
# everything is imported before.
DROP_RIGHTS = f"import os; os.geteuid() or (os.setgroups([]), os.setegid({USER}), os.seteuid({USER}))\n"
WRITE = "from tests.reference import graphs\nfrom fastcpu.export.writer import write_model\n"


def python(code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)


def fastcpu_command(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastcpu", *map(str, args)], capture_output=True, text=True, check=False, timeout=120
    )


def expect_error(done: subprocess.CompletedProcess[str], error: str, message: str) -> None:
    assert done.returncode == 1, done
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"fastcpu.errors.{error}: "), done.stderr
    assert message in last, last


@pytest.fixture
def open_dir(tmp_path: Path) -> Path:
    """A directory that a user without rights reaches, if not through a parent of tmp_path then under /tmp."""
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o555)
    return tmp_path


def test_a_file_that_grows_too_large(tmp_path: Path) -> None:
    """The real thing: the system ends the write in the middle of the weights."""
    code = WRITE + (
        "import resource, signal, sys\n"
        "graph = graphs.encoder(layers=2, channels=64, inner=256)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "write_model(graph, sys.argv[1])\n"
    )
    expect_error(python(code, tmp_path / "out"), "OutputError", "cannot write the model: File too large")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk(tmp_path: Path) -> None:
    """The weights go to a device without space; what was there before stays."""
    code = WRITE + (
        "import sys\n"
        "from pathlib import Path\n"
        "write_model(graphs.encoder(), sys.argv[1])\n"
        "plain = Path.open\n"
        "full = lambda path, mode='r', **more: plain(Path('/dev/full') if 'w' in mode else path, mode, **more)\n"
        "Path.open = full\n"
        "write_model(graphs.encoder(seed=1), sys.argv[1])\n"
    )
    before_and_after = python(code, tmp_path / "out")
    expect_error(before_and_after, "OutputError", "cannot write the model: No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert python("import fastcpu, sys; fastcpu.Session(sys.argv[1])", tmp_path / "out").returncode == 0


def test_a_directory_without_permission(open_dir: Path) -> None:
    parent = open_dir / "closed"
    parent.mkdir(mode=0o555)
    imports = WRITE + "import sys\nwrite_model(graphs.encoder(), sys.argv[2])\n"
    code = imports + DROP_RIGHTS + "write_model(graphs.encoder(), sys.argv[1])\n"
    expect_error(python(code, parent / "out", open_dir / "first"), "OutputError", "Permission denied")
    assert not list(parent.iterdir())


@pytest.mark.parametrize("name", ["graph.json", "weights.safetensors", ""])
def test_a_model_without_permission(seeds: dict[str, Model], name: str, open_dir: Path) -> None:
    model = seeds["f32"].write(open_dir / "m")
    (model / name).chmod(0)
    code = "import fastcpu, sys\nSession = fastcpu.Session\n" + DROP_RIGHTS + "Session(sys.argv[1])\n"
    try:
        expect_error(python(code, model), "ResourceError", f"{name or 'graph.json'}: Permission denied")
    finally:
        (model / name).chmod(0o755)


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    code = WRITE + (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it\n"
        "from fastcpu.export import weights\n"
        "plain = weights.write\n"
        "def slow(*args):\n"
        "    plain(*args)\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
        "weights.write = slow\n"
        "write_model(graphs.encoder(), sys.argv[1])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors
    assert not list(tmp_path.iterdir())


MEMORY = """
import resource, sys
import numpy as np
import fastcpu

session = fastcpu.Session(sys.argv[1], threads=2)
ids = np.ones((2, 20), np.int64)
before = session.run({"input_ids": ids})
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20), resource.RLIM_INFINITY))
for rows in (100_000, 400_000):
    try:
        session.run({"input_ids": np.ones((rows, 20), np.uint8)})
    except fastcpu.InputError as error:
        print(type(error).__name__, error)
        break
else:
    sys.exit("no error")
after = session.run({"input_ids": ids})
assert all(np.array_equal(before[name], after[name]) for name in before)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_does_not_fit_into_memory(seeds: dict[str, Model], kind: str, tmp_path: Path) -> None:
    done = python(MEMORY, seeds[kind].write(tmp_path / "m"))
    assert done.returncode == 0, done.stderr
    assert re.match(r"InputError not enough memory .*: no room for \d+ bytes", done.stdout), done.stdout


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        (
            "[np.ones(24, int)] * 60_000",
            r"not enough memory for output 'hidden' of shape \[60000, 24, 64\]: no room for",
        ),
        ("[np.ones(1, int)] * 4_000_000", "not enough memory"),
        ("np.broadcast_to(np.int64(1), (1_000_000, 24))", "not enough memory to run this batch: Unable to allocate"),
        (
            "np.broadcast_to(np.uint8(1), (3_000_000, 24))",
            r"not enough memory .* 72000000 tokens: no room for \d+ bytes",
        ),
    ],
    ids=["output", "list", "copy", "tokens"],
)
def test_memory_that_ends_anywhere_is_an_input_error(feeds: str, message: str, tmp_path: Path) -> None:
    code = (
        "import numpy as np, resource, sys, fastcpu\n"
        "from tests.reference import graphs\n"
        "from fastcpu.export.writer import write_model\n"
        "b = graphs.Builder('tiny')\n"
        "b.output('hidden', b.embedding([b.unpad(types=False)[0]], [50], 64))\n"
        "session = fastcpu.Session(write_model(b.graph, sys.argv[1]), threads=1)\n"
        "before = session.run({'input_ids': [np.ones(24, int)]})['hidden']\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20), resource.RLIM_INFINITY))\n"
        "try:\n"
        f"    session.run({{'input_ids': {feeds}}})\n"
        "except fastcpu.InputError as error:\n"
        "    print(error)\n"
        "assert (session.run({'input_ids': [np.ones(24, int)]})['hidden'] == before).all()\n"
    )
    done = python(code, tmp_path / "m")
    assert done.returncode == 0, done.stderr
    assert re.match(message, done.stdout), done.stdout


def test_an_output_that_no_memory_holds(tmp_path: Path) -> None:
    """Two thousand sequences, one of them long: the padded output would be far larger than the work."""
    code = (
        "import numpy as np, sys, fastcpu\n"
        "from tests.reference import graphs\n"
        "b = graphs.Builder('wide')\n"
        "h = b.embedding([b.unpad(types=False)[0]], [50], 4096)\n"
        "b.output('hidden', h)\n"
        "from fastcpu.export.writer import write_model\n"
        "session = fastcpu.Session(write_model(b.graph, sys.argv[1]), threads=1)\n"
        "ids = np.ones(4_000_000, np.uint8)\n"
        "try:\n"
        "    session.run({'input_ids': [ids, *[ids[:1]] * 100_000]})\n"
        "except fastcpu.InputError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = python(code, tmp_path / "m")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("InputError output 'hidden' of this batch would have")


def test_threads_that_do_not_start(seeds: dict[str, Model], tmp_path: Path) -> None:
    code = (
        "import fastcpu, numpy as np, os, resource, sys\n"
        "session = fastcpu.Session(sys.argv[1], threads=4)\n"
        f"os.getuid() or os.setuid({USER})\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"
        "session.run({'input_ids': np.ones((2, 20), int)})\n"
    )
    done = python(code, seeds["f32"].write(tmp_path / "m"))
    expect_error(done, "ResourceError", "cannot start thread 2 of 4: Resource temporarily unavailable")


# ---- the command line ----


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: (model / "graph.json").unlink(), "No such file"),
        (lambda model: (model / "graph.json").write_text("{"), "invalid JSON"),
        (lambda model: (model / "graph.json").write_text('{"format": "fastcpu", "version": 99}'), "version 99"),
        (lambda model: (model / "weights.safetensors").write_bytes(b"x" * 100), "truncated"),
        (lambda model: os.truncate(model / "weights.safetensors", 5000), "lies outside the file"),
    ],
    ids=["missing", "json", "version", "header", "truncated"],
)
def test_commands_say_one_line(seeds: dict[str, Model], damage: object, message: str, tmp_path: Path) -> None:
    model = seeds["static"].write(tmp_path / "m")
    damage(model)  # type: ignore[operator]
    done = fastcpu_command("info", model)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("fastcpu: error: ")
    assert message in done.stderr


def test_a_command_that_is_interrupted(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it\n"
        "import fastcpu.cli.info as info\n"
        "from fastcpu.cli.main import main\n"
        "info.describe = lambda path: (print('started', flush=True), time.sleep(60))\n"
        "sys.exit(main(['info', 'x']))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
