"""The demo's retrieval tasks, a corpus with queries each, and texts to compress with that resemble neither."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from fastcpu.data import decontaminate
from fastcpu.demo.docstrings import Pair, make_pair, package_version, pieces, read_docstrings
from fastcpu.demo.duplicates import first_of_duplicates
from fastcpu.demo.markup import plain_text
from fastcpu.demo.packages import Package
from fastcpu.demo.terms import DISTRIBUTION, read_terms, terms_file, terms_version
from fastcpu.errors import InputError
from fastcpu.eval.retrieval import RetrievalData

# (words per shingle, Jaccard similarity from which a text is a duplicate)
_QUERY_DUPLICATE = (1, 0.7)
_DOCUMENT_DUPLICATE = (3, 0.5)


@dataclass(frozen=True)
class Sizes:
    """How many examples are drawn.

    Attributes:
        calibration: pairs beside the corpus whose texts calibrate int8.
        documents, queries: of the corpus, and queries for the first of its documents.
        terms: documents of the other task, and queries for as many of them as above.
        texts: the most to train with; those of more packages are left out first.
    """

    calibration: int = 256
    documents: int = 8192
    queries: int = 2048
    terms: int = 4096
    texts: int = 54400


@dataclass(frozen=True)
class Source:
    """How many documents of its corpus come from a package."""

    package: str
    version: str
    documents: int


@dataclass(frozen=True)
class DemoTask:
    """The tasks and where they came from.

    Attributes:
        data: docstrings.
        terms: medical terms, of which nothing is in the other texts.
        texts: to train with, in short pieces: pairs that are not in `data`, docstrings that are no pairs, and those of
            more packages.
        calibration: queries and documents that are not in `data` or `terms` and resemble none there, to calibrate int8.
        pairs, distinct: how many pairs were read, and how many were left without near-duplicates.
        fingerprint: SHA-256 of all texts in order; equal fingerprints mean equal tasks.
    """

    data: RetrievalData
    terms: RetrievalData
    texts: list[str]
    calibration: list[str]
    pairs: int
    distinct: int
    sources: list[Source]
    fingerprint: str


def build_task(packages: Sequence[Package], more: Sequence[Package], sizes: Sizes) -> DemoTask:
    """Reads, deduplicates the whole pool, and only then splits it, in the order of a hash of each pair's key.

    Docstrings of ``more`` packages are trained with alone.
    """
    docstrings = read_docstrings(packages)
    made = [make_pair(each) for each in docstrings]
    pairs = [pair for pair in made if pair is not None]
    distinct = drop_duplicates(pairs)
    needed = sizes.calibration + sizes.documents
    if len(distinct) < needed:
        raise InputError(
            f"the docstrings of {len(packages)} packages give {len(distinct)} distinct pairs; {needed} are needed"
        )
    shuffled = _shuffled(distinct)
    corpus, others = shuffled[: sizes.documents], shuffled[sizes.documents :]

    data = _retrieval(corpus, sizes.queries)
    terms = _retrieval(_shuffled(drop_duplicates(list(read_terms(terms_file()))))[: sizes.terms], sizes.queries)
    texts = [text for pair in others for text in (pair.query, pair.document)]
    evaluated = [*data.documents, *data.queries, *terms.documents, *terms.queries]
    calibration = list(islice(decontaminate(texts, evaluated), 2 * sizes.calibration))
    texts += [plain_text(each.text) for each, pair in zip(docstrings, made, strict=True) if pair is None]
    known = {each.text for each in docstrings}
    read = {each.file for each in docstrings}
    added = [plain_text(each.text) for each in read_docstrings(more, read) if each.text not in known]
    texts = _in_pieces(texts)
    texts += sorted(set(_in_pieces(added)) - set(texts), key=_hash)
    texts = texts[: sizes.texts]
    digest = hashlib.sha256("\0".join([*evaluated, *texts]).encode("utf-8", "surrogatepass")).hexdigest()
    counts = Counter(pair.key.partition("/")[0] for pair in corpus)
    sources = [Source(each.distribution, package_version(each), counts[each.distribution]) for each in packages]
    sources.append(Source(DISTRIBUTION, terms_version(), len(terms.documents)))
    return DemoTask(data, terms, texts, calibration, len(pairs), len(distinct), sources, digest)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _shuffled(pairs: Sequence[Pair]) -> list[Pair]:
    """In the order of a hash of each pair's key."""
    return sorted(pairs, key=lambda pair: _hash(pair.key))


def _in_pieces(texts: Sequence[str]) -> list[str]:
    """Pieces to train with, each once."""
    return list(dict.fromkeys(piece for text in texts for piece in pieces(text)))


def _retrieval(corpus: Sequence[Pair], queries: int) -> RetrievalData:
    """All documents, and queries for the first of them."""
    return RetrievalData(
        documents=[pair.document for pair in corpus],
        queries=[pair.query for pair in corpus[:queries]],
        relevant=[{index: 1.0} for index in range(min(queries, len(corpus)))],
    )


def drop_duplicates(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose query and whose document resemble those of no earlier pair."""
    kept = list(pairs)
    for attribute, (length, threshold) in (("query", _QUERY_DUPLICATE), ("document", _DOCUMENT_DUPLICATE)):
        marks = first_of_duplicates([getattr(pair, attribute) for pair in kept], length, threshold)
        kept = [pair for pair, mark in zip(kept, marks.tolist(), strict=True) if mark]
    return kept
