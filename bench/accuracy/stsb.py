"""STS-B: all-MiniLM-L6-v2 by the recipes, on unlabelled sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.accuracy import runs
from bench.accuracy.sentences import evaluation_sentences, sentences
from fastcpu.recipe import load

RECIPES = (
    "int8-static",
    "distill3-int8",
    "sparse50-int8",
    "distill3-sparse60-int8",
    "sparse80-int8",
    str(Path(__file__).parent / "recipes" / "distill4-int8.toml"),
)
"""Shipped ones by name, and four dense layers, which only the front needs."""
STEPS = 1000
"""Training steps of each that trains: a quarter to half an hour of one core without matrix instructions."""


def run(data: Path, recipes: Sequence[str], seeds: Sequence[int], steps: int | None, threads: int, device: str) -> None:
    """Trains what is missing, evaluates everything on dev and test, prints a table."""
    teacher = {split: spearman(runs.minilm(), split, threads)["value"] for split in ("dev", "test")}
    print(f"{'teacher':32} dev {100 * teacher['dev']:.2f} test {100 * teacher['test']:.2f}")
    texts, exclude = runs.MODELS / "sentences.txt", runs.MODELS / "evaluation.txt"
    texts.write_text("\n".join(sentences(data)) + "\n", encoding="utf-8")
    exclude.write_text("\n".join(evaluation_sentences(data)) + "\n", encoding="utf-8")
    options: dict[str, Any] = {"data": [texts], "exclude": [exclude], "threads": threads, "device": device}
    for recipe in recipes:
        title, values = Path(recipe).stem, []
        for seed in seeds:
            name = f"{title}-seed{seed}"
            used = options | {"recipe": recipe, "seed": seed}
            if load(Path(recipe)).distill is None:
                used["device"] = "cpu"
            else:
                used["steps"] = steps or STEPS
            entry = runs.train(name, runs.minilm(), used)
            metrics = {split: spearman(runs.MODELS / name, split, threads) for split in ("dev", "test")}
            runs.record(name, seed, entry, metrics=metrics)
            values.append(100 * metrics["test"]["value"])
            print(
                f"{f'{title} seed {seed}':32} dev {100 * metrics['dev']['value']:.2f} test {values[-1]:.2f}", flush=True
            )
        print(f"{title:32} test mean {sum(values) / len(values):.2f}, worst {min(values):.2f}", flush=True)


def spearman(model: Path, split: str, threads: int) -> dict[str, Any]:
    """Spearman's correlation on a split, with its interval."""
    content = runs.evaluate(model, ["--task", "sts", "--split", split], threads, final=split == "test")
    found: dict[str, Any] = content["models"][0]["metrics"]["spearman"]
    return found
