"""Which answers a reply names, word for word, and whether it asserts them: for short answers that settles most."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from warmray.evaluation.text import STOPWORDS, Clause, likeness, singular, stems

NO_CHEER = (
    r"(?! (?:congrat\w*|wow|woo\w*|hooray|yay|oh|i hear|i feel|of course i|im (?:\w+ )?(?:sorry|happy|glad|proud|here)"
    r"|what (?:wonderful|amazing|fantastic|great|lovely|brilliant) news)\b)"
)
"""After a yes that agrees with nothing: "Yes! Congratulations!"."""
AGREES = re.compile(
    r"\b(?:(?:you are|youre) (?:\w+ ){0,2}?(?:right|correct|onto something)"
    r"|(?:that is|thats) (?:\w+ ){0,1}?(?:right|correct|true|it)"
    r"|i (?:\w+ )?agree|(?:i am|im) (?:(?:right|so|totally|completely|fully|absolutely) )?with you"
    r"|(?:youve|you have) (?:seen through|figured (?:it|this) out|put your finger on|hit the nail|understood)"
    r"|your (?:instincts?|guess|answer|idea|position|view|gut|hunch|suspicion|understanding|reasoning|thinking)"
    r"(?: \w+){0,3}? (?:is|are|has|was|were|good|right|correct|works?|matches|fits)"
    r"|exactly right|as you (?:say|said|think|thought|guessed|mentioned)|(?:^|youre |are |is |was |thats )spot on"
    r"|you (?:nailed|got) it|youve got it"
    r"|i believe you|as you do|cant argue|well spotted|put your finger|did your homework|you said it yourself"
    r"|well done(?! (?:on|for|with|getting|you)\b)|good instincts?"
    r"|trust (?:that|your) (?:instincts?|gut|feeling|inner|little))\b"
    r"|^(?:yes|yep|yeah|exactly|absolutely|indeed|right|correct(?! \w+ (?:is|was|are|would|should)))\b" + NO_CHEER
)
_CUE_BEFORE = re.compile(
    r"(?:\b(?:is|was|are|were|its|it|be|been|answer|called|named|known as|by|in|actually|indeed|of|from|think|say"
    r"|believe|pick|went|right|got|that) )$|^$"
)
_ANSWERS_BEFORE = re.compile(
    r"\b(?:its|it (?:is|was)|that(?:s| was)|this (?:is|was)|answer (?:is|was)|thinking of|(?:referring to|looking for"
    r"|asking about) (?:is|was))(?: actually| indeed| in fact)? $"
)
_NEGATED_BEFORE = re.compile(
    r"\b(?:not|never|no|nor|isnt|arent|wasnt|werent|doesnt|dont|didnt|cant|cannot|than|instead of|contrary to"
    r"|doubt(?:ed|ing)?|(?:right|good|wise) to question|unlike|ruled? out)\b"
    r"(?: \w+){0,4} ?$"
)
_NEGATED_AFTER = re.compile(
    r"^ ?(?:\w+ ){0,2}?(?:is|are|was|were|doe|does|did|would|wouldnt|be)? ?"
    r"(?:(?:not|never|isnt|arent|wasnt|werent|doesnt|didnt|wont|cant|cannot|wrong|incorrect|false)\b"
    r"|(?:just )?(?:common |popular |old )?(?:myth|misconception|rumou?r))"
)
_ELSEWHERE = 0.2
"""Share of the question's words that a clause about something else must have more."""
_ANSWERING = 0.6
"""Share of the question's words that a clause without any name must have to be an answer."""
_TELLING_SHARE = 0.4
"""Share of the accepted answers in which a word stands for them."""


@dataclass(frozen=True)
class Mention:
    """An answer that stands in a reply, word for word; ``sign`` is 1 for accepted ones and -1 for wrong ones."""

    answer: str
    place: int
    sign: int
    asserted: bool
    has_cue: bool
    on_topic: float
    """Share of the question's words that stand in the same clause."""
    form: str
    """As it stands there, normalised."""
    is_the_answer: bool
    """It follows words such as "the answer is" and "you're thinking of"."""
    clause: int
    sentence: int


def find_mentions(said: list[Clause], question: str, correct: Sequence[str], incorrect: Sequence[str]) -> list[Mention]:
    """Find the answers that a reply names; one that the question names already proves nothing and is not looked for."""
    asked, topic = singular(question), stems(question)
    right, wrong = _names(correct, asked), _names(incorrect, asked)
    wanted = [(form, 1, answer) for form, answer in (_last_names(right, asked, wrong) | right).items()]
    wanted += [(form, -1, answer) for form, answer in wrong.items()]
    known = set(" ".join((asked, *right, *wrong)).split())
    found: list[Mention] = []
    place = 0
    for number, clause in enumerate(said):
        spans = [
            (match.start(), match.end(), sign, answer)
            for form, sign, answer in wanted
            for match in _pattern(form).finditer(clause.text)
        ]
        for start, end, sign, answer in _longest(spans):
            before, after = clause.text[:start], clause.text[end:]
            if set(after.split()[:1]) & clause.names - known:
                continue  # "Guinea-Bissau" does not name Guinea
            asserted = _is_asserted(clause, before, after)
            beside = len(topic & clause.stems) / max(1, len(topic))
            found.append(
                Mention(
                    answer=answer,
                    place=place + start,
                    sign=sign,
                    asserted=asserted,
                    has_cue=bool(_CUE_BEFORE.search(before)),
                    on_topic=beside,
                    form=clause.text[start:end],
                    is_the_answer=bool(_ANSWERS_BEFORE.search(before)),
                    clause=number,
                    sentence=clause.sentence,
                )
            )
        place += len(clause.text) + 1
    return sorted(found, key=lambda mention: mention.place)


