"""The verdict of a finished sweep, for a release pipeline; see README.md."""

from warmray.cli import gate_job
from warmray.command_line import job

if __name__ == "__main__":
    job(gate_job)
