"""The texts of the serving benchmarks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np


def data_folder() -> Path:
    """FASTCPU_DATA; RuntimeError where it is not set."""
    folder = os.environ.get("FASTCPU_DATA")
    if not folder:
        raise RuntimeError("this benchmark takes real texts: set FASTCPU_DATA to the data folder")
    return Path(folder)


def stsb_sentences() -> list[str]:
    """The sentences of STS-B test, shuffled with seed 0."""
    lines = (data_folder() / "stsb" / "sts-test.csv").read_text(encoding="utf-8").splitlines()
    texts = [text for line in lines for text in line.split("\t")[5:7]]
    return [texts[index] for index in np.random.default_rng(0).permutation(len(texts))]


def sst2_sentences() -> list[str]:
    """The sentences of SST-2 test."""
    lines = (data_folder() / "sst2" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [line.split("\t")[0] for line in lines]


def squad_passages() -> list[str]:
    """The passages of SQuAD dev, each once."""
    articles = json.loads((data_folder() / "squad_v1.1_dev" / "dev-v1.1.json").read_text(encoding="utf-8"))["data"]
    return [paragraph["context"] for article in articles for paragraph in article["paragraphs"]]
