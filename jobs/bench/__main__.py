"""Measure our speed against other trainers: ``python -m jobs.bench training``; see README.md."""

from jobs.bench.training_bench import bench_job
from warmray.cli import job

if __name__ == "__main__":
    job(bench_job)
