# The two commands of the README, and what developers use. Each works on a fresh machine with Python ≥ 3.11 and make.
PYTHON ?= python3
export DAGSTER_HOME := $(CURDIR)
export DAGSTER_DISABLE_TELEMETRY := 1
# Some images set it, and each process would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast test-short up faults check lint types bench clean
.DEFAULT_GOAL := demo

demo: $(STAMP)
	$(BIN)/recoflow demo

up: $(STAMP)
	$(BIN)/recoflow up

test: $(STAMP)
	$(BIN)/pytest

# What needs no server, no lake and no Dagster, in less than a minute.
test-fast: $(STAMP)
	$(BIN)/pytest -p no:schemathesis -m 'not slow and not matrix' recoflow_tests/compute recoflow_tests/settings \
		recoflow_tests/quality recoflow_tests/formats recoflow_tests/interactions recoflow_tests/event_quality recoflow_tests/models \
		recoflow_tests/ranking recoflow_tests/campaigns recoflow_tests/test_architecture.py recoflow_tests/test_docs.py \
		recoflow_tests/test_seed_documents.py

# What depends on the version of Python: Dagster's runs and storage, the lake, processes and their start.
test-short: $(STAMP)
	$(BIN)/pytest recoflow_tests/defs recoflow_tests/e2e/test_main_job.py recoflow_tests/ingest \
		recoflow_tests/storage/lake/test_lake.py recoflow_tests/server/test_processes.py recoflow_tests/settings/test_environment.py

# Every fault, those included that take too long for each change.
faults: $(STAMP)
	$(BIN)/pytest -m 'fault or matrix'

check: lint types
	$(BIN)/recoflow check
	$(BIN)/dg check defs

# The short set: each tells ratios beside a peer in the same run. benchmarks/README.md has the long runs.
bench: $(STAMP)
	$(BIN)/python -m benchmarks.rank --quick
	$(BIN)/python -m benchmarks.campaign --quick
	$(BIN)/python -m benchmarks.train --quick
	$(BIN)/python -m benchmarks.ingest --quick
	$(BIN)/python -m benchmarks.gateway --seconds 5

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Exact versions, so that what passed here is what you get; the stamp makes a second `make` start at once.
$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "recoflow needs Python 3.11 or newer: set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	$(BIN)/recoflow compile || echo 'Loops are compiled when they are first needed.'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis recoflow.egg-info
