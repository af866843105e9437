"""Plain text from docstrings in reStructuredText, NumPy, Google or Markdown style."""

from __future__ import annotations

import re

# Sections that repeat the text of other docstrings or hold none.
_SKIPPED_SECTIONS = frozenset({"example", "examples", "references", "see also", "usage", "usage example"})
# Directives whose indented block is code or formulas; the block of any other directive is text.
_SKIPPED_DIRECTIVES = frozenset(
    {
        "code",
        "code-block",
        "doctest",
        "highlight",
        "image",
        "figure",
        "ipython",
        "literalinclude",
        "math",
        "plot",
        "testcode",
    }
)

_HEADING = re.compile(r"^[A-Z][A-Za-z ]{2,30}$")
_UNDERLINE = re.compile(r"^([-=~^*#])\1{2,}$")
_GOOGLE_HEADING = re.compile(
    r"^(Args|Arguments|Attributes|Example|Examples|Keyword Args|Note|Notes|Parameters|Raises|References|"
    r"Returns|See Also|See also|Usage|Warning|Warns|Yields)::?$"
)
_DIRECTIVE = re.compile(r"^\.\. *\|?([\w:-]+)(?:::)(.*)$")
_OPTION = re.compile(r"^:[\w-]+:( \S+)?$")
_INLINE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\[([^\]\n]*)\]\((?:https?:|\.|#|/)[^)\s]*\)"), r"\1"),  # [text](address)
    (re.compile(r"`([^`<\n]+?) *<[^`>\n]+>`_{0,2}"), r"\1"),  # `text <address>`_
    (re.compile(r":(?:[a-z]+:)?[a-z]+:`~?([^`\n]+)`"), r"\1"),  # :role:`text`
    (re.compile(r":(?:param|type|arg|returns?|rtype|raises?|keyword|ivar|var) ?([^:\n]*):"), r" \1 "),
    (re.compile(r"https?://\S+"), " "),
    (re.compile(r"</?[A-Za-z][^>\n]{0,40}>"), " "),
    (re.compile(r"\[\d+\]_?|\[\w+\d*\]_"), " "),  # citations
    (re.compile(r"[`*|]+"), " "),
    (re.compile(r"::"), ":"),
    (re.compile(r"\\(?=\W)"), ""),
)


def plain_text(docstring: str) -> str:
    """The prose of `docstring` in one line: no markup, code, doctests, headings or sections of references."""
    text = "\n".join(_prose_lines(docstring.splitlines()))
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _prose_lines(lines: list[str]) -> list[str]:
    """`lines` without headings, skipped sections, directives and code."""
    kept: list[str] = []
    section_skipped = False  # inside a section of _SKIPPED_SECTIONS
    block_indent = -1  # lines that are indented deeper than this belong to a skipped block; -1: none
    in_doctest = in_fence = False
    for number, line in enumerate(lines):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        following = lines[number + 1].strip() if number + 1 < len(lines) else ""
        if stripped.startswith("```"):
            in_fence = not in_fence
            continue
        if in_fence:
            continue
        if not stripped:
            in_doctest = False
            kept.append("")
            continue
        if block_indent >= 0:
            if indent > block_indent:
                continue
            block_indent = -1
        if _HEADING.match(stripped) and _UNDERLINE.match(following):
            section_skipped = stripped.lower() in _SKIPPED_SECTIONS
            continue
        google = _GOOGLE_HEADING.match(stripped)
        if google:
            if google[1].lower() in _SKIPPED_SECTIONS:
                block_indent = indent
            section_skipped = False
            continue
        if section_skipped or _UNDERLINE.match(stripped) or _OPTION.match(stripped):
            continue
        if stripped.startswith(">>>"):
            in_doctest = True
        if in_doctest:
            continue
        directive = _DIRECTIVE.match(stripped)
        if directive or stripped.startswith(".. "):
            if directive is None or directive[1] in _SKIPPED_DIRECTIVES:
                block_indent = indent
            continue
        if stripped.endswith("::"):
            block_indent = indent
        kept.append(stripped)
    return kept
