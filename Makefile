# Needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help run test figures report ui doctor docs lint

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

run: .venv/installed ## the main job on the bundled digits (three densities), and its figure
	$(BIN)/python -m inn_lab experiment=sparsity_fixed_params source=digits lr=1e-3 trainer.max_epochs=40 -m R=0.1,0.4,1.0
	$(BIN)/python -m experiments sparsity_fixed_params source=digits

test: .venv/installed ## the quick test suite
	$(BIN)/python -m pytest -n 2

figures: .venv/installed ## every figure and claim, from the runs in MLflow
	$(BIN)/python -m inn_lab figures

report: .venv/installed ## the same as one page to look at and to send
	$(BIN)/python -m inn_lab report

ui: .venv/installed ## browse the runs
	$(BIN)/python -m inn_lab ui

doctor: .venv/installed ## what the lab finds on this machine
	$(BIN)/python -m inn_lab doctor

docs: .venv/installed ## pages from the docstrings, in outputs/docs
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/api.py

lint: .venv/installed ## style and format, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@
