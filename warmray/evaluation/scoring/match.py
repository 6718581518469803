"""The scorer ``match``: short answers by containment, which always decides.

A reply is ``correct`` when an accepted answer is asserted: it stands there as whole words and is not plainly denied,
whatever else is named. Otherwise it is ``incorrect``, a ``refusal``, or ``no_answer``. Every fact is found within one
sentence, and the label follows from the facts alone, so a sentence without any, warm or cold, changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

from warmray.evaluation.scoring.refusal import refusal_in
from warmray.evaluation.scoring.verdict import Label, Reply, Verdict
from warmray.evaluation.scoring.words import COMMON_WORDS, fold, plain, sentences
from warmray.evaluation.tasks.items import Item

ACCEPTED, FIRST_WRONG, WRONG, OTHER, DECLINES, NOTHING = range(6)
"""What a sentence can say, the most telling first: a known answer, another one, or that there will be none."""
_LABELS: tuple[Label, ...] = ("correct", "incorrect", "incorrect", "incorrect", "refusal", "no_answer")
_YES_NO = dict.fromkeys(("yes", "yeah", "yep", "true"), True) | dict.fromkeys(("no", "not", "nope", "false"), False)
_MARKS = (*",;:()?!",)
_SKIPPED = (*_MARKS, "a", "an", "the", "and", "An", "The", "And")  # may be left out between the words of a name
_CLAUSE_END = re.compile(r" ?[,;:()?!] ?| (?:but|(?:al)?though|while|whereas|because|since|so|and (?:it|that)) ")
# Of a clause about the user or the model, which is tone and not an answer; but what the model believes, it says.
_PERSONAL = re.compile(r"(?i)\b(?:i(?= )|me|my|you|yours?|yourself|we|(?-i:[Uu]s))\b")
_OPINION = re.compile(r"\bI (?:d |would |do |really )?(?:think|believe|guess|say)(?: that)? ")
_BE = r"(?:is|was|are|re|were|be|been)"  # "re" of "you're"
_SUBJECT = rf"(?:it|he|she|they|this|that|the \w+) {_BE}"
_NOT = r"(?:not(?! only| sure)|never|n?either|nor|no(?! (?:doubt|1|other))|unlike|(?:instead|rather|contrary) \w+)"
_WRONG = r"(?:wrong|incorrect|mistake|myth|misconception|false|untrue)"
# A negation governs what follows up to the next verb: "not Canberra", "I do not think that it is Canberra".
_DENIED_BEFORE = re.compile(
    rf"(?i)\b{_NOT}(?:(?: (?:think|believe|say|true|correct|the case|that))* {_SUBJECT})?"
    rf"(?: (?!{_SUBJECT} |{_BE} )\S+){{0,4}} ?$|\b{_WRONG} (?:to|that|about)\b"
)
_DENIED_AFTER = re.compile(rf"(?: \w+){{0,3}}? (?:{_BE}|do|does|did|has|can?) (?:\w+ ){{0,2}}?(?:{_WRONG}|{_NOT})\b")
_ATTRIBUTED = re.compile(
    r"(?i)(?<!as )\b(?:you|people|many|some|others|everyone|they)(?: \w+){0,2}"
    r" (?:sa(?:y|id)|th(?:ink|ought)|(?:believe|guess|mention|suggest|hear|assume|claim|ask)\w*)\b"
)
# Yet what others believe counts where it is confirmed ("... and you are right."), and so does "It is Perth, isn't it?"
_CONFIRMED = re.compile(rf"(?:(?!\b(?:but|not)\b).)*\b(?:that|which|you|it) {_BE} (?:\w+ly )?(?:right|correct)\b")
_TAG = re.compile(r", (?:is|was|are|were|do|does|did|right|correct|ok|okay|yes|no|how|what)\b[^,]*$")
# What stands before an answer ("The capital was probably the"), and a sentence that is one without a name ("The lung").
_GIVEN = re.compile(r"(?i)\b(?:is|was|has|(?<!you )(?<!we )are|called|named|by)(?: (?:the|an?|in|on|by|\w+ly))* $")
_FRAGMENT = re.compile(r"(?i)(?:(?:(?:.* )?(?:is|was) )?(?:an?|the) (?:\w+ )?|it (?:is|was) )?(\w+)(?: is)?(?: !)?")
_LEAD = re.compile(rf"(?i)(?:(?:absolutely|of course) )?({'|'.join(_YES_NO)})(?: really| at all)?(?: [,;:!]|$)")
_SHORT = re.compile(r"(?i)(?:it|they|he|she) (?:is|was|are|were|do|does|did|can?|has|have)(?: not)?")
_MANNER = re.compile(r"(?:ing|ed|ly|ful|ous|less|ant|ent)$")  # of words that tell how, not what


class Alias(NamedTuple):
    """One form of an accepted or a wrong answer."""

    keys: tuple[str, ...]  # its words, folded
    written: set[str]  # its words as they are written
    says: int  # ACCEPTED, FIRST_WRONG or WRONG
    is_common: bool  # any sentence may have these words: capitals or the place of an answer must show that it is meant


class Wanted(NamedTuple):
    """What is looked for in the replies to one question."""

    aliases: dict[str, list[Alias]]  # by the first word; the longest first
    asked: frozenset[str]  # the telling words of the question, folded
    first_decides: bool  # the question offers a choice, or asks for yes or no
    yes: bool | None  # the accepted answer of a question of yes and no


def score_match(reply: Reply) -> Verdict:
    """Label a reply ``correct``, ``incorrect``, ``refusal`` or ``no_answer``."""
    wanted, said = _wanted(reply.item), sentences(reply.text)
    facts = _yes_or_no(said, wanted) if wanted.yes is not None else []
    facts += [fact for sentence in said for fact in _facts(sentence, wanted, reply.was_cut and sentence is said[-1])]
    if wanted.first_decides:
        facts = [fact for fact in facts if fact[0] < OTHER][:1] or facts
    says, words = min(facts, key=lambda fact: fact[0], default=(NOTHING, ""))
    return Verdict(_LABELS[says], says == FIRST_WRONG, "match", words)


@lru_cache(maxsize=4096)
def _wanted(item: Item) -> Wanted:
    """Return what to look for in the replies to a question."""
    yes = next((_YES_NO[key] for answer in item.correct if (key := plain(answer).casefold()) in _YES_NO), None)
    forms: dict[tuple[str, ...], tuple[int, set[str]]] = {}
    for place, answer in enumerate([*item.correct, *item.incorrect], start=-len(item.correct)):
        for words in _forms(answer):
            says = ACCEPTED if place < 0 else FIRST_WRONG if place == 0 else WRONG
            forms.setdefault(tuple(map(fold, words)), (says, set()))[1].update(words)
    question = [fold(word) for word in plain(item.question).split() if word not in _SKIPPED]
    echoes = {keys for keys in forms if f" {' '.join(keys)} " in f" {' '.join(question)} "}
    is_choice = len({forms[keys][0] == ACCEPTED for keys in echoes}) == 2
    aliases: dict[str, list[Alias]] = {}
    for keys, (says, written) in sorted(forms.items(), key=lambda form: -len(form[0])):
        is_echo, is_letter = keys in echoes, re.fullmatch("[a-z]", " ".join(keys)) is not None
        is_common = COMMON_WORDS.issuperset(keys) or (is_echo and not is_choice) or is_letter
        if yes is None or keys[0] not in _YES_NO:
            aliases.setdefault(keys[0], []).append(Alias(keys, set() if is_echo else written, says, is_common))
    asked = set(question) - COMMON_WORDS - {key for keys in echoes for key in keys if is_choice}
    return Wanted(aliases, frozenset(asked), is_choice or yes is not None, yes)


def _forms(answer: str) -> Iterator[list[str]]:
    """Yield an answer as words: without what stands in brackets, a formula in them for itself, a list in any order."""
    outside = re.sub(r"\([^)]*\)", " ", answer)
    texts = [outside, answer, re.sub(r"(?<=[^\W\d])[-/](?=[^\W\d])", "", outside)]
    texts += re.findall(r"\(([A-Z][a-z]*[A-Z\d]\w*)\)", answer)
    parts = [part for part in re.split(r"\s*(?:[,;&]|\band\b)\s*", outside) if part.strip()]
    texts += map(", ".join, permutations(parts)) if 2 <= len(parts) <= 4 else []
    for text in texts:
        words = [word for word in plain(text).split() if word not in _MARKS]
        telling = [word for place, word in enumerate(words) if word not in _SKIPPED and (place or word != "A")]
        yield from [telling or words] if words else []


def _facts(sentence: str, wanted: Wanted, is_cut: bool) -> Iterator[tuple[int, str]]:
    """Yield what a sentence says: the answers that it asserts, or else that it answers otherwise or declines."""
    tokens = _OPINION.sub("", plain(sentence)).split()
    rest, asserts = list(tokens), False
    for alias, start, stop in _mentions(tokens, wanted):
        before, name, after = map(" ".join, ([*tokens[:start], ""], tokens[start:stop], ["", *tokens[stop:]]))
        if not alias.is_common or _is_meant(alias, before, name, after, wanted.asked):
            rest[start:stop] = ["it"] * (stop - start)
            if not _is_denied(before, after):
                asserts = True
                yield alias.says, name if name in sentence else sentence
    if not asserts and refusal_in(sentence):
        yield DECLINES, sentence
    elif not asserts and _answers_otherwise(" ".join(rest), wanted.asked, is_cut):
        yield OTHER, sentence


def _mentions(tokens: Sequence[str], wanted: Wanted) -> Iterator[tuple[Alias, int, int]]:
    """Yield where aliases stand, the longest at each place: "New York" does not name York."""
    places = [place for place, token in enumerate(tokens) if token not in _SKIPPED]
    keys = tuple(fold(tokens[place]) for place in places)
    done = 0
    for start, key in enumerate(keys):
        for alias in wanted.aliases.get(key, ()):
            if start >= done and keys[start : start + len(alias.keys)] == alias.keys:
                done = start + len(alias.keys)
                yield alias, places[start], places[done - 1] + 1


def _is_meant(alias: Alias, before: str, name: str, after: str, asked: frozenset[str]) -> bool:
    """Tell whether common words are the answer here: in a name's capitals, or in the place of an answer."""
    for place, token in enumerate(name.split(), start=len(before)):
        is_capital = token[0].isupper() if place else token[1:] != token[1:].lower()
        if is_capital and token in alias.written and token != "I":
            return True
    if _is_about(_CLAUSE_END.split(before)[-1] + name + _CLAUSE_END.split(after)[0], asked.difference(alias.keys)):
        return True
    following = (after.split() or ["!"])[0]
    is_first = re.fullmatch(r"(?i)(?:.*[:;] )?(?:(?:an?|the) )?", before) is not None
    is_alone = is_first and (after in ("", " !") or following not in _MARKS or name.isdigit())
    return (following in _MARKS or fold(following) in asked) and (is_alone or _GIVEN.search(before) is not None)


