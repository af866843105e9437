"""Docstrings of installed packages, read with `ast` and never imported, and retrieval pairs made of them."""

from __future__ import annotations

import ast
import platform
import re
import sysconfig
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from fastcpu.collection import no_collection
from fastcpu.demo.markup import plain_text
from fastcpu.demo.packages import SKIPPED_NAMES, STANDARD_LIBRARY, Package
from fastcpu.errors import InputError

QUERY_WORDS = (4, 40)  # fewest and most words of a query
DOCUMENT_WORDS = (12, 64)  # fewest words of a document, and where it is cut
PIECE_WORDS = (4, 32)  # fewest and most words of a text to train with

_SENTENCE_END = re.compile(r"[.!?](?=\s+[A-Z0-9\"'(])|[.!?]$")
# An empty line, or a Google-style heading that follows without one.
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n|\n(?=[ \t]*[A-Z][A-Za-z ]{2,20}:[ \t]*\n)")
_ABBREVIATIONS = frozenset(
    {"al", "approx", "cf", "dr", "e.g", "eg", "eq", "etc", "fig", "i.e", "ie", "no", "resp", "st", "vs"}
)
_WORD = re.compile(r"[A-Za-z0-9]+(?:['_][A-Za-z0-9]+)*")
_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SIGNATURE = re.compile(r"^[\w.]+\s?\(.*\)\s*(->.*)?$|^[\w.]+\([\w, =*]*\)\s*(->|[-:])")
_SUFFIXES = ("ing", "ed", "es", "s")


@dataclass(frozen=True)
class Docstring:
    """What is said of a class, method or function. `key` is where it was read, `names` its qualified name."""

    key: str
    names: tuple[str, ...]
    text: str

    @property
    def file(self) -> str:
        """The distribution and the file in it."""
        return self.key.partition(":")[0]


@dataclass(frozen=True)
class Pair:
    """One retrieval example: `document` is what `query` should find. `key` is where both were read."""

    key: str
    query: str
    document: str


def read_docstrings(packages: Sequence[Package], skipped: Collection[str] = ()) -> list[Docstring]:
    """All docstrings of `packages`, in the order of packages, file names and lines.

    ``skipped`` files, named as `Docstring.file` does, are not read.
    """
    with no_collection():  # syntax trees have no cycles, and it takes more than half of the time of `ast`
        return [each for package in packages for each in _package_docstrings(package, skipped)]


def package_version(package: Package) -> str:
    """The installed version of `package`."""
    if package.distribution == STANDARD_LIBRARY:
        return platform.python_version()
    try:
        return metadata.version(package.distribution)
    except metadata.PackageNotFoundError:
        raise InputError(_missing(package)) from None


def _missing(package: Package) -> str:
    return (
        f"package {package.distribution!r} is not installed; the demo reads its docstrings "
        "(install requirements/dev.txt with requirements/constraints.txt, or run `make demo`)"
    )


def _package_root(package: Package) -> Path:
    if package.distribution == STANDARD_LIBRARY:
        return Path(sysconfig.get_path("stdlib"))
    spec = util.find_spec(package.module)  # of a top-level module: nothing is imported
    if spec is None or not spec.submodule_search_locations:
        raise InputError(_missing(package))
    return Path(next(iter(spec.submodule_search_locations)))


def _package_docstrings(package: Package, skipped: Collection[str]) -> Iterator[Docstring]:
    root = _package_root(package)
    folders = [root / folder for folder in package.folders] or [root]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"package {package.distribution!r} has no folder {folder.name!r}: its version is not the pinned one"
            )
        for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
            relative = path.relative_to(root)
            label = f"{package.distribution}/{relative.as_posix()}"
            if label not in skipped and SKIPPED_NAMES.isdisjoint(relative.parts):
                yield from file_docstrings(path, label)


def file_docstrings(path: Path, label: str) -> Iterator[Docstring]:
    """The docstrings of one source file. A file in the syntax of another Python has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the file's string literals
            tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError):
        return
    for names, text in _documented(tree, ()):
        yield Docstring(f"{label}:{'.'.join(names)}", names, text)


def _documented(node: ast.AST, outer: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The qualified name and docstring of each class, method and function that is not local to a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = (*outer, child.name)
            docstring = ast.get_docstring(child)
            if docstring:
                yield names, docstring
            if isinstance(child, ast.ClassDef):
                yield from _documented(child, names)
        elif isinstance(child, ast.If | ast.Try | ast.With):
            yield from _documented(child, outer)


def pieces(text: str) -> list[str]:
    """A text in pieces of nearly equal length, each short enough to learn quickly from; none if it is too short."""
    words = text.split()
    if len(words) < PIECE_WORDS[0]:
        return []
    length = -(-len(words) // -(-len(words) // PIECE_WORDS[1]))
    return [" ".join(words[start : start + length]) for start in range(0, len(words), length)]


def make_pair(read: Docstring) -> Pair | None:
    """The first sentence without the words of the name as query, the rest as document; None if either is too short.

    The last part of the qualified name is removed, and that of a special method with its class.
    """
    names, docstring = read.names, read.text.strip()
    paragraph = _PARAGRAPH_END.split(docstring, maxsplit=1)[0]
    rest = docstring[len(paragraph) :]
    sentence, remainder = split_sentence(" ".join(paragraph.split()))
    if _SIGNATURE.match(sentence):
        return None
    own_names = names[-2:] if names[-1].startswith("__") else names[-1:]
    query_words = remove_name(plain_text(sentence), own_names).split()
    document_words = plain_text(f"{remainder}\n\n{rest}").split()
    if not QUERY_WORDS[0] <= len(query_words) <= QUERY_WORDS[1] or len(document_words) < DOCUMENT_WORDS[0]:
        return None
    return Pair(read.key, " ".join(query_words), " ".join(document_words[: DOCUMENT_WORDS[1]]))


def split_sentence(text: str) -> tuple[str, str]:
    """The first sentence of `text` and what follows it. Abbreviations such as "e.g." do not end a sentence."""
    for match in _SENTENCE_END.finditer(text):
        last = text[: match.start()].rpartition(" ")[2].strip("([\"'").lower()
        if match[0] != "." or (last not in _ABBREVIATIONS and len(last) > 1):
            return text[: match.end()], text[match.end() :].strip()
    return text, ""


def name_words(names: Sequence[str]) -> set[str]:
    """The stems of `names` and of their parts: `read_CSVFile` gives readcsvfile, read, csv, file."""
    stems: set[str] = set()
    for name in names:
        stems.add(_stem(re.sub(r"\W|_", "", name)))
        stems.update(_stem(part) for part in _NAME_PART.findall(name) if len(part) > 1)
    return stems


def remove_name(text: str, names: Sequence[str]) -> str:
    """`text` without any inflection of the words of `names`."""
    stems = name_words(names)

    def replace(match: re.Match[str]) -> str:
        word = match[0]
        return (
            ""
            if _stem(word.replace("_", "")) in stems or any(_stem(part) in stems for part in word.split("_"))
            else word
        )

    # What is left of a removed call or attribute: "()", stray dots and empty quotes.
    text = re.sub(r"\(\s*\)|(?<=\s)[.,:;'\"]+(?=\s)", " ", _WORD.sub(replace, text))
    return " ".join(text.split()).strip(" .,:;-")


def _stem(word: str) -> str:
    word = word.lower()
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)].rstrip("e")
    return word.rstrip("e") if len(word) > 3 else word
