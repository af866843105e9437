"""What it takes to start with a model directory, each time in a fresh process.

python -m bench.startup DIR [--tokenizer TOKENIZER.json] [--runs 7] [--json FILE]

`first answer` is from the start of the process to the answer to one text of 128 tokens: imports, opening, tokenizing
(with --tokenizer; else the ids are given) and a run. `import` is what importing fastcpu adds to importing NumPy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TEXT = " ".join(["text"] * 200)  # more than 128 tokens, cut

_FIRST_ANSWER = """
import json, sys, time
began = time.perf_counter()
import numpy as np
numpy_seconds = time.perf_counter() - began
import fastcpu
import_seconds = time.perf_counter() - began - numpy_seconds
directory, tokenizer_file, text = sys.argv[1:]
began = time.perf_counter()
session = fastcpu.Session(directory)
open_seconds = time.perf_counter() - began
ids = np.full(128, 2000)
if tokenizer_file:
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(tokenizer_file)
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    ids = np.array(tokenizer.encode(text).ids)
session.run({"input_ids": [ids]})
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({"import": import_seconds, "open": open_seconds, "peak_bytes": peak}))
"""


def first_answer(directory: Path, tokenizer: Path | None) -> dict[str, float]:
    """One fresh process: seconds to the first answer, of the import and of opening; peak resident bytes."""
    command = [sys.executable, "-c", _FIRST_ANSWER, str(directory), str(tokenizer or ""), TEXT]
    began = time.perf_counter()
    finished = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if finished.returncode:
        raise RuntimeError("the process failed; its error is above")
    answer: dict[str, float] = json.loads(finished.stdout)
    return {"first_answer": time.perf_counter() - began} | answer


def main() -> None:
    """Print medians over fresh processes."""
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not args.directory.is_dir():
        parser.error(f"{args.directory} is not a model directory")
    size = sum(path.stat().st_size for path in args.directory.rglob("*") if path.is_file())
    runs = [first_answer(args.directory, args.tokenizer) for _ in range(args.runs)]
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    result: dict[str, Any] = {"directory_bytes": size, "median": median, "runs": runs}
    print(f"directory       {size / 1e6:8.1f} MB")
    print(f"first answer    {median['first_answer']:8.3f} s")
    print(f"import          {median['import']:8.3f} s")
    print(f"open            {median['open']:8.3f} s")
    print(f"resident, peak  {median['peak_bytes'] / 1e6:8.1f} MB")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
