# make demo | test | lint | docs | clean. Each but clean makes .venv and installs what it needs there; they need only
# Python 3.10 or newer.
# PYTHON=python3.12 chooses another Python, VENV=elsewhere another place.

PYTHON ?= python3
VENV ?= .venv
IN_VENV := $(VENV)/bin/python

.PHONY: demo test lint docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/.for-demo
	$(IN_VENV) -m detect.demo

# A process for each group: the classifier's engines bring thread pools of several native libraries into a process, and
# forking from such a one crashed once (benchmarks/LOG.md).
test: $(VENV)/.for-tests
	$(IN_VENV) -m pytest tests/test_docs*.py tests/test_[e-z]*.py structures proposals eval
	$(IN_VENV) -m pytest tests/test_detect_*.py detect
	$(IN_VENV) -m pytest tests/test_c*.py classifier

lint: $(VENV)/.for-tests
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m ruff format --check .
	@if $(IN_VENV) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then echo "mypy"; $(IN_VENV) -m mypy; \
	else echo "mypy left out: the last NumPy for Python 3.10 has annotations that ours do not fit"; fi

docs: $(VENV)/.for-docs
	NO_MKDOCS_2_WARNING=1 $(IN_VENV) -m mkdocs build --strict --quiet
	@echo "The site is in site/; open site/index.html."

$(VENV)/.for-demo: pyproject.toml | $(IN_VENV)
	$(IN_VENV) -m pip install --quiet --editable ".[openvino]"
	@touch $@

$(VENV)/.for-tests: pyproject.toml | $(IN_VENV)
	$(IN_VENV) -m pip install --quiet --editable ".[dev,openvino,export]"
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
	rm -rf $(VENV) build dist demo-out site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
