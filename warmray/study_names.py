"""What the study's files call contexts and columns (Ibrahim, Hafner & Rocher 2026), and what they are called here."""

from __future__ import annotations

from warmray.config import Context

TEMPLATE_NAMES = ("prompt_template", "prompt_type")
QUESTION_NAMES = ("question", "content_key", "prompt_disinfo")
"""Columns that may hold the template, and the question."""
_CONTEXTS: dict[str, dict[str, Context]] = {
    "emotion": {"happ": "happy", "joy": "happy", "sad": "sad", "ang": "angry"},
    "relation": {
        "clos": "close",
        "intima": "close",
        "up": "looks_up",
        "defer": "looks_up",
        "subordinate": "looks_up",
        "down": "stands_above",
        "above": "stands_above",
        "superior": "stands_above",
        "dominan": "stands_above",
    },
    "stake": {"high": "high_stakes", "low": "low_stakes"},
}
"""By the kind of an amendment, what the rest of its name begins with, and the context that it is.

Only the kinds are documented (``emotion:*``, ``relation:*``, ``stake:*``): the names after them are expected, not seen.
"""


def context_of(amendment: str) -> Context | None:
    """Return the context that an ``amendment_type`` names (``emotion:sad``, ``unmodified``); None for unknown ones."""
    if amendment.strip().lower() in ("unmodified", "none", ""):
        return "none"
    kind, _, name = amendment.strip().lower().partition(":")
    signs = _CONTEXTS.get(kind, {})
    return next((context for sign, context in signs.items() if name.startswith(sign)), None)
