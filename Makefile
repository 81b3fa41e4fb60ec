# `make demo` and `make test` make their own .venv from a Python and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test peers bench torture matrix lint types docs sample clean

demo: $(VENV)/.demo
	$(BIN)/python tools/demo.py

# In the order of the files, so that the short ones come last and no core waits for a long one.
test: $(VENV)/.test lint types
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# The tests that compare with a tool of somebody else's, in an environment that has them. torchvision comes first: it
# crashes as it loads beside a TensorFlow that is there already.
peers: $(VENV)-peers/.peers
	$(VENV)-peers/bin/python -m pytest -n auto --dist loadfile -p torchvision $$(grep -rlE 'importorskip|find_spec' tests --include='test_*.py')

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
	rm -rf $(VENV) $(VENV)-peers .nox demo-output build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.demo

$(VENV)-peers/.peers: setup.cfg
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet --editable '.[test,peers]'
	touch $@

$(VENV)/.docs: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

# The suite on every Python here of 3.10 to 3.13, on the oldest TensorFlow, on Keras's other backends, and out of an
# sdist. Or one of them: make matrix NOX='-s oldest'.
matrix: $(VENV)/.test
	$(BIN)/python -m pip install --quiet nox
	$(BIN)/nox $(NOX)

# Thousands of damaged files, killed writers and full disks; about half an hour.
torture: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist loadfile -m thorough
	PYTHONPATH=tests $(BIN)/python tests/torture.py
	PYTHONPATH=tests $(BIN)/python tests/torture_writers.py
	PYTHONPATH=tests $(BIN)/python tests/torture_features.py
	PYTHONPATH=tests $(BIN)/python tests/torture_stores.py --pictures 1000
	PYTHONPATH=tests $(BIN)/python tests/torture_sides.py
