"""What is written where there is something else than a file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastcpu import OutputError
from fastcpu.files import replacing_file, write_json, write_text

JSON = '{\n  "a": 1\n}\n'


def test_links_stay_and_their_targets_are_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "folder" / "target.json", tmp_path / "link.json"
    target.parent.mkdir()
    link.symlink_to("folder/target.json")
    write_json(link, {"a": 1})  # the link leads to nothing yet
    assert (target.read_text(), str(link.readlink())) == (JSON, "folder/target.json")
    write_text(link, "new")
    assert (target.read_text(), str(link.readlink())) == ("new", "folder/target.json")
    assert list(target.parent.iterdir()) == [target]
    target.unlink()
    target.symlink_to(link)
    with pytest.raises(OutputError, match=r"link\.json: Too many levels"):
        write_json(link, {"a": 1})


def test_json_goes_into_a_pipe_that_is_there(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_text()), daemon=True)
    reader.start()
    write_json(fifo, {"a": 1})
    if not stat.S_ISFIFO(fifo.stat().st_mode):
        pytest.fail("a file took the place of the pipe")
    reader.join(10)
    assert received == [JSON]


def test_json_goes_into_a_device_that_is_there(tmp_path: Path) -> None:
    node, link = tmp_path / "null", tmp_path / "link"
    try:
        os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(1, 3))  # as /dev/null
        node.write_bytes(b"")
    except PermissionError:
        pytest.skip("no device nodes can be made here")
    link.symlink_to(node)
    for path in (node, link):
        write_json(path, {"a": 1})
        assert stat.S_ISCHR(path.stat().st_mode)
    assert link.is_symlink()


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_json_on_standard_output(kind: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fastcpu.files import write_json\n"
        "print('before'); write_json(Path(sys.argv[1]), {'a': 1}); print('after')"
    )
    out, link = tmp_path / "out", tmp_path / "stdout"
    link.symlink_to("/proc/self/fd/1")  # as /dev/stdout is
    with out.open("wb") as file:
        command = [sys.executable, "-c", code, str(link)]
        done = subprocess.run(command, stdout=file if kind == "file" else subprocess.PIPE, check=True)
    printed = out.read_text() if kind == "file" else done.stdout.decode()
    assert printed == f"before\n{JSON}after\n"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(OutputError, match="exists and is not a file"), replacing_file(path):
            pytest.fail("the block must not run")
    with pytest.raises(OutputError, match="exists and is not a file"):
        write_text(fifo, "x")
    with pytest.raises(OutputError, match="exists and is not a file"):
        write_json(tmp_path, {"a": 1})
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert list(tmp_path.iterdir()) == [fifo]
