"""Replies in, verdicts out: match, choice, number, refusal, judge, and how well they agree with people."""
