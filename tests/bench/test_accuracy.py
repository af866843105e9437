"""What recipes are trained with on this project's benchmark."""

from __future__ import annotations

from pathlib import Path

from bench.accuracy.sentences import evaluation_sentences, sentences
from fastcpu.data import Contamination, decontaminate
from fastcpu.data.contamination import words


def test_no_evaluation_sentence_is_trained_on(data_dir: Path) -> None:
    everything, evaluation = sentences(data_dir), evaluation_sentences(data_dir)
    assert len(everything) == len(set(everything)) > 100_000
    assert len(evaluation) == 2 * (1500 + 1379)
    counts = Contamination()
    kept = list(decontaminate(everything, evaluation, counts))
    forms = {"".join(words(text)) for text in evaluation}
    assert counts.equal > 200
    assert counts.similar > 200
    assert len(kept) == counts.seen - counts.equal - counts.similar
    assert not any("".join(words(text)) in forms for text in kept)
