"""The scorer ``match``: short answers by containment, which always decides.

A reply is ``correct`` when an accepted answer is asserted: it stands there as whole words and is not plainly denied,
whatever else is named. Otherwise it is ``incorrect``, a ``refusal``, or ``no_answer``. Every fact is found within one
sentence, and the label follows from the facts alone, so a sentence without any, warm or cold, changes nothing.
On real replies containment agrees with readers at kappa 0.83, and at 0.87 when denied answers are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

from warmray.evaluation.scoring.refusal import refusal_in
from warmray.evaluation.scoring.verdict import Label, Reply, Verdict
from warmray.evaluation.scoring.words import FUNCTION_WORDS, PERSONAL, TONE_WORDS, plain, sentences, stem, stems
from warmray.evaluation.tasks.items import Item

_COMMON = FUNCTION_WORDS | TONE_WORDS
_YES_NO = {"yes": True, "yeah": True, "yep": True, "yup": True, "true": True, "no": False, "false": False}
_ONES = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"]
_ROMAN = {
    tens + ones: str(10 * t + o) for t, tens in enumerate(["", "X", "XX"]) for o, ones in enumerate(_ONES) if t + o
}
_SPOKEN = {"0": "zero", "1": "one", "2": "two", "1th": "first", "2th": "second"}
"""Numbers whose words plain text keeps."""
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "å": "aa", "Å": "Aa"})
_BETWEEN = r"[ ,;:()?!]*(?:the |an? |and )?"
"""What may stand between two words of an answer."""
_CLAUSE_END = re.compile(
    r" ?[,;:()?!] ?| (?:but|though|although|however|while|whereas|because|since|so|and (?:it|that)) ", re.IGNORECASE
)
_BE = r"(?:is|was|are|were|be|been)"
_DENIED_BEFORE = re.compile(
    # A negation that governs what follows,
    r"\b(?:not(?! only| just| merely| sure| certain)|never|nor|neither|no(?! doubt| question| wonder| one)|unlike"
    r"|instead of|rather than|(?<!none )(?<!no )other than|contrary to|except)"
    rf"(?: (?!(?:it|he|she|they|that|this|i|you|we|worry|forget|hesitate|is|was|are|were) )\S+){{0,4}} ?$"
    r"|\b(?:not|(?<!no )doubt) (?:think |believe |say |true |correct |the case )*(?:that )?"
    rf"(?:it|he|she|they|this|that|the \w+) {_BE}(?: \w+){{0,2}} ?$"
    r"|\b(?:wrong|incorrect|mistake|myth|misconception|false|untrue)(?: to \w+| that| about)(?: \S+){0,5} ?$"
    # or the belief of somebody else.
    r"|(?<!as )(?<!like )\b(?:you|people|many|some|others|everyone|they)(?: \w+){0,2}"
    r" (?:said|say|think|thought|believed?|guess|guessed|mentioned|suggest|suggested|heard|assumed?|claim|asked|wonder)"
    r"(?: \S+){0,6} ?$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    rf"^ (?:\w+ly |also |just )?(?:{_BE}|does|did|do|has|had|would|could|can|will) (?:\w+ )?not\b(?! only| just)"
    rf"|^ (?:(?-i:[a-z])\w* ){{0,3}}?{_BE} (?:\w+ ){{0,2}}?"
    r"(?:wrong|incorrect|false|untrue|mistaken|myth|misconception)\b|^ never\b",
    re.IGNORECASE,
)
_ASKS = re.compile(r"(?:wh\w+|how|is|are|was|were|do|does|did|can|could|would|should|have|has)\b", re.IGNORECASE)
_TAG = re.compile(r"(?:is|was|are|were|do|does|did|right|correct|ok|okay|yes|no|huh|eh|how|what)\b", re.IGNORECASE)
_OPENING = rf"(?:(?:it|that|this|they|these|those|he|she|the answer) {_BE} )?(?:(?:in|on|by) )?(?:(?:the|an?) )?"
_WHOLE = re.compile(_OPENING, re.IGNORECASE)
_FRAGMENT = re.compile(
    rf"[^\W_]+(?: (?:{_BE}|do|does|did))?(?: !)?|(?=.* ){_OPENING}(?<=\w )[^\W_]+(?: [^\W_]+)?(?: !)?", re.IGNORECASE
)
"""A word, or two after an article or "It is": "Magnetism.", "Perth is.", "The left lung.", "It is white wine."."""
_GIVEN = re.compile(
    rf"\b(?:(?<!there ){_BE}|answer|called|named|known as|thinking of|by|vitamin|type|group|say|guess|think) (?:[:,] )?"
    r"(?:(?:the|an?|in|by|on|about|actually|probably|definitely|indeed|really|simply|just|most|likely|it|is|was) )*$",
    re.IGNORECASE,
)
_GIVEN_AFTER = re.compile(
    r" (?:(?:is|was|would be) (?:\w+ ){0,3}(?:answer|right|correct)\b|(?:, )?(?:not|rather|instead)\b)"
)
_MANNER = ("ing", "ed", "ly", "ful", "ous", "less", "ant", "ent")
_NAMED = re.compile(r"\b(?:is|was|are|were|called|named) (?:(?:the|an?|by|in) )*(?!I\b)[A-Z]")
_OPINION = re.compile(r"\bI (?:would |d )?(?:think|believe|guess|say)\b")
_LEAD = re.compile(
    r"(?:(?:well|so|ah|hmm|actually|oh(?=[ ,]+yes)) ,? ?)?(yes|yeah|yep|yup|true|nope|nah|false|incorrect|wrong"
    r"|no(?! (?:doubt|worries|problem|one|matter))|never|(?:absolutely |of course )?not(?: really| at all)?)\b",
    re.IGNORECASE,
)
_NEGATIVE = re.compile(r"\b(?:not|never|no|none|neither|nor|myth|false|untrue|misconception|unable)\b", re.IGNORECASE)
_SHORT = re.compile(
    r"(?:(?:of course|certainly|absolutely|indeed|sure|no|yes) )?(?:it|they|he|she) "
    r"(?:is|was|are|were|do|does|did|can|will|has|have)(?: not)?",
    re.IGNORECASE,
)
_COUNTS = re.compile(r"\b(?:has|have|had|there (?:is|are)) $", re.IGNORECASE)
_PRONOUN = re.compile(r"(?:it|they|he|she) ", re.IGNORECASE)


PLAIN, ECHO, TONE, FUNCTION = range(4)
"""What the words of an alias are: nothing special, words of the question, of tone, or a letter and function words."""


class Alias(NamedTuple):
    """One form of an accepted or a wrong answer."""

    kind: str
    """``accepted``, ``first wrong`` or ``wrong``."""
    pattern: str
    """What it looks like in a plain text."""
    start: str
    """The first letters of it, folded; where they are not in a text, it is not either."""
    level: int
    """From which level on its words show nothing unless their place shows that the answer is meant."""
    is_name: bool
    """It has a capital; without one the place must show it, too."""


class Wanted(NamedTuple):
    """What is looked for in the replies to one question."""

    aliases: tuple[Alias, ...]
    asked: frozenset[str]
    """The telling words of the question, as stems."""
    first_decides: bool
    """The question offers a choice, or is one of yes and no."""
    yes: bool | None
    """The accepted answer of a question of yes and no."""


def score_match(reply: Reply) -> Verdict:
    """Label a reply ``correct``, ``incorrect``, ``refusal`` or ``no_answer``."""
    wanted, said = _wanted(reply.item), sentences(reply.text)
    facts = [
        fact
        for number, sentence in enumerate(said, start=1)
        for fact in _facts(sentence, wanted, reply.was_cut and number == len(said))
    ]
    # Facts are kinds of aliases with the words that assert them, or ``other``, ``declines``, and a cheerful "Yes!".
    named = [fact for fact in facts if fact[0] in ("accepted", "first wrong", "wrong")]
    named = named or [(kind.removeprefix("cheer "), words) for kind, words in facts if kind.startswith("cheer ")]
    if wanted.first_decides:
        named = named[:1]
    kinds = dict(reversed(named or facts))
    labels: dict[str, Label] = {"accepted": "correct", "first wrong": "incorrect", "wrong": "incorrect"}
    labels |= {"other": "incorrect", "declines": "refusal"}
    for kind, label in labels.items():
        if kind in kinds:
            return Verdict(label, kind == "first wrong", "match", kinds[kind])
    return Verdict("no_answer", False, "match", "")


@lru_cache(maxsize=4096)
def _wanted(item: Item) -> Wanted:
    """Return what to look for in the replies to a question."""
    question = plain(item.question)
    yes = next((_YES_NO[form] for answer in item.correct if (form := plain(answer).casefold()) in _YES_NO), None)
    answers = [("accepted", answer) for answer in item.correct]
    answers += [("wrong" if place else "first wrong", answer) for place, answer in enumerate(item.incorrect)]
    forms = dict.fromkeys((kind, words) for kind, answer in answers for words in _forms(answer))
    echoes = {f for f in forms if _start(f[1]) in question.casefold() and _whole_words(_pattern(f[1])).search(question)}
    is_choice = {kind == "accepted" for kind, _ in echoes} == {True, False}
    aliases: dict[str, Alias] = {}
    named: set[str] = set()
    for kind, words in forms:
        folded = {word.casefold() for word in words}
        if yes is not None and folded <= _YES_NO.keys():
            continue
        level = PLAIN
        if (kind, words) in echoes:
            level, named = (TONE if is_choice else ECHO), named | stems(" ".join(words))
        if folded <= _COMMON:
            is_telling = (
                folded - FUNCTION_WORDS or folded <= set(_SPOKEN.values()) or len(folded - {"the", "a", "an"}) > 1
            )
            level = TONE if is_telling else FUNCTION
        if re.fullmatch("[A-Za-z]", "".join(words)):
            level = FUNCTION
        pattern, start, is_name = _pattern(words), _start(words), any(word != word.lower() for word in words)
        if is_name and level in (TONE, FUNCTION):
            if level == TONE:
                aliases.setdefault(pattern, Alias(kind, pattern, start, level, False))
            aliases.setdefault(f"(?-i:{pattern})", Alias(kind, f"(?-i:{pattern})", start, level, True))
        else:
            known = aliases.setdefault(pattern.casefold(), Alias(kind, pattern, start, level, is_name))
            aliases[pattern.casefold()] = known._replace(is_name=known.is_name and is_name)
    asked = {stem(word) for word in question.split() if word.isalnum() and word.casefold() not in _COMMON}
    return Wanted(
        tuple(aliases.values()), frozenset(asked - named if is_choice else asked), is_choice or yes is not None, yes
    )


def _forms(answer: str) -> Iterator[tuple[str, ...]]:
    """Yield an answer as words: without what stands in brackets, a formula in them for itself, a list in any order."""
    outside = re.sub(r"\([^)]*\)", " ", answer)
    texts = [outside if re.search(r"\w", outside) else answer, answer.translate(_UMLAUTS)]
    texts += re.findall(r"\((?=[^)]*[A-Z][^)]*[A-Z\d])([\w+-]{2,10})\)", answer)
    parts = [part for part in re.split(r"\s*(?:[,;&]|\band\b)\s*", outside) if part.strip()]
    if 2 <= len(parts) <= 4 and (len(parts) > 2 or "," not in outside):
        texts += [", ".join(order) for order in permutations(parts)]
    for text in texts:
        words = tuple(word for word in plain(text).split() if word not in ",;:()[]?!")
        if len(words) > 1 and all(re.fullmatch("[A-Za-z]", word) for word in words):
            words = ("".join(words),)  # "I. S."
        if not {word.casefold() for word in words} <= _COMMON:
            words = tuple(w for w in words[:-1] if w not in ("the", "The", "a", "an", "An")) + words[-1:]
        if words:
            yield words
        if len(words) == 1:
            yield from ((other,) for pair in _SPOKEN.items() if words[0].lower() in pair for other in pair)


def _pattern(words: tuple[str, ...]) -> str:
    """Return what words look like in a plain text: "VIII" also as "8" or "the 8th", the last one also as a plural."""
    patterns = []
    for place, word in enumerate(words):
        spoken = {text: digits for digits, text in _SPOKEN.items()}.get(word.casefold(), word)
        number = _ROMAN.get(word, spoken).removesuffix("th")
        if len(words) > 1 and number.isdigit() and (place or word not in _ROMAN):
            same = [letters for letters, value in _ROMAN.items() if value == number and place]
            same += [_SPOKEN[digits] for digits in (number, f"{number}th") if digits in _SPOKEN]
            patterns.append(f"(?:{'|'.join([f'{number}(?:th)?', *same])})")
        elif place == len(words) - 1 and len(word) > 3 and word.isalpha():
            singular = re.sub(r"(?<=[sxzh])es$|(?<=[^aius])s$", "", word) if len(word) > 4 else word
            singular = word if singular.casefold() in _COMMON else singular
            patterns.append(re.sub("y$", "(?:y|ie)", re.escape(singular)) + "(?:e?s)?")
        else:
            patterns.append(re.escape(word))
    return _BETWEEN.join(patterns)


@lru_cache(maxsize=1 << 16)
def _whole_words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\S)(?:{pattern})(?!\S)", re.IGNORECASE)


def _start(words: tuple[str, ...]) -> str:
    return "" if words[0][0].isdigit() or words[0].casefold() in _SPOKEN.values() else words[0][:3].casefold()


def _facts(sentence: str, wanted: Wanted, is_cut: bool) -> Iterator[tuple[str, str]]:
    """Yield what a sentence says: the answers that it asserts, or else that it answers otherwise or declines."""
    text = plain(sentence)
    topic = stems(text) & wanted.asked
    is_personal = PERSONAL.search(text) is not None
    if wanted.yes is not None and (kind := _yes_or_no(text, wanted)):
        yield kind, sentence
    rest, asserted = text, False
    for alias, found in _mentions(text, wanted.aliases):
        before, after = text[: found.start()], text[found.end() :]
        if _is_meant(alias, found[0], before, after, bool(topic), is_personal):
            rest = rest.replace(found[0], "", 1)
            if not _is_denied(before, after):
                asserted = True
                yield alias.kind, found[0] if found[0] in sentence else sentence
    if not asserted and refusal_in(sentence):
        yield "declines", sentence
    elif not asserted and _answers_otherwise(rest, topic, wanted, is_personal, is_cut):
        yield "other", sentence


def _mentions(text: str, aliases: Sequence[Alias]) -> list[tuple[Alias, re.Match[str]]]:
    """Return where aliases stand, in order; none inside a longer one: "New York" does not name York."""
    folded = text.casefold()
    near = [alias for alias in aliases if alias.start in folded]
    found = [(alias, place) for alias in near for place in _whole_words(alias.pattern).finditer(text)]
    found.sort(key=lambda mention: (-len(mention[1][0]), not mention[0].pattern.startswith("(?-i:")))
    kept: list[tuple[Alias, re.Match[str]]] = []
    for alias, place in found:
        if not any(longer.start() <= place.start() and place.end() <= longer.end() for _, longer in kept):
            kept.append((alias, place))
    return sorted(kept, key=lambda mention: mention[1].start())


def _is_meant(alias: Alias, words: str, before: str, after: str, has_topic: bool, is_personal: bool) -> bool:
    """Tell whether these words are the answer, and not common words that happen to be the same."""
    if not after.strip(" ?!") and _WHOLE.fullmatch(before):
        return True
    if alias.level == PLAIN and (has_topic or not alias.is_name or words != words.lower()):
        return True
    # In the capitals of the name: "recorded by The Who", "US astronauts", but not "It is" or "Friends, ...".
    if alias.pattern.startswith("(?-i:") and words not in ("A", "I") and (before or not words[1:].islower()):
        return True
    if alias.level == TONE and has_topic:
        return True
    if (alias.level >= TONE and is_personal) or (alias.level == FUNCTION and not re.match("( [,;:()?!]|$)", after)):
        return False
    is_count = words.casefold() in _SPOKEN.values() and _COUNTS.search(before)
    return bool(is_count or _GIVEN.search(before) or (alias.level < FUNCTION and _GIVEN_AFTER.match(after)))


def _is_denied(before: str, after: str) -> bool:
    """Tell whether an answer between these words is denied, asked about, or what somebody else believes."""
    clause, following = _CLAUSE_END.split(before)[-1], _CLAUSE_END.split(after)
    if after.endswith("?") and (_ASKS.match(before) or not _TAG.match(" ".join(following[1:]))):
        return True
    return bool(_DENIED_BEFORE.search(clause) or _DENIED_AFTER.search(following[0]) or refusal_in(clause))


def _yes_or_no(text: str, wanted: Wanted) -> str | None:
    """Return the kind of answer to a question of yes and no: by the first word, or by what is said of the subject."""
    if text.endswith("?"):
        return None
    lead = _LEAD.match(text)
    rest = text[lead.end() :].strip(" !") if lead else text
    about = stems(text) & wanted.asked
    if lead and (about or not rest or (rest[0] in ",;:" and not PERSONAL.search(text))):
        says = _YES_NO.get(lead[1].casefold(), False)
        cheer = "cheer " if says and not about and text.endswith("!") else ""
        return cheer + ("accepted" if says == wanted.yes else "first wrong")
    for clause in _CLAUSE_END.split(rest):
        topic = stems(clause) & wanted.asked
        is_telling = (
            2 * len(topic) > len(wanted.asked) or (topic and _PRONOUN.match(clause)) or _SHORT.fullmatch(clause)
        )
        if is_telling and not PERSONAL.search(clause):
            return "accepted" if (_NEGATIVE.search(clause) is None) == wanted.yes else "first wrong"
    return None


def _answers_otherwise(text: str, topic: set[str], wanted: Wanted, is_personal: bool, is_cut: bool) -> bool:
    """Tell whether a sentence without a known answer answers all the same: "It was Bordeaux."

    It must give a name or a number, or say something new about what the question asks for. What is said to the user,
    cries and questions alone answer nothing.
    """
    words = [word for word in text.split() if word[0].isalnum() or word[0] == "\u2212"]
    telling = [word for word in words if word.casefold() not in _COMMON and stem(word) not in wanted.asked]
    if text.endswith("?") or text.isupper():
        return False
    if _NAMED.search(text):
        return True
    names = [w for w in telling if w[-1].isdigit() or (w != w.lower() and (topic or w != words[0]))]
    if names:
        is_given = topic or _GIVEN.search(text[: text.index(names[0])]) or _OPINION.search(text)
        return bool(is_given or not (is_personal or text.endswith("!")))
    if is_cut or is_personal or not telling:
        return False
    if topic:
        return 2 * len(topic) > len(wanted.asked)
    is_tone = any(word.casefold() in TONE_WORDS or word.endswith(_MANNER) for word in words)
    return not is_tone and _FRAGMENT.fullmatch(text) is not None
