"""Replies and answers in one plain form, so that equal names and equal numbers are equal words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import yaml
from anyascii import anyascii
from text_to_num import alpha2digit

_ROMAN = {"II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10, "XI": 11, "XII": 12,
          "XIII": 13, "XIV": 14, "XV": 15, "XVI": 16, "XVII": 17, "XVIII": 18, "XIX": 19, "XX": 20}  # fmt: skip
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_UNITS = {"$": "dollars", "\u20ac": "euros", "\u00a3": "pounds", "km": "kilometers", "\u00b0": "degrees"}
_UNITS |= {"%": "percent", "per cent": "percent"}
# In this order, after number words have become digits ("3 million" is "3 1000000" then).
_RULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    ("[\u2013\u2014](?!\\d)|(?<=\\s)-+(?=\\s)", " ; "),  # a dash between clauses, not a hyphen
    (r"(?<=\d),(?=\d{3}(?!\d))", ""),
    (r"(?<![\w.])\.(?=\d)", "0."),
    (r"(\d)\.0+(?!\d)", r"\1"),
    (r"(\d[\d.]*) (10{3,})\b", lambda found: f"{float(found[1]) * int(found[2]):.15g}"),
    (r"(?<=\d)(?:st|nd|rd)\b", "th"),
    (r"\b(1[1-9]|20) (\d\d)\b", r"\1\2"),  # "nineteen sixty-nine"
    ("([$\u20ac\u00a3]) ?(\\d[\\d.]*)", lambda found: f"{found[2]} {_UNITS[found[1]]}"),
    ("(?<=\\d) ?(km\\b|%|per cent\\b|\u00b0)", lambda found: f" {_UNITS[found[1]]} "),
    (r"\b(degrees?) +C\b", r"\1 Celsius"),
    (r"metre", "meter"),
    # Latin letters and marks in ASCII; other scripts stay as they are.
    ("[\u00aa-\u024f\u1e00-\u1eff\u2010-\u2044\u2212]+", lambda found: anyascii(found[0])),
    (r"(?i:\b(?:minus|negative) )(?=\d)|(?<![\w)])-(?=\d)", "\u2212"),
    (rf"\b(\d\d?)(?:th)? (?:of )?({_MONTHS})\b", r"\2 \1"),  # "4th of July" and "July 4th"
    (rf"(?<=\w )(?:{'|'.join(_ROMAN)})\b(?! [A-Z]|\.\w)", lambda found: str(_ROMAN[found[0]])),
    (r"\b(AB?|B|O)(?: (?i:negative|minus)\b|-(?![\w-]))", "\\1\u2212"),  # blood groups
    (r"\b(AB?|B|O) (?i:positive|plus)\b", r"\1+"),
    (r"(?i)(n't|(?<=can)not)\b", " not"),
    (r"(?i)\b(it|that|he|she|what|there|here|who)'s\b", r"\1 is"),
    (r"(?i)'(re|m|d|ll|ve)\b", r" \1"),
    (r"(?i)'s\b|'", ""),
    (r"\b([A-Z])\. ?(?=[A-Z]\b)", r"\1"),  # "U.S." and "J. R. R."
    # Thai to Burmese, Khmer, kana, Chinese characters and Hangul: each is a word of its own here.
    ("([\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff])", r" \1 "),
)
_ACCENT = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u0652]")
_TOKEN = re.compile("\u2212?[^\\W_](?:[^\\W_]|[_$!](?=[^\\W_])|(?<=\\d)\\.(?=\\d))*[+#\u2212]*|[,;:()?!]")
"""A word with its sign and its symbols (C++, O+, Ke$ha, num_workers), or a mark that ends a clause."""
_LIST_ITEM = re.compile(r"\s*(?:^|\n)\s*(?:[-*\u2022]|\d\d?[.)])\s+(?=\S)")
_SENTENCE_END = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)\]*_]*\s+|(?<=[\u3002\uff01\uff1f])")
# "Dr. Watson", "George W. Bush", "J. R. R. Tolkien" and "No. 5" go on; "Vitamin C. It is" does not.
_GOES_ON = re.compile(r"\b(?:(?:Mr|Mrs|Ms|Dr|St|Mt|Jr|vs)\.\n|No\.\n\d|[A-Z]\.\n[A-Z]\.)|(?:[A-Z]\w*\.? |\.)[A-Z]\.\n")


@lru_cache(maxsize=1 << 16)
def plain(text: str) -> str:
    """Return a text as words and marks apart by spaces: no accents, no markup, numbers as digits with sign and unit."""
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", re.sub("[\u2018\u2019\u02bb\u02bc`]", "'", text)))
    text = alpha2digit(unicodedata.normalize("NFC", _ACCENT.sub("", text)), "en", 0)
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    return " ".join(_TOKEN.findall(text))


@lru_cache(maxsize=1 << 16)
def fold(word: str) -> str:
    """Return a word of a plain text without capitals and plural, "8th" as "8", and "I" as "1"."""
    word = "1" if word == "I" else word.removesuffix("th") if word[:1].isdigit() else word.casefold()
    return re.sub(r"(?<=[sxz])es$|(?<=[^\dsui])s$", "", re.sub("ies$", "y", word)) if len(word) > 3 else word


_LISTS = yaml.safe_load((Path(__file__).parents[1] / "data" / "common_words.yaml").read_text(encoding="utf-8"))
COMMON_WORDS = frozenset(map(fold, " ".join(_LISTS.values()).split()))


def sentences(text: str) -> list[str]:
    """Cut a text after marks that end sentences and at line breaks; the items of a list are one sentence."""
    if len(_LIST_ITEM.findall(text)) > 1:
        text = _LIST_ITEM.sub(" , ", text)
    found: list[str] = []
    for line in text.split("\n"):
        for place, piece in enumerate(filter(None, map(str.strip, _SENTENCE_END.split(line)))):
            is_name = piece[1:2] == "." or fold((plain(piece) or piece).split()[0]) not in COMMON_WORDS
            if place and is_name and _GOES_ON.search(f"{found[-1]}\n{piece}"):
                found[-1] += f" {piece}"
            else:
                found.append(piece)
    return found
