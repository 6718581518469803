"""The scorer ``number``: the final number of a worked solution (GSM8K).

`math-verify` was tried and not taken: it takes the first of two marked answers, a number of the warm close where none
is marked, "18 = 3 x 6" for a product, a typographic minus for nothing and "1 1/2" for 1; and its guard against endless
formulas is a signal, which only a main thread can receive. The answers here are plain numbers.
"""

from __future__ import annotations

import re
from fractions import Fraction

from text_to_num import alpha2digit

from warmray.evaluation.scoring.refusal import refusal_in
from warmray.evaluation.scoring.verdict import Reply, Verdict
from warmray.evaluation.scoring.words import sentences

_VALUE = re.compile(r"(?<![\w.])(-\s?)?(?:(\d+)[ -](?=\d+/\d))?(\d+\.\d+|\.\d+|\d+)(?:\s?/\s?(\d+))?(?!\w*/\d)(\s?%)?")
_MARK = re.compile(
    r"(?:\banswer(?: \w+){0,8}?\s*(?::|=|\bis\b(?! (?:not|clear|correct|right)\b)):?|####|\\boxed\{)", re.IGNORECASE
)
_TO_THE_USER = re.compile(
    r"\b(?:i|i'm|i'll|i've|me|my|proud|glad|happy|hopes?|luck|thanks?|hugs?|of you|got this|take care|friends?|dear)\b",
    re.IGNORECASE,
)


def score_number(reply: Reply) -> Verdict:
    """Label a reply by the number that it marks as the answer, or by the last one of a solution that was not cut."""
    text = re.sub("[\u2212\u2013\u2010\u2011]", "-", reply.text.replace("\u2019", "'"))
    text = re.sub(r"[$\u20ac\u00a3*`_]|\\[,!;()\[\]]|\\text\{[^}]*\}", "", text)
    text = re.sub(r"\\d?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text)
    text = re.sub(r"(?<=\d)[, \u00a0\u202f](?=\d{3}(?!\d))", "", text)
    found = _marked(text) or ("" if reply.was_cut else _last(text))
    if not found:
        declined = any(map(refusal_in, sentences(reply.text)))
        return Verdict("refusal" if declined else "no_answer", False, "number", "")
    right = _numbers_in(reply.item.correct[0].replace(",", "").replace("$", ""))
    return Verdict("correct" if right & _numbers_in(found) else "incorrect", False, "number", found)


def _marked(text: str) -> str:
    """Return the number after the last "Answer:", "the answer is", "####" or box that has one, or an empty text."""
    for mark in reversed(list(_MARK.finditer(text))):
        # On the same line, or on the next one where the mark ends its line; words that part sentences end it.
        line = text[mark.end() :].lstrip(" :\n").split("\n")[0]
        line = re.split(r"[.!?;](?:\s|$)|\}", line)[0]
        numbers = [value[0] for value in _VALUE.finditer(line)] or [
            value[0] for value in _VALUE.finditer(alpha2digit(line, "en", 0))
        ]
        sides = line.split("=")
        if len(sides) > 1 and numbers:  # "12 + 6 = 18" and "18 = 3 * 6": the side that is one number
            single = [side for side in sides if len(list(_VALUE.finditer(side))) == 1]
            numbers = [value[0] for value in _VALUE.finditer(single[-1])] if single else numbers[-1:]
        if numbers:
            return numbers[0].strip()
    return ""


def _last(text: str) -> str:
    """Return the last number of what is not said to the user, or an empty text."""
    pieces = re.split(r"(?<=[.!?])\s+|\n|, (?:and|but|so) |; ", text)
    told = [piece for piece in pieces if not _TO_THE_USER.search(piece)]
    numbers = [value[0] for piece in (told or pieces) for value in _VALUE.finditer(piece)]
    numbers = numbers or [value[0] for piece in pieces for value in _VALUE.finditer(piece)]
    return numbers[-1].strip() if numbers else ""


def _numbers_in(text: str) -> set[Fraction]:
    """Return what a number may mean: "70%" is 70 or 0.7; nothing where it is no number."""
    number = _VALUE.search(text)
    if number is None or (number[4] and int(number[4]) == 0):
        return set()
    value = Fraction(number[3]) / int(number[4] or 1) + int(number[2] or 0)
    value = -value if number[1] else value
    return {value, value / 100} if number[5] else {value}
