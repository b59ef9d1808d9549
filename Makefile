# Everything lives in .venv; `make` alone lists the targets.

PYTHON := .venv/bin/python
PYTEST := PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(PYTHON) -m pytest
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup worker test lint types chaos bench

help:  # not listed
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-8s %s\n", $$1, $$2 }'

setup: $(READY)  ## .venv with everything, from the lock file; again only when the lock file changes

# Told on stderr: the first line on stdout belongs to the worker.
$(READY): requirements/dev.lock
	@sh requirements/setup.sh >&2
	@touch $(READY)

worker: $(READY)  ## run the worker with config/local.toml: embedded Redis, demo events; Ctrl-C drains
	@echo "worker: process id $$$$ (Ctrl-C or SIGTERM drains)"; \
	WORKER_CONFIG=config/local.toml exec $(PYTHON) -m worker run

test: $(READY)  ## the whole default test suite
	@$(PYTEST) -n 3 --dist loadfile

lint: $(READY)  ## ruff, format, import contracts, cancellation rules
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check
	@.venv/bin/lint-imports --no-logo
	@git ls-files 'worker/*.py' 'tests/*.py' | xargs -n 60 -P 2 .venv/bin/flake8-async --anyio --asyncio --enable ASYNC102,ASYNC103

types: $(READY)  ## mypy --strict
	@$(PYTHON) -m mypy

chaos: $(READY)  ## the same tests with larger numbers, one after another; takes long
	@CHAOS=1 $(PYTEST) --timeout=7200

bench: $(READY)  ## CPU per event beside a straightforward worker, the door, a backlog, sockets; some fifteen minutes
	@$(PYTHON) -m benchmarks
