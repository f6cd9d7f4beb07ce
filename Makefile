# make optimize   find and prove a training configuration for each stage on this machine
# make test       everything but the tests that need a GPU
# make gpu        those
# make examples   installs what the examples need and runs them
# make lint       style, strict types, import contracts
#
# If torch works in PYTHON it is used as it is; otherwise the pinned one is installed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(VENV)/constraints.txt

.PHONY: optimize test gpu examples lint
.DELETE_ON_ERROR:

optimize: $(VENV)/.installed
	$(BIN)/compass optimize --dataset-size 19000 --memory-limit 4GiB --out hardware_profile.json

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not gpu"

gpu: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m gpu tests/gpu

examples: $(VENV)/.installed-examples
	$(BIN)/python -m pytest tests/integration/test_examples.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# A virtual environment does not see the packages of another one, hence the .pth file.
$(BIN)/python:
	@home=$$($(PYTHON) -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])' 2>/dev/null); \
	if [ -z "$$home" ]; then $(PYTHON) -m venv $(VENV); exit; fi; \
	echo "using the torch in $$home"; \
	$(PYTHON) -m venv --system-site-packages $(VENV) && touch $(VENV)/own-torch && \
	packages=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	{ $(BIN)/python -c 'import torch' 2>/dev/null || echo "$$home" > "$$packages/own-torch.pth"; }

$(VENV)/constraints.txt: constraints.txt | $(BIN)/python
	@if [ -e $(VENV)/own-torch ]; then grep -v '^torch==' $< > $@; else cp $< $@; fi

$(VENV)/.installed: pyproject.toml $(VENV)/constraints.txt
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-examples: pyproject.toml $(VENV)/constraints.txt
	$(INSTALL) --editable '.[dev,examples]'
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml $(VENV)/constraints.txt
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed
