"""SST-2: all-MiniLM-L6-v2 with a head, fine-tuned on the labels, and what the recipes make of it.

Train and dev of the data folder are GLUE's train; its test is GLUE's dev, which chooses nothing and is read once per
model at the end. How models are trained was chosen on full sentences that are held out of train
(docs/decisions/0004-compression.md). Several models are fine-tuned on the labels, drawing long phrases more often,
since most are mere parts of others. The teacher learns their mean prediction on the phrases and on sentences that are
spliced from them, without labels. What is compressed from it is distilled on the phrases without their labels, which
it knows by heart, and on sentences of the other part.
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
from bench.accuracy.splices import splice
from fastcpu.compression.gate import Gate
from fastcpu.recipe import load

SEED = 0
HELD_OUT = 700
"""Full sentences that models are chosen by."""
MEMBERS = (0, 1)
"""Seeds of the models that the teacher learns from."""
RECIPES = ("int8-static", "sparse80-int8")
STEPS = {"finetune": 2000, "sst2-teacher": 1200, "sparse80-int8": 3600}
"""Training steps of each recipe."""
SPLICED = 60_000
"""Sentences that are spliced."""
LABELS = {0: "negative", 1: "positive"}

_TEACHER = Path(__file__).parent / "recipes" / "sst2-teacher.toml"
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
    """Fine-tunes the members, makes one teacher of them, compresses it, evaluates on GLUE dev, prints a table."""
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
    phrases, others = _lines(runs.MODELS / "sst2-train.txt", train), runs.MODELS / "sentences.txt"
    others.write_text("\n".join(sentences(data)) + "\n", encoding="utf-8")

    spliced = runs.MODELS / "sst2-spliced.txt"
    spliced.write_text("\n".join(splice([row.phrase for row in train], SPLICED, SEED)) + "\n", encoding="utf-8")
    tuned = f"sst2-teacher-seed{SEED}"
    teacher = runs.MODELS / f"{tuned}-torch"

    def measure(name: str, seed: int, entry: dict[str, Any], final: bool) -> None:
        against = ["--against", str(runs.MODELS / tuned)] if final and name != tuned else []
        metrics, difference = {}, {}
        for part, path in (("held-out", held_out), ("GLUE dev", test))[: 2 if final else 1]:
            arguments = ["--task", "classify", "--data", str(path), *against]
            found = runs.evaluate(runs.MODELS / name, arguments, threads, final=path == test)
            metrics[part], difference[part] = found["models"][0]["metrics"], found.get("difference")
        runs.record(name, seed, entry, metrics=metrics, difference_to_teacher=difference)
        values = ", ".join(f"{part} {100 * each['accuracy']['value']:.2f}" for part, each in metrics.items())
        print(f"{name:32} {values}", flush=True)

    recipe = load("finetune")
    assert recipe.distill is not None
    by_length = replace(recipe, distill=replace(recipe.distill, sampling="by length"))
    members = []
    for seed in MEMBERS:
        name = f"sst2-finetune-seed{seed}"
        members.append(runs.MODELS / f"{name}-torch")
        labelled = options | {
            "recipe": by_length,
            "data": [write(runs.MODELS / "sst2-train.tsv", train)],
            "columns": ["sentence1=sentence", "label=label"],
            "seed": seed,
            "steps": steps or STEPS["finetune"],
        }
        base = with_head(runs.minilm(), runs.MODELS / f"sst2-base-seed{seed}", seed)
        measure(name, seed, runs.train(name, base, labelled, members[-1]), final=False)
    used = options | {"recipe": _TEACHER, "data": [spliced, phrases], "teacher": members}
    used["steps"] = steps or STEPS["sst2-teacher"]
    measure(tuned, SEED, runs.train(tuned, members[0], used, teacher), final=True)
    for given in recipes:
        name = f"sst2-{Path(given).stem}-seed{SEED}"
        used = options | {"recipe": given, "data": [phrases]}
        if load(Path(given)).distill is None:
            used["device"] = "cpu"
        else:
            used["data"] = [phrases, others]
            used["steps"] = steps or STEPS.get(Path(given).stem)
        measure(name, SEED, runs.train(name, teacher, used), final=True)
