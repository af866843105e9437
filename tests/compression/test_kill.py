"""A compression that is killed again and again ends in the model of an undisturbed one."""

from __future__ import annotations

import json
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu.compression import compress
from tests.compression.conftest import RECIPE
from tests.compression.start import start

pytest.importorskip("torch")

STEPS = 200
STAGES = (
    "plan.json",
    "texts.json",
    "corpus",
    "teacher",
    "teacher.npy",
    "steps.json",
    "checkpoint.safetensors",
    "checkpoint.safetensors",
    "checkpoint.safetensors",
    "readout.json",
    "student",
    "kept.json",
)
"""A start is killed at a random moment after it has written this: the export is the last."""
LATEST = 0.1
"""Seconds from there to a kill, at most."""


def version(path: Path) -> int:
    """Changes when a file or folder is written again; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def kill_after(process: BaseProcess, path: Path, before: int, delay: float) -> bool:
    """Kills a process some time after it has written a file; False if it has ended by itself before that."""
    while process.is_alive() and version(path) == before:
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode == -9


def test_kills_in_every_stage(
    encoder_dir: Path,
    texts_file: Path,
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    processes: Any,
) -> None:
    """Starts are killed at random moments, at least one in each stage."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.format(steps=STEPS).replace("[distill]", "[distill]\nreadout = 400"))
    monkeypatch.setenv("FASTCPU_CHECKPOINT_SECONDS", "0.05")
    out, log = tmp_path / "killed", tmp_path / "log.txt"
    options = ["--recipe", recipe, "--data", texts_file, "--threads", "1", "--no-timing", "--resume"]
    options += ["--keep-student", tmp_path / "kept"]
    arguments = [str(each) for each in ("compress", encoder_dir, "-o", out, *options)]
    killed = []
    for stage in STAGES:
        path = out.with_name("killed.work") / stage
        before = version(path) if stage.startswith("checkpoint") else 0
        process = processes.Process(target=start, args=(arguments, str(log)))
        process.start()
        if kill_after(process, path, before, float(rng.uniform(0, LATEST))):
            killed.append(stage)
        else:
            assert process.exitcode == 0, f"{stage}: {log.read_text()}"
    assert len(killed) >= len(STAGES) - 1, f"killed only after {killed}"  # one may finish before it is due
    process = processes.Process(target=start, args=(arguments, str(log)))
    process.start()
    process.join()
    assert process.exitcode == 0, log.read_text()
    student = tmp_path / "student"
    whole = compress(
        encoder_dir,
        tmp_path / "whole",
        recipe=recipe,
        data=[texts_file],
        threads=1,
        timing=False,
        keep_student=student,
    ).directory
    for name in ("graph.json", "weights.safetensors"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert (tmp_path / "kept" / "model.safetensors").read_bytes() == (student / "model.safetensors").read_bytes()
    mine, theirs = (json.loads((each / "report.json").read_text())["compression"] for each in (out, whole))
    for name in ("plan", "texts", "steps", "log", "readout"):
        assert mine[name] == theirs[name]
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "kept",
        "killed",
        "log.txt",
        "student",
        "tiny.toml",
        "whole",
    ]
