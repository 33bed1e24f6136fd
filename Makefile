# Everything from a bare python3 (>= 3.11) and make: each target makes what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench test-all clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.made-demo: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "resilient needs Python 3.11 or later; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	@touch $@

$(VENV)/.made-tests: $(VENV)/.made-demo
	@echo "installing what tests, checks and benchmarks need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group test --group check --group bench
	@touch $@

demo: $(VENV)/.made-demo  ## watch real failures being classified, recovered and retried
	@$(BIN)/python -m demo

test: $(VENV)/.made-tests  ## the test suite, with its coverage
	@$(BIN)/python -m coverage erase
	@COVERAGE_CORE=ctrace $(BIN)/python -m coverage run -m pytest -n logical --dist loadfile
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python tests/own_coverage.py

check: $(VENV)/.made-tests  ## ruff, mypy --strict, pyright
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.made-tests  ## put the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.made-tests  ## the benchmarks: ratios, and whether they meet their marks
	@$(BIN)/python -m benchmarks.calls
	@$(BIN)/python -m benchmarks.guards
	@$(BIN)/python -m benchmarks.imports
	@$(BIN)/python -m benchmarks.links

test-all: $(VENV)/.made-tests  ## the suite on every Python 3.11 to 3.13 that is found, from the built wheel
	@$(BIN)/python tests/every_python.py

clean:  ## remove what was made
	rm -rf $(VENV) .venv-* dist build .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
