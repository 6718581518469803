"""Replies and answers in one plain form, so that equal names and equal numbers are equal text."""

from __future__ import annotations

import re
import unicodedata

from text_to_num import alpha2digit

_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALED = re.compile(rf"\b(\d+(?:\.\d+)?)[ -]({'|'.join(_SCALES)})\b", re.IGNORECASE)
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_UNSPACED = re.compile("([\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff])")
"""Thai, Lao, Tibetan, Burmese, Khmer, kana, Chinese characters and Hangul: each is a word of its own here."""
_MARKS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u0652]")
_WHOLE_LETTERS = str.maketrans(
    dict(zip("łŁøØđĐðÐħıŋə", "lLoOdDdDhine", strict=True))
    | {"æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ß": "ss", "þ": "th", "Þ": "Th"}
)
"""Letters that Unicode does not take apart into a base letter and an accent."""


def _rules(*pairs: tuple[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(pattern), replacement) for pattern, replacement in pairs]


_MARKUP_AND_FIGURES = _rules(
    (r"[\u2212\u2010\u2011]|(?<![^\s(])\u2013(?=\d)", "-"),
    (r"[\u2013\u2014]|(?<=\s)-(?=\s)|--+", " ; "),
    # LaTeX commands and boxes, formulas between dollars, Markdown.
    (r"\\[a-zA-Z]+\s*\{|\\[()\[\]]|(?<!\w)\$(?=[^\s$]+\$)|(?<=[^\s$])\$(?!\w)|[{}\\*|~\"\u201c\u201d]|^\s*#+ ", " "),
    (r"(?<!\w)_+|_+(?!\w)", " "),
    # One form of thousands, decimals, money and ordinals.
    (r"(?<=\d),(?=\d{3}(?!\d))|(?<=\b\d) (?=\d{3}\b)|(?<=\b\d\d) (?=\d{3}\b)|(?<=\b\d{3}) (?=\d{3}\b)", ""),
    (r"(?<![\w.])\.(?=\d)", "0."),
    (r"(\d)\.0+(?!\d)", r"\1"),
    *((rf"(?<!\w){sign} ?(\d[\d.]*(?: \w+illion\b)?)", rf"\1 {name}")
      for sign, name in ((r"\$", "dollars"), ("\u00a3", "pounds"), ("\u20ac", "euros"))),
    (r"(\d)(?:st|nd|rd)\b", r"\1th"),
)  # fmt: skip
_SIGNS_AND_WORDS = _rules(
    (r"(\d)(?:st|nd|rd)\b", r"\1th"),
    (r"\b(1[1-9]|20) (\d\d)\b", r"\1\2"),  # "nineteen sixty-nine"
    # A blood group keeps its sign, and "minus 40" is a negative number; \u2212 is a sign from here on.
    (r"(?i)\b(?:minus|negative) (?=\d)|(?<![\w)])-(?=\d)", " \u2212"),
    (r"\b(AB?|B|O)(?:[ -](?:[Nn]egative|[Mm]inus)\b|-(?![\w-]))", "\\1\u2212"),
    (r"\b(AB?|B|O)[ -](?:[Pp]ositive|[Pp]lus)\b", r"\1+"),
    # Units.
    (r"%|(?i:\bper cent\b)", " percent "),
    (r"\u00b0", " degrees "),
    (r"(?i)\b(degrees?) +c\b", r"\1 Celsius"),
    (r"(?i)\b(degrees?) +f\b", r"\1 Fahrenheit"),
    (r"(?i)(?<=\d)(?=(?:km|cm|kg|mph)\b)", " "),
    *((rf"\b{short}\b", long) for short, long in (
        ("km", "kilometers"), ("cm", "centimeters"), ("kg", "kilograms"), ("mph", "miles per hour"))),
    (r"(?i)metre(?=s?\b)", "meter"),
    # Contractions, so that a negation is always the word "not".
    (r"(?i)\b(?:can't|cannot)\b", "can not"),
    (r"(?i)\bwon't\b", "will not"),
    (r"(?i)n't\b", " not"),
    (r"(?i)\b(it|that|he|she|what|there|here|who)'s\b", r"\1 is"),
    (r"(?i)'(m|re)\b", r" \1"),
    (r"'(?=s\b)", " "),
    (r"'", ""),
    # Initials stand together: "U.S." and "J. R. R." as "US" and "JRR"; other points, hyphens and slashes part words.
    (r"(?<![^\W\d_])([A-Z])\. ?(?=[A-Z]\b)", r"\1"),
    (r"&", " and "),
    (r"(?<!\d)\.|\.(?!\d)|-|/|\u2044", " "),
    (r"!(?!\w)|(?<!\w)!", " ! "),
    (r"([,;:?()\[\]\u3001])", r" \1 "),
    (r"(?<!\w)[+#]+|[^\w\s.,;:?!()+#$\u2212]", " "),
    # Dates: "4th of July" and "July 4th".
    (rf"\b(\d\d?)(?:th)? (?:of )?({_MONTHS})\b", r"\2 \1"),
    (rf"\b({_MONTHS}) (?:the )?(\d\d?)th\b", r"\1 \2"),
)  # fmt: skip
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
    for pattern, replacement in _MARKUP_AND_FIGURES:
        text = pattern.sub(replacement, text)
    text = _SCALED.sub(lambda number: f"{float(number[1]) * _SCALES[number[2].lower()]:.15g}", text)
    # Zero, one, two, first and second stay words where they stand alone, as in "one of my favourites".
    text = alpha2digit(text, "en")
    for pattern, replacement in _SIGNS_AND_WORDS:
        text = pattern.sub(replacement, text)
    return " ".join(_UNSPACED.sub(r" \1 ", text).split())


def sentences(text: str) -> list[str]:
    """Cut a text after marks that end sentences and at line breaks; the items of a list are one sentence."""
    if len(_LIST_ITEM.findall(text)) > 1:
        text = _LIST_ITEM.sub(" , ", text)
    inner = {abbreviation.end() for abbreviation in _GOES_ON.finditer(text)}
    starts = [0, *(place for end in _SENTENCE_END.finditer(text) if (place := end.end()) not in inner)]
    pieces = [text[start:stop].strip() for start, stop in zip(starts, [*starts[1:], None], strict=True)]
    return [piece for piece in pieces if piece]
