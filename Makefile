# `make demo` and `make test` each work alone: they make .venv and install what they need.

# those for which MXNet has wheels first
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$p" && break; done)
# the newest, for which it has none
NEWEST ?= $(shell for v in 3.14 3.13; do \
	for p in python$$v "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$v.*/bin/python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 13))' 2>/dev/null \
	&& echo "$$p" && exit; done; done)
VENV ?= .venv
BIN := $(VENV)/bin
# images of containers often set it; then each process that a test starts compiles all it imports
unexport PYTHONDONTWRITEBYTECODE

.PHONY: audit demo test test-thorough test-lowest test-newest dist test-wheel site notebooks check format lock clean

demo: $(VENV)/.demo
	$(BIN)/probe demo

# a file of tests a process, which computes in one thread; one more than cores, since tests wait for
# processes that they start, and for the disk
WORKERS ?= $(shell "$(PYTHON)" -c 'import os; print(min((os.cpu_count() or 1) + 1, 4))')
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test: $(VENV)/.dev
	$(PYTEST) $(TESTS)

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
		-n $(WORKERS) --dist loadfile $(LOWEST)

# with the newest Python, NumPy 2 and no MXNet: what these move; NEWEST_TESTS= runs all tests.
# Left out is what runs the same code once more: notebooks, pages, each form of a dataset from end
# to end (its reader is in tests/datasets), which engine is the fastest (without MXNet two are
# left), and all of CIFAR-10, which takes half a minute to unpack (its formats are read with a few)
NEWEST_TESTS ?= tests/core tests/preprocess tests/datasets tests/evaluation tests/heads tests/runs \
	tests/extraction tests/bundle tests/predict tests/weights/test_readers.py \
	tests/weights/test_load.py $(filter-out %notebooks.py %pages.py,$(wildcard tests/test_*.py)) \
	--ignore tests/extraction/test_every_form.py --ignore tests/extraction/test_fastest.py \
	--deselect tests/datasets/test_cifar.py::test_the_real_images \
	--deselect tests/datasets/test_packed.py::test_memory_does_not_grow_with_the_images_read

test-newest:
	@if [ -z "$(NEWEST)" ]; then echo "no Python 3.13 or later is at hand: not tested with one" >&2; \
	else $(MAKE) test PYTHON="$(NEWEST)" VENV=.venv-newest TESTS="$(NEWEST_TESTS)"; fi

# what a stranger installs: an sdist, and a wheel made of it, which runs where there is no clone
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist . > dist.log 2>&1 || { cat dist.log; exit 1; }
	@rm -f dist.log; ls dist

test-wheel: dist
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		"$$(ls '$(CURDIR)'/dist/*.whl)[demo]"
	cd "$$(mktemp -d)" && HOME="$$PWD" XDG_CACHE_HOME="$$PWD/state" \
		"$(CURDIR)/.venv-wheel/bin/probe" demo --size 32
	cd / && "$(CURDIR)/.venv-wheel/bin/probe" help environment > /dev/null

# tags what is committed as the version that it says it is, once its wheel was tried; uploads nothing
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' probe/core/version.py)

release:
	@test -z "$$(git status --porcelain)" || { echo "commit first: git status" >&2; exit 1; }
	@! git rev-parse --quiet --verify "refs/tags/v$(VERSION)" > /dev/null \
	|| { echo "v$(VERSION) is tagged: raise __version__ in probe/core/version.py" >&2; exit 1; }
	@grep -q '^## \[$(VERSION)\]' CHANGELOG.md \
	|| { echo "CHANGELOG.md has no heading ## [$(VERSION)]: rename [Unreleased]" >&2; exit 1; }
	$(MAKE) test-wheel
	$(PYTHON) -m venv --clear .venv-release
	.venv-release/bin/python -m pip install --quiet --disable-pip-version-check twine
	.venv-release/bin/twine check --strict dist/*
	git tag --annotate "v$(VERSION)" --message "probe $(VERSION)"
	@echo "git push origin v$(VERSION) && .venv-release/bin/twine upload dist/*"

# the documentation as a website in site/; a broken link or reference fails
site: $(VENV)/.dev
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs site

# runs the notebooks again and writes their outputs; the tests run them, too, and write nothing
notebooks: $(VENV)/.dev
	$(BIN)/python -m tests.test_notebooks

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry probe

# asks a database of advisories about every pinned version, so it needs the network
OSV := https://api.osv.dev/v1/vulns/GHSA-7f5h-v6xp-fcq8
audit:
	@if $(PYTHON) -c 'import urllib.request as r; r.urlopen("$(OSV)", timeout=20)' 2>/dev/null; then \
	$(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip install --quiet \
		--disable-pip-version-check pip-audit && .venv-audit/bin/pip-audit \
		--vulnerability-service osv --no-deps --disable-pip --requirement constraints.txt; \
	else echo "not audited: https://api.osv.dev cannot be reached" >&2; fi

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the exact versions that a fresh install gets; from Python 3.13 on, NumPy is another
FREEZE := .venv-lock/bin/pip freeze --all --exclude-editable --exclude pip

lock:
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/pip install --upgrade --quiet -e '.[demo,dev]' 'setuptools<81'
	$(FREEZE) | sed "s/^numpy==.*/&; python_version < '3.13'/" > constraints.txt
	$(NEWEST) -m venv --clear .venv-lock
	.venv-lock/bin/pip install --quiet -c constraints.txt -e '.[demo,dev]'
	$(FREEZE) | grep -vxF -f constraints.txt | sed "s/$$/; python_version >= '3.13'/" >> constraints.txt
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) .venv-lock .venv-audit .venv-lowest .venv-newest .venv-release .venv-wheel dist site docs/reference .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "probe needs Python 3.11 or later: install one, or name it with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@touch $@
