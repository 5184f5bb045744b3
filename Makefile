# One word for each thing people do here; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := projects/NPLP tools tests benchmarks examples setup.py
FASTREID := fastreid==1.4.0
# What numbers of versions decide: arrays, losses, models, files, tables. The rest of the suite is about the project alone.
OF_VERSIONS := tests/clustering tests/config tests/data tests/host tests/layers tests/losses tests/weights \
	tests/modeling/test_timm_backbone.py tests/test_extras.py
# Two processes, all tests of a file in one of them: its fixtures are often whole runs.
BY_FILE := -n 2 --dist loadfile
# The time of the last commit, so that two builds give one file.
EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || echo 1700000000)
PROGRAMS := onnx float16 int8-dynamic int8-calibrated torch-export

.DEFAULT_GOAL := help
.PHONY: help quickstart quickstart-plus zoo test test-long test-min test-newest test-spawn wheel check-wheel release lint lint-workflows format site clean

help:  ## List the commands.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

# Installed once, and again when one of these files changes.
$(READY): requirements.txt requirements-dev.txt requirements-deploy.txt requirements-docs.txt constraints.txt setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else \
	"Python 3.10 to 3.12 is needed, $(PYTHON) is %d.%d: run make PYTHON=python3.11" % v)'
	@echo "Installing into $(VENV) (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(FASTREID)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/nplp compile
	@touch $(READY)

quickstart: $(READY)  ## Pre-train, adapt and evaluate on the built-in synthetic data (minutes, no GPU).
	@$(BIN)/python tools/train_net.py --config-file configs/NPLP/quickstart.yml $(ARGS)

quickstart-plus: $(READY)  ## The same with camera centring and averaged weights.
	@$(BIN)/python tools/train_net.py --config-file configs/NPLP/quickstart-plus.yml $(ARGS)

zoo: $(READY)  ## Train the two synthetic models (or go on with them) and export them to zoo/ with every program.
	@$(BIN)/python tools/train_net.py --config-file configs/NPLP/quickstart.yml --resume
	@$(BIN)/python tools/train_net.py --config-file configs/NPLP/quickstart-plus.yml --resume
	@$(BIN)/python tools/export_model_zoo.py --config-file configs/NPLP/quickstart.yml \
		--output zoo/nplp_quickstart_R18 --force --formats $(PROGRAMS)
	@$(BIN)/python tools/export_model_zoo.py --config-file configs/NPLP/quickstart-plus.yml \
		--output zoo/nplp_quickstart_plus_R18 --force --formats $(PROGRAMS) \
		-- MODEL.WEIGHTS logs/quickstart-plus/model_final_ema.pth
	@$(BIN)/python tools/model_zoo.py verify zoo --trust

test: $(READY)  ## Run the tests (about twenty minutes on two cores).
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(BY_FILE) -m "not long" $(ARGS)

test-long: $(READY)  ## Run the exhaustive tests: ten thousand generated cases, full sizes, fifty kills (about ten minutes).
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m long $(ARGS)

test-min: .venv-min/.ready  ## Run the tests that versions matter to with the lowest versions that are supported.
	@OMP_NUM_THREADS=1 .venv-min/bin/python -m pytest $(BY_FILE) -m "not long" $(OF_VERSIONS) $(ARGS)

test-newest: .venv-newest/.ready  ## The same with the newest versions that are supported.
	@OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest $(BY_FILE) -m "not long" $(OF_VERSIONS) $(ARGS)

.venv-min/.ready: PINS := -c constraints-min.txt
.venv-newest/.ready: PINS := --upgrade
.venv-min/.ready .venv-newest/.ready: requirements.txt requirements-deploy.txt constraints-min.txt setup.py
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-deploy.txt \
		timm pytest pytest-xdist hypothesis cython $(PINS)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(FASTREID)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

test-spawn: $(READY)  ## Run the tests of workers and processes with the start method of Windows and macOS.
	@OMP_NUM_THREADS=1 NPLP_TEST_START_METHOD=spawn $(BIN)/python -m pytest $(BY_FILE) -m "not long" \
		tests/data tests/distributed tests/synthetic $(ARGS)

wheel: $(READY)  ## Build the package in dist/; the same commit gives the same file.
	@rm -rf dist
	@SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m build --no-isolation --outdir dist . > /dev/null
	@rm -f dist/*.tar.gz && sha256sum dist/*.whl 2>/dev/null || ls dist

check-wheel: wheel  ## Try it in a new environment away from the checkout; PYTHON names the Python.
	@$(PYTHON) tools/packaging/check_wheel.py dist/*.whl --constraints constraints.txt $(ARGS)

release: $(READY)  ## Cut VERSION: changelog, tested wheel, commit, tag. ARGS=--dry-run shows it and changes nothing.
	@test -n "$(VERSION)" || { echo "name the version: make release VERSION=0.2.0" >&2; exit 2; }
	@$(BIN)/python tools/packaging/release.py $(VERSION) $(ARGS)

lint: $(READY)  ## Check style and types.
	@$(BIN)/ruff check $(wildcard $(SOURCES))
	@$(BIN)/ruff format --check $(wildcard $(SOURCES))
	@$(BIN)/mypy

lint-workflows: $(READY)  ## Check the workflow files of the repository's CI.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check check-jsonschema zizmor
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	@$(BIN)/zizmor --offline --quiet .github/workflows

format: $(READY)  ## Format the code and fix what can be fixed.
	@$(BIN)/ruff check --fix $(wildcard $(SOURCES))
	@$(BIN)/ruff format $(wildcard $(SOURCES))

site: $(READY)  ## Build the documentation's site in build/site (open index.html there); a broken link is an error.
	@$(BIN)/python -m mkdocs build --strict --quiet $(ARGS)

clean:  ## Remove the environment and the tools' caches (not logs or data).
	@rm -rf $(VENV) $(VENV)-min $(VENV)-newest dist .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info projects/NPLP/*.egg-info
