# `make` or `make help` says what there is. Everything is installed into .venv, from the hashed lists in requirements/.
#
# A stamp in .venv remembers what is installed, so a second call of any target starts at once.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
JOBS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --quiet --no-compile
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate pyproject.toml
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 POLARS_MAX_THREADS=2 $(BIN)/python -m pytest

ifneq ($(wildcard ../shared/data/readmission.parquet),)
export LOOPLINE_DATA ?= $(abspath ../shared/data)
endif

.DEFAULT_GOAL := help
.PHONY: help setup develop demo test systems soak bench check format lock readme errors migration clean

help:  ## Say what there is.
	@echo "make TARGET [ARGS=...]    (Python 3.11 or later and make are all it needs)"
	@echo
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  %-12s %s\n", $$1, $$2 }'

setup: .venv/setup.stamp  ## Install what Loopline runs on.

develop: .venv/develop.stamp  ## Install what its tests and tools run on, too.

demo: .venv/setup.stamp  ## Show the whole loop, begun anew. ARGS=--break-challenger, ARGS=--exit, ...
	@$(BIN)/loopline demo --fresh $(ARGS)

test: .venv/develop.stamp  ## Pass the tests. ARGS=tests/data for some of them.
	@$(PYTEST) -n $(JOBS) --dist loadscope -m "not soak and not systems" $(ARGS) || { code=$$?; \
		test $$code != 5 || echo "No test was found: nothing is proven."; exit $$code; }

systems: .venv/develop.stamp  ## Test against the other systems that docs/matrix.toml names.
	@$(PYTEST) -m "not soak" $$($(BIN)/python scripts/matrix.py systems) $(ARGS)

soak: .venv/develop.stamp  ## The long crash and simulation runs.
	@$(PYTEST) -m soak $(ARGS) || { code=$$?; \
		test $$code = 5 && echo "No soak test is written yet." || exit $$code; }

bench: .venv/develop.stamp  ## Measure. ARGS="ledger serving" for some of bench/.
	@for topic in $(or $(ARGS),$(basename $(notdir $(wildcard bench/*.py)))); do \
		echo "== $$topic"; $(BIN)/python bench/$$topic.py || exit 1; done

check: .venv/develop.stamp  ## Lint, types, the floors of the architecture.
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

format: .venv/develop.stamp  ## Format the code as `make check` wants it.
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock: .venv/develop.stamp  ## Renew requirements/ after pyproject.toml changed. ARGS=--upgrade for newer versions.
	@$(LOCK) --group setup --output-file requirements/core.txt $(ARGS)
	@$(LOCK) --group setup --extra aws --extra grpc --extra kafka --extra mqtt --extra postgres \
		--extra skops --extra traces --extra xgboost --group dev --constraint requirements/core.txt \
		--output-file requirements/dev.txt $(ARGS)

readme: .venv/develop.stamp  ## Write README's table anew from docs/matrix.toml.
	@$(BIN)/python scripts/matrix.py readme

errors: .venv/develop.stamp  ## Write docs/errors.md anew from the code.
	@$(BIN)/python scripts/errors.py

migration: .venv/develop.stamp  ## Write the newest revision of the tables anew (until it is released).
	@$(BIN)/python scripts/migration.py

clean:  ## Remove what is installed and cached here.
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
	find src tests scripts bench -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Loopline needs Python 3.11 or later; none was found (PYTHON=... names one)."; exit 1; }
	@echo "Setting up in .venv; this takes a minute or two, once."
	@$(PYTHON) -m venv .venv

# Bytecode is compiled here, once, and only of what runs: an import of everything that Loopline uses starts in a third of the
# time, and the machine may forbid Python to write bytecode by itself.
.venv/setup.stamp: requirements/core.txt pyproject.toml scripts/bytecode.py | .venv/bin/python
	@$(PIP) --require-hashes --only-binary :all: -r requirements/core.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@$(BIN)/python scripts/bytecode.py
	@touch $@

.venv/develop.stamp: requirements/dev.txt .venv/setup.stamp
	@$(PIP) --require-hashes --only-binary :all: -r requirements/dev.txt
	@touch $@
