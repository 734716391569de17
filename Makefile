# Two commands matter: `make demo` and `make test`. Each installs what it needs first.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help setup pipelines demo demo-plain demo-compare test unit lint audit lock benchmark clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The RO-Crate validator has an environment of its own: it wants an older rich.
VALIDATOR := $(VENV)/rocrate-validator
AUDIT := $(VENV)/pip-audit
# `osv` asks another database; see `pip-audit --help`.
AUDIT_SERVICE ?= pypi
# Integration tests mostly wait: for daemons, for jobs to end. Each file is run by one process, in the
# files' order: a file of few tests may be the longest.
TEST_PROCESSES ?= 6
export TAKEDA_SANDBOX_DIR ?= $(CURDIR)/.takeda/sandbox

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.installed $(VALIDATOR)/.installed ## install Debian packages and the Python environment
	@scripts/install-system-packages

$(VENV)/.installed: pyproject.toml requirements/dev.lock scripts/make-venv
	@scripts/install-system-packages
	@scripts/make-venv "$(PYTHON)" "$(VENV)"
	@touch $@

$(VALIDATOR)/.installed: requirements/rocrate-validator.lock | $(VENV)/.installed
	@$(PYTHON) -m venv $(VALIDATOR)
	@$(VALIDATOR)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(AUDIT)/.installed: requirements/audit.lock | $(VENV)/.installed
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

pipelines: setup ## install what the pipelines of workflows/ use beside that
	@scripts/install-system-packages pipelines

demo: setup ## run the outbreak pipeline on the sandbox: Batch, Slurm and HealthOmics
	@scripts/run-demo

demo-plain: setup ## the same pipeline with plain `snakemake -c2`
	@scripts/run-demo --plain

demo-compare: ## are the results of `make demo` and `make demo-plain` the same?
	@workflows/outbreak/compare

# A test that fails beside others on a busy machine is run once more, alone, and has to pass then.
test: pipelines lint ## everything: lint, types, unit and integration tests with coverage
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --cov --cov-report= || \
	  { [ $$? -eq 1 ] && echo "== What failed runs once more, alone." && $(BIN)/pytest --last-failed --last-failed-no-failures none; }
	@$(BIN)/coverage report --skip-covered --format=total | sed 's/^/line coverage, percent: /'

unit: setup ## the tests that take seconds
	$(BIN)/pytest -m "not sandbox and not slurm and not docker" -q

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(AUDIT)/.installed ## look the locked packages up in the database of known vulnerabilities
	@$(BIN)/python scripts/audit-dependencies $(AUDIT)/bin/pip-audit $(AUDIT_SERVICE) requirements/*.lock

COMPILE = $(BIN)/pip-compile -q --generate-hashes --strip-extras --no-header --annotation-style=line \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
lock: ## renew requirements/*.lock, with the hash of each file
	$(BIN)/pip install -q pip-tools
	$(COMPILE) --upgrade --extra dev --unsafe-package snakemake-executor-plugin-takeda \
	  -o requirements/dev.lock pyproject.toml
	$(COMPILE) --upgrade --allow-unsafe -o requirements/audit.lock requirements/audit.in
	$(COMPILE) --upgrade --allow-unsafe -o requirements/rocrate-validator.lock requirements/rocrate-validator.in

clean: ## remove what the other commands made here
	-[ ! -x $(BIN)/takeda ] || $(BIN)/takeda sandbox down
	rm -rf $(VENV) .takeda .snakemake results build dist
