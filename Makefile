# make book   draw every page from its records, render the book
# make test   run every test, on all cores
# make bench  time the estimators beside the released algorithm, and ensembles beside a
#             loop: results/bench
# make gpu    40 minutes on one GPU: CUDA tests, timings, two runs in the paper's setting;
#             GPU_ARGS="--minutes 15" stops earlier, and the next call goes on
# make lint   check form, imports and docstrings
# make clean  remove the rendered book and caches; runs and results stay
#
# All but clean create .venv first, and leave it alone while pyproject.toml and
# constraints.txt stay as they are. PYTHON=/path/to/python chooses the interpreter.

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON := $(or $(PYTHON),$(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c '$(SUPPORTED)' 2>/dev/null && echo "$$p" && break; done))
PY := .venv/bin/python
INSTALLED_HERE := import curvlib, os, sys; \
	sys.exit(not os.path.samefile(curvlib.__path__[0], "curvlib"))
STARTED := $(shell date +%s)

.PHONY: book test bench gpu lint clean setup
.NOTPARALLEL:

book: setup
	@$(PY) -m curvlib book
	@echo "make book took $$(($$(date +%s) - $(STARTED))) s in all, set-up included."

# PYTEST_ARGS="tests/test_scores.py -x" narrows the run. PYTEST_STATUS names a file
# for pytest's own exit code, which make would turn into 2. Networks as small as those
# of the tests are trained fastest by one thread for each process.
test: setup
	@OMP_NUM_THREADS=1 $(PY) -m pytest \
		--numprocesses logical --maxprocesses 8 --dist loadfile $(PYTEST_ARGS); status=$$?; \
	if [ -n "$(PYTEST_STATUS)" ]; then echo $$status > "$(PYTEST_STATUS)"; \
	else exit $$status; fi

# Ratios are taken side by side, but nothing else should be busy meanwhile.
bench: setup
	$(PY) benchmarks/estimators.py
	$(PY) benchmarks/fidelity.py
	$(PY) benchmarks/ensemble.py

gpu: setup
	$(PY) benchmarks/gpu.py $(GPU_ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

clean:
	rm -rf book/_build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# .venv/.installing stands from the first step of an install to its last, so one that
# was cut short is found and begun again; pip alone takes half-copied packages for
# whole ones. .venv/.installed holds the checksum of what was asked for, because a
# fresh clone gives every file a new time. The import notices a moved or emptied .venv.
setup:
	@wanted="$$(cat pyproject.toml constraints.txt | cksum)"; \
	if [ ! -e .venv/.installing ] \
	&& [ "$$(cat .venv/.installed 2>/dev/null)" = "$$wanted" ] \
	&& $(PY) -I -c '$(INSTALLED_HERE)' 2>/dev/null; then exit 0; fi; \
	if [ -e .venv/.installing ]; then \
		echo "An earlier install was cut short: starting over with an empty .venv"; \
	fi; \
	if [ -e .venv/.installing ] || ! $(PY) -I -c 'import pip; $(SUPPORTED)' 2>/dev/null; then \
		if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null; then \
			found="$$("$(or $(PYTHON),python3)" --version 2>&1 | head -n 1)"; \
			echo "curvlib needs Python 3.11, 3.12 or 3.13. $(or $(PYTHON),python3) says: $$found" >&2; \
			echo "Install one of these, or name it: make $(or $(MAKECMDGOALS),book) PYTHON=/path/to/python3.11" >&2; \
			exit 1; \
		fi; \
		echo "Creating .venv with $$("$(PYTHON)" --version)"; \
		rm -rf .venv && mkdir .venv && touch .venv/.installing; \
		"$(PYTHON)" -m venv .venv || { \
			echo "No .venv: on Debian and Ubuntu, the package python3-venv makes it possible." >&2; \
			exit 1; \
		}; \
	fi; \
	touch .venv/.installing && rm -f .venv/.installed; \
	echo "Installing curvlib and what it needs into .venv: some minutes, once"; \
	$(PY) -m pip install --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt \
	&& echo "$$wanted" > .venv/.installed && rm .venv/.installing
