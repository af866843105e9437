"""scripts/check_manifests.py: the manifests of the kernels and their files agree, and it sees where they do not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def check(kernels: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts" / "check_manifests.py"
    return subprocess.run([sys.executable, str(script), str(kernels)], capture_output=True, text=True, check=False)


@pytest.fixture
def peak(tmp_path: Path) -> Path:
    """The folder of one kernel, in a copy of kernels/ that has no other."""
    shutil.copy(ROOT / "kernels" / "isa.def", tmp_path)
    return Path(shutil.copytree(ROOT / "kernels" / "peak", tmp_path / "peak"))


def test_the_manifests_agree_with_their_files() -> None:
    done = check(ROOT / "kernels")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("kernels.inc", "FASTCPU_KERNEL(peak_avx2, avx2)\n", "", "avx2.cc: defines peak_avx2"),
        ("kernels.inc", "(peak_avx2, avx2)", "(peak_avx2, avx3)", "kernels.inc: not FASTCPU_KERNEL"),
        ("kernels.inc", "(peak_avx2, avx2)", "(peek_avx2, avx2)", "kernels.inc: not FASTCPU_KERNEL"),
        ("kernels.inc", "(peak_avx2, avx2)", "(peak_scalar, scalar)", "peak_scalar does not stand best first"),
        ("kernels.inc", "FASTCPU_KERNEL(peak_scalar, scalar)\n", "", "peak has no scalar variant"),
        ("avx2.cc", "peak_avx2 =", "peak_other =", "avx2.cc: does not define peak_avx2"),
        ("avx2.cc", "const PeakKernel", "const PoolingKernel", "peak.cc: its Kernel is not the type"),
        ("peak.cc", "using Kernel = PeakKernel", "using Kernel = PoolingKernel", "peak.cc: its Kernel is not the type"),
        ("peak.cc", '"peak/kernels.inc"', '"pooling/kernels.inc"', "peak.cc: does not include peak/kernels.inc"),
    ],
)
def test_a_disagreement_is_named(peak: Path, file: str, old: str, new: str, problem: str) -> None:
    text = (peak / file).read_text()
    assert old in text
    (peak / file).write_text(text.replace(old, new))
    done = check(peak.parent)
    assert done.returncode == 1, done.stderr
    assert problem in done.stdout


def test_variants_without_a_manifest_are_named(peak: Path) -> None:
    (peak / "kernels.inc").unlink()
    done = check(peak.parent)
    assert (done.returncode, done.stdout) == (1, "peak: has variants but no kernels.inc\n")
