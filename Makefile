# Everything a newcomer types. `make demo` and `make test` set up what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := 0.13.9
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo demo-down test test-airflow coverage lint bench bench-extract fuzz explain check-policy policy-diff plan-enrichment new-vendor lock clean

help:            ## this list
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+: +##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(VENV)/.run       ## Airflow and the simulators on loopback: a day of events through all nine stages
	$(BIN)/python -m include.demo up

demo-down:       ## end what `make demo` started
	$(BIN)/python -m include.demo down

# Files in their order: what takes longest is then not what one worker ends with alone.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
test: $(VENV)/.dev       ## every test but those that start a whole Airflow
	$(PYTEST) -m "not slow"

test-airflow: $(VENV)/.dev  ## the tests that start a whole Airflow
	$(BIN)/python -m pytest -q -n 0 -m slow

coverage: $(VENV)/.dev   ## which branches the tests of `make test` take
	$(PYTEST) -m "not slow" --cov --cov-report=term

lint: $(VENV)/.dev       ## ruff, mypy, who imports whom, and dead names
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/vulture

bench: $(VENV)/.dev      ## measure, and print it next to what it is compared with
	$(BIN)/python -m include.bench

bench-extract: $(VENV)/.dev  ## extraction beside the libraries that do the same, each in a throw-away environment
	$(BIN)/python -m include.bench.extract

FUZZ         := .venv-fuzz
FUZZ_SECONDS ?= 60
fuzz: $(FUZZ)/.made      ## extraction under a fuzzer for FUZZ_SECONDS (60)
	$(FUZZ)/bin/python tests/fuzz/fuzz_observables.py -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 \
		-artifact_prefix=$(FUZZ)/

# From the checkout, so that `include` is found without a PYTHONPATH.
OPS := $(BIN)/python -m airflow threat-response

# A pasted value is data: neither make nor the shell may read anything into it.
override OBSERVABLE := $(value OBSERVABLE)
export OBSERVABLE
explain: $(VENV)/.run    ## why a value was judged so: OBSERVABLE=… (AT=instant, POLICY=file:file, LEDGER=url)
	@$(OPS) explain $(if $(AT),--at "$(AT)") $(if $(POLICY),--policy "$(POLICY)") \
		$(if $(LEDGER),--ledger "$(LEDGER)") -- "$$OBSERVABLE"

check-policy: $(VENV)/.run  ## whether a policy can be loaded, before it is saved: POLICY=file:file (else the configured)
	@$(OPS) check-policy $(if $(POLICY),-- "$(POLICY)")

policy-diff: $(VENV)/.run  ## archived decisions under two policies: A=… B=… (FROM=…, TO=…, GOOD=file, LEDGER=url)
	@$(OPS) policy-diff $(if $(FROM),--from "$(FROM)") $(if $(TO),--to "$(TO)") \
		$(if $(GOOD),--good "$(GOOD)") $(if $(LEDGER),--ledger "$(LEDGER)") -- "$(A)" "$(B)"

plan-enrichment: $(VENV)/.run  ## what a backfill would ask the providers: FROM=… TO=… (SEVERITY=…, ANSWERS=frozen)
	@$(OPS) plan-enrichment --from "$(FROM)" --to "$(TO)" \
		$(if $(SEVERITY),--minimum-severity "$(SEVERITY)") $(if $(ANSWERS),--answers "$(ANSWERS)")

new-vendor: $(VENV)/.dev  ## a new enrichment provider that runs at once: NAME=… (docs/add-a-vendor.md)
	@$(BIN)/python -m include.ops new-vendor -- "$(NAME)"

lock: $(VENV)/.dev        ## resolve requirements.in again
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header requirements.in -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header requirements-dev.in -o requirements-dev.txt

clean: demo-down         ## forget the environment and the demo
	rm -rf $(VENV) $(FUZZ) .demo

# uv installs the locked set in seconds; where it cannot be had, pip does it in a minute.
# Compiled at once: where PYTHONDONTWRITEBYTECODE is set, each process would compile Airflow anew, 5 s of CPU and not 2.
define install
	$(BIN)/python -m pip install -q uv==$(UV) && $(BIN)/uv pip install -q --compile-bytecode -p $(BIN)/python -r $(1) \
		|| $(BIN)/python -m pip install -q -r $(1)
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	$(BIN)/python -c "from include.soar.gate.index_file import shipped; shipped()"  # the never-block index, once
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
	# A judge of a simulator whose own pins would take Airflow's packages back; it runs with ours.
	$(BIN)/python -m pip install -q --no-deps greynoise==3.1.0
	@touch $@ $(VENV)/.run

# The fuzzer is no dependency of ours: an environment of its own, with the locked versions of what extraction imports.
$(FUZZ)/.made: requirements.txt
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/python -m pip install -q -c requirements.txt atheris==3.0.0 pydantic pyyaml tldextract
	@touch $@
