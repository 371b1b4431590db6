# `make test` proves it, `make demo` shows it. Everything runs in .venv, made on demand.
SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
SEED ?= 0
FAULT_SEEDS ?= 3000
FAULT_PIECE ?= 150
# What a storm seldom has is counted in swarms of its own.
RARE_SEEDS ?= 400
RARE_FAULTS := --fault backup=0.03 --fault wipe=0.02 --fault misdirected=0.03 \
  --fault bit_flip=0.03 --fault no_space=0.03 --fault io_error=0.03 \
  --fault failed_sync=0.03 --fault power_loss=0.03 --fault torn_write=0.03 \
  --fault forge=0.2 --fault equivocate=0.2 --fault replay=0.2 --fault lie_size=0.2 \
  --fault stall=0.2 --fault flood=0.1 --fault eclipse=0.2 --fault restart_loop=0.02
FUZZ_SECONDS ?= 600
FUZZ_JOBS ?= 1
# One more than two cores: tests of nodes mostly wait, for peers, disks and each other.
JOBS ?= 3

.PHONY: venv check warm test test-all fuzz mutants demo sim faults paper proto docs bench portability quality vectors clean

venv: .venv/.installed

# One constraints file pins every version, torch above all: an unpinned torch pulls
# gigabytes that nothing here needs.
.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[demo]' --group dev
	touch $@

check: venv
	! git grep -nE '^(<<<<<<<|>>>>>>>) ' -- .
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What every process of tests would else make for itself, at the same time as the others:
# the compiled asserts of all tests, and machine code of kernels. Tests tell what is wrong.
warm: venv
	-$(BIN)/python -m pytest --collect-only -qq > /dev/null
	-$(BIN)/python -m tests.vectors.kernels cpu > /dev/null

# Files of tests run side by side, each file's tests one after the other, the longest files
# first: tests/conftest.py has the order.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: export HYPOTHESIS_PROFILE := $(or $(HYPOTHESIS_PROFILE),dev)
# Each process that a test starts, and there are hundreds, would else compile our modules anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: venv
	$(MAKE) -j 2 check warm
	$(PYTEST)

test-all: export HYPOTHESIS_PROFILE := $(or $(HYPOTHESIS_PROFILE),search)
test-all: check
	$(PYTEST) -m 'not gpu'
	$(MAKE) fuzz
	$(MAKE) mutants HYPOTHESIS_PROFILE=ci

# Every decoder of outside bytes, FUZZ_SECONDS each, FUZZ_JOBS at a time: hours with 600.
# What is found lies in .fuzz; what was found before is replayed by `make test`.
fuzz: venv
	$(BIN)/python -m pip install --quiet -c constraints.txt --group fuzz
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS)

# Kept patches, each of which must turn its named test red; no chance is in the examples.
mutants: export HYPOTHESIS_PROFILE := $(or $(HYPOTHESIS_PROFILE),ci)
mutants: venv
	$(BIN)/python tests/mutants/run.py

demo: venv
	$(BIN)/crdtmerge demo

# All stories and a swarm in a deterministic world: the seed is the whole repro.
sim: venv
	$(BIN)/crdtmerge simulate all --seed $(SEED)

# The paper's experiments, all three tiers: figures, report and plots.
paper: venv
	$(BIN)/python -m simulations paper --out docs/paper

# The forty kinds of faults, counted anew over FAULT_SEEDS swarms, FAULT_PIECE at a time: an
# hour of two processors. A seed that fails is counted, and ends nothing; a piece that comes
# to no figures is left out and said. One of this very commit is not run again.
FAULT_RUNS := out/faults-$(shell git describe --always --dirty)
define count_faults
for seed in $$(seq $(1) $(FAULT_PIECE) $$(( $(1) + $(2) - 1 ))); do \
  file=$(FAULT_RUNS)/$$seed.json; test -s $$file && continue; \
  $(BIN)/crdtmerge simulate swarm --seed $$seed --seeds $(FAULT_PIECE) --shrink 0 --json \
    $(3) > $$file.part; \
  code=$$?; test $$code -ne 130 || exit 130; \
  if test $$code -le 1 -a -s $$file.part; then mv $$file.part $$file; \
  else echo "no figures of the piece from seed $$seed" >&2; fi; \
done
endef
faults: venv
	case $(FAULT_RUNS) in *-dirty) rm -rf $(FAULT_RUNS);; esac; mkdir -p $(FAULT_RUNS)
	$(call count_faults,0,$(FAULT_SEEDS),)
	$(call count_faults,1000000,$(RARE_SEEDS),$(RARE_FAULTS))
	$(BIN)/python -m docs.make_faults $(FAULT_RUNS)/*.json

proto: venv
	$(BIN)/python -m grpc_tools.protoc -Inodes/wire=proto --python_out=. --pyi_out=. \
	  --grpc_python_out=. proto/replica.proto

# The pages of strategies, from their declarations and docstrings.
docs: venv
	$(BIN)/python -m docs.make

bench: venv
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python -m benchmarks resolve --rounds 1
	$(BIN)/python -m benchmarks reconcile --count 100000
	$(BIN)/python benchmarks/set.py
	$(BIN)/python -m benchmarks numerics

# The same bytes elsewhere: other threads, CPUs, libraries, Pythons; an emulated Arm.
portability: venv
	$(BIN)/python -m benchmarks portability --prepare-arm

# Accuracy of merged fine-tunes by every strategy, and with poison among them.
quality: venv
	$(BIN)/python -m benchmarks quality

# Golden bytes; changed only with a version bump or an ADR.
vectors: venv
	$(BIN)/python -m tests.vectors.formats > tests/vectors/formats.json
	$(BIN)/python -m tests.vectors.resolves > tests/vectors/resolves.json
	$(BIN)/python -m tests.vectors.adapters > tests/vectors/adapters.json

clean:
	rm -rf .venv .portability .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis
