"""What batches of texts of very different lengths cost, beside padded ones and beside equal lengths.

    FASTCPU_DATA=DATA python -m bench.ragged DIR --tokenizer TOKENIZER.json [--json FILE]

DIR is a model directory. Batches of 32 have the token lengths of SST-2 test, of the sentences of STS-B test, and of the
questions with their contexts on the last ten articles of SQuAD dev, cut to 384, shuffled with seed 0. Each batch is run
as a list (ragged), as a rectangle of its longest (padded: every token counts), and as as many texts of equal length
with the same number of tokens in all, one after the other, so that all three meet the same state of the machine.
Ratios are taken within a round of all batches; medians and quartiles are over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastcpu
from bench.machine import describe_machine, git_state, now
from bench.report import write_json
from bench.stats import ratio_spread, spread

BATCH = 32
LONGEST = 384
SQUAD_ARTICLES = 10
FIRST_TOKEN = 1000
Batch = list[int]


def _sst2(data: Path) -> Iterator[tuple[str, ...]]:
    for line in (data / "sst2" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        yield (line.split("\t")[0],)


def _stsb(data: Path) -> Iterator[tuple[str, ...]]:
    for line in (data / "stsb" / "sts-test.csv").read_text(encoding="utf-8").splitlines():
        for text in line.split("\t")[5:7]:
            yield (text,)


def _squad(data: Path) -> Iterator[tuple[str, ...]]:
    articles = json.loads((data / "squad_v1.1_dev" / "dev-v1.1.json").read_text(encoding="utf-8"))["data"]
    for article in articles[-SQUAD_ARTICLES:]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield question["question"], paragraph["context"]


SETS = {"SST-2 test": _sst2, "STS-B test": _stsb, "SQuAD dev-10": _squad}


def batches_of(lengths: list[int], limit: int) -> list[Batch]:
    """At most `limit` full batches of the lengths, shuffled with seed 0."""
    order = np.random.default_rng(0).permutation(len(lengths))
    rows = [[lengths[i] for i in order[first : first + BATCH]] for first in range(0, len(order) - BATCH + 1, BATCH)]
    return rows[:limit]


def equal_lengths(batch: Batch) -> Batch:
    """As many lengths with the same sum, none more than one token longer than another."""
    short, longer = divmod(sum(batch), len(batch))
    return [short + 1] * longer + [short] * (len(batch) - longer)


def _texts(lengths: Batch) -> dict[str, Any]:
    random = np.random.default_rng(len(lengths))
    return {"input_ids": [random.integers(FIRST_TOKEN, 2 * FIRST_TOKEN, length) for length in lengths]}


def _padded(session: fastcpu.Session, lengths: Batch) -> dict[str, Any]:
    shape = (len(lengths), max(lengths))
    ids = np.random.default_rng(0).integers(FIRST_TOKEN, 2 * FIRST_TOKEN, shape)
    made = {"ids": ids, "mask": np.ones(shape, np.int64)}
    return {value.name: made[value.role] for value in session.inputs if value.role in made}


def measure(session: fastcpu.Session, batches: list[Batch], rounds: int) -> dict[str, Any]:
    """Tokens per second of the three forms in each round, and what the ratios are held to."""
    forms = {
        "ragged": [_texts(batch) for batch in batches],
        "padded": [_padded(session, batch) for batch in batches],
        "equal": [_texts(equal_lengths(batch)) for batch in batches],
    }
    tokens = sum(map(sum, batches))
    rates: dict[str, list[float]] = {form: [] for form in forms}
    for round_index in range(rounds + 1):  # the first warms up
        seconds = dict.fromkeys(forms, 0.0)
        for i in range(len(batches)):
            for form, feeds in forms.items():
                began = time.perf_counter()
                session.run(feeds[i])
                seconds[form] += time.perf_counter() - began
        if round_index > 0:
            for form in forms:
                rates[form].append(tokens / seconds[form])
    padding = sum(len(batch) * max(batch) for batch in batches) / tokens
    return {
        "batches": len(batches),
        "tokens": tokens,
        "padded_over_real": padding,
        "tokens_per_second": {form: spread(values).as_json() for form, values in rates.items()},
        "over_padded": ratio_spread(rates["ragged"], rates["padded"]).as_json(),
        "over_equal": ratio_spread(rates["ragged"], rates["equal"]).as_json(),
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    import tokenizers

    parser = argparse.ArgumentParser(prog="python -m bench.ragged", description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json that gives the lengths")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=40, help="at most so many of each set (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    if not args.directory.is_dir():
        parser.error(f"{args.directory} is not a model directory")
    if not args.tokenizer.is_file():
        parser.error(f"{args.tokenizer} is not a tokenizer.json")
    if "FASTCPU_DATA" not in os.environ:
        parser.error("set FASTCPU_DATA to the directory with sst2, stsb and squad_v1.1_dev")
    tokenizer = tokenizers.Tokenizer.from_file(str(args.tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    session = fastcpu.Session(str(args.directory), threads=args.threads)
    results = {}
    for name, read in SETS.items():
        texts = [text if len(text) > 1 else text[0] for text in read(Path(os.environ["FASTCPU_DATA"]))]
        lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
        result = results[name] = measure(session, batches_of(lengths, args.batches), args.rounds)
        padding, over = result["padded_over_real"], result["over_padded"]["median"]
        print(
            f"{name:14} {result['batches']} batches, padded / real {padding:.2f}: ragged is {over:.2f} x padded"
            f" ({over / padding:.0%} of that), {result['over_equal']['median']:.0%} of equal lengths",
            flush=True,
        )
    if args.json:
        document = {
            "date": now(),
            "machine": describe_machine(),
            "git": git_state(Path(__file__).parent),
            "threads": args.threads,
        }
        write_json(args.json, document | {"results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