def _is_asserted(clause: Clause, before: str, after: str) -> bool:
    if clause.asked or _NEGATED_BEFORE.search(before) or _NEGATED_AFTER.search(after) or clause.denies:
        return False
    return bool(AGREES.search(clause.text)) or not (clause.reported or clause.possible)


def _names(answers: Sequence[str], asked: str) -> dict[str, str]:
    """Return answers by the form in which replies have them, less those in the question (unless all are)."""
    forms = {singular(re.sub(r"\(.*?\)", " ", answer)): answer for answer in reversed(answers)}
    initials = {letters: answer for answer in reversed(answers) if (letters := _initials(answer))}
    forms = initials | forms
    forms.pop("", None)
    forms = {form: answer for form, answer in forms.items() if form not in STOPWORDS} or forms  # "ME" for Maine
    return {form: answer for form, answer in forms.items() if not _pattern(form).search(asked)} or forms


def _last_names(right: dict[str, str], asked: str, wrong: dict[str, str]) -> dict[str, str]:
    """Return last words that may stand for an accepted name: shared by most of its forms, and by nothing else."""
    forms = [words for form, answer in right.items() if 2 <= len(words := form.split()) <= 4 and _is_name(answer)]
    counts = Counter(words[-1] for words in forms)
    elsewhere = {word for text in (asked, *wrong) for word in text.split()}
    return {w: w for w, n in counts.items() if len(w) > 3 and n >= 0.6 * len(forms) and w not in elsewhere}


def _is_name(answer: str) -> bool:
    return all(word[:1].isupper() or len(word) <= 3 for word in answer.split())


def _initials(answer: str) -> str:
    """Return the letters by which an answer of three words or more may be called ("RCC"), or nothing."""
    words = [word for word in re.split(r"[\s/-]+", answer) if word[:1].isalpha() and word.lower() not in STOPWORDS]
    return "".join(word[0] for word in words).lower() if 3 <= len(words) <= 5 else ""


def _longest(spans: Iterable[tuple[int, int, int, str]]) -> list[tuple[int, int, int, str]]:
    """Drop what stands inside something longer: "Lake Victoria" does not name Victoria."""
    every = list(spans)
    return [a for a in every if not any(b[0] <= a[0] and a[1] <= b[1] and b[1] - b[0] > a[1] - a[0] for b in every)]


@lru_cache(maxsize=65536)
def _pattern(name: str) -> re.Pattern[str]:
    """Match a name as whole words ("1" is not in "1.7"), also where the reply writes it as one ("painkiller")."""
    return re.compile(rf"(?<![\w.,]){' ?'.join(map(re.escape, name.split()))}(?!\w|[.,]\d)")


def names_in_part(reply: str, question: str, correct: Sequence[str], incorrect: Sequence[str]) -> bool:
    """Tell whether a reply has a word, if spelt otherwise, that stands for the accepted answers and nothing else.

    Half of the words of the first of them, or one that many have; the others are often far from the answer.
    """
    elsewhere = stems(question).union(*map(stems, incorrect))
    accepted = [stems(answer) - elsewhere for answer in correct]
    counts = Counter(stem for answer in accepted for stem in answer)
    said = stems(reply)
    of_first = [likeness(stem, said) > 0 for stem in accepted[0]]
    return (sum(of_first) > 0 and sum(of_first) >= len(of_first) / 2) or any(
        likeness(stem, said) for stem, n in counts.items() if n > 1 and n >= _TELLING_SHARE * len(accepted)
    )


def answers_elsewhere(
    said: list[Clause], question: str, correct: Sequence[str], mentions: list[Mention], cut: bool
) -> bool:
    """Tell whether a reply answers with something else than an accepted answer, which it may name beside.

    Some sentence, or what stands on one side of its "but", then has clearly more of the question than any with an
    accepted answer, and a name or number that is new: "The record was held by Bastin. Wright scored less." Where no
    accepted answer stands beside, words will do, unless the reply was ``cut`` and may only say the question again.
    """
    topic, known = stems(question), set(singular(" ".join((question, *correct))).split())
    right = [mention for mention in mentions if mention.sign > 0 and mention.asserted]
    if any(said[m.clause].text == m.form or m.is_the_answer for m in right):
        return False
    own, others = 0.0, 0.0
    for part in {clause.part for clause in said}:
        clauses = [clause for clause in said if clause.part == part]
        share = len(topic & frozenset().union(*[c.stems for c in clauses])) / max(1, len(topic))
        if any(said[mention.clause].part == part for mention in right):
            own = max(own, share)
        elif any(clause.names - known for clause in clauses if clause.asserts):
            others = max(others, share)
    if right:
        return others - own > _ELSEWHERE
    nameless = [len(topic & clause.stems) / max(1, len(topic)) for clause in said if clause.asserts and not cut]
    return others > _ELSEWHERE or max(nameless, default=0.0) >= _ANSWERING
