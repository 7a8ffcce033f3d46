# make book, make test: all that is needed is make and Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin
# NumPy's matrices are small here: several threads on one mostly wait for each other.
export OPENBLAS_NUM_THREADS := 1
# The docstrings of the installed packages are read once, for all chapters and tests.
export TEMPSCALE_CACHE := $(CURDIR)/_build/.texts
# Test files side by side, one on each core with one thread: more threads than cores wait for each other.
PARALLEL := -n auto --dist loadfile
READY := .venv/ready
# Python compiles a module when it is first imported, and most modules of the packages never are.
INSTALL := -qq --no-compile
OLDEST := .venv-oldest/ready

# notebooks-run: which (all), how many side by side, and VERSIONS=oldest or colab for those in tests/*.txt
NOTEBOOKS ?=
JOBS ?= 1
VERSIONS ?=

.PHONY: book test test-oldest format notebooks notebooks-run explorers readme lock clean

book: $(READY)
	$(BIN)/jupyter-book build . -W -n --keep-going
	@echo "Open file://$(CURDIR)/_build/html/index.html"

# The pages are tested as built, so a book that is not up to date is built first.
test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/jupyter-book build . -W -n --keep-going -q
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL)
	@echo "All tests passed. Open file://$(CURDIR)/_build/html/index.html"

# The package on the oldest versions that it allows, without the extras, so that some modules cannot be imported; they
# warn of what has changed since.
test-oldest: $(OLDEST)
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest $(PARALLEL) tempscale tests --ignore tests/book --ignore tests/test_repository.py --ignore tempscale/encoding/prompts.py --deselect tempscale/advice/advise.py::tempscale.advice.advise.advise --deselect tempscale/comparison/compare.py::tempscale.comparison.compare.compare --deselect tempscale/evaluation/evaluate.py::tempscale.evaluation.evaluate.evaluate -o filterwarnings=ignore --doctest-ignore-import-errors

$(OLDEST): tests/oldest.txt pyproject.toml
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install $(INSTALL) --requirement tests/oldest.txt hatchling editables
	.venv-oldest/bin/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Everything generated from the chapters, and from the addresses in pyproject.toml.
notebooks: $(READY)
	$(BIN)/python book/_ext/notebooks.py

# The data and pictures of the interactive figures, from the model and the package.
explorers: $(READY)
	$(BIN)/python book/_ext/explorer_data.py

# Every notebook alone, from the wheel, in a new environment and an empty folder: PYTHON=python3.12 NOTEBOOKS="length patch"
notebooks-run:
	$(PYTHON) book/_ext/run_notebooks.py $(NOTEBOOKS) --jobs $(JOBS) $(if $(VERSIONS),--versions $(VERSIONS))

# The README's numbers and the pictures, from the executed chapters.
readme: book
	$(BIN)/python book/_ext/readme.py

# The environment: exactly the lock, and the package itself in place. Made again when the lock or pyproject.toml changes.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"Python {v[0]}.{v[1]} found, 3.11 or newer needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the $$(grep -c == requirements.lock) packages of requirements.lock into .venv; this takes a few minutes, once"
	@$(BIN)/python -m pip install $(INSTALL) --requirement requirements.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

# Resolve pyproject.toml anew, with the newest versions that its bounds allow. torch stays where it is.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet "torch==2.13.0" hatchling editables ".[offline,eval,ray,book,test]"
	{ echo "# The full working set; made by 'make lock'."; .venv-lock/bin/python -m pip freeze --exclude tempscale | sed 's/^\(torch==[0-9.]*\)+cpu$$/\1/'; } > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf _build .venv .venv-oldest
