"""Ask one intensity all questions and measure its warmth. Submit with ``ray job submit``; see README.md."""

from warmray.cli import evaluate_job
from warmray.command_line import job

if __name__ == "__main__":
    job(evaluate_job)
