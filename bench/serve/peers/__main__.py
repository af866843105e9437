"""Starts a peer, compares its embeddings with a reference, and stops it.

    python -m bench.serve.peers NAME [--variant V] --model DIR --port P [--threads N] [--cpus 0] [--rates]

The reference is sentence-transformers in fp32 in this Python; the mean cosine over 64 sentences must reach 0.99, in one
request, in one each, and in several at once. `--variant all` checks each variant in turn. `--rates` adds the rough
throughput of one client.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.serve.peers import CACHE, PEERS, find_peer
from bench.serve.peers.protocol import HOST
from bench.serve.peers.server import Server, ServerFailure, cpu_seconds, is_running
from bench.serve.peers.texts import check_texts

LEAST_COSINE = 0.99
RATE_SECONDS = 3.0


def reference(model_dir: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors [texts, H] of sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_dir), device="cpu", local_files_only=True)
    vectors = model.encode(list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
    return np.asarray(vectors, np.float32)


def cosines(vectors: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    """[texts]: between rows of the same text; -1 for all if `vectors` are others than expected, or no unit vectors."""
    if vectors.shape != expected.shape or not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-2):
        return np.full(len(expected), -1, np.float32)
    products: NDArray[np.float32] = (vectors * expected).sum(axis=1)
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return np.asarray(products / lengths, np.float32)


def _summary(values: NDArray[np.float32]) -> str:
    return f"{values.mean():.5f} (least {values.min():.4f})"


def concurrently(server: Server, texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors [texts, H] by requests of one to five texts, eight at a time; the server may join them."""
    parts: list[Sequence[str]] = []
    first = 0
    while first < len(texts):
        parts.append(texts[first : first + 1 + len(parts) % 5])
        first += len(parts[-1])
    with ThreadPoolExecutor(8) as threads:
        return np.concatenate(list(threads.map(server.embed, parts)))


def rate(server: Server, texts: Sequence[str], batch: int, seconds: float = RATE_SECONDS) -> tuple[float, float]:
    """Texts per second and per CPU second of the server.

    One client sends requests of `batch` texts one after the other; rough figures.
    """
    connection = server.connect()
    parts = [texts[first : first + batch] for first in range(0, len(texts), batch)]
    for part in parts[:4]:
        server.embed(part, connection)
    sent, begin, used = 0, time.perf_counter(), cpu_seconds(server.pids)
    while time.perf_counter() - begin < seconds:
        part = parts[sent // batch % len(parts)]
        server.embed(part, connection)
        sent += len(part)
    connection.close()
    used = cpu_seconds(server.pids) - used
    return sent / (time.perf_counter() - begin), sent / max(used, 0.01)


def _port_is_taken(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    try:
        connection.connect()
    except OSError:
        return False
    connection.close()
    return True


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.peers", description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=[peer.name for peer in PEERS])
    parser.add_argument("--variant", default="", help="its engine; 'all' for each in turn")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face directory")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpus", type=lambda text: [int(part) for part in text.split(",")], default=[])
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the peer")
    parser.add_argument("--rates", action="store_true", help="measure roughly, too")
    parser.add_argument("--cache", type=Path, default=CACHE)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends with this process
    if _port_is_taken(args.port):
        print(f"bench.serve.peers: port {args.port} is taken", file=sys.stderr)
        return 1
    texts = check_texts()
    expected = reference(args.model, texts)
    kind = next(peer for peer in PEERS if peer.name == args.name)
    status = 0
    for variant in kind.variants if args.variant == "all" else (args.variant,):
        try:
            peer = find_peer(args.name, variant, dict(option.split("=", 1) for option in args.option))
            log = args.cache / "logs" / f"{peer.name}-{peer.variant}.log"
            begin = time.monotonic()
            with Server(peer, args.model, args.port, args.threads, args.cpus, args.cache, log) as server:
                started = time.monotonic() - begin
                together = cosines(server.embed(texts), expected)
                alone = cosines(np.concatenate([server.embed([text]) for text in texts]), expected)
                mixed = cosines(concurrently(server, texts), expected)
                line = (
                    f"{peer.name} {peer.variant}: cosine {_summary(together)} together, {_summary(alone)} one by one, "
                )
                line += f"{_summary(mixed)} at once"
                if args.rates:
                    for batch in (32, 1):
                        measured = rate(server, texts, batch)
                        line += "; in {}s about {:.0f} texts/s, {:.0f} per CPU second".format(batch, *measured)
                    line += f"; ready in {started:.0f} s"
                pids = server.pids
        except (ServerFailure, FileNotFoundError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
            print(f"bench.serve.peers: {args.name} {variant}: {error}", file=sys.stderr)
            status = 1
            continue
        left = [pid for pid in pids if is_running(pid)]
        if left:
            line += f"; PROCESSES LEFT: {left}"
        if left or min(together.mean(), alone.mean(), mixed.mean()) < LEAST_COSINE:
            status = 1
            line += " FAILED"
        print(line, flush=True)
    return status


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
