# `make demo` and `make test` make their own .venv from a Python and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test bench torture oldest lint types docs sample clean

demo: $(VENV)/.demo
	$(BIN)/python tools/demo.py

# In the order of the files, so that the short ones come last and no core waits for a long one.
test: $(VENV)/.test lint types
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Ours beside every peer that is installed (torch and tf2onnx are not by themselves); about twenty quiet minutes.
bench: $(VENV)/.test
	$(BIN)/python tools/bench.py $(BENCH)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

types: $(VENV)/.test
	$(BIN)/mypy

# The manual, in build/docs; a warning is an error.
docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W -q -b html docs build/docs

sample: $(VENV)/.test
	$(BIN)/python tools/make_sample.py

clean:
	rm -rf $(VENV) .venv-oldest demo-output build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.demo

$(VENV)/.docs: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

# Our own tests on the oldest TensorFlow we claim (needs a Python that it has wheels for: 3.10 to 3.12).
oldest: .venv-oldest/.test
	.venv-oldest/bin/python -m pytest -n auto --dist loadfile

.venv-oldest/.test: setup.cfg
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --editable '.[test]' 'tensorflow==2.16.1' 'tf_keras==2.16.0' 'numpy<2'
	touch $@

# Thousands of damaged files, killed writers and full disks; about twenty minutes.
torture: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist loadfile -m thorough
	PYTHONPATH=tests $(BIN)/python tests/torture.py
	PYTHONPATH=tests $(BIN)/python tests/torture_writers.py
	PYTHONPATH=tests $(BIN)/python tests/torture_features.py
	PYTHONPATH=tests $(BIN)/python tests/torture_sides.py
