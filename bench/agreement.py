"""How often an int8 QDQ file from elsewhere gives the same argmax here and in ONNX Runtime, token by token.

python -m bench.agreement MODEL.onnx TOKENIZER_DIR TEXT [--lines 2000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np


def main() -> None:
    """Compile the file, run both engines line by line and print the share of equal tags."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("tokenizer", type=Path, help="directory with tokenizer.json")
    parser.add_argument("text", type=Path, help="one text per line")
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--output", default="logits")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    import fastcpu
    from bench.e2e.onnxruntime_fp32 import open_session
    from fastcpu.tasks.tokenizer import Tokenizer

    peer = open_session(args.model, args.threads)
    lines = args.text.read_text(encoding="utf-8").splitlines()[: args.lines]
    texts = [line for line in lines if line.strip()]
    same = total = 0
    with tempfile.TemporaryDirectory() as parent:
        session = fastcpu.Session(fastcpu.compile(args.model, Path(parent) / "model").directory, threads=args.threads)
        for encoded in Tokenizer(args.tokenizer, args.max_length).encode(texts):
            ids = encoded.ids[None]
            feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            ours = session.run(feeds)[args.output].argmax(-1)
            same += int((ours == peer.run([args.output], feeds)[0].argmax(-1)).sum())
            total += ids.size
    result = {"lines": len(lines), "tokens": total, "equal": same, "share": same / total}
    print(f"{same} of {total} tokens of {len(lines)} lines have the same argmax: {100 * same / total:.3f} %")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
