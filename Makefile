# The two commands of a fresh machine are `make search` and `make test`; each sets up what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
FROM ?=
AS_ROOT := $(shell test "$$(id -u)" = 0 || echo sudo)

.PHONY: search train ui test browser database lint docs clean

search: $(VENV)/ready  ## search on real data: make search ARGS="budget.trials=20"
	$(BIN)/python -m autotune.search optimizer=sweep $(ARGS)

train: $(VENV)/ready  ## final training of a search's best: make train FROM=<search>
	$(if $(FROM),,$(error name the search: make train FROM=<search>))
	$(BIN)/python -m autotune.train from=$(FROM) $(ARGS)

ui: $(VENV)/ready  ## browse searches at http://127.0.0.1:5000: make ui ARGS="port=5001"
	$(BIN)/python -m autotune.ui $(ARGS)

test: $(VENV)/ready browser database  ## the whole suite, slow tests included
	$(BIN)/python -m pytest -n 2 $(ARGS)

browser:  # what a test reads the UI in
	@{ command -v chromium && command -v chromedriver; } >/dev/null || \
		{ $(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -y -qq chromium chromium-driver; } || \
		{ echo "install chromium and chromedriver (Debian: chromium, chromium-driver), then make test" >&2; exit 1; }

database:  # PostgreSQL, which tests start a server of their own of
	@{ ls /usr/lib/postgresql/*/bin/initdb || command -v initdb; } >/dev/null 2>&1 || \
		{ $(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -y -qq postgresql; } || \
		{ echo "install PostgreSQL (Debian: postgresql), then make test" >&2; exit 1; }

lint: $(VENV)/ready  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/ready  ## the documentation as a site in site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# torch first: with the constrained build in place nothing else asks for another one.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache site
