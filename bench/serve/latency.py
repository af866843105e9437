"""Latency under load: Poisson arrivals at 70 % of the capacity, and token-budget batches beside padded ones.

    FASTCPU_DATA=DATA python -m bench.serve.latency [--rounds 7] [--seconds 20] [--json FILE]

Server on one CPU with one thread, generator on another.

`equal`  texts of 128 tokens. p99 over the median latency of an unloaded server, and beside it what a queue gives that
         serves one request at a time, without any overhead, in the time that the Session takes (M/D/1).
`mixed`  sentences of SST-2 and passages of SQuAD, as many of each, shuffled. p99 over the unloaded latency of the
         longest text.
`padded` the same mixture: the highest rate at which p99 stays below 4 times that latency, by bisection, for batches of
         a budget of tokens and for batches of 8 that are padded to their longest text.

The capacity is what closed loops reach. Rounds of a case alternate with its unloaded measurement.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import describe_machine, git_state, now
from bench.report import write_json
from bench.serve.overhead import CLIENT_CPU, SERVER_CPU
from bench.serve.own import MODEL, Fastcpu, start
from bench.serve.padded import Padded
from bench.serve.peers.server import Server
from bench.serve.served import served_model
from bench.serve.texts import squad_passages, sst2_sentences
from bench.stats import spread
from fastcpu.load import Corpus, Plan, Result, make_corpus, run
from fastcpu.tasks.tokenizer import Tokenizer

LOAD = 0.7
LIMIT = 4.0  # p99 over the unloaded latency
LOOPS = 16  # closed loops that find the capacity
STEPS = 6  # of the bisection
PROTOCOLS = {"distilbert-cls": ("predict", None), "minilm": ("openai", "base64")}


class Target:
    """A server and its traffic."""

    def __init__(self, server: Server, model: str, texts: Sequence[str]) -> None:
        self._url = f"http://127.0.0.1:{server.port}"
        self._protocol, self._encoding = PROTOCOLS[model]
        self.corpus = Corpus(list(texts))

    def _run(self, corpus: Corpus, seconds: float, seed: int = 0, **load: Any) -> Result:
        return run(
            Plan(
                self._url,
                self._protocol,
                MODEL,
                corpus,
                duration=seconds,
                warmup=0.5,
                timeout=60.0,
                max_connections=1024,
                encoding=self._encoding,
                seed=seed,
                **load,
            )
        )

    def unloaded(self, seconds: float, texts: Sequence[str] | None = None) -> float:
        """Median latency of one request at a time, in seconds."""
        corpus = self.corpus if texts is None else Corpus(list(texts))
        return _quantile(self._run(corpus, seconds, concurrency=1), 0.5)

    def capacity(self, seconds: float) -> float:
        """Requests per second that closed loops get answered."""
        return self._run(self.corpus, seconds, concurrency=LOOPS).good_per_second

    def loaded(self, rate: float, seconds: float, seed: int) -> Result:
        """Poisson arrivals."""
        return self._run(self.corpus, seconds, seed, rate=rate)


def _quantile(result: Result, share: float) -> float:
    found = result.recorder.latency.quantile(share)
    if found is None:
        raise RuntimeError("no request was answered")
    return float(found)


def queue_p99(service: float, rate: float, seed: int = 0, requests: int = 400_000) -> float:
    """p99 of the time in a queue with one server, constant service time and Poisson arrivals, over the service time."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, requests)
    waits = np.empty(requests)
    wait = 0.0
    for number, gap in enumerate(gaps):
        wait = max(0.0, wait + service - gap)
        waits[number] = wait
    return float(np.quantile(waits[requests // 10 :] + service, 0.99) / service)


def mixture() -> list[str]:
    """As many sentences of SST-2 as passages of SQuAD, shuffled with seed 0."""
    short, long = sst2_sentences(), squad_passages()
    count = min(len(short), len(long))
    random = np.random.default_rng(0)
    texts = [short[index] for index in random.permutation(len(short))[:count]]
    texts += [long[index] for index in random.permutation(len(long))[:count]]
    return [texts[index] for index in random.permutation(len(texts))]


def longest_texts(tokenizer: Tokenizer, texts: Sequence[str], count: int = 16) -> list[str]:
    """The texts with the most tokens."""
    lengths = [len(each.ids) for each in tokenizer.encode(list(texts))]
    return [texts[index] for index in np.argsort(lengths)[-count:]]


def under_load(target: Target, alone: Sequence[str] | None, rounds: int, seconds: float) -> dict[str, Any]:
    """p99 at `LOAD` of the capacity over the latency of an unloaded server, per round."""
    capacity = target.capacity(max(3.0, seconds / 4))
    rows = []
    for number in range(rounds):
        single = target.unloaded(max(2.0, seconds / 10), alone)
        result = target.loaded(LOAD * capacity, seconds, number)
        rows.append(
            {
                "unloaded_ms": 1e3 * single,
                "p50_ms": 1e3 * _quantile(result, 0.5),
                "p99_ms": 1e3 * _quantile(result, 0.99),
                "ratio": _quantile(result, 0.99) / single,
                "problems": result.problems,
            }
        )
        if alone is None:
            rows[-1]["queue_ratio"] = queue_p99(single, LOAD * capacity, number)
    numbers = [key for key in rows[0] if key != "problems"]
    summary = {key: spread([row[key] for row in rows]).as_json() for key in numbers}
    return {"capacity": capacity, **summary, "rounds": rows}


def highest_rate(target: Target, limit: float, seconds: float) -> dict[str, Any]:
    """The highest rate at which p99 is at most `limit` seconds, by bisection below the capacity."""
    low, high = 0.0, target.capacity(max(3.0, seconds / 4))
    capacity, tried = high, []
    for step in range(STEPS):
        rate = (low + high) / 2
        result = target.loaded(rate, seconds, step)
        p99 = _quantile(result, 0.99)
        kept = p99 <= limit and result.recorder.good == result.recorder.sent
        tried.append({"rate": rate, "p99_ms": 1e3 * p99, "kept": kept})
        low, high = (rate, high) if kept else (low, rate)
    return {"capacity": capacity, "rate": low, "tried": tried}


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.latency", description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=tuple(PROTOCOLS), default="distilbert-cls")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--cases", default="equal,mixed,padded")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    os.sched_setaffinity(0, [CLIENT_CPU])
    directory = served_model(args.model, 0.8)
    tokenizer = Tokenizer(directory)
    results: dict[str, Any] = {"machine": describe_machine(), "git": git_state(Path()), "date": now()}
    results |= {"model": args.model, "rounds": args.rounds, "seconds": args.seconds}
    cases = args.cases.split(",")
    texts = mixture()
    longest = longest_texts(tokenizer, texts)
    with start(directory, [SERVER_CPU], peer=Fastcpu()) as server:
        for case, used, alone in (
            ("equal", make_corpus(tokens=128, tokenizer=directory).texts, None),
            ("mixed", texts, longest),
        ):
            if case in cases:
                results[case] = found = under_load(Target(server, args.model, used), alone, args.rounds, args.seconds)
                queue = f"; a queue of single requests {found['queue_ratio']['median']:.2f}x" if alone is None else ""
                print(
                    f"{case}: capacity {found['capacity']:.0f}/s; at {100 * LOAD:.0f} %: p99 "
                    f"{found['p99_ms']['median']:.1f} ms, {found['ratio']['median']:.2f}x unloaded "
                    f"({found['unloaded_ms']['median']:.2f} ms){queue}",
                    flush=True,
                )
        if "padded" in cases:
            target = Target(server, args.model, texts)
            limit = LIMIT * target.unloaded(3.0, longest)
            budget = highest_rate(target, limit, args.seconds)
    if "padded" in cases:
        with start(directory, [SERVER_CPU], peer=Padded()) as server:
            padded = highest_rate(Target(server, args.model, texts), limit, args.seconds)
        results["padded"] = {"limit_ms": 1e3 * limit, "budget": budget, "padded": padded}
        results["padded"]["ratio"] = budget["rate"] / padded["rate"] if padded["rate"] else None
        print(
            f"p99 <= {1e3 * limit:.0f} ms: budget of tokens {budget['rate']:.0f}/s (capacity "
            f"{budget['capacity']:.0f}), padded batches of 8 {padded['rate']:.0f}/s (capacity {padded['capacity']:.0f})"
        )
    if args.json:
        write_json(args.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
