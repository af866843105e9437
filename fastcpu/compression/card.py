"""README.md: a model card as the Hugging Face Hub reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastcpu.compression import describe
from fastcpu.compression.describe import Json

_HUB_METRICS = {"f1": "f1", "accuracy": "accuracy", "matthews": "matthews_correlation", "spearman": "spearmanr"}
"""Names of our metrics -> those of the Hub, where they differ or are known to be the same."""

_USES: Mapping[str | None, tuple[str | None, str]] = {
    "classify": ("text-classification", 'classify = Classifier("{path}")\nresults = classify(["a text"])'),
    "embed": ("feature-extraction", 'embedder = Embedder("{path}")\nvectors = embedder.embed(["a text", "another"])'),
    "fill_mask": (
        "fill-mask",
        'fill = MaskFiller("{path}")\nresults = fill([f"a text with a {{fill.mask}}"])',
    ),
    "qa": (
        "question-answering",
        'answer = QuestionAnswerer("{path}")\nresults = answer([("a question?", "a passage")])',
    ),
    "rerank": (
        "text-ranking",
        'rerank = Reranker("{path}")\nresults = rerank([("a query", ["a passage", "another"])])',
    ),
    "tag": ("token-classification", 'tag = Tagger("{path}")\nresults = tag(["a text"])'),
    None: (
        None,
        'session = fastcpu.Session("{path}")\noutputs = session.run({{"input_ids": ids, "attention_mask": mask}})',
    ),
}
"""Kind of a model (`fastcpu.compression.source`) -> its pipeline tag on the Hub, and how it is used."""

_PATH = "path/to/this/directory"
_PLAIN_SCALAR = re.compile(r"[A-Za-z][\w./+-]*\Z", re.ASCII)
_YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}


def markdown(report: Json) -> str:
    """The card for the contents of a report.json."""
    accuracy = describe.quality(report)
    measured = [] if accuracy is None else ["95 % intervals:", _table(*accuracy)]
    engines = describe.engines(report)
    if engines is not None:
        measured += ["This model in other engines, on the files that `fastcpu export` writes:", _table(*engines)]
    parts = [
        _front_matter(report),
        f"# {_text(describe.title(report))}",
        "Runs in fastcpu, on CPUs. `report.html` beside this card has the details.",
        "## Use",
        _fenced(_use(report), "python"),
        "## Metrics",
        _table(*describe.summary(report)),
        *measured,
        "## How it was made",
        _fenced(report["compression"]["command"] or "Python API"),
        _list(describe.steps(report)),
        "Data:",
        _list(describe.data(report)),
        f"Versions: {_text(', '.join(f'{name} {version}' for name, version in report['versions'].items()))}.",
        "## Limits",
        "\n".join(f"- {_text(each)}" for each in [*describe.limits(report), *_GENERAL_LIMITS]),
    ]
    return "\n\n".join(parts) + "\n"


_GENERAL_LIMITS = (
    "What the original model is not made for, this one is not made for either, and its biases are still there.",
    "Compression may change single answers, and those on rare inputs more than those on frequent ones.",
    "The files are for fastcpu; `fastcpu export --to onnx` writes an .onnx file for other engines.",
)


# ---- front matter ----


def _front_matter(report: Json) -> str:
    compression = report["compression"]
    recipe, source = compression["plan"]["recipe"], compression["source"]
    kind = source["kind"]
    steps = {"int8": recipe["quantize"], "sparse": recipe["prune"], "distillation": recipe["distill"]}
    accuracy = compression.get("accuracy")
    entries: dict[str, Any] = {
        "base_model": source["name"],
        "base_model_relation": "quantized",
        **source["licence"],
        "library_name": "fastcpu",
        "pipeline_tag": _USES[kind][0],
        "tags": ["fastcpu", "cpu", *(tag for tag, step in steps.items() if step is not None)],
        "metrics": [_HUB_METRICS.get(name, name) for name in accuracy["model"]] if accuracy else None,
    }
    lines = ["---"]
    for key, value in entries.items():
        if isinstance(value, list):
            lines += [f"{key}:", *(f"- {_scalar(item)}" for item in value)]
        elif value is not None:
            lines.append(f"{key}: {_scalar(value)}")
    return "\n".join([*lines, "---"])


def _scalar(value: str) -> str:
    """A YAML scalar: plain where nothing can be mistaken, else quoted as in JSON, which YAML reads too."""
    plain = _PLAIN_SCALAR.match(value) and value.lower() not in _YAML_WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)


# ---- Markdown ----


def _use(report: Json) -> str:
    """Three lines of Python."""
    kind = report["compression"]["source"]["kind"]
    lines = _USES[kind][1].format(path=_PATH)
    name = lines.partition(" = ")[2].partition("(")[0]
    return f"{'import fastcpu' if kind is None else f'from fastcpu.tasks import {name}'}\n{lines}"


def _text(text: str) -> str:
    """Plain text, in which nothing is markup but code in backticks, if these come in pairs."""
    words = " ".join(text.split())
    pieces = words.split("`") if words.count("`") % 2 == 0 else [words]
    return "`".join(piece if index % 2 else _escaped(piece) for index, piece in enumerate(pieces))


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>&|#~$])", r"\\\1", text)


def _fenced(text: str, language: str = "") -> str:
    """A block of code with a fence that is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    cells = ([_escaped(cell) if index != 1 else cell for cell in line] for index, line in enumerate(lines))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _list(entries: Mapping[str, str]) -> str:
    return "\n".join(f"- {_escaped(name)}: {_escaped(value)}" for name, value in entries.items())
