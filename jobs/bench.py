"""Measure our speed against other trainers: ``python jobs/bench.py training``; see README.md."""

from warmray.bench.training import bench_job
from warmray.cli import job

if __name__ == "__main__":
    job(bench_job)
