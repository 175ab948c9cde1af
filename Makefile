# The commands that people and continuous integration run. `make` alone lists them.

PYTHON ?= python3# the interpreter that makes the virtual environment (3.11 or later)
VENV ?= .venv# where that environment lives
JOBS ?= 2# processes that pytest spreads the tests over

BIN := $(VENV)/bin
STAMP := $(VENV)/.trimtab-installed

# One thread per process: parallel work here uses processes, and torch's spinning threads slow each other down.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup model assets demo test slow check api coverage house docs fuzz faults bench recipe-sentiment recipe-concise clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 26

setup: $(STAMP)  ## make the virtual environment and install trimtab into it

demo: model  ## steer the embedded model with a real reward and show it
	$(BIN)/trimtab demo

test: check assets  ## what must hold at every change: static checks, tests, documentation
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) -m "not slow"
	$(MAKE) --no-print-directory docs

slow: assets  ## the tests that take long: killed jobs, clusters, pages and notebooks run, random decodes
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) -m slow

check: setup  ## formatting, lint, types, import rules, requirements
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/python -m tools.api

api: setup  ## compare the public names with the last release
	@$(BIN)/python -m tools.api

coverage: assets  ## the tests once more, slower: which lines and branches do they reach?
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --cov --cov-report=term:skip-covered --cov-report=html:build/coverage

house: setup  ## count the code: lines, longest parts, circles of imports, files that a walk passes
	@$(ONE_THREAD) $(BIN)/python -m tools.house

docs: setup  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

fuzz: setup  ## hold 5,000 random decodes to recomputation: some 20 minutes
	$(ONE_THREAD) $(BIN)/python -m tests.fuzz --cases 5000

faults: setup  ## put deliberate faults into the code, one by one: does a test notice? some minutes
	$(ONE_THREAD) $(BIN)/python -m tests.faults --jobs $(JOBS)

bench: setup  ## time per token, guided against unguided
	$(BIN)/python benchmarks/decode_overhead.py

recipe-sentiment: assets  ## train the guide `sentiment` as it was made, from nothing: some 15 minutes
	TRIMTAB=$(BIN)/trimtab PYTHON=$(BIN)/python recipes/guides/sentiment.sh

recipe-concise: model  ## train the guide `concise` likewise
	TRIMTAB=$(BIN)/trimtab PYTHON=$(BIN)/python recipes/guides/concise.sh

model: setup  ## fetch the embedded model (once; later calls find it in the cache)
	$(BIN)/trimtab assets fetch smollm2

assets: model  ## fetch all that the tests read: the model and a sentence encoder
	$(BIN)/trimtab assets fetch minilm

clean:  ## remove the virtual environment and what the commands made
	rm -rf $(VENV) site build dist trimtab-demo recipe-sentiment recipe-concise

# Installed anew only when the requirements changed.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "trimtab needs Python 3.11 or later; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
