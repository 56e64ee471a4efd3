# `make demo` and `make test` each work alone: they make .venv and install what they need.

PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
	&& echo "$$p" && break; done)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-thorough test-lowest check format lock clean

demo: $(VENV)/.demo
	$(BIN)/probe demo

# a file of tests a process, which computes in one thread
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test: $(VENV)/.dev
	$(PYTEST)

# every golden network and more damage: an hour and more
test-thorough: $(VENV)/.dev
	PROBE_TEST_THOROUGH=1 $(PYTEST)

# once with the lowest versions that pyproject.toml allows: what computes, reads and deals rows
LOWEST ?= tests/heads/test_grid.py tests/evaluation/test_units.py tests/evaluation/test_multilabel.py \
	tests/runs/test_grouping.py

test-lowest:
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) .ci/lowest > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check \
		-c .venv-lowest/lowest.txt -e . pytest pytest-xdist hypothesis
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -W ignore::DeprecationWarning \
		-n auto --maxprocesses 4 --dist loadfile $(LOWEST)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry probe

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the exact versions that a fresh install gets, on either Python
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --upgrade --quiet -e '.[demo,dev]' 'setuptools<81'
	.venv-lock/bin/pip freeze --all --exclude-editable --exclude pip > constraints.txt
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) .venv-lock .venv-lowest .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "probe needs Python 3.11 or 3.12 (MXNet has no newer): install one, or name it with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@touch $@
