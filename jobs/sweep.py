"""The main job: train, sweep the intensities, analyse, report. Submit with ``ray job submit``; see README.md."""

from warmray.cli import job, sweep_job

if __name__ == "__main__":
    job(sweep_job)
