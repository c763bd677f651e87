PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: mnist test slow lint clean

mnist: $(VENV)/installed
	$(BIN)/fastbp train mnist

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -m "not slow"

slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed-test
	$(BIN)/python -m ruff check
	$(BIN)/python -m mypy

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

# Editable installs follow every change of the code, so only a change of pyproject.toml asks for a new one.
$(VENV)/installed: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@
