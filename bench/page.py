"""One page of what the benchmark measured: bars of the engines for every model and shape, and how it was measured.

    python -m bench.page [FILE.json ...] [--out build/bench/results.html]

FILE is what `python -m bench --json` writes; without any, those of bench/results.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastcpu.report import page, svg

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
DEFAULT_OUT = ROOT / "build" / "bench" / "results.html"
ENGINES = {
    "fastcpu": "fastcpu",
    "neural_engine": "Intel Neural Engine int8",
    "deepsparse": "DeepSparse",
    "openvino_int8": "OpenVINO int8",
    "openvino_fp32": "OpenVINO fp32",
    "onnxruntime_int8": "ONNX Runtime int8",
    "onnxruntime_fp32": "ONNX Runtime fp32",
    "torch_fp32": "PyTorch fp32",
}
"""What readers call the engines."""


def read(path: Path) -> dict[str, Any] | None:
    """A result file of the benchmark; None if it is of something else. ValueError if it is no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: no object")
    cases = content.get("results")
    is_bench = isinstance(cases, list) and all(isinstance(case, dict) and "ratios" in case for case in cases)
    if not is_bench or not cases:
        return None
    missing = {"machine", "git", "threads", "versions", "date"} - set(content)
    if missing:
        raise ValueError(f"{path}: no {', '.join(sorted(missing))}")
    return content


def _spread(value: Mapping[str, float]) -> tuple[float, float, float]:
    return value["median"], value["q1"], value["q3"]


def _label(name: str, void: bool) -> str:
    label = ENGINES.get(name, name)
    return f"({label})" if void else label


def _case(case: Mapping[str, Any], subject: str) -> list[str]:
    """The bars and ratios of one model and shape; engines whose answers were too far off are in parentheses."""
    measured = {name: engine for name, engine in case["engines"].items() if "sequences_per_second" in engine}
    if subject not in measured:
        return []
    order = sorted(measured, key=lambda name: (name != subject, -measured[name]["sequences_per_second"]["median"]))
    labels = {name: _label(name, measured[name]["void"] is not None) for name in order}
    entries = [svg.Bar(labels[name], _spread(measured[name]["sequences_per_second"])) for name in order]
    rows = []
    for name in order:
        ratio = case["ratios"].get(subject, {}).get(name)
        times = f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})" if ratio else ""
        rows.append([labels[name], measured[name]["variant"], times, f"{measured[name]['answers']['cosine']:.4f}"])
    title = f"batch {case['batch']}, {case['sequence']} tokens"
    parts = [
        f"<h3>{title}</h3>",
        svg.bars(title, "sequences per second", entries),
        page.details(
            "ratios within a round: median and quartiles",
            page.table(["engine", "variant", f"{ENGINES.get(subject, subject)} over it", "cosine to fp32"], rows),
        ),
    ]
    remarks = [f"Not by the contract: {reason}." for reason in case["departures"]]
    remarks += [
        f"{ENGINES.get(name, name)}{'' if name in measured else ', not timed'}: {engine['void']}."
        for name, engine in case["engines"].items()
        if engine["void"]
    ]
    return [*parts, page.notes(remarks)] if remarks else parts


def section(path: Path, content: Mapping[str, Any], subject: str) -> list[str]:
    """What one result file says."""
    machine, git = content["machine"], content["git"]
    parts = []
    models = sorted({(case["model"], case["sparsity"]) for case in content["results"]})
    for model, sparsity in models:
        cases = [case for case in content["results"] if (case["model"], case["sparsity"]) == (model, sparsity)]
        drawn = [part for case in cases for part in _case(case, subject)]
        if drawn:
            density = "dense" if sparsity == 0 else f"{100 * sparsity:g} % of 4x1 blocks zero"
            parts += [page.heading(f"{model}, {density}, {machine['cpu']} ({content['date'][:10]})"), *drawn]
    if not parts:
        return []
    facts = {
        "file": path.name,
        "machine": f"{machine['cpu']}, family {machine['cpu_family']} model {machine['cpu_model']}, "
        f"{machine['cores']} cores, {', '.join(machine['flags'])}",
        "threads": str(content["threads"]),
        "commit": git.get("commit", "unknown") + (" with uncommitted changes" if git.get("dirty") else ""),
        "versions": ", ".join(f"{name} {version}" for name, version in content["versions"].items()),
    }
    if content.get("note"):
        facts["note"] = content["note"]
    return [*parts, page.details("how it was measured", page.facts(facts))]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--subject", default="fastcpu", help="engine that the others are compared with")
    options = parser.parse_args(argv)
    parts: list[str] = []
    try:
        for path in options.files or sorted(RESULTS.glob("*.json")):
            content = read(path)
            if content is not None:
                parts += section(path, content, options.subject)
            elif options.files:
                raise ValueError(f"{path}: not a result of python -m bench --json")
        if not parts:
            raise ValueError(f"no measurements of {options.subject}")
        options.out.parent.mkdir(parents=True, exist_ok=True)
        lead = "Sequences per second, medians of rounds in which the engines took turns; thin lines are quartiles."
        options.out.write_text(page.page("Benchmarks", lead, parts), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"bench.page: {error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
