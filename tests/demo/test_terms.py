"""Medical terms from the classification's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastcpu import InputError
from fastcpu.demo import terms

XML = """<?xml version="1.0"?>
<ICD10CM.tabular><chapter><section id="A00">
<diag><name>A00</name><desc>Cholera</desc>
  <diag><name>A00.0</name><desc>Cholera due to Vibrio cholerae 01</desc>
    <inclusionTerm><note>Classical cholera</note><note>Another</note></inclusionTerm></diag>
  <diag><name>A00.1</name><desc>Cholera, eltor</desc></diag>
</diag>
<diag><name>A01</name><desc>Typhoid fever</desc><inclusionTerm><note>Enteric fever</note></inclusionTerm></diag>
</section></chapter></ICD10CM.tabular>
"""


def test_the_first_term_of_each_code_that_has_one(tmp_path: Path) -> None:
    path = tmp_path / "terms.xml"
    path.write_text(XML)
    assert [(pair.key, pair.query, pair.document) for pair in terms.read_terms(path)] == [
        ("simple-icd-10-cm/A00.0", "Classical cholera", "Cholera due to Vibrio cholerae 01"),
        ("simple-icd-10-cm/A01", "Enteric fever", "Typhoid fever"),
    ]


def test_the_package_has_thousands() -> None:
    pairs = list(terms.read_terms(terms.terms_file()))
    assert len(pairs) > 5000
    assert all(pair.query and pair.document for pair in pairs)
    assert terms.terms_version()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "terms.xml"
    path.write_text(XML[: len(XML) // 2])
    with pytest.raises(InputError, match=r"terms\.xml: not the classification that it should be"):
        list(terms.read_terms(path))


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match="package 'simple-icd-10-cm', whose medical terms"):
        terms.terms_file()
