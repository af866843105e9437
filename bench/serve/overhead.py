"""What a server adds to a bare Session: throughput beside it, and CPU time per text.

    FASTCPU_DATA=DATA python -m bench.serve.overhead [--rounds 7] [--seconds 2] [--json FILE]

Server and Session are on one CPU with one thread, the generator is on another; only one of them works at a time, in
turns. Cases: DistilBERT, 80 % sparse int8, texts of 128 tokens; all-MiniLM-L6-v2, 80 % sparse int8, the sentences of
STS-B test. Single texts come from 8 closed loops, batches of 32 from 2. The Session is given tokens and nothing else:
single texts one by one, or batches of 32. CPU time beyond the Session is that of the server's process without that
of the runs of its Session.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import describe_machine, git_state, now
from bench.report import write_json
from bench.serve.own import MODEL, start
from bench.serve.pinned import RawSession, cpu_seconds, metric
from bench.serve.served import served_model
from bench.serve.texts import stsb_sentences
from bench.stats import spread
from fastcpu.load import Corpus, Plan, make_corpus, run
from fastcpu.tasks.tokenizer import Tokenizer

SERVER_CPU, CLIENT_CPU = 0, 1


@dataclass(frozen=True)
class Case:
    """A model and its traffic."""

    name: str
    model: str
    output: str
    protocol: str
    encoding: str | None
    texts: Callable[[Path], Sequence[str]]


CASES = (
    Case(
        "distilbert 128 tokens",
        "distilbert-cls",
        "logits",
        "predict",
        None,
        lambda each: make_corpus(tokens=128, tokenizer=each).texts,
    ),
    Case("minilm sts-b", "minilm", "sentence_embedding", "openai", "base64", lambda _: stsb_sentences()),
)
SHAPES = {"single": (1, 8), "batch 32": (32, 2)}  # texts per request, closed loops


def measure(case: Case, rounds: int, seconds: float) -> dict[str, Any]:
    """All figures of a case."""
    directory = served_model(case.model, 0.8)
    tokenizer = Tokenizer(directory)
    texts = list(case.texts(directory))
    ids = [each.ids.tolist() for each in tokenizer.encode(texts)]
    found: dict[str, Any] = {"tokens": sum(map(len, ids)) / len(ids)}
    with RawSession(directory, [SERVER_CPU], 1, case.output) as raw, start(directory, [SERVER_CPU]) as server:
        url = f"http://127.0.0.1:{server.port}"
        for shape, (batch, loops) in SHAPES.items():
            rows = []
            for _ in range(rounds):
                bare = raw.run(ids, batch, seconds)
                before = cpu_seconds(server.pids[0]), metric(url, "fastcpu_infer_cpu_seconds_total")
                plan = Plan(
                    url,
                    case.protocol,
                    MODEL,
                    Corpus(texts),
                    batch=batch,
                    concurrency=loops,
                    duration=seconds,
                    warmup=0.2,
                    encoding=case.encoding,
                )
                result = run(plan)
                after = cpu_seconds(server.pids[0]), metric(url, "fastcpu_infer_cpu_seconds_total")
                if result.problems or result.recorder.good != result.recorder.answers:
                    raise RuntimeError(f"{case.name}, {shape}: {result.problems or 'answers are missing'}")
                sent = result.texts_per_second * (seconds + plan.warmup)
                total, session = (new - old for new, old in zip(after, before, strict=True))
                rows.append(
                    {
                        "session": bare["texts_per_second"],
                        "server": result.texts_per_second,
                        "share": result.texts_per_second / bare["texts_per_second"],
                        "beyond_us": 1e6 * (total - session) / sent,
                        "beyond_bare_us": 1e6 * (total / sent - bare["cpu"]),
                    }
                )
            found[shape] = {key: spread([row[key] for row in rows]).as_json() for key in rows[0]}
            found[shape]["rounds"] = rows
    return found


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.overhead", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    os.sched_setaffinity(0, [CLIENT_CPU])
    results: dict[str, Any] = {"machine": describe_machine(), "git": git_state(Path()), "date": now(), "cases": {}}
    results |= {"rounds": args.rounds, "seconds": args.seconds}
    for case in CASES:
        results["cases"][case.name] = found = measure(case, args.rounds, args.seconds)
        for shape in SHAPES:
            row = found[shape]
            share = row["share"]
            print(
                f"{case.name}, {shape}: session {row['session']['median']:.0f} texts/s, server "
                f"{row['server']['median']:.0f}: {100 * share['median']:.1f} % ({100 * share['q1']:.1f} to "
                f"{100 * share['q3']:.1f}); CPU beyond the session {row['beyond_us']['median']:.0f} us per text, "
                f"beyond a bare one {row['beyond_bare_us']['median']:.0f} us",
                flush=True,
            )
    if args.json:
        write_json(args.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
