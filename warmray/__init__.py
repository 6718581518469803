"""warmray tells a team what warmth costs their language model, before users pay for it."""

__version__ = "0.1.0"
