# Everything runs in .venv, which the first target makes from constraints.txt.
PYTHON ?= python3.11
VENV := .venv
STAMP := $(VENV)/.installed
PIP := $(VENV)/bin/python -m pip

.PHONY: install test lint demo clean

install: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt $(wildcard tokkit/ops/codebook_lookup/*.[ch])
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(PIP) install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test,cpu,tracking,export]"
	touch $(STAMP)

# A thread each for the two workers: with more, threads wait for each other and small tensors take ten times as long.
test: install lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m "not gpu" -n 2 --dist loadfile --durations=10

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

demo: install
	$(VENV)/bin/tokkit demo

clean:
	rm -rf build dist *.egg-info demo
