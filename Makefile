# Two commands: make demo, make test. Both set up everything they need in .venv. Neither prompts for input.

SHELL := /bin/bash -o pipefail
PYTHON ?= python3
AIRFLOW ?= 3.3
CONSTRAINTS := constraints/airflow-$(AIRFLOW).txt
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SERVERS := $(VENV)/.servers
BROWSER := $(VENV)/.browser
LINT := $(VENV)/.lint
RELEASE := $(VENV)/.release
DOCS := $(VENV)/.docs
PAGE := airflow_provider_veo/ui/page
NPM := PATH="$(abspath $(BIN)):$$PATH" npm --prefix $(PAGE) --silent
LINES := $(patsubst constraints/airflow-%.in,%,$(wildcard constraints/airflow-*.in))
COMPILE := $(BIN)/uv pip compile --quiet --universal --no-header --no-annotate
ISSUE_FORMS := $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
# More workers than cores: the tests spend much of their time waiting, the unit tests most of it.
WORKERS ?= $(shell echo $$(( $$(nproc) + 1 )))
ON_EACH_LINE := not long and not chaos and not distributed and not browser
SIDE_BY_SIDE = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# The tests start many processes. Without bytecode, each would compile the same modules again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo ui-demo ui test coverage test-system test-chaos test-matrix test-distributed test-browser lint bench docs release-check constraints clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(READY) ## create .venv with pinned dependencies

$(READY): pyproject.toml $(CONSTRAINTS) scripts/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" CONSTRAINTS="$(CONSTRAINTS)" sh scripts/setup.sh
	@touch $@

$(SERVERS): $(READY)
	@$(BIN)/python -m tests.distributed.machine
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint $(CONSTRAINTS) --editable ".[distributed]"
	@touch $@

$(BROWSER): $(READY)
	@$(BIN)/python -m tests.distributed.machine chromium
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint $(CONSTRAINTS) --editable ".[ui]"
	@touch $@

# The extra of pyproject.toml with the name of the file.
$(LINT) $(RELEASE) $(DOCS): $(VENV)/.%: $(READY)
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint $(CONSTRAINTS) --editable ".[$*]"
	@touch $@

$(PAGE)/node_modules: $(BROWSER) $(PAGE)/package-lock.json
	@$(NPM) ci
	@touch $@

demo: $(READY) ## run the nightly DAG in a real Airflow against the sandbox
	@$(BIN)/python demo/run.py

ui-demo: $(READY) ## run Airflow's UI with a finished night of videos, until Ctrl-C
	@$(BIN)/python demo/ui.py

ui: $(PAGE)/node_modules ## build the Veo videos page from its source
	@$(NPM) run build

test coverage: WORKERS = $(shell echo $$(( 2 * $$(nproc) )))

test: $(READY) ## run the unit tests, and each example with airflow dags test
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/unit

coverage: $(READY) ## run the unit tests with coverage; the protocol must have 95 %
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) --cov --cov-report=term $(or $(TESTS),tests/unit)
	@$(BIN)/coverage report --include='airflow_provider_veo/protocol/*' --fail-under=95 --format=total \
	    | sed 's/^/protocol, lines and branches covered: /; s/$$/ %/'

test-system: $(SERVERS) ## run the tests in a real Airflow on PostgreSQL: schedulers, triggerers, crashes, outages
	@$(BIN)/python -m tests.distributed.on_postgresql $(BIN)/python -m pytest -m "system or slow or long" --durations=12 $(SIDE_BY_SIDE)

test-chaos: $(READY) ## kill tasks and services at every point, and count the videos billed twice
	@$(BIN)/python -m pytest -m chaos

test-matrix: $(READY) ## run the tests on every supported Airflow line, against the built wheel
	@$(BIN)/python scripts/matrix.py $(MATRIX) $(if $(ALL),--all) $(if $(QUICK),--quick) --python "$(PYTHON)" --pytest="-q --durations=15 -m '$(ON_EACH_LINE)' $(SIDE_BY_SIDE)"

test-distributed: $(SERVERS) ## run a night on PostgreSQL, MariaDB, Redis and Celery, and kill every part
	@$(BIN)/python -m pytest -m distributed

test-browser: $(PAGE)/node_modules ## test the page in Chromium on Airflow 3.3 and 3.1, and the connection form on 3.2
	@$(NPM) test
	@$(NPM) run build -- --outDir ../../../.matrix/page --emptyOutDir
	@diff -r .matrix/page $(PAGE)/dist && echo "The shipped page matches its source."
	@$(BIN)/python -m pytest -m browser
	@$(BIN)/python scripts/matrix.py 3.1 --python "$(PYTHON)" --pytest="-q -m browser"
	@$(BIN)/python scripts/matrix.py 3.2 --python "$(PYTHON)" --pytest="-q -m browser tests/browser/test_connection.py"

lint: $(LINT) ## check code, types, imports, dependencies, words and the files for GitHub
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry --no-ansi airflow_provider_veo 2> >(grep -v "^Assuming the corresponding module name" >&2)
	@$(BIN)/validate-pyproject pyproject.toml
	@$(BIN)/codespell
	@$(BIN)/python scripts/check_words.py
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms $(ISSUE_FORMS)
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

bench: $(SERVERS) ## run the benchmarks against the alternatives
	@$(BIN)/python -m bench

docs: $(DOCS) ## build the documentation site into build/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

release-check: $(RELEASE) ## build and check the wheel and the sdist, and write the SBOM
	@$(BIN)/python scripts/release_check.py

constraints: $(READY) ## pin the newest dependency versions for each Airflow line
	@for line in $(LINES); do \
	    python=3.10; \
	    case $$line in \
	        3.0) extra="--extra fab";; 3.1|3.2) extra="--extra ui";; 3.3) extra="--extra distributed --extra docs --extra lint --extra release --extra ui";; 3.4) extra="--extra distributed --extra ui"; python=3.11;; *) extra=;; \
	    esac; \
	    $(COMPILE) --python-version $$python --upgrade --extra dev $$extra --constraint constraints/airflow-$$line.in \
	        --output-file constraints/airflow-$$line.txt pyproject.toml || exit; \
	done
	@mkdir -p .matrix
	@$(COMPILE) --python-version 3.10 --upgrade --resolution lowest-direct --extra sandbox --constraint constraints/lowest.in \
	    --output-file .matrix/lowest-direct.txt pyproject.toml
	@$(COMPILE) --python-version 3.10 --upgrade --extra test --constraint .matrix/lowest-direct.txt \
	    --output-file constraints/lowest.txt pyproject.toml

clean: ## remove everything that these targets created
	rm -rf $(VENV) .matrix .demo .ui-demo $(PAGE)/node_modules dist build .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
