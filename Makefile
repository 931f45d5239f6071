# `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Resumable: an interrupted demo goes on where it was.
DEMO   := .demo

.PHONY: setup setup-dev demo check test test-all results bench clean

setup: $(VENV)/.core
setup-dev: $(VENV)/.dev

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
# cityscapesScripts asks for a backport that hides the standard library's own `typing`.
	$(BIN)/python -m pip uninstall --quiet --yes typing
	@touch $@ $(VENV)/.core

demo: setup
	@$(BIN)/python examples/demo.py $(DEMO)

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --verbose
	$(BIN)/codespell
	$(BIN)/pyright

test: setup-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-all: setup-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: setup-dev
	$(BIN)/python benchmarks/render.py
	$(BIN)/python benchmarks/train_step.py

# One table of docs/results.md: make results T=<table> [J=<trainings side by side>]
results: setup
	$(BIN)/python benchmarks/results.py $(T) $(if $(J),--jobs $(J))

clean:
	rm -rf $(DEMO) build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
