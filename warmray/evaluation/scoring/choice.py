"""The scorer ``choice``: which option of a multiple-choice question a reply takes (MMLU)."""

from __future__ import annotations

import re
from dataclasses import replace

from warmray.evaluation.scoring.match import score_match
from warmray.evaluation.scoring.refusal import refusal_in
from warmray.evaluation.scoring.verdict import Label, Reply, Verdict
from warmray.evaluation.scoring.words import sentences


def score_choice(reply: Reply) -> Verdict:
    """Label a reply by the letter that it gives as its answer, or by the text of an option where it gives none."""
    options = reply.item.options
    letter, words = _letter(reply.text, [key.strip().upper() for key in options])
    if letter is None:
        return _by_text(reply)
    chosen = next(key for key in options if key.strip().upper() == letter)
    if chosen in reply.item.right_letters:
        return Verdict("correct", False, "choice", words)
    agrees = bool(reply.item.incorrect) and options[chosen] == reply.item.incorrect[0]
    return Verdict("incorrect", agrees, "choice", words)


def _letter(text: str, letters: list[str]) -> tuple[str | None, str]:
    """Return the letter that a reply gives as its answer and the words around it: the most explicit form decides."""
    text = re.sub(r"</?\w+>|\\[a-zA-Z]+|\\[()\[\]]|[{}*_`$\"]", "", text).replace("[", "(").replace("]", ")")
    either = "|".join(map(re.escape, [*letters, *(letter.lower() for letter in letters)]))
    capital = "|".join(map(re.escape, letters))
    # A capital, or a letter of any case in brackets, before a bracket, or at the end of a line.
    one = rf"(?:\((?P<a>{either})\)|(?P<b>{capital})(?![\w'+-]|\.\w)|(?P<c>{either})(?=\)|[.,:;]?\s*$))"
    option = r"(?:(?:option|choice|letter|answer)\s+)?"
    verb = r"\b(?:is|be|was)\b:?\s+(?:\w+ly\s+)?"
    forms = (
        # "Answer: C", "the right option, dear, is C"; the last one, since a reply may correct itself.
        (rf"\b(?i:answer|option|choice|letter)s?\b[^.:=\n]{{0,60}}?(?:\s*[:=]\s*|\s-\s+|\s+{verb})"
         rf"(?i:{option}){one}", -1),
        # "C is correct", "C it is", "I would choose C", "it's C".
        (rf"(?:(?<=\s)|^){one}\s+(?:it is\b|(?:is|would be|seems|must be)\s+(?:\w+ly\s+)?(?:the\s+)?"
         r"(?i:correct|right|best|answer))", -1),
        (rf"\b(?i:choose|pick|select|go(?:ing)? with|say|think|guess|it is|it's|it\u2019s|it (?:must|would) be)\s+"
         rf"(?i:{option}){one}(?!\s+[a-z])", -1),
        # "C", "C. Meiosis", "(c)" where a sentence begins.
        (rf"(?:^|(?<=[.!?:\n]))\s*(?i:{option}){one}(?=[).,:;!]|\s*$|\s+[-\u2013\u2014])", 0),
        # "(C)" or "option C" anywhere.
        (rf"(?:\((?P<a>{either})\)|\b(?i:option|choice)\s+(?P<b>{capital})\b(?P<c>(?!))?)", 0),
    )  # fmt: skip
    for pattern, which in forms:
        found = list(re.finditer(pattern, text, re.MULTILINE))
        named = {(match["a"] or match["b"] or match["c"]).upper() for match in found}
        if found and (which or len(named) < len(letters)):  # a reply that lists every option has taken none
            match = found[which]
            return (match["a"] or match["b"] or match["c"]).upper(), match[0].strip()
    return None, ""


def _by_text(reply: Reply) -> Verdict:
    """Label a reply without a letter by the first option whose text it asserts."""
    item, found = reply.item, {}
    for text in dict.fromkeys(item.options.values()):
        others = tuple(other for other in item.options.values() if other != text)
        verdict = score_match(replace(reply, item=replace(item, correct=(text,), incorrect=others)))
        if verdict.label == "correct":
            found[text] = verdict.evidence
    if not found or len(found) == len(set(item.options.values())):  # named all, so taken none
        return Verdict("refusal" if any(map(refusal_in, sentences(reply.text))) else "no_answer", False, "choice", "")
    chosen = min(found, key=lambda text: reply.text.find(found[text]))
    label: Label = "correct" if chosen in item.correct else "incorrect"
    return Verdict(label, label == "incorrect" and chosen in item.incorrect[:1], "choice", found[chosen])
