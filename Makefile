# Six verbs; `make` alone explains them. A verb needs nothing but Python and this file.

PYTHON ?= python3
BIN := .venv/bin
HERE := $(CURDIR)/build/run

.DEFAULT_GOAL := help
.PHONY: help setup test check bench docs run

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv and install everything into it: the daemon, the tests' needs, this tree as it is
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[daemon,test]'

$(BIN)/pytest:
	$(MAKE) setup

test: | $(BIN)/pytest ## run the tests; some of them: make test T='tests/daemon -k stop'; the long forms: T=--long
	$(BIN)/pytest $(T)

check: | $(BIN)/pytest ## everything else that must hold: lint, format, types, the rooms, generated pages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/generate_protocol.py --check

bench: | $(BIN)/pytest ## measure beside what the machine allows, half an hour; to try: make bench B='--quick rates'
	$(BIN)/python -m bench $(B)

docs: | $(BIN)/pytest ## write the generated pages, and record docs/survives.svg again from a real session
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/generate_protocol.py
	$(BIN)/python docs/record.py

run: | $(BIN)/pytest ## this tree's daemon in the foreground, apart from yours, its state in build/run; Ctrl-C stops it
	@mkdir -p -m 700 $(HERE)
	@echo "in another terminal:  export OUTLIVE_SOCKET=$(HERE)/s  and then  $(BIN)/outlive info"
	$(BIN)/outlived serve --socket $(HERE)/s --state-dir $(HERE)/state
