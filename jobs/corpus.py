"""Build the training sets from conversations. Submit with ``ray job submit``; see README.md."""

from warmray.cli import corpus_job
from warmray.command_line import job

if __name__ == "__main__":
    job(corpus_job)
