# make optimize   find and certify a training configuration for each stage on this machine
# make quick      the unit tests, in under two minutes on two cores
# make test       all tests except those that need a GPU, run the commands of the documentation, or are a benchmark's quick part
# make gpu        the tests that need a GPU
# make gpu-check  the same and the benchmarks on this machine's accelerator: a table and gpu_check.json; skipped without one
# make faults     interrupt, starve and damage real runs at random moments, and judge what is left: some 500 faults in half an hour
# make fuzz       damaged and made-up input for every reader: a table of verdicts (INPUTS=2000000 SEED=25, some hours)
# make examples   install what the examples need; run them and the commands of README and docs
# make lint       style, spelling, strict types, import contracts
# make docs       the documentation site, checked strictly, in build/site
# make schema     the profile's JSON Schema in docs/, written anew
# make wheel      the distributions in dist/, tried in a clean environment outside the checkout
#
# If torch works in PYTHON, it is used as it is; otherwise the pinned one is installed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(VENV)/constraints.txt

.PHONY: optimize quick test gpu gpu-check faults fuzz examples lint docs schema wheel
.DELETE_ON_ERROR:

optimize: $(VENV)/.installed
	$(BIN)/compass optimize --dataset-size 19000 --memory-limit 4GiB --out hardware_profile.json

quick: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not gpu and not slow and not docs" --hypothesis-profile quick tests/unit

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not gpu and not docs and not harness"

gpu: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m gpu tests/gpu

gpu-check: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.gpu_check

faults: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.faults

INPUTS ?= 100000
SEED ?= 25

fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.fuzz --inputs $(INPUTS) --seed $(SEED)

examples: $(VENV)/.installed-examples
	$(BIN)/python -m pytest tests/integration/test_examples.py tests/integration/test_docs_commands.py tests/integration/test_notebook.py tests/integration/test_philosophy.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/hadolint Dockerfile
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-docs
	$(BIN)/zensical build --strict --clean

schema: $(VENV)/.installed
	$(BIN)/python -m compass schema > docs/hardware_profile.schema.json

# The wheel is built from the source distribution, so that both are known to be whole. The clean environment finds its
# torch by the same rule as this one.
wheel: $(VENV)/.installed-dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist > build.log || { cat build.log; exit 1; }
	@rm build.log
	$(BIN)/python scripts/check_distributions.py dist
	@clean=$$(mktemp -d) && trap 'rm -rf "$$clean"' EXIT && \
	$(MAKE) --no-print-directory VENV="$$clean/venv" "$$clean/venv/constraints.txt" && \
	"$$clean/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
		--constraint "$$clean/venv/constraints.txt" dist/*.whl && \
	export XDG_CACHE_HOME="$$clean/cache" && cd "$$clean" && set -x && \
	venv/bin/compass demo demo && test -s demo/my_model.py && venv/bin/compass doctor --dataset demo/pdbbind && \
	venv/bin/compass optimize smoke_test --dataset-size 1000 --memory-limit 4GiB --out profile.json && \
	venv/bin/compass report profile.json --out report.html && test -s report.html

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

$(VENV)/.installed-docs: pyproject.toml $(VENV)/constraints.txt
	$(INSTALL) --editable '.[docs]'
	@touch $@ $(VENV)/.installed
