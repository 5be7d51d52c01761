# What is done with this checkout. `make demo` and `make test` work on a bare machine; `make demo-nomad` needs `nomad`.
VENV ?= .venv
BIN := $(abspath $(VENV))/bin

.PHONY: demo demo-nomad test simulate bench lint clean

demo: $(VENV)/.installed
	PATH="$(BIN):$$PATH" scripts/demo.sh

demo-nomad: $(VENV)/.installed
	PATH="$(BIN):$$PATH" scripts/demo-nomad.sh

test: $(VENV)/.installed
	$(BIN)/pytest

simulate: $(VENV)/.installed
	$(BIN)/python -m tests.simulation --runs 100000 --seed $(or $(SEED),0)

bench: $(VENV)/.installed
	PATH="$(BIN):$$PATH" $(BIN)/python -m benchmarks

lint: $(VENV)/.linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml
	scripts/venv.sh $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(VENV)/.linted: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) .demo
