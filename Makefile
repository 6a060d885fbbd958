# Everything is a line of plain pip and python; make only remembers what is done.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help setup setup-dev demo test lint format bench clean

help:  ## Show what there is to make
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/.noria: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable ".[ml]"
	@touch $@

.venv/.noria-dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@ .venv/.noria

setup: .venv/.noria  ## Make .venv and install noria with what the demo needs
setup-dev: .venv/.noria-dev  ## Make .venv and install noria with what the tests need

demo: setup  ## Run the whole loop on a year of real flights
	$(BIN)/noria demo

test: setup-dev  ## Run all tests
	$(BIN)/python -m pytest -n 2

lint: setup-dev  ## Check format, style, types and import contracts
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/ruff check src tests bench examples
	$(BIN)/lint-imports --no-cache
	$(BIN)/basedpyright

format: setup-dev  ## Format the code
	$(BIN)/ruff format src tests bench examples
	$(BIN)/ruff check --fix src tests bench examples

bench: setup-dev  ## Measure; results go to docs/benchmarks.md
	$(BIN)/python -m bench.run

clean:  ## Remove the virtual environment and caches
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis dist build
