# One place for the four things done with this checkout. `make demo` and `make test` work on a bare machine.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test bench lint clean

demo: $(VENV)/.installed
	PATH="$(abspath $(BIN)):$$PATH" scripts/demo.sh

test: $(VENV)/.installed
	$(BIN)/pytest

bench: $(VENV)/.installed
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m benchmarks

lint: $(VENV)/.linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.linted: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV)
