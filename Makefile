# Needs make and Python 3.11 or later (FROM=python3.12 chooses one). Everything else is installed into .venv.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

VENV   := .venv
PYTHON := $(VENV)/bin/python
PIP    := $(PYTHON) -m pip --disable-pip-version-check --quiet
HOST   ?= 127.0.0.1
PORT   ?= 7071
DATA   ?= .data
FROM   ?=
FOR    ?=

# The emulators and linters of the tests run on the machine's Node.js if it is recent enough.
NODE_IS_RECENT := npm --version >/dev/null 2>&1 && \
  node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
  >/dev/null 2>&1

.PHONY: help run install test check bench package hashes clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: $(VENV)/.run ## serve the app with sample data and print commands to paste (HOST, PORT, DATA)
	@exec $(PYTHON) -m local serve --host $(HOST) --port $(PORT) --data-dir $(DATA)

install: $(VENV)/.test ## install the packages that tests need

test: check ## check format, lint and types, and run every test
	@$(PYTHON) -m pytest -q -n 2

check: $(VENV)/.test ## check format, lint and types
	@$(PYTHON) -m ruff format --check --quiet .
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m mypy --no-error-summary

bench: $(VENV)/.test ## run every benchmark
	@set -e; for file in bench/[a-z]*.py; do $(PYTHON) -m bench.$$(basename $$file .py); done

package: $(VENV)/.test ## build the package to deploy in .package (FOR=3.13 refuses any other Python)
	@$(PYTHON) -c 'import sys; now = "%d.%d" % sys.version_info[:2]; sys.exit("$(FOR)" not in ("", now) and f"this is Python {now}, not $(FOR)")'
	@$(PYTHON) tools/package.py .package/app --dependencies --zip .package/events.zip

hashes: | $(PYTHON) ## pin the packages of requirements.txt by hash, after a change of it
	@$(PIP) install --upgrade --target $(VENV)/uv uv==0.13.9
	@$(VENV)/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-deps --no-annotate --generate-hashes \
	  --custom-compile-command "make hashes" requirements.txt --output-file requirements-hashes.txt

clean: ## remove installed packages and caches; the events in .data stay
	rm -rf $(VENV) .bench .hypothesis .package .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# A stamp file is newer than the installed requirements. requirements-dev.txt includes requirements-local.txt.
$(VENV)/.run: requirements.txt requirements-local.txt | $(PYTHON)
	@echo "installing requirements-local.txt"
	@$(PIP) install -r requirements-local.txt
	@touch $@

$(VENV)/.test: requirements.txt requirements-local.txt requirements-dev.txt requirements-clients.txt requirements-node.txt | $(PYTHON)
	@echo "installing requirements-dev.txt"
	@$(PIP) install -r requirements-dev.txt
	@$(PIP) install --upgrade --target $(VENV)/clients -r requirements-clients.txt
	@$(NODE_IS_RECENT) || { echo "installing Node.js into $(VENV)"; $(PIP) install -r requirements-node.txt; }
	@touch $@ $(VENV)/.run

$(PYTHON):
	@for python in $(FROM) python3.13 python3.12 python3.11 python3; do \
	  if $$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "Python 3.11 or later with venv is needed; python3 here is: $$(python3 --version 2>/dev/null || echo none)" >&2; \
	exit 1
