# make run    sets everything up and runs the main job on real data
# make test   sets everything up and runs the tests
# make lint   format, lint, types and the import contract
# make bench  the benchmarks that print a ratio against a stated rival
# make parity model-zoo parity against torchvision and timm, in an environment of its own (about 6 GB)

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: run test lint format bench parity examples clean

run: $(READY)
	$(BIN)/depthscale design digits --budget 60s --out out/digits --overwrite

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(READY)
	for b in train_throughput foundations phase zoo_speed nasbench101_count; do $(BIN)/python benchmarks/$$b.py || exit 1; done

examples: $(READY)
	for e in examples/*.py; do echo "== $$e"; $(BIN)/python $$e || exit 1; done

parity: .venv-parity/.ready
	.venv-parity/bin/python benchmarks/zoo_parity.py
	.venv-parity/bin/python benchmarks/check_coverage.py

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "depthscale needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.venv-parity/.ready: pyproject.toml
	test -x .venv-parity/bin/python || $(PYTHON) -m venv .venv-parity
	.venv-parity/bin/python -m pip install --quiet --disable-pip-version-check \
	    torch==2.14.1 torchvision==0.29.1 timm transformers scipy psutil pandas scikit-learn
	.venv-parity/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) .venv-parity out .pytest_cache .mypy_cache .ruff_cache .hypothesis
