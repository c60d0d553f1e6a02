# One command a chore. `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test unit lint format lock docs docs-serve torture bench-peers clean

help:  ## List the chores
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

install: $(READY)  ## Create .venv with the exact versions of requirements.lock

demo: $(READY)  ## Run the whole study on pictures drawn here, report and all
	$(BIN)/podium demo

test: lint unit  ## The whole test suite, lint and types

# Two processes with a thread each take half the time of one with two. A file's tests stay together,
# and files come in the order of tests/conftest.py: the longest first.
unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder \
	  --max-worker-restart 0

lint: $(READY)  ## Style, format and types alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Put the code in format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY)  ## Resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --upgrade \
	  --no-annotate --quiet --custom-compile-command "make lock" \
	  pyproject.toml -o requirements.lock

# The variable silences Material's notice on MkDocs 2, which says nothing of this site.
docs: $(READY)  ## Build the documentation site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

docs-serve: $(READY)  ## Show the site at http://127.0.0.1:8000 while you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict

torture: $(READY)  ## Kills, faults and damaged files; TORTURE="--kills 2000" for more
	$(BIN)/python -m torture $(TORTURE)

bench-peers:  ## Install what the benchmarks compare with into .venv-peers
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt

clean:  ## Remove .venv and caches, never runs/
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist site
