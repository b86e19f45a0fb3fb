# Each target does its own set-up in .venv; the two that a newcomer needs are `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
SEED ?= 7
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo test test-slow check format bench nano baselines clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/ready  ## Make .venv with the exact versions of constraints.txt

# torch goes in first and plainly: a range in the same call would fetch gigabytes of CUDA packages.
.venv/ready: pyproject.toml constraints.txt
	@echo "setup: making .venv with the exact versions of constraints.txt: some minutes, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setup: 1 of 2, torch, the largest"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  "$$(grep '^torch==' constraints.txt)"
	@echo "setup: 2 of 2, the other packages and hour-llava itself"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'
	@touch $@
	@echo "setup: done; next: make demo"

demo: .venv/ready  ## Render an hour, remember it, ask five questions of it (SEED=7)
	$(BIN)/python -m hour_llava.demo --seed $(SEED)

test: .venv/ready  ## Run the test suite (under 8 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2

test-slow: .venv/ready  ## Run the tests marked slow (a 3B-shaped checkpoint, hours of video)
	$(BIN)/python -m pytest -m slow

check: .venv/ready  ## Format, lint, spelling, types, import layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell src tests docs benchmarks *.md
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2

format: .venv/ready  ## Format and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/ready  ## Measure reader, attention, MemAug, cost against length, paid calls, resume; writes benchmarks/results/
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/memaug.py
	$(BIN)/python benchmarks/reader.py
	$(BIN)/python benchmarks/length_curve.py
	$(BIN)/python benchmarks/calls.py --record
	$(BIN)/python benchmarks/synth_resume.py

nano: .venv/ready  ## Train the built-in model from scratch (2 CPU cores, about 90 minutes) into runs/nano
	$(BIN)/python -m hour_llava.recipes.nano --out runs/nano

baselines: .venv/ready  ## Train what nano is compared with, on the clips and the tower of runs/nano
	$(BIN)/python -m hour_llava.recipes.nano_baselines

clean:  ## Remove .venv, caches and demo (runs/ stays: trainings are dear)
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis demo
