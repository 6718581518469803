"""Conversations in; original, warm and cold training sets out."""
