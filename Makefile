# The two commands of a fresh machine are `make search` and `make test`; each sets up what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
FROM ?=

.PHONY: search train ui test lint clean

search: $(VENV)/ready  ## search on real data: make search ARGS="budget.trials=20"
	$(BIN)/python -m autotune.search optimizer=sweep $(ARGS)

train: $(VENV)/ready  ## final training of a search's best: make train FROM=<search>
	$(if $(FROM),,$(error name the search: make train FROM=<search>))
	$(BIN)/python -m autotune.train from=$(FROM) $(ARGS)

ui: $(VENV)/ready  ## browse searches at http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db --host 127.0.0.1 --port 5000

test: $(VENV)/ready  ## the whole suite, slow tests included
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(VENV)/ready  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# torch first: with the constrained build in place nothing else asks for another one.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
