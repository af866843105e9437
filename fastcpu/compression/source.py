"""What the directory of a model says about itself: name, licence, and what its answers are for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fastcpu.eval import classify, qa
from fastcpu.frontend.families import split
from fastcpu.frontend.sentence_transformers import MODULES_FILE

KINDS = {
    "Model": "embed",
    "ForMaskedLM": "fill_mask",
    "ForQuestionAnswering": "qa",
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "tag",
}
"""Ending of the class in config.json -> name in `fastcpu.tasks.TASKS`."""

_CARD_BYTES = 1 << 16
_LICENSE_KEYS = ("license", "license_name", "license_link")
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
_HUB_FOLDER = re.compile(r"models--([^/]+?)--([^/]+)")


def describe_source(directory: Path) -> dict[str, Any]:
    """``name``, ``licence`` (the license entries of its README.md) and ``kind``, a name of `KINDS` or None."""
    return {"name": name(directory), "licence": licence(directory), "kind": kind(directory)}


def name(directory: Path) -> str:
    """The identifier on the Hub if the directory lies in its cache, else the name of the directory."""
    found = _HUB_FOLDER.search(directory.resolve().as_posix())
    return f"{found[1]}/{found[2]}" if found else directory.resolve().name


def licence(directory: Path) -> dict[str, str]:
    """The license entries in the front matter of README.md; empty where there are none."""
    try:
        with (directory / "README.md").open("rb") as file:
            text = file.read(_CARD_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    found = _FRONT_MATTER.match(text)
    entries: dict[str, str] = {}
    for line in found[1].splitlines() if found else []:
        key, _, value = line.partition(":")
        value = value.strip().strip("\"'")
        if key in _LICENSE_KEYS and value:
            entries[key] = value
    return entries


def kind(directory: Path) -> str | None:
    """What the model answers, by modules.json and by the class and the labels in config.json."""
    if (directory / MODULES_FILE).is_file():
        return "embed"
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        found = split(config["architectures"][0])
        labels = len(config.get("id2label", ())) or config.get("num_labels")
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None
    if found is None:
        return None
    return "rerank" if found[1] == "ForSequenceClassification" and labels == 1 else KINDS[found[1]]


def longest_text(directory: Path) -> int:
    """How many tokens of a text, or of a question and its passage, are trained with where a recipe does not say."""
    return qa.MAX_LENGTH if kind(directory) == "qa" else classify.MAX_LENGTH
