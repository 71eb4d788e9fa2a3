from __future__ import annotations

from pathlib import Path

from kinema.page.document import header, paragraph, preformatted, reasons, section, table, write_page

EVIL = '<script>alert("x")</script>'


def test_a_page_is_one_file_with_its_style_in_it(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", "Title", [section("Part", paragraph("words"))])
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "color-scheme: light dark" in page
    assert "<h2>Part</h2><p>words</p>" in page
    assert "<link" not in page
    assert "src=" not in page


def test_words_are_escaped_everywhere(tmp_path: Path) -> None:
    parts = [
        header(EVIL, EVIL, [(EVIL, EVIL)]),
        section(EVIL, ""),
        paragraph(EVIL),
        preformatted(EVIL),
        table([EVIL], [[EVIL]]),
        reasons({EVIL: EVIL}),
    ]
    write_page(tmp_path / "page.html", EVIL, parts)
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 12
