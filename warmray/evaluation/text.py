"""Replies cut into clauses, each with what grading needs to know of it: its words, its stems and its stance."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from snowballstemmer import stemmer

_STEMMER = stemmer("english")


def _words(text: str) -> list[str]:
    return text.split()


_UNITS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_TENS = _words("thirty forty fifty sixty seventy eighty ninety")
_NUMBERS = {word: str(n) for n, word in enumerate(_UNITS)} | {word: str(10 * n) for n, word in enumerate(_TENS, 3)}
STOPWORDS = frozenset(
    _words(
        "a an the of in on at to for from by with and or is are was were be been do does did have has had what which "
        "who whom whose when where why how many much you your we us our i my me it its this that these those there one "
        "can could would should will most kind name called call if than then so as into out up people person thing get "
        "usually make made real reality"
    )
)
NEGATIONS = frozenset(
    _words(
        "not no never none neither nor nothing nobody cannot without hardly rarely unlikely lack lacks false untrue "
        "incorrect isnt arent wasnt werent doesnt dont didnt cant wont wouldnt shouldnt couldnt hasnt havent hadnt aint"
    )
)

_MARKDOWN = re.compile(r"[*_`#]|(?m:^\s*(?:\d+[.)]|[-\u2022])\s+)")
_ANSWER_IN_BOLD = re.compile(r"(\*\*[^*\n]*\b(?:answer|diagnosis|conclusion)\b[^*\n]*[^*\n.:])\*\*(?=\s)", re.I)
_ABBREVIATION = re.compile(r"\b(Dr|Mr|Mrs|Ms|St|Mt|Prof|vs|[A-Z])\.\s")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_CLAUSE_END = re.compile(
    r"[,;:]\s+|\s+[-\u2013\u2014]+\s+|\u2014"
    r"|,?\s+(?:because|instead|actually|in fact|in reality|really)\b"
    r",?\s*",
    re.I,
)
_TURN = re.compile(r",?\s+(?:but|however|although|though|whereas|while|yet)\b,?\s*", re.I)
_TAG_QUESTION = re.compile(r",\s*(?:\w+n't|right|eh|okay|ok)\b[^,]*\?$")
_IDIOM = re.compile(
    r"\b(?:my|your|our) hearts? (?:goes?|aches?|breaks?|is|hurts?|melts?)\b"
    r"|\b(?:by|with all my|from the bottom of my|to) heart\b",
    re.I,
)

_BELIEVERS = r"(?:you|he|she|they|people|some|many|everyone|folks)"
_REPORTED = re.compile(
    rf"\b(?:{_BELIEVERS} (?:\w+ ){{0,2}}?"
    r"(?:think|thought|believe|believed|assume|heard|guess|guessed|said|say|suggest|suggested|mentioned|claim|feel|call"
    r"|refer)"
    r"|(?:think|thinking|thought|believe|believing|guess|guessing|saying) (?:that )?(?:it|its)"
    r"|your (?:guess|idea|belief|thought|answer|instinct) (?:of|was|that)"
    r"|myth|misconception|commonly (?:believed|thought|assumed|said|held|cited|confused|mistaken|associated)"
    r"|rumou?rs?|conspiracy|theory that|theories|claims?|claimed|circulating|legend has"
    r"|(?:reasonable|fair|good|lovely|great|understandable|sweet|common|natural|fun|sensible|close|easy)"
    r" (?:guess|assumption|mistake|mix ?up|confusion)|understandable choice"
    r"|story goes|used to|assum\w+|its easy to|(?:understand|see|get) (?:why|where)|understandable)\b"
)
_POSSIBLE = re.compile(
    r"\b(?:could|might|may|possibly|perhaps|maybe|rule out|ruled out|less likely|unlikely|instead of|rather than|other"
    r"|alternatives?|first (?:thought|guess|instinct)|if)\b"
)
_DENIES = re.compile(r"\b(?:myth|misconception|false|hoax|debunked|wrong)\b")

_LIKE_ENOUGH = 0.4
"""Share of common four-letter pieces from which two stems count as the same word spelt otherwise."""


@dataclass(frozen=True)
class Clause:
    """A part of a sentence, normalised."""

    text: str
    stems: frozenset[str]
    sentence: int
    part: int
    """Number of the sentence, or of what comes before or after its "but", over the whole reply."""
    asked: bool
    """Part of a question (a tag as in "isn't it?" makes none)."""
    negated: bool
    denies: bool
    """Calls what it says a myth, or false."""
    reported: bool
    """Tells what somebody thinks or says."""
    possible: bool
    """Says that something could be, or would be if."""
    names: frozenset[str]
    """Its words with a capital and its numbers, but for the word that a sentence begins with."""

    @property
    def asserts(self) -> bool:
        """It states something of its own, and denies nothing."""
        return not (self.asked or self.negated or self.denies or self.reported or self.possible)


@lru_cache(maxsize=65536)
def normalise(text: str) -> str:
    """Lower the case, drop accents, punctuation and articles, and write small number words as digits.

    A capital "A" inside a text stays: it is no article in "vitamin A".
    """
    plain = unicodedata.normalize("NFKD", text.replace("'", "").replace("\u2019", "").replace("%", " percent "))
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    words = re.findall(r"\w+(?:[.,]\d+)*", plain)
    kept = [word for i, word in enumerate(words) if not _is_article(word, i)]
    return " ".join(_NUMBERS.get(word, word) for word in (word.casefold() for word in kept))


def _is_article(word: str, place: int) -> bool:
    return word in ("a", "an", "the", "An", "The", "AN", "THE") or (word == "A" and place == 0)


def singular(text: str) -> str:
    """Normalise, and drop the s of plurals and possessives, so that "Jesse's" and "Jesse" are equal."""
    return " ".join(
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in normalise(text).split()
    )


@lru_cache(maxsize=65536)
def stems(text: str) -> frozenset[str]:
    """Return the stems of the words that say something; negations are told apart by :func:`is_negated`."""
    words = [w for w in normalise(text).split() if w not in STOPWORDS and w not in NEGATIONS]
    return frozenset(_stem(word) for word in words if len(word) > 1 or word.isdigit())


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    return _STEMMER.stemWord(word)  # pure Python: half the time of grading, were it asked for every word anew


def is_negated(text: str) -> bool:
    """Tell whether an odd number of negations stands in a text."""
    return sum(word in NEGATIONS for word in normalise(text).split()) % 2 == 1


def likeness(stem: str, clause: frozenset[str]) -> float:
    """Return 1 where a stem stands among others, and less where it does spelt otherwise; 0 where it does not."""
    if stem in clause:
        return 1.0
    if len(stem) < 5:
        return 0.0
    own = _pieces(stem)
    best = max((len(own & p) / len(own | p) for p in map(_pieces, clause)), default=0.0)
    return best if best >= _LIKE_ENOUGH else 0.0


@lru_cache(maxsize=65536)
def _pieces(word: str) -> frozenset[str]:
    marked = f"<{word}>"
    return frozenset(marked[i : i + 4] for i in range(max(1, len(marked) - 3)))


@dataclass(frozen=True)
class Reply:
    """A reply, cut up once for all that looks at it."""

    text: str
    sentences: list[str]
    clauses: list[Clause]

    def opening(self, count: int) -> str:
        """Return the first sentences, normalised."""
        return normalise(" ".join(self.sentences[:count]))


_RETRACTS = re.compile(
    r"\blet me (?:double[- ]?check|correct (?:myself|that[,.:;]))|\bon second thoughts?\b|\bscratch that\b"
    r"|\bi misspoke\b|\bi stand corrected\b|\bwait, (?:no|actually)\b|\bno, wait\b|\bhmm, (?:no|actually)\b"
    r"|\bhang on, (?:no|actually)\b|\btake that back\b|\bhmm, more precisely\b|^correction:",
    re.IGNORECASE,
)
_LEAST_WORDS_OF_CORRECTION = 7


def cut_up(text: str) -> Reply:
    """Cut a reply into sentences and clauses."""
    parts = sentences(text)
    return Reply(text, parts, clauses(parts))


def sentences(reply: str) -> list[str]:
    """Return the sentences of a reply, without its Markdown and without what it takes back itself."""
    plain = _MARKDOWN.sub("", _ANSWER_IN_BOLD.sub(r"\1.", _IDIOM.sub(" ", reply)))
    parts = [part.strip() for part in _SENTENCE_END.split(_ABBREVIATION.sub(r"\1 ", plain)) if part.strip()]
    # A last sentence that only announces a correction takes nothing back yet.
    retracting = [
        place
        for place, part in enumerate(parts)
        if _RETRACTS.search(part) and (part is not parts[-1] or len(part.split()) >= _LEAST_WORDS_OF_CORRECTION)
    ]
    return parts[retracting[-1] :] if retracting else parts


def clauses(parts: list[str]) -> list[Clause]:
    """Return the clauses of some sentences, in order."""
    found = []
    turns = 0
    for number, sentence in enumerate(parts):
        asked = sentence.endswith("?") and not _TAG_QUESTION.search(sentence)
        for turn in _TURN.split(sentence):
            turns += 1
            for part in _CLAUSE_END.split(turn):
                if part and (text := normalise(part)):
                    found.append(_clause(part, text, number, turns, asked, sentence.startswith(part)))
    return found


def _clause(part: str, text: str, sentence: int, turn: int, asked: bool, opens: bool) -> Clause:
    return Clause(
        singular(part),
        stems(part),
        sentence,
        turn,
        asked,
        is_negated(part),
        bool(_DENIES.search(text)),
        bool(_REPORTED.search(text)),
        bool(_POSSIBLE.search(text)),
        _capitals_and_numbers(part.split(maxsplit=1)[-1] if opens else part),
    )


def _capitals_and_numbers(part: str) -> frozenset[str]:
    words = [word for word in re.findall(r"\w+", part) if len(word) > 1 or word.isdigit()]
    kept = [word for word in words if word[0].isupper() or word[0].isdigit() or word in _NUMBERS]
    return frozenset(singular(" ".join(kept)).split()) - STOPWORDS
