"""Captions as Open-Sora 1.1 gives them to T5: the clean-up of DeepFloyd's captions, applied twice.

Web captions bring links, markup, file names and serial numbers; a network trained without them should not be
given them. What differs from the published clean-up: no repair of text that was decoded with the wrong code
page (that needs ftfy); Unicode is brought to its compatible composed form (NFKC) instead.
"""

from __future__ import annotations

import html
import re
import unicodedata
from html.parser import HTMLParser
from urllib.parse import unquote_plus

_DASHES = (
    r"\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0"
    r"\ufe31\ufe32\ufe58\ufe63\uff0d"
)
_IDEOGRAPHS = r"\u31c0-\u31ef\u31f0-\u31ff\u3200-\u32ff\u3300-\u33ff\u3400-\u4dbf\u4dc0-\u4dff\u4e00-\u9fff"

_BEFORE_REPAIR = [
    (r"<person>", "person"),
    (r"\bhttps?:\S+|\bwww\.\S+|\b\w[\w-]*\.(?:com|co|ru|net|org|edu|gov|it)\b(?:/\S*)?", ""),
]
_MARKS = [
    (r"@[\w\d]+\b", ""),
    (rf"[{_IDEOGRAPHS}]+", ""),
    (rf"[{_DASHES}]+", "-"),
    (r"[`\u00b4\u00ab\u00bb\u201c\u201d\u00a8]", '"'),
    (r"[\u2018\u2019]", "'"),
    (r"&quot;?|&amp", ""),
    (r"\d{1,3}(?:\.\d{1,3}){3}", " "),
    (r"\d:\d\d\s+$", ""),
    (r"\\n", " "),
    (r"#\d{1,3}\b|#\d{5,}\b|\b\d{6,}\b", ""),
    (r"\S+\.(?:png|jpe?g|bmp|webp|eps|pdf|apk|mp4)\b", ""),
    (r'["\']{2,}', '"'),
    (r"\.{2,}|\s+\.\s+", " "),
    (r"[#®•©™&@·º½¾¿¡§~()\[\]{}|\\/*]+", " "),
]
_NOISE = [
    (r"\b[a-z]{1,3}\d{3,15}\b", ""),
    (r"\b[a-z]+\d+[a-z]+\b|\b\d+[a-z]+\d+\b", ""),
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    (r"(?:free\s)?download(?:\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (r"\b(?:png|jpe?g|bmp|webp|eps|pdf|apk|mp4)(?:\simages?)?\b", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\w*[a-z]+\d+[a-z]+\d+\w*\b", " "),
    (r"\b\d+\.?\d*[x\u0445\u00d7]\d+\.?\d*\b", ""),
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", r"\1 "),
    (r"\s+", " "),
]
_EDGES = [
    (r"^[\"']([\w\W]+)[\"']$", r"\1"),
    (r"^['_,\-:;]+|['_,\-:+]+$|^\.\S+$", ""),
]


def clean_caption(caption: str) -> str:
    """Cleaned twice, as published: the second pass sees what the first has laid bare."""
    return _clean_once(_clean_once(caption))


def _clean_once(caption: str) -> str:
    text = _apply(_BEFORE_REPAIR, unquote_plus(caption).strip().lower())
    text = _apply(_MARKS, _without_markup(text))
    if len(re.findall(r"[-_]", text)) > 3:
        text = re.sub(r"[-_]", " ", text)
    text = html.unescape(html.unescape(unicodedata.normalize("NFKC", text))).strip()
    text = _apply(_NOISE, text).strip()
    return _apply(_EDGES, text).strip()


def _apply(rules: list[tuple[str, str]], text: str) -> str:
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def _without_markup(text: str) -> str:
    parser = _Words()
    parser.feed(text)
    parser.close()
    return "".join(parser.found)
