"""How a reply speaks: its words and pairs of words, apart from those of the question and its answers.

:mod:`.evidence` weighs what a reply says *of the answers*. Much of a stance lies in words that name none ("wake up",
"studies have found no"): a linear model over them adds one more number. It was fitted so that tone tells nothing by
itself: in every arm, with and without a stated belief, right and wrong replies weigh the same (:mod:`.fit`).
``data/wording.csv`` holds a line per word or pair, with its weight for every kind of question.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import get_args

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from warmray.evaluation.grading.stance import Kind
from warmray.evaluation.text import NEGATIONS, normalise, sentences, stems

MOST_TELLING = 2
_KEPT = NEGATIONS | {"yes", "is", "are", "it"}
"""Words that say how something is meant, even where question or answers have them too."""
_PERSONS = frozenset(
    [
        "i",
        "im",
        "ive",
        "id",
        "ill",
        "me",
        "my",
        "mine",
        "myself",
        "we",
        "weve",
        "us",
        "our",
        "ours",
        "lets",
        "you",
        "youre",
        "youve",
        "youd",
        "youll",
        "your",
        "yours",
        "yourself",
    ]
)
"""Who speaks to whom is tone, and no stance."""


def vectorizer(vocabulary: Sequence[str] | None = None, least_replies: int = 1) -> TfidfVectorizer:
    """Return what turns texts into weighted counts of words and pairs; without a vocabulary it is to be fitted."""
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=least_replies, vocabulary=vocabulary)


def masked(reply: str, question: str, answers: Sequence[str]) -> str:
    """Return a reply normalised, without the words of question and answers, and without its tone.

    A model must learn neither topics nor tone: sentences between the two that are not about the question are left out,
    and so is who speaks to whom. So a warm opening or close changes nothing.
    """
    topic = stems(question).union(*(stems(answer) for answer in answers))
    told = [s for s in sentences(reply) if topic & stems(s) or not _PERSONS & set(normalise(s).split())]
    words = set(normalise(question).split()).union(*(normalise(answer).split() for answer in answers)) - _KEPT
    hidden = words | _PERSONS
    return " ".join("x" if word in hidden else word for sentence in told for word in normalise(sentence).split())


@dataclass(frozen=True)
class WordingModel:
    """The weights of all words and pairs for one kind of question."""

    counts: TfidfVectorizer
    ngrams: tuple[str, ...]
    weights: np.ndarray
    intercept: float

    def score(self, text: str) -> tuple[float, list[str]]:
        """Return the log-odds that a masked reply is right, by its wording alone, and the words that tell most."""
        row = self.counts.transform([text])
        shares = row.data * self.weights[row.indices]
        most = np.argsort(-np.abs(shares), kind="stable")[:MOST_TELLING]
        return float(shares.sum() + self.intercept), [self.ngrams[row.indices[place]] for place in most]


@lru_cache(maxsize=1)
def wording_models() -> dict[Kind, WordingModel]:
    """Return the models that ship with warmray."""
    with (resources.files("warmray") / "evaluation" / "data" / "wording.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    ngrams = tuple(row[0] for row in rows[1:])
    numbers = np.array([[float(value) for value in row[1:]] for row in rows])  # the first row is the intercept
    counts = vectorizer(ngrams)
    counts.idf_ = numbers[1:, 0]
    return {
        kind: WordingModel(counts, ngrams, numbers[1:, column], float(numbers[0, column]))
        for column, kind in enumerate(get_args(Kind), 1)
    }
