"""SST-2: all-MiniLM-L6-v2 with a head, fine-tuned on the labels, and what the recipes make of it.

Train and dev of the data folder are GLUE's train; its test is GLUE's dev, which chooses nothing and is read once per
model at the end. The learning rate is chosen on full sentences that are held out of train, and so is what students are
distilled on: the phrases without their labels, which the teacher knows by heart, and the sentences of the other part.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.accuracy import runs
from bench.accuracy.sentences import sentences
from fastcpu.compression.gate import Gate
from fastcpu.recipe import load

SEED = 0
HELD_OUT = 700
"""Full sentences that models are chosen by."""
LEARNING_RATES = (5e-5, 1e-4, 2e-4)
STEPS = {"finetune": 6000, "int8-static": None, "sparse80-int8": 3600}
"""Training steps of each recipe; fine-tuning sees every phrase three times."""
LABELS = {0: "negative", 1: "positive"}

_LEAST_WORDS = 8
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


class Row(NamedTuple):
    """A phrase, and 0 or 1."""

    phrase: str
    label: str


def read(path: Path) -> list[Row]:
    """The rows of a table of GLUE, in order."""
    return [Row(*line.split("\t")) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def split(rows: Sequence[Row], count: int, seed: int) -> tuple[list[Row], list[Row]]:
    """What remains to train with, and ``count`` full sentences.

    A full sentence has at least eight words and ends like one. No phrase of one that is held out is trained on.
    """
    full = [row for row in rows if len(row.phrase.split()) >= _LEAST_WORDS and row.phrase.strip()[-1] in ".!?"]
    held = [full[i] for i in sorted(np.random.default_rng(seed).choice(len(full), count, replace=False))]
    inside = "\n".join(" " + " ".join(row.phrase.split()) + " " for row in held)
    return [row for row in rows if f" {' '.join(row.phrase.split())} " not in inside], held


def write(path: Path, rows: Sequence[Row]) -> Path:
    """A table that `fastcpu compress` and `fastcpu eval` read."""
    path.write_text("\n".join(["sentence\tlabel", *("\t".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return path


def _lines(path: Path, rows: Sequence[Row]) -> Path:
    """The phrases alone, one per line."""
    path.write_text("".join(f"{' '.join(row.phrase.split())}\n" for row in rows), encoding="utf-8")
    return path


def with_head(source: Path, out: Path, seed: int) -> Path:
    """A directory of the model with a random head for two labels, unless it is there already."""
    if not out.is_dir():
        import torch
        import transformers

        torch.manual_seed(seed)
        names: dict[str, Any] = {"id2label": LABELS, "label2id": {name: number for number, name in LABELS.items()}}
        model = transformers.AutoModelForSequenceClassification.from_pretrained(source, local_files_only=True, **names)
        partial = out.with_name(out.name + ".partial")
        model.save_pretrained(partial)
        for name in _TOKENIZER:
            if (source / name).is_file():
                shutil.copy(source / name, partial)
        partial.replace(out)
    return out


def run(data: Path, recipes: Sequence[str], steps: int | None, threads: int, device: str) -> None:
    """Fine-tunes and chooses the teacher, compresses it by the recipes, evaluates on GLUE dev, prints a table."""
    test = data / "sst2" / "test.tsv"
    train, held = split([*read(data / "sst2" / "train.tsv"), *read(data / "sst2" / "dev.tsv")], HELD_OUT, SEED)
    held_out = write(runs.MODELS / "sst2-held-out.tsv", held)
    options: dict[str, Any] = {
        "exclude": [_lines(runs.MODELS / "sst2-evaluation.txt", [*read(test), *held])],
        "gate": Gate("classify", str(held_out)),
        "seed": SEED,
        "threads": threads,
        "device": device,
    }
    labelled = {
        "data": [write(runs.MODELS / "sst2-train.tsv", train)],
        "columns": ["sentence1=sentence", "label=label"],
    }
    tuned, teacher, candidates = fine_tuned(options | labelled, steps)
    phrases, others = _lines(runs.MODELS / "sst2-train.txt", train), runs.MODELS / "sentences.txt"
    others.write_text("\n".join(sentences(data)) + "\n", encoding="utf-8")

    def measure(name: str, entry: dict[str, Any]) -> None:
        against = [] if name == tuned else ["--against", str(runs.MODELS / tuned)]
        metrics, difference = {}, {}
        for part, path in (("held-out", held_out), ("GLUE dev", test)):
            arguments = ["--task", "classify", "--data", str(path), *against]
            found = runs.evaluate(runs.MODELS / name, arguments, threads, final=path == test)
            metrics[part], difference[part] = found["models"][0]["metrics"], found.get("difference")
        runs.record(name, SEED, entry, metrics=metrics, difference_to_teacher=difference, candidates=candidates)
        values = ", ".join(f"{part} {100 * each['accuracy']['value']:.2f}" for part, each in metrics.items())
        print(f"{name:32} {values}", flush=True)

    entry = runs.trained(tuned)
    assert entry is not None
    measure(tuned, entry)
    for recipe in recipes:
        name = f"sst2-{Path(recipe).stem}-seed{SEED}"
        used = options | {"recipe": recipe, "data": [phrases]}
        if load(Path(recipe)).distill is None:
            used["device"] = "cpu"
        else:
            used["data"] = [phrases, others]
            used["steps"] = steps or STEPS.get(Path(recipe).stem)
        measure(name, runs.train(name, teacher, used))


def fine_tuned(options: dict[str, Any], steps: int | None) -> tuple[str, Path, dict[str, float]]:
    """The name of the best fine-tuned model, its directory for torch, and the accuracy of all on the held-out part.

    Of the others the reports are enough.
    """
    base, recipe = with_head(runs.minilm(), runs.MODELS / "sst2-base", SEED), load("finetune")
    assert recipe.distill is not None
    accuracy: dict[str, float] = {}
    used: dict[str, dict[str, Any]] = {}
    for rate in LEARNING_RATES:
        name = f"sst2-finetune-{rate:g}-seed{SEED}"
        chosen = replace(recipe, distill=replace(recipe.distill, learning_rate=rate))
        used[name] = options | {"recipe": chosen, "steps": steps or STEPS["finetune"]}
        entry = runs.trained(name) or runs.train(name, base, used[name], runs.MODELS / f"{name}-torch")
        accuracy[name] = entry["accuracy"]["model"]["accuracy"]["value"]
        print(f"{name:32} held out {100 * accuracy[name]:.2f}", flush=True)
    best = max(accuracy, key=accuracy.__getitem__)
    runs.train(best, base, used[best], runs.MODELS / f"{best}-torch")
    return best, runs.MODELS / f"{best}-torch", accuracy
