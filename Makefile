# Everything a newcomer types. `make demo` and `make test` set up what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := 0.13.9
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo demo-down test lint bench lock clean

help:            ## this list
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+: +##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(VENV)/.run       ## Airflow and the simulators on loopback: a day of events through all nine stages
	$(BIN)/python -m include.demo up

demo-down:       ## end what `make demo` started
	$(BIN)/python -m include.demo down

test: $(VENV)/.dev       ## the whole test suite
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(VENV)/.dev       ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev      ## measure, and print it next to what it is compared with
	$(BIN)/python -m include.bench

lock: $(VENV)/.dev        ## resolve requirements.in again
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header requirements.in -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header requirements-dev.in -o requirements-dev.txt

clean: demo-down         ## forget the environment and the demo
	rm -rf $(VENV) .demo

# uv installs the locked set in seconds; where it cannot be had, pip does it in a minute.
define install
	$(BIN)/python -m pip install -q uv==$(UV) && $(BIN)/uv pip install -q -p $(BIN)/python -r $(1) \
		|| $(BIN)/python -m pip install -q -r $(1)
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
endef

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing the locked packages into $(VENV)"
	$(call install,requirements.txt)
	@touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing the locked packages into $(VENV)"
	$(call install,requirements-dev.txt)
	@touch $@ $(VENV)/.run
