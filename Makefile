# Two commands: make demo, make test. Both set up everything they need in .venv, and ask nothing.

SHELL := /bin/bash -o pipefail
PYTHON ?= python3
AIRFLOW ?= 3.3
CONSTRAINTS := constraints/airflow-$(AIRFLOW).txt
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Most tests wait for something most of the time.
WORKERS ?= $(shell echo $$(( $$(nproc) + 1 )))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-system test-chaos lint bench constraints clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## make .venv, with everything pinned

$(READY): pyproject.toml $(CONSTRAINTS) scripts/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" CONSTRAINTS="$(CONSTRAINTS)" sh scripts/setup.sh
	@touch $@

demo: $(READY) ## run the nightly DAG in a real Airflow against the sandbox
	@$(BIN)/python demo/run.py

test: $(READY) ## run the tests, with coverage
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report=term
	@$(BIN)/coverage report --include='airflow_provider_veo/protocol/*' --fail-under=95 --format=total \
	    | sed 's/^/protocol, lines and branches covered: /; s/$$/ %/'

test-system: $(READY) ## run the tests that take minutes: hundreds of waits, crashes, outages
	@$(BIN)/python -m pytest -m long

test-chaos: $(READY) ## kill tasks and services at every point, and count what was paid for twice
	@$(BIN)/python -m pytest -m chaos

lint: $(READY) ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(READY) ## measure, side by side with what a user would pick instead
	@$(BIN)/python -m bench

constraints: $(READY) ## pin the newest versions of everything
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --upgrade --extra dev --no-header --no-annotate \
	    --constraint constraints/airflow-$(AIRFLOW).in --output-file $(CONSTRAINTS) pyproject.toml

clean: ## remove everything that these commands made
	rm -rf $(VENV) .demo dist build .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
