# `make help` lists what can be asked for. Every target that needs Python makes .venv first, once.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
PROFILE ?= laptop
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help install check test test-slow docs notebooks audit tune clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | while IFS=$$'\t' read -r name about; do \
	  printf '  make %-22s %s\n' "$$name" "$$about"; done
	@for file in experiments/[a-z]*.py; do name=$$(basename $$file .py | tr _ -); \
	  printf '  make sweep-%-16s %s\n' "$$name" "$$(sed -n '1s/^"""//p' $$file)"; done
	@echo '  PROFILE=smoke|laptop|desk|full chooses the size of a sweep (default: laptop)'

install: $(READY)  ## make .venv and install bias_lab in it, with what the tests need

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@

check: $(READY)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(READY)  ## the fast tests, the smoke sweep among them
	WANDB_MODE=offline OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(READY)  ## the tests that take minutes
	WANDB_MODE=offline OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow $(ARGS)

docs: $(READY)  ## build the documentation into build/docs, warnings are errors
	$(BIN)/python -m sphinx -q -E -W --keep-going -b html docs build/docs

# Jupyter refuses root, who works in containers, without the flag
notebooks: $(READY)  ## install JupyterLab and open the notebooks
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebooks]'
	$(BIN)/jupyter lab notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

audit: $(READY)  ## known vulnerabilities in the pinned versions
	$(BIN)/pip-audit -r constraints.txt --no-deps --disable-pip

# the rates and budgets that no committed table has are searched first
sweep-locality sweep-pretraining: SEARCH = $(if $(findstring tune,$(ARGS)),,--tune)

sweep-%: $(READY)  ## run experiments/NAME.py (underscores as hyphens) into results/NAME/
	$(BIN)/bias-lab sweep experiments/$(subst -,_,$*).py --profile $(PROFILE) \
	  --out results/$(subst -,_,$*)$(if $(filter-out laptop,$(PROFILE)),-$(PROFILE)) $(SEARCH) $(ARGS)

tune: $(READY)  ## tune every backbone of small_data.py again and write experiments/tuned.json
	$(MAKE) sweep-tuning PROFILE=$(PROFILE)
	$(BIN)/bias-lab tuned results/tuning$(if $(filter-out laptop,$(PROFILE)),-$(PROFILE)) --out experiments/tuned.json

clean:  ## remove caches (not .venv, not results/)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
