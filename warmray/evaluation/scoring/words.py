"""Replies and answers in one plain form, so that equal names and equal numbers are equal text."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

import yaml
from text_to_num import alpha2digit

_LISTS = yaml.safe_load((Path(__file__).parents[1] / "data" / "common_words.yaml").read_text(encoding="utf-8"))
FUNCTION_WORDS = frozenset(_LISTS["function"].split())
TONE_WORDS = frozenset(_LISTS["tone"].split())
PERSONAL = re.compile(
    r"\b(?:i(?!$| [,;:!?)])|me|my(?! (?:dear|sweet|friend|love))|mine|you|yours?|yourself|we|(?-i:[Uu]s)|ours?)\b",
    re.IGNORECASE,
)
"""Of a plain text that speaks of the user or of the model: "US" and "World War I" do not."""
UNITS = {
    "%": "percent", "per cent\\b": "percent", "\u00b0": "degrees", "km\\b": "kilometers", "cm\\b": "centimeters",
    "kg\\b": "kilograms", "mph\\b": "miles per hour",
}  # fmt: skip
_CURRENCIES = {r"\$": "dollars", "\u20ac": "euros", "\u00a3": "pounds"}
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALED = re.compile(rf"\b(\d+(?:\.\d+)?)[ -]({'|'.join(_SCALES)})\b", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_MARKS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u0652]")
_WHOLE_LETTERS = str.maketrans(
    dict(zip("łŁøØđĐðÐħıŋə", "lLoOdDdDhine", strict=True))
    | {"æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ß": "ss", "þ": "th", "Þ": "Th"}
)
"""Letters that Unicode does not take apart into a base letter and an accent."""


def _rules(*pairs: tuple[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(pattern), replacement) for pattern, replacement in pairs]


_MARKUP = _rules(
    (r"[\u2212\u2010\u2011]|(?<![^\s(])\u2013(?=\d)", "-"),
    (r"[\u2013\u2014]|(?<=\s)-(?=\s)|--+", " ; "),
    # LaTeX commands and boxes, formulas between dollars, Markdown.
    (r"\\[a-zA-Z]+\s*\{|\\[()\[\]]|(?<!\w)\$(?=[^\s$]+\$)|(?<=[^\s$])\$(?!\w)|[{}\\*|~\"\u201c\u201d]|^\s*#+ ", " "),
    (r"(?<!\w)_+|_+(?!\w)", " "),
    (r"(?i)\b(?:minus|negative) one\b", "-1"),  # alone it would stay a word
    (r"(?i)\b(?:minus|negative) two\b", "-2"),
)
_FIGURES = _rules(
    # One form of thousands, decimals and money.
    (r"(?<=\d),(?=\d{3}(?!\d))|(?<=\b\d) (?=\d{3}\b)|(?<=\b\d\d) (?=\d{3}\b)|(?<=\b\d{3}) (?=\d{3}\b)", ""),
    (r"(?<![\w.])\.(?=\d)", "0."),
    (r"(\d)\.0+(?!\d)", r"\1"),
    *((rf"(?<!\w){sign} ?(\d[\d.]*(?: \w+illion\b)?)", rf"\1 {name}") for sign, name in _CURRENCIES.items()),
)
_NUMBERS = _rules(
    (r"(\d)(?:st|nd|rd)\b", r"\1th"),
    (r"\b(1[1-9]|20) (\d\d)\b", r"\1\2"),  # "nineteen sixty-nine"
    (r"(?i)\b(?:minus|negative) (?=\d)|(?<![\w)])-(?=\d)", " \u2212"),
    *((rf"(?i)(?<=\d) ?{unit}", f" {name} ") for unit, name in UNITS.items()),
    (r"\b(degrees?) +C\b", r"\1 Celsius"),
    (r"\b(degrees?) +F\b", r"\1 Fahrenheit"),
    (rf"\b(\d\d?)(?:th)? (?:of )?({_MONTHS})\b", r"\2 \1"),  # "4th of July" and "July 4th"
    (rf"\b({_MONTHS}) (?:the )?(\d\d?)th\b", r"\1 \2"),
)
_WORDS = _rules(
    # A blood group keeps its sign.
    (r"\b(AB?|B|O)(?:[ -](?:[Nn]egative|[Mm]inus)\b|-(?![\w-]))", "\\1\u2212"),
    (r"\b(AB?|B|O)[ -](?:[Pp]ositive|[Pp]lus)\b", r"\1+"),
    # Contractions, so that a negation is always the word "not".
    (r"(?i)\b(?:can't|cannot)\b", "can not"),
    (r"(?i)\bwon't\b", "will not"),
    (r"(?i)n't\b", " not"),
    (r"(?i)\b(it|that|he|she|what|there|here|who)'s\b", r"\1 is"),
    (r"(?i)'(m|re|s)\b", r" \1"),
    (r"'", ""),
    # Initials stand together: "U.S." and "J. R. R." as "US" and "JRR"; other points, hyphens and slashes part words.
    (r"(?<![^\W\d_])([A-Z])\. ?(?=[A-Z]\b)", r"\1"),
    (r"&", " and "),
    (r"(?<!\d)\.|\.(?!\d)|-|/|\u2044", " "),
    (r"!(?!\w)|(?<!\w)!", " ! "),
    (r"([,;:?()\[\]\u3001])", r" \1 "),
    (r"(?<![\w+#])[+#]+|[^\w\s.,;:?!()+#$\u2212]", " "),
    (r"metre(?=s?\b)", "meter"),
    # Thai, Lao, Tibetan, Burmese, Khmer, kana, Chinese characters and Hangul: each is a word of its own here.
    ("([\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff])", r" \1 "),
)
_ENDING = re.compile("(?:es|s|ed|ing|e)$")
_SENTENCE_END = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)\]*_]*\s+|(?<=[\u3002\uff01\uff1f])|\s*\n\s*")
_GOES_ON = re.compile(
    # "Dr. Watson", "J. R. R. Tolkien" and "No. 5" go on; "vitamin C. It is" and "the U.S. They did" do not.
    r"\b(?:(?:Mr|Mrs|Ms|Dr|St|Mt|Ft|Jr|Sr|Prof|vs|Lt|Gen|Col|Capt|e\.g|i\.e|[A-Z])\. +"
    r"(?!(?:I|It|The|This|That|You|We|My|And|But|So|In|He|She|They|What|Oh|There|Here|If|As|A)\b)|No\. +(?=\d))"
)
_LIST_ITEM = re.compile(r"\s*(?:^|\n)\s*(?:[-*\u2022]|\d\d?[.)])\s+(?=\S)")


def plain(text: str) -> str:
    """Return a text as words apart by single spaces, with its capitals and the marks that end clauses.

    Accents, markup and apostrophes are gone, numbers are digits with their sign (as U+2212), symbols that belong to a
    word stay (C++, O+, Ke$ha, num_workers), and scripts without spaces stand character by character.
    """
    text = re.sub("[\u2018\u2019\u02bb\u02bc\u00b4\u2032`]", "'", text)
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
    text = unicodedata.normalize("NFC", _MARKS.sub("", text)).translate(_WHOLE_LETTERS)
    text = _apply(_MARKUP, text)
    if _DIGIT.search(text):
        text = _SCALED.sub(lambda found: f"{float(found[1]) * _SCALES[found[2].lower()]:.15g}", _apply(_FIGURES, text))
    # Zero, one, two, first and second stay words where they stand alone, as in "one of my favourites".
    text = alpha2digit(text, "en")
    if _DIGIT.search(text):
        text = _apply(_NUMBERS, text)
    return " ".join(_apply(_WORDS, text).split())


def _apply(rules: list[tuple[re.Pattern[str], str]], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Return a word without its commonest endings, folded."""
    return _ENDING.sub("", word.casefold()) if len(word) > 4 else word.casefold()


def stems(text: str) -> set[str]:
    """Return the words of a plain text, each as its stem."""
    return {stem(word) for word in text.split()}


def sentences(text: str) -> list[str]:
    """Cut a text after marks that end sentences and at line breaks; the items of a list are one sentence."""
    if len(_LIST_ITEM.findall(text)) > 1:
        text = _LIST_ITEM.sub(" , ", text)
    inner = {abbreviation.end() for abbreviation in _GOES_ON.finditer(text)}
    starts = [0, *(place for end in _SENTENCE_END.finditer(text) if (place := end.end()) not in inner)]
    pieces = [text[start:stop].strip() for start, stop in zip(starts, [*starts[1:], None], strict=True)]
    return [piece for piece in pieces if piece]
