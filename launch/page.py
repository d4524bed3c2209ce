"""What the report of a run and that of a sweep share: one HTML file that needs nothing else, light and dark."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5b646e; --page: #ffffff; --card: #f5f6f8; --line: #dcdfe4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #9aa4af; --page: #14171a; --card: #1d2125; --line: #343a41; }
}
body { margin: 0 auto; padding: 1rem; max-width: 76rem; color: var(--ink); background: var(--page);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .75rem; }
.outcome { font-size: 1.05rem; margin: .2rem 0; }
.soft { color: var(--soft); }
.alarm { margin: .2rem 0; padding-left: .6rem; border-left: .25rem solid #c94741; }
.failed { color: #d1495b; font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .75rem; min-width: 0; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
figcaption { font-weight: 600; margin-bottom: .25rem; } svg { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
th { font-weight: 500; color: var(--soft); width: 14rem; max-width: 45%; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; padding: .75rem; margin: .4rem 0; font-size: .85rem; }
.wide { overflow-x: auto; } .wide th, .wide td { width: auto; max-width: none; white-space: nowrap;
  overflow-wrap: normal; font-variant-numeric: tabular-nums; } .wide td, .wide th + th { text-align: right; }
.wide thead th { white-space: normal; vertical-align: bottom; }
details { margin: .75rem 0; } summary { cursor: pointer; font-weight: 600; } article { margin: 1.25rem 0; }
"""


def page(title: str, header: str, sections: Mapping[str, str]) -> str:
    """The page; `header` and the content of the sections are HTML already, titles are text."""
    body = "\n".join(f"<section><h2>{escape(name)}</h2>{content}</section>" for name, content in sections.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>{header}</header>
{body}
</body>
</html>
"""


def paragraphs(sentences: Sequence[str], kind: str) -> str:
    """One paragraph of CSS class `kind` for each."""
    return "".join(f'<p class="{kind}">{escape(sentence)}</p>' for sentence in sentences)


def figure(title: str, svg: str) -> str:
    """A drawing with its caption."""
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"


def pairs(cells: Mapping[str, object]) -> str:
    """A table of names and values."""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in cells.items())
    return f"<table><tbody>{body}</tbody></table>"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head and whose first column names the others; it scrolls where it is too wide."""
    head, *body = rows
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    rest = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>" for row in body
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{rest}</tbody></table></div>'


def write(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
