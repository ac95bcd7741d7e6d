# make demo    install into .venv and drive the embedded default; nothing else is needed
# make test    the test suite
# make help    the rest

PYTHON ?= python3.11
VENV ?= .venv
OUT ?= runs/demo
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := nuscenes,tracking,report,reference,onnx,tensorboard,dev
NATIVE := planner/qp/native planner/compiled
COMPILED := $(VENV)/.compiled

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow mutation lint format docs browser doctor clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(STAMP) $(COMPILED)  ## create .venv and install the verified versions into it

# torch is named with its exact version: a looser request may fetch gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0" -e ".[$(EXTRAS)]"
	@touch $@

# Without a C++ compiler the Python versions are used; `make doctor` says so.
$(COMPILED): $(STAMP) $(foreach d,$(NATIVE),$(wildcard $(d)/*.cpp $(d)/*.hpp $(d)/*.h)) planner/build_native.py
	@$(BIN)/python planner/build_native.py || true
	@touch $@

demo: install  ## drive generated towns closed-loop, print the table, write a report (some minutes once installed)
	$(BIN)/dualdrive demo --fresh --out $(OUT)

test: install browser  ## run the test suite (under 10 minutes on two cores)
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow"

test-slow: install browser  ## run the long tests
	$(BIN)/python -m pytest -m slow

mutation: install  ## do the tests of limiter and checker notice changed lines? (hours; TARGET=limiter: minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[mutation]"
	for target in $(or $(TARGET),limiter checker); do $(BIN)/python -m benchmarks.mutation $$target --workers 2 || exit 1; done

# The report's tests drive a real browser; where it cannot be installed they are skipped with a reason.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { command -v apt-get >/dev/null && test "$$(id -u)" = 0 && echo "installing chromium for the browser tests" \
	       && apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	  || echo "no chromium: the browser tests will be skipped"

lint: install  ## ruff, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install  ## write the documents that are made from the code
	$(BIN)/python -m eval.config_docs
	$(BIN)/python -m eval.supervisor_docs

doctor: install  ## check the environment
	$(BIN)/dualdrive doctor

clean:  ## remove the environment, results and caches
	rm -rf $(VENV) $(addsuffix /*.so,$(NATIVE)) runs build dist .pytest_cache .hypothesis .ruff_cache .mypy_cache .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
