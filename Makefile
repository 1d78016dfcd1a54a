# Two commands for a new machine: `make demo` and `make test`. Both make .venv themselves.
PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt

VOLUME ?=
TEXT ?=
PLANE ?= axial

.PHONY: help demo test lint format clean

help: ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.server ## Ask a scan through the real server: make demo VOLUME=scan.nii.gz TEXT="liver,spleen"
	$(VENV)/bin/python scripts/demo.py --volume "$(VOLUME)" --text "$(TEXT)" --plane "$(PLANE)"

test: $(VENV)/.test lint ## Run everything that CI runs
	OMP_NUM_THREADS=2 $(VENV)/bin/python -m pytest

lint: $(VENV)/.test ## Check style
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.test ## Mend style
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## Remove the virtual environment and the demo's output
	rm -rf $(VENV) demo

# torch goes first and alone, so that the machine's own build is taken; monailabel goes last and
# without its requirements, which pull packages that are not used here.
$(VENV)/.server: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "error: needs Python 3.11 (3.10 and 3.12 may do): make PYTHON=python3.11"; exit 2; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing; this takes a few minutes the first time ..."
	$(PIP) torch numpy
	$(PIP) --editable '.[server,demo]'
	$(PIP) --no-deps monailabel
	touch $@

$(VENV)/.test: $(VENV)/.server
	$(PIP) --editable '.[server,training,endpoint,quantize,ray,view,demo,test]'
	touch $@
