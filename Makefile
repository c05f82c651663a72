# Two commands do everything on a fresh machine: `make quickstart` and `make test`.
# They need Python 3.11 or newer, make, and a package registry for pip.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
MINUTES ?= 10
OUT ?= runs/quickstart
# Worker processes of the test run; two fit every machine.
JOBS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help quickstart test lint unit format clean

help:
	@echo "make quickstart [MINUTES=10] [OUT=runs/quickstart]   the whole pipeline on the lab, ends with a report to open"
	@echo "make test [JOBS=2]                                   every check: style, types, layers, tests"
	@echo "make lint | unit | format | clean                    parts of it"

quickstart: $(VENV)/.installed-lab
	$(BIN)/openmiro quickstart --minutes $(MINUTES) --out $(OUT)

test: lint unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

unit: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis

# torch first and pinned: left to itself, pip may pick another build for another package's sake.
$(VENV)/.torch:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "openmiro needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install $(TORCH)
	@touch $@

$(VENV)/.installed-lab: $(VENV)/.torch pyproject.toml
	$(PIP) install -e '.[lab]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.installed-lab
