"""The main job: train, sweep the intensities, analyse, report. Submit with ``ray job submit``; see README.md."""

from warmray.cli import sweep_job
from warmray.command_line import job

if __name__ == "__main__":
    job(sweep_job)
