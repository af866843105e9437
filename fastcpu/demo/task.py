"""The demo's retrieval task: a corpus with queries, and calibration texts that resemble none of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fastcpu.demo.docstrings import Pair, package_version, read_pairs
from fastcpu.demo.duplicates import first_of_duplicates
from fastcpu.demo.packages import Package
from fastcpu.errors import InputError
from fastcpu.eval.retrieval import RetrievalData

# (words per shingle, Jaccard similarity from which a text is a duplicate)
_QUERY_DUPLICATE = (1, 0.7)
_DOCUMENT_DUPLICATE = (3, 0.5)


@dataclass(frozen=True)
class Sizes:
    """How many examples are drawn: calibration pairs, documents of the corpus, and queries for the first of these."""

    calibration: int = 256
    documents: int = 8192
    queries: int = 2048


@dataclass(frozen=True)
class Source:
    """How many pairs of the corpus come from a package."""

    package: str
    version: str
    documents: int


@dataclass(frozen=True)
class DemoTask:
    """The task and where it came from.

    Attributes:
        calibration: queries and documents of pairs that are not in `data`.
        pairs, distinct: how many pairs were read, and how many were left without near-duplicates.
        fingerprint: SHA-256 of all texts in order; equal fingerprints mean equal tasks.
    """

    data: RetrievalData
    calibration: list[str]
    pairs: int
    distinct: int
    sources: list[Source]
    fingerprint: str


def build_task(packages: Sequence[Package], sizes: Sizes) -> DemoTask:
    """Reads, deduplicates the whole pool, and only then splits it, in the order of a hash of each pair's key."""
    pairs = read_pairs(packages)
    distinct = drop_duplicates(pairs)
    needed = sizes.calibration + sizes.documents
    if len(distinct) < needed:
        raise InputError(
            f"the docstrings of {len(packages)} packages give {len(distinct)} distinct pairs; {needed} are needed"
        )
    shuffled = sorted(distinct, key=lambda pair: hashlib.sha256(pair.key.encode()).digest())
    corpus, calibration = shuffled[: sizes.documents], shuffled[sizes.documents : needed]

    data = RetrievalData(
        documents=[pair.document for pair in corpus],
        queries=[pair.query for pair in corpus[: sizes.queries]],
        relevant=[{index: 1.0} for index in range(sizes.queries)],
    )
    texts = [text for pair in calibration for text in (pair.query, pair.document)]
    digest = hashlib.sha256(
        "\0".join([*data.documents, *data.queries, *texts]).encode("utf-8", "surrogatepass")
    ).hexdigest()
    counts = Counter(pair.key.partition("/")[0] for pair in corpus)
    sources = [Source(each.distribution, package_version(each), counts[each.distribution]) for each in packages]
    return DemoTask(data, texts, len(pairs), len(distinct), sources, digest)


def drop_duplicates(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose query and whose document resemble those of no earlier pair."""
    kept = list(pairs)
    for attribute, (length, threshold) in (("query", _QUERY_DUPLICATE), ("document", _DOCUMENT_DUPLICATE)):
        marks = first_of_duplicates([getattr(pair, attribute) for pair in kept], length, threshold)
        kept = [pair for pair, mark in zip(kept, marks.tolist(), strict=True) if mark]
    return kept
