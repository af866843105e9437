"""HTML pages that need nothing else: style and drawings are inside, nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1d2430; --soft: #5b6675; --rule: #dfe3e8; --panel: #f6f7f9;
  --c0: #1f4e9c; --c1: #c2571a; --c2: #177a52; --c3: #8a2be2; --c4: #a5123f; --c5: #5b6675; }
@media (prefers-color-scheme: dark) { :root { --back: #14181e; --text: #e6e9ee; --soft: #9aa5b4; --rule: #303844;
  --panel: #1b212a; --c0: #7fb0ff; --c1: #ffa569; --c2: #5fd3a2; --c3: #c79bff; --c4: #ff8aab; --c5: #9aa5b4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--back); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem; }
p { max-width: 46rem; margin: .5rem 0; }
.lead { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .38rem .8rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: var(--soft); font-weight: 600; }
table.facts td { white-space: normal; text-align: left; }
table.facts td:first-child { color: var(--soft); }
pre { background: var(--panel); padding: .7rem .9rem; border-radius: 6px; overflow-x: auto; font-size: .88rem; }
.notes { background: var(--panel); border-left: 3px solid var(--c1); padding: .6rem 1.1rem; }
.notes ul { margin: 0; padding-left: 1.1rem; max-width: 50rem; }
.notes li { margin: .25rem 0; }
svg { width: 100%; max-width: 46rem; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 12px; }
svg text.axis { font-size: 13px; fill: var(--text); }
svg .grid { stroke: var(--rule); }
svg .reference { stroke: var(--soft); stroke-dasharray: 5 4; }
svg .interval { stroke: currentColor; stroke-width: 1.6; }
svg .dashed { stroke-dasharray: 2 4; }
svg .error { stroke: var(--text); stroke-width: 1.6; }
svg circle, svg rect { fill: currentColor; }
svg polyline { fill: none; stroke: currentColor; stroke-width: 2; }
summary { cursor: pointer; color: var(--soft); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; padding: 0; margin: .4rem 0 0; }
.legend li { font-size: .9rem; }
.legend span { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; background: currentColor;
  margin-right: .45rem; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
"""


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def command(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def notes(items: Sequence[str]) -> str:
    """A box of remarks that a reader must not miss."""
    return "\n".join(['<div class="notes"><ul>', *(f"<li>{escape(item)}</li>" for item in items), "</ul></div>"])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of numbers; the first column names the row."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = ("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    parts = [
        '<div class="scroll"><table>',
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *body,
        "</tbody></table></div>",
    ]
    return "\n".join(parts)


def facts(entries: Mapping[str, str]) -> str:
    """A table of names and values."""
    rows = (f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in entries.items())
    return "\n".join(['<div class="scroll"><table class="facts"><tbody>', *rows, "</tbody></table></div>"])


def details(summary: str, part: str) -> str:
    """A part that is folded away at first."""
    return f"<details><summary>{escape(summary)}</summary>\n{part}\n</details>"


def plots(drawings: Sequence[str]) -> str:
    """Small plots side by side."""
    return "\n".join(['<div class="plots">', *(f"<div>{drawing}</div>" for drawing in drawings), "</div>"])


def page(title: str, lead: str, parts: Sequence[str]) -> str:
    """A whole HTML document of `parts`, which the functions above and report/svg.py make."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            f"<h1>{escape(title)}</h1>",
            f'<p class="lead">{escape(lead)}</p>',
            *parts,
            "</body>",
            "</html>",
            "",
        ]
    )
