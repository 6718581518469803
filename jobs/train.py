"""Train the adapters of every arm. Submit with ``ray job submit``; see README.md."""

from warmray.cli import train_job
from warmray.command_line import job

if __name__ == "__main__":
    job(train_job)
