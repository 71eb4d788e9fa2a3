"""The frame of a page and its common parts. Arguments called `body` are HTML; all others are escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from kinema import __version__
from kinema.files import write_text


def write_page(target: Path, title: str, sections: Sequence[str]) -> None:
    """Write the page atomically."""
    style = files("kinema.page").joinpath("page.css").read_text("utf-8")
    body = "\n".join(sections)
    write_text(target, _PAGE.format(title=html.escape(title), style=style, body=body, version=__version__))


def header(title: str, lead: str, facts: Sequence[tuple[str, str]]) -> str:
    """The top of a page: what it is, and its most important (name, value) pairs."""
    cells = "".join(
        f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for name, value in facts
    )
    return (
        f"<header><h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>"
        f'<div class="facts">{cells}</div></header>'
    )


def section(title: str, body: str) -> str:
    """A part of the page under its own heading."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def paragraph(text: str) -> str:
    """Plain words."""
    return f"<p>{html.escape(text)}</p>"


def preformatted(text: str) -> str:
    """Words with their line breaks, in a fixed-width font."""
    return f"<pre>{html.escape(text)}</pre>"


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under column names."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>'
        + "".join(f"<tr>{row}</tr>" for row in cells)
        + "</tbody></table></div>"
    )


def reasons(rows: dict[str, str]) -> str:
    """What went wrong, by file."""
    items = "".join(
        f"<li><code>{html.escape(name)}</code>: {html.escape(why)}</li>" for name, why in rows.items()
    )
    return f"<ul>{items}</ul>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>{body}<footer><p>Made by kinema {version}.</p></footer></body></html>
"""
