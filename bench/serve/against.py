"""Our server beside other embedding servers: all-MiniLM-L6-v2, the sentences of STS-B test, one text per request.

    FASTCPU_DATA=DATA python -m bench.serve.against [--peers NAME:VARIANT,...] [--rounds 7] [--seconds 2] [--json FILE]

Each server is on one CPU with one thread, the generator is on another; all are started, and only one works at a time,
in turns. Ours has the model 80 % sparse in int8, and dense in int8; the others have it dense, in what their engine does
best. `throughput` is what closed loops get answered; `latency` compares p99 of Poisson arrivals at a share of the
peer's throughput, the same rate for both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.machine import describe_machine, git_state, now
from bench.report import write_json
from bench.serve.overhead import CLIENT_CPU, SERVER_CPU
from bench.serve.own import MODEL, Fastcpu, start
from bench.serve.peers import find_peer
from bench.serve.peers.infinity import SERVED
from bench.serve.peers.server import Server
from bench.serve.served import minilm_directory, served_model
from bench.serve.texts import stsb_sentences
from bench.stats import ratio_spread, spread
from fastcpu.load import Corpus, Plan, Result, run

LOOPS = 64
LOAD = 0.7  # of the peer's throughput
TRAFFIC = {
    "fastcpu": ("openai", MODEL),
    "infinity": ("openai", SERVED),
    "fastapi_st": ("tei", None),
    "mlserver": ("v2", SERVED),
    "pytriton": ("triton", SERVED),
}
PEERS = (
    "fastapi_st:torch-fp32",
    "fastapi_st:openvino-int8",
    "infinity:ctranslate2-int8",
    "infinity:optimum-int8",
    "mlserver:ort-int8",
    "pytriton:ort-int8",
)
OURS = {"fastcpu 80 %": 0.8, "fastcpu dense": 0.0}


def ask(server: Server, corpus: Corpus, seconds: float, **load: Any) -> Result:
    """Runs traffic against a server; RuntimeError unless every request was answered."""
    protocol, model = TRAFFIC[server.peer.name]
    encoding = "base64" if protocol == "openai" else None
    plan = Plan(
        f"http://127.0.0.1:{server.port}",
        protocol,
        model,
        corpus,
        duration=seconds,
        warmup=0.3,
        timeout=30.0,
        encoding=encoding,
        max_connections=1024,
        **load,
    )
    result = run(plan)
    if result.recorder.good != result.recorder.sent:
        raise RuntimeError(f"{server.peer.name} {server.peer.variant}: {dict(result.recorder.statuses)}")
    return result


def p99(result: Result) -> float:
    """In seconds."""
    found = result.recorder.latency.quantile(0.99)
    if found is None:
        raise RuntimeError("no request was answered")
    return float(found)


def measure(peers: Sequence[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Throughput of all, and latencies of ours and each peer at the peer's load."""
    texts = stsb_sentences()
    corpus = Corpus(texts)
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(start(served_model("minilm", sparsity), [SERVER_CPU], peer=Fastcpu()))
            for name, sparsity in OURS.items()
        }
        for each in peers:
            name, _, variant = each.partition(":")
            peer = find_peer(name, variant)
            servers[f"{peer.name} {peer.variant}"] = stack.enter_context(
                start(minilm_directory(), [SERVER_CPU], peer=peer)
            )
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, server in servers.items():
                rates[name].append(ask(server, corpus, seconds, concurrency=LOOPS).good_per_second)
        found: dict[str, Any] = {"throughput": {name: spread(values).as_json() for name, values in rates.items()}}
        found["rates"] = rates
        found["against"] = {}
        for name in [name for name in servers if name not in OURS]:
            rate = LOAD * spread(rates[name]).median
            tails: dict[str, list[float]] = {each: [] for each in (*OURS, name)}
            for number in range(rounds):
                for each, values in tails.items():
                    result = ask(servers[each], corpus, max(seconds, 300 / rate), rate=rate, seed=number)
                    values.append(1e3 * p99(result))
            found["against"][name] = {
                "rate": rate,
                "p99_ms": {each: spread(values).as_json() for each, values in tails.items()},
                "throughput_ratio": {own: ratio_spread(rates[own], rates[name]).as_json() for own in OURS},
                "p99_ratio": {own: ratio_spread(tails[own], tails[name]).as_json() for own in OURS},
            }
    return found


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.against", description=__doc__.split("\n")[0])
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    peers = [each for each in args.peers.split(",") if each]
    try:
        for each in peers:
            _ = find_peer(*each.partition(":")[::2]).python
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    os.sched_setaffinity(0, [CLIENT_CPU])
    found = measure(peers, args.rounds, args.seconds)
    for name, values in found["throughput"].items():
        print(f"{name:28} {values['median']:7.0f} texts/s")
    for name, values in found["against"].items():
        for own in OURS:
            print(
                f"{own} over {name}: {values['throughput_ratio'][own]['median']:.2f}x the throughput; at "
                f"{values['rate']:.0f}/s p99 {values['p99_ms'][own]['median']:.1f} ms, "
                f"{values['p99_ratio'][own]['median']:.2f} of its {values['p99_ms'][name]['median']:.1f} ms"
            )
    if args.json:
        head = {"machine": describe_machine(), "git": git_state(Path()), "date": now()}
        write_json(args.json, head | {"rounds": args.rounds, "seconds": args.seconds} | found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
