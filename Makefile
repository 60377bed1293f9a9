# make demo | test | test-lowest | lint | faults | docs | clean. Each but clean makes .venv and installs what it needs
# there; they need only Python 3.10 or newer.
# PYTHON=python3.12 chooses another Python, VENV=elsewhere another place, WORKERS=4 more processes for the tests.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
IN_VENV := $(VENV)/bin/python

.PHONY: demo test test-lowest lint faults docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/.for-demo
	$(IN_VENV) -m detect.demo

# Two workers, each with a file at a time, so that what the tests of a file share is made once, in the order of
# tests/conftest.py. A thread each: more would only wait for each other.
test: $(VENV)/.for-tests
	OMP_NUM_THREADS=1 $(IN_VENV) -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# With the lowest versions that pyproject.toml names, to the digits that it names: by hand, before these are changed and
# before a release. It fetches gigabytes. Old libraries use what the latest beneath them, which pip takes, discourage;
# protobuf, which is beneath onnx, refuses from version 7 on what torch 2.5 exports.
test-lowest:
	@mkdir -p build
	@$(PYTHON) -c 'import re; print(*(f"{name}=={version}.*" for name, version in re.findall(r"\"([\w-]+)>=([\d.]+)\"", \
	open("pyproject.toml").read())), "protobuf==5.*", sep="\n")' > build/lowest.txt
	PIP_CONSTRAINT="$(CURDIR)/build/lowest.txt" PYTEST_ADDOPTS="-W ignore::DeprecationWarning -W ignore::FutureWarning" \
	$(MAKE) test VENV="$(VENV)-lowest"

lint: $(VENV)/.for-tests
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m ruff format --check .
	@if $(IN_VENV) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then echo "mypy"; $(IN_VENV) -m mypy; \
	else echo "mypy left out: the last NumPy for Python 3.10 has annotations that ours do not fit"; fi

# Five minutes of kills, full disks and damaged files; an hour of them: python benchmarks/faults.py.
faults: $(VENV)/.for-tests
	OMP_NUM_THREADS=1 $(IN_VENV) benchmarks/faults.py --minutes 4 --only "detect,propose,train classifier"
	OMP_NUM_THREADS=1 $(IN_VENV) benchmarks/faults.py --fuzz --minutes 1

docs: $(VENV)/.for-docs
	NO_MKDOCS_2_WARNING=1 $(IN_VENV) -m mkdocs build --strict --quiet
	@echo "The site is in site/; open site/index.html."

$(VENV)/.for-demo: pyproject.toml | $(IN_VENV)
	$(IN_VENV) -m pip install --quiet --editable ".[openvino]"
	@touch $@

$(VENV)/.for-tests: pyproject.toml | $(IN_VENV)
	$(IN_VENV) -m pip install --quiet --editable ".[dev,openvino,export,report,serve,ray]"
	@touch $@ $(VENV)/.for-demo

$(VENV)/.for-docs: pyproject.toml | $(IN_VENV)
	$(IN_VENV) -m pip install --quiet --editable ".[docs]"
	@touch $@

$(IN_VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name one with make PYTHON=...")'
	@echo "Installing into $(VENV); the first time this fetches PyTorch, some gigabytes on Linux."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(IN_VENV) -m pip install --quiet --upgrade pip

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist demo-out site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