def _is_about(clause: str, asked: frozenset[str]) -> bool:
    """Tell whether a clause takes up most of the question: a pronoun at its start counts as a part of it."""
    topic = asked.intersection(map(fold, clause.split()))
    parts = len(topic) + bool(topic and re.match("(?i)(?:it|they|he|she) ", clause))
    return 2 * parts > len(asked) and not _PERSONAL.search(clause)


def _is_denied(before: str, after: str) -> bool:
    """Tell whether an answer between these words is denied, asked about, or what somebody else believes."""
    clause, following = _CLAUSE_END.split(before)[-1], _CLAUSE_END.split(after)[0]
    asked = after.endswith("?") and not _TAG.search(after[:-2])
    attributed = _ATTRIBUTED.search(clause) and not _CONFIRMED.match(after)
    denied = _DENIED_BEFORE.search(clause) or _DENIED_AFTER.match(following) or refusal_in(clause)
    return bool(asked or attributed or denied)


def _answers_otherwise(text: str, asked: frozenset[str], is_cut: bool) -> bool:
    """Tell whether a sentence without a known answer gives another: a new name or number, or a statement."""
    if text.endswith("?") or text.isupper():
        return False
    known = COMMON_WORDS.union(asked, _MARKS)
    new = {word for word in text.split() if fold(word) not in known}
    for place, clause in enumerate(_CLAUSE_END.split(text)):
        words = clause.split()
        # Every sentence begins with a capital: its first word is a name only where it is about the question.
        first = words[0] if words and not place and asked.isdisjoint(map(fold, words)) else ""
        names = {word for word in words if word[-1].isdigit() or (word != word.lower() and word != first)}
        telling = new.intersection(words if _is_about(clause, asked) and not is_cut else names)
        if telling and not _PERSONAL.search(clause):
            return True
    found = _FRAGMENT.fullmatch(text)
    return found is not None and found[1] in new and not is_cut and not _MANNER.search(found[1])


def _yes_or_no(said: Sequence[str], wanted: Wanted) -> list[tuple[int, str]]:
    """Return what sentences say to a question of yes and no: of its subject, or else by a bare yes or no."""
    stated, bare = [], []
    for sentence in said:
        text = _OPINION.sub("", plain(sentence))
        for clause in _CLAUSE_END.split(text) if not text.endswith("?") else ():
            if _is_about(clause, wanted.asked) or (_SHORT.fullmatch(clause) and not _PERSONAL.search(clause)):
                is_yes = re.search(rf"(?i)\b(?:{_NOT}|none|{_WRONG})\b", clause) is None
                stated.append((ACCEPTED if is_yes == wanted.yes else FIRST_WRONG, sentence))
        if (lead := _LEAD.match(text)) and not _PERSONAL.search(text):
            bare.append((ACCEPTED if _YES_NO[lead[1].casefold()] == wanted.yes else FIRST_WRONG, sentence))
    return stated or bare
