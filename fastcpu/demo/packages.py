"""The packages whose docstrings the demo's retrieval task is made of, and others to train with.

Their versions are pinned in requirements/ (`compress.txt` and `constraints.txt`); the task is the same wherever these
and the version of Python are the same. Their text is read where they are installed and is not part of this repository.
"""

from __future__ import annotations

from dataclasses import dataclass

STANDARD_LIBRARY = "python"


@dataclass(frozen=True)
class Package:
    """One source of docstrings.

    Attributes:
        distribution: the name that pip knows; STANDARD_LIBRARY stands for the standard library.
        module: the top-level module, "" for the standard library.
        folders: folders below it that are read, all of it when empty.
    """

    distribution: str
    module: str
    folders: tuple[str, ...] = ()


PACKAGES: tuple[Package, ...] = (
    Package(STANDARD_LIBRARY, ""),
    Package("numpy", "numpy"),
    Package("scipy", "scipy"),
    Package("sympy", "sympy"),
    Package("networkx", "networkx"),
    Package("huggingface_hub", "huggingface_hub"),
    # Large parts of these two are one text per model or operator; the folders named here are the ones written by hand.
    Package(
        "torch",
        "torch",
        ("ao", "autograd", "cuda", "distributed", "distributions", "export", "fx", "nn", "optim", "utils"),
    ),
    Package("transformers", "transformers", ("data", "generation", "integrations", "pipelines", "utils")),
)

# Texts to train with alone: they come with packages that the demo needs anyway.
TRAINING_PACKAGES: tuple[Package, ...] = (
    Package("torch", "torch"),
    Package("transformers", "transformers"),
    Package("onnxscript", "onnxscript"),
)

# Names of folders and files that are not read: tests, vendored copies, and parts of the standard library that some
# builds of Python come without.
SKIPPED_NAMES = frozenset(
    {"_vendor", "conftest.py", "dist-packages", "distutils", "ensurepip", "idlelib", "lib2to3", "site-packages"}
    | {"test", "testing", "tests", "tkinter", "turtle.py", "turtledemo"}
)
